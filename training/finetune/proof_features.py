"""Proof 1: does a real network get used to mixed tokens? `python proof_features.py WORK [--oracle FOLDER]`

DINOv2 ViT-S/14 learns, without labels, to see in N tokens what it sees on its full grid of 256: once with a quadtree's
tokens, once with those and the fine pixels of coarse ones, once with a uniform grid, from three seeds each, on the
photographs of training/object. Then all are measured on photographs that none of them has seen: the part that
training/object keeps out, and those of `--oracle` (NAME.jpg and masks/NAME.png). WORK/table.csv and WORK/table.md are
the result. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import focus
from data import Batch
from loop import WEIGHTS, train
from nets import made
from quadtok import read_image
from quadtok.images.fit import fit_image
from quadtok.models import Adapted
from ranks import joined
from self_teacher import at_size, features
from settings import SELF, Settings
from ways import view

sys.path.append(str(Path(__file__).parents[1] / "object"))  # the photographs' list

import pictures
from bank import is_held_out, photograph

SIDE, PATCH = 224, 14
SEEDS, STEPS, BATCH = 3, 300, 16
RATE = 1e-5  # of 1e-5, 3e-5 and 1e-4 the one after which 40 steps of a quadtree's tokens had the smallest loss
BUDGETS = (64, 100, 160)  # measured; each step draws one from the first to the last
RUNS: dict[str, dict[str, Any]] = {
    "quadtree": {},
    "quadtree with detail": {"detail": True},
    "uniform": {"uniform": True},
}
SCORERS = ("object", "blur", "feature", "random")  # the first is the one that the runs learn with
UNTRAINED = "untrained"
VALUES = ("image", "cells", "found")


def main(words: Sequence[str] | None = None) -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--oracle", type=Path, help="a folder of further photographs to measure on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--bank", type=Path, help="where training/object/pictures.py has fetched to already")
    options = parser.parse_args(words)
    prepare(options.work, options.bank or options.work / "bank")
    with joined("cpu") as ranks:
        for seed in range(options.seeds):
            for name in RUNS:
                settings = of_run(options.work, name, seed, options.steps)
                if not (settings.out / WEIGHTS).exists():
                    train(settings, ranks)
    sets = {"kept out": images_of(sorted((options.work / "photographs" / "val").iterdir()))}
    if options.oracle:
        files = [*sorted(options.oracle.glob("*.jpg")), *sorted((options.oracle / "masks").glob("*.png"))]
        sets["oracle"] = images_of(files)
    rows = list(measured(options.work, sets, options.seeds, options.steps))
    with (options.work / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (options.work / "table.md").write_text(table(rows))


def prepare(work: Path, bank: Path) -> None:
    """The weights, and the photographs in two folders."""
    focus.fetch(work / "dinov2.pt")
    listed = [picture for picture in pictures.listed() if picture.kind == "photograph"]
    pictures.fetch(listed, bank)
    for number, picture in enumerate(listed):
        file = work / "photographs" / ("val" if is_held_out(picture) else "train") / f"{number:03d}.jpg"
        if not file.exists() and (pixels := photograph(picture.file(bank))) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file.with_suffix(".new"), "JPEG", quality=95, subsampling=0)
            file.with_suffix(".new").replace(file)


def of_run(work: Path, name: str, seed: int, steps: int) -> Settings:
    """One run; all differ in nothing but what `RUNS` says, and the seed."""
    return Settings(
        data=work / "photographs",
        out=work / f"{name.replace(' ', '-')}-{seed}",
        model=focus.MODEL,
        model_args=f'{{"img_size": {focus.SIDE}}}',
        weights=str(work / "dinov2.pt"),
        image_size=SIDE,
        min_patch=PATCH,
        max_patch=4 * PATCH,
        scorer=SCORERS[0],
        budgets=(BUDGETS[0], BUDGETS[-1]),
        teacher=SELF,
        steps=steps,
        batch_size=BATCH,
        amp="bfloat16",
        lr=RATE,
        weight_decay=0.01,
        seed=seed,
        keep_every=50,
        workers=0,
        **RUNS[name],
    )


def images_of(files: Sequence[Path]) -> Tensor:
    """uint8 `[n, 3, 224, 224]`: the centres."""
    return torch.stack([fit_image(read_image(file).image, SIDE, SIDE, "crop").pixels for file in files])


def measured(work: Path, sets: dict[str, Tensor], seeds: int, steps: int) -> Iterator[dict[str, Any]]:
    """A row for each model, way of choosing tokens, number of tokens, and set of photographs."""
    for name in RUNS:
        uniform = bool(RUNS[name].get("uniform"))
        for seed in (None, *range(seeds)):
            if seed is None and name == "quadtree with detail":
                continue  # its new part begins at 0
            settings = of_run(work, name, seed or 0, steps)
            weights = settings.weights if seed is None else settings.out / WEIGHTS
            for scorer in SCORERS[:1] if uniform else SCORERS:
                chosen = with_scorer(settings, scorer, weights)
                model = made(chosen, 0).eval()
                for what, images in sets.items():
                    for tokens in BUDGETS:
                        values, count = scores(model, chosen, images, tokens)
                        which = {"run": UNTRAINED, "seed": ""} if seed is None else {"run": name, "seed": seed}
                        way = {"tokens by": "uniform" if uniform else scorer}
                        row = {"set": what, **which, **way, "asked": tokens, "tokens": round(count, 1)}
                        yield row | {key: round(value, 4) for key, value in values.items()}


def with_scorer(settings: Settings, scorer: str, weights: str | Path) -> Settings:
    """The same run, with what measuring needs in place."""
    return replace(settings, scorer=scorer, weights=str(weights))


@torch.no_grad()
def scores(model: Adapted, settings: Settings, images: Tensor, tokens: int) -> tuple[dict[str, float], float]:
    """Cosines to the original's full grid, and how often an image's features are nearest to its own among all."""
    teacher = made(with_scorer(settings, settings.scorer, Path(settings.data).parent / "dinov2.pt"), 0).eval()
    wanted, found, cells, counts = [], [], [], []
    for part in images.split(BATCH):
        batch = Batch(part, torch.zeros(len(part)), None)
        whole, whole_map, _ = features(teacher, part, num_tokens=settings.spec.num_cells)
        shown = view(batch, tokens, settings)
        own, own_map, count = features(model, shown.images, **shown.arguments)
        wanted.append(F.normalize(whole, dim=1))
        found.append(F.normalize(own, dim=1))
        cells.append(F.cosine_similarity(at_size(own_map, whole_map.shape[-2:]), whole_map, dim=1).mean((1, 2)))
        counts.append(count)
    alike = torch.cat(found) @ torch.cat(wanted).T
    right = (alike.argmax(1) == torch.arange(len(alike))).float()
    values = (alike.diagonal(), torch.cat(cells), right)
    return {name: value.mean().item() for name, value in zip(VALUES, values, strict=True)}, torch.cat(
        counts
    ).float().mean().item()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the mean over the seeds, and their standard deviation."""
    text = ""
    for what in dict.fromkeys(row["set"] for row in rows):
        text += f"\n**{what}**\n\n| run | tokens by | " + " | ".join(
            f"{name} at {' / '.join(map(str, BUDGETS))}" for name in VALUES
        )
        text += " |\n|" + "---|" * (2 + len(VALUES)) + "\n"
        lines: dict[tuple[str, str], dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row["set"] == what:
                for name in VALUES:
                    lines[row["run"], row["tokens by"]][name, row["asked"]].append(row[name])
        for (run, way), cells in lines.items():
            columns = [" / ".join(_said(cells[name, tokens]) for tokens in BUDGETS) for name in VALUES]
            text += f"| {run} | {way} | " + " | ".join(columns) + " |\n"
    return text.lstrip()


def _said(values: Sequence[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {np.round(stdev(values), 3):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
