"""Pictures of a run, or of several: how good a model is against the number of tokens, and how the loss fell."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from loop import LOG, SCORES


def rows_of(path: Path) -> list[dict[str, str]]:
    """Of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def plot_scores(runs: Mapping[str, Sequence[Path]], value: str, out: Path) -> None:
    """`value` at the last step against tokens: a line for each name, through the mean of its runs, which are dots."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, folders in runs.items():
        points: dict[float, list[float]] = {}
        for folder in folders:
            rows = rows_of(folder / SCORES)
            for row in rows:
                if row["step"] == rows[-1]["step"]:
                    points.setdefault(float(row["tokens"]), []).append(float(row[value]))
        means = sorted((tokens, sum(values) / len(values)) for tokens, values in points.items())
        (line,) = axes.plot(*zip(*means, strict=True), label=name)
        dots = [(tokens, one) for tokens, values in points.items() for one in values]
        axes.scatter(*zip(*dots, strict=True), color=line.get_color(), s=12)
    axes.set(xlabel="tokens", ylabel=value)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=120)
    plt.close(figure)


def plot_loss(folder: Path, out: Path) -> None:
    """The loss against the steps."""
    import matplotlib.pyplot as plt

    rows = rows_of(folder / LOG)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows])
    axes.set(xlabel="step", ylabel="loss")
    figure.savefig(out, dpi=120)
    plt.close(figure)
