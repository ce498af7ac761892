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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import focus
from data import Batch
from loop import WEIGHTS, train
from nets import made
from quadtok import Plan, read_image
from quadtok.images.fit import fit_image
from quadtok.models import Adapted
from quadtok.reversal import reverse
from ranks import joined
from self_teacher import at_size, features
from settings import SELF, Settings
from ways import view

sys.path.append(str(Path(__file__).parents[1] / "object"))  # the photographs' list

import pictures
from bank import is_held_out, photograph

SIDE, PATCH = 224, 14
SEEDS, STEPS, BATCH = 3, 150, 16
RATE = 1e-5  # of 1e-5, 3e-5 and 1e-4 the one after which 40 steps of a quadtree's tokens had the smallest loss
BUDGETS = (64, 100, 160)  # measured; each step draws one from the first to the last
RUNS: dict[str, dict[str, Any]] = {
    "quadtree": {},
    "quadtree with detail": {"detail": True},
    "uniform": {"uniform": True},
}
SCORER = "object"  # that the runs learn with
# What they are measured with. The last leaves out the coarsest patches.
WAYS: dict[str, dict[str, Any]] = {
    "object": {},
    **{name: {"scorer": name} for name in ("blur", "feature", "entropy", "random")},
    "object, 14 and 28 px": {"max_patch": 2 * PATCH},
}
UNTRAINED = "untrained"
# The cosines of the image, of all cells, of those where the things are, and of all cells where the tokens are read as
# squares; and how often an image is found. Without `squares`, a map is read bilinearly between tokens of one size.
VALUES = ("image", "cells", "things", "squares", "found")
MASKS = "masks"


@dataclass(frozen=True)
class Set:
    """Photographs to measure on.

    Attributes:
        images: uint8 `[n, 3, 224, 224]`.
        things: `[n, 16, 16]`: how much each cell counts where only what the photograph shows is to count; None: it is
            not known.
        whole: `[n, D]`: what the original network says of each on its full grid, of length 1.
        cells: `[n, D, 16, 16]`: and of its cells.
    """

    images: Tensor
    things: Tensor | None
    whole: Tensor
    cells: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, files: Sequence[Path], original: Adapted) -> Set:
        """The centres of photographs, those with masks whole; `NAME.pt` beside one is its map of importance."""
        fits = ["squash" if file.parent.name == MASKS else "crop" for file in files]
        images = torch.stack(
            [fit_image(read_image(file).image, SIDE, SIDE, fit).pixels for file, fit in zip(files, fits, strict=True)]
        )
        maps = [file.with_suffix(".pt") for file in files]
        things = [torch.load(path, weights_only=True).float() for path in maps if path.exists()]
        full = [features(original, part, num_tokens=original.spec.num_cells) for part in images.split(BATCH)]
        whole, cells = (torch.cat([of_part[number] for of_part in full]) for number in (0, 1))
        known = torch.stack(things) if len(things) == len(files) else None
        return cls(images, known, F.normalize(whole, dim=1), cells)


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
    original = made(of_run(options.work, "quadtree", 0, options.steps), 0).eval()
    sets = {"kept out": Set.of(sorted((options.work / "photographs" / "val").iterdir()), original)}
    if options.oracle:
        files = [*sorted(options.oracle.glob("*.jpg")), *sorted((options.oracle / MASKS).glob("*.png"))]
        sets["oracle"] = Set.of(files, original)
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
        scorer=SCORER,
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


