"""Proof 2: small things on busy grounds, a small ViT from scratch: `python proof_labels.py WORK`.

Twelve classes (small_objects.py), 12,000 pictures to learn from and 1,200 to measure on. The same ViT learns from each
way of choosing tokens, at a number of them that is drawn anew in each step, from three seeds: a quadtree by the scorers
`object` and `blur`, by where the thing truly is (the oracle), and by chance; a uniform grid of as many tokens, which
is the picture shrunk; and the full grid of 256. WORK/table.md and WORK/accuracy.png are the result. The same command
goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import small_objects
from loop import LOG, SCORES, WEIGHTS, train
from plots import plot_scores, rows_of
from quadtok.jobs.from_python import tokenize_files
from ranks import joined
from settings import NONE, Settings

SEEDS, STEPS, BATCH = 3, 600, 32
BUDGETS = (64, 100, 160)  # measured; each step draws one from the first to the last
SMALL = '{"img_size": 256, "embed_dim": 128, "depth": 4, "num_heads": 4'
# The classifier reads the maximum over the tokens. A class token must first find the thing among a hundred others: for
# 250 to 500 steps nothing is learned, and when that ends is chance.
NET, WITH_CLASS_TOKEN = f'{SMALL}, "global_pool": "max"}}', f"{SMALL}}}"
FULL = (small_objects.SIDE // small_objects.CELL) ** 2
SCALE = {"scale_embedding": True}
# Ways to choose tokens by name: what scores (a scorer, or a folder of maps), and what else differs in the settings.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "masks": ("masks", SCALE),
    "object": ("object", SCALE),
    "blur": ("blur", SCALE),
    "random": ("random", SCALE),
    "uniform": ("blur", {"uniform": True}),
    "full": ("blur", {"tokens": FULL, "budgets": None, "eval_tokens": (FULL,)}),
}
# What else was tried, one thing at a time; not run unless it is named.
TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "object-without-scale": ("object", {}),
    "object-with-detail": ("object", SCALE | {"detail": True}),
    "object-by-class-token": ("object", SCALE | {"model_args": WITH_CLASS_TOKEN}),
    "uniform-by-class-token": ("blur", {"uniform": True, "model_args": WITH_CLASS_TOKEN}),
}
MAPS = ("masks", "random")


def main(words: Sequence[str] | None = None) -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--runs", nargs="*", choices=[*RUNS, *TRIED], default=list(RUNS))
    parser.add_argument("--processes", type=int, default=2, help="that make the pictures")
    options = parser.parse_args(words)
    small_objects.write(options.work, options.processes)
    folders: dict[str, list[Path]] = {}
    with joined("cpu") as ranks:
        for seed in range(options.seeds):
            for name in options.runs:
                settings = of_run(options.work, name, seed, options.steps)
                if not (settings.out / WEIGHTS).exists():
                    train(settings, ranks)
                folders.setdefault(name, []).append(settings.out)
    (options.work / "table.md").write_text(table(folders))
    plot_scores(folders, "top1", options.work / "accuracy.png")


def of_run(work: Path, name: str, seed: int, steps: int) -> Settings:
    """One run; all differ in nothing but what `RUNS` says, and the seed."""
    scored_by, more = (RUNS | TRIED)[name]
    common: dict[str, Any] = {"model_args": NET, "budgets": (BUDGETS[0], BUDGETS[-1]), "eval_tokens": BUDGETS}
    return Settings(
        data=work / "photographs",
        out=work / f"{name}-{seed}",
        model="vit_tiny_patch16_224",
        weights=NONE,
        plans=plans(work, scored_by, "train"),
        val_plans=plans(work, scored_by, "val"),
        steps=steps,
        batch_size=BATCH,
        amp="bfloat16",
        lr=1e-3,
        seed=seed,
        log_every=50,
        keep_every=100,
        workers=0,
        **(common | more),
    )


def plans(work: Path, scored_by: str, part: str) -> Path:
    """The plans of every picture of a part; made where they are missing."""
    path = work / f"{scored_by}-{part}.qts"
    maps = {"scorer": "precomputed", "maps": work / scored_by / part} if scored_by in MAPS else {"scorer": scored_by}
    summary = tokenize_files([work / "photographs" / part], store="plans", output=path, fit="squash", **maps)
    assert not summary.failed, summary
    return path


def table(folders: dict[str, list[Path]]) -> str:
    """Markdown: top-1 in percent, the mean over the seeds and their standard deviation, and core-minutes of a run."""
    text = "| tokens by | " + " | ".join(f"{tokens} tokens" for tokens in (*BUDGETS, FULL)) + " | minutes |\n"
    text += "|---" * (len(BUDGETS) + 3) + "|\n"
    for name, runs in folders.items():
        found: dict[int, list[float]] = defaultdict(list)
        for folder in runs:
            for row in rows_of(folder / SCORES):
                found[int(row["asked"])].append(100 * float(row["top1"]))
        cells = [_said(found[tokens]) if tokens in found else "" for tokens in (*BUDGETS, FULL)]
        minutes = mean(float(rows_of(folder / LOG)[-1]["seconds"]) / 60 for folder in runs)
        text += f"| {name} | " + " | ".join(cells) + f" | {math.ceil(minutes)} |\n"
    return text


def _said(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
