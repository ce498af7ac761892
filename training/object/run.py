"""From nothing to the weights: `python run.py FOLDER`. The same command goes on where it was interrupted.

Pictures are fetched to FOLDER/bank, examples made in FOLDER/examples (2.8 GB), taught there, and the net is trained in
FOLDER/NAME: `importance_net.pt` is what ships, `log.csv` and `curves.png` tell how it went. `--ablations` trains the
nets of the table in docs/object-scorer.md after it, at a third of the steps, in the same folder.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import examples
import pictures
import teacher
from distil import STEPS, WEIGHTS, Options, train
from lessons import Lessons

STRICT = "strict"
# Each run by its name: what differs from the first.
RUNS = {"pretrained": Options(), STRICT: Options(), "fresh": Options(start="fresh")}
SHARE = 3  # ablations have a third of the steps
ABLATIONS = {
    "third": Options(),
    "third-fresh": Options(start="fresh"),
    "third-without-detail": Options(without=("detail",)),
    "third-without-photographs": Options(without=("photographs",)),
    "third-without-truth": Options(without=("truth",)),
    f"third-{STRICT}": Options(),
    "third-seed-1": Options(seed=1),
    "third-seed-2": Options(seed=2),
}


def prepared(folder: Path, strict: bool, share: float, processes: int) -> Path:
    """The folder of the taught examples; whatever is there already is not made again."""
    suffix = f"-{STRICT}" if strict else ""
    bank, made = folder / "bank", folder / f"examples{suffix}"
    pictures.fetch(pictures.listed(strict), bank)
    for name, held_out in (("held-out", True), ("training", False)):
        part, tasks = made / name, examples.tasks(bank, held_out, strict, share)
        if not (part / "kinds.npy").exists():  # is written last
            examples.write(part, tasks, processes)
        if len(np.load(part / "kinds.npy")) != sum(task.count for task in tasks):
            sys.exit(f"error: {part} holds the examples of another --share; give another folder")
        if not (part / f"{teacher.NAMES[-1]}.npy").exists():
            teacher.teach(part, processes)
    return made


def plot(log: Path, out: Path) -> None:
    """The three losses against the steps, where matplotlib is installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(1, len(WEIGHTS), figsize=(12, 3.2), layout="constrained")
    for axis, name in zip(axes, WEIGHTS, strict=True):
        axis.plot([int(row["step"]) for row in rows], [float(row[name]) for row in rows])
        axis.set(title=name, xlabel="step", ylabel="loss")
    figure.savefig(out, dpi=110)


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--run",
        choices=RUNS,
        default="pretrained",
        help="of all pictures, of the strict list, or without EfficientNet-Lite0's layers",
    )
    parser.add_argument("--ablations", action="store_true", help="also the nets of the table, at a third of the steps")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training; {STEPS} unless told otherwise")
    parser.add_argument("--share", type=float, default=1.0, help="of the examples, for a smaller run")
    parser.add_argument("--processes", type=int, default=2, help="that make and teach the examples; 2 of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = {options.run: replace(RUNS[options.run], steps=options.steps)}
    if options.ablations:
        runs |= {name: replace(one, steps=options.steps // SHARE) for name, one in ABLATIONS.items()}
    for name, one in runs.items():
        made = prepared(options.folder, STRICT in name, options.share, options.processes)
        out = options.folder / name
        train(one, Lessons(made / "training", one.without), out)
        plot(out / "log.csv", out / "curves.png")


if __name__ == "__main__":
    main()