def measured(work: Path, sets: dict[str, Set], seeds: int, steps: int) -> Iterator[dict[str, Any]]:
    """A row for each model, way of choosing tokens, number of tokens, and set of photographs."""
    for name in RUNS:
        uniform = bool(RUNS[name].get("uniform"))
        for seed in (None, *range(seeds)):
            if seed is None and name == "quadtree with detail":
                continue  # its new part begins at 0
            settings = of_run(work, name, seed or 0, steps)
            weights = settings.weights if seed is None else settings.out / WEIGHTS
            for way, changed in {"uniform": {}}.items() if uniform else WAYS.items():
                chosen = replace(settings, weights=str(weights), **changed)
                model = made(chosen, 0).eval()
                for what, photographs in sets.items():
                    for tokens in BUDGETS:
                        values, count = scores(model, chosen, photographs, tokens)
                        which = {"run": UNTRAINED, "seed": ""} if seed is None else {"run": name, "seed": seed}
                        row = {"set": what, **which, "tokens by": way, "asked": tokens, "tokens": round(count, 1)}
                        yield row | {name: round(values[name], 4) if name in values else "" for name in VALUES}


@torch.no_grad()
def scores(model: Adapted, settings: Settings, photographs: Set, tokens: int) -> tuple[dict[str, float], float]:
    """Cosines to the original's full grid, and how often an image's features are nearest to its own among all.

    Returns:
        By `VALUES`, and how many tokens an image had.
    """
    found, cells, squares, counts = [], [], [], []
    for part, wanted in zip(photographs.images.split(BATCH), photographs.cells.split(BATCH), strict=True):
        shown = view(Batch(part, torch.zeros(len(part)), None), tokens, settings)
        own, own_map, plan = features(model, shown.images, **shown.arguments)
        size = wanted.shape[-2:]
        found.append(F.normalize(own, dim=1))
        cells.append(F.cosine_similarity(at_size(between_tokens(own_map, plan), size), wanted, dim=1))
        squares.append(F.cosine_similarity(F.interpolate(own_map, size), wanted, dim=1))
        counts.append(plan.valid.sum(1))
    alike, cosines = torch.cat(found) @ photographs.whole.T, torch.cat(cells)
    values = {
        "image": alike.diagonal(),
        "cells": cosines,
        "squares": torch.cat(squares),
        "found": (alike.argmax(1) == torch.arange(len(alike))).float(),
    }
    if photographs.things is not None:
        shares = photographs.things / photographs.things.sum((1, 2), keepdim=True)
        values["things"] = (cosines * shares).sum((1, 2))
    return {name: value.mean().item() for name, value in values.items()}, torch.cat(counts).float().mean().item()


def between_tokens(maps: Tensor, plan: Plan) -> Tensor:
    """A map of all cells `[B, D, rows, cols]` in which a coarse token's square is not flat, but read as an image of
    patches of that size would be: bilinearly between the squares.
    """
    scales, smooth = reverse(plan.scale[..., None].float(), plan), maps
    for scale in range(1, plan.spec.num_scales):
        squares = F.avg_pool2d(maps, 2**scale)
        smooth = torch.where(scales == scale, at_size(squares, maps.shape[-2:]), smooth)
    return smooth


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the mean over the seeds, and their standard deviation."""
    text = ""
    for what in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == what]
        names = [name for name in VALUES if of_set[0][name] != ""]
        heads = [f"{name} at {' / '.join(map(str, BUDGETS))}" for name in names]
        text += f"\n**{what}**\n\n| run | tokens by | {' | '.join(heads)} |\n|{'---|' * (2 + len(names))}\n"
        for run, way in dict.fromkeys((row["run"], row["tokens by"]) for row in of_set):
            ours = [row for row in of_set if (row["run"], row["tokens by"]) == (run, way)]
            cells = [
                _said([[row[name] for row in ours if row["asked"] == tokens] for tokens in BUDGETS]) for name in names
            ]
            text += f"| {run} | {way} | {' | '.join(cells)} |\n"
    return text.lstrip()


def _said(of_budgets: Sequence[Sequence[float]]) -> str:
    means = " / ".join(f"{mean(values):.3f}" for values in of_budgets)
    if len(of_budgets[0]) < 2:
        return means
    return f"{means} ± {max(stdev(values) for values in of_budgets):.3f}"


if __name__ == "__main__":
    main()
