"""Pictures of a run, or of several: how good a model is against the number of tokens, and how the loss fell."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop import LOG, SCORES
from quadtok.errors import InputError
from quadtok.files import write_atomically


def rows_of(path: Path) -> list[dict[str, str]]:
    """Of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def plot_scores(runs: Mapping[str, Sequence[Path]], value: str, out: Path) -> None:
    """`value` at the last step against tokens: a line for each name, through the mean of its runs, which are dots."""
    figure, axes = _figure(xlabel="tokens", ylabel=value)
    for name, folders in runs.items():
        points: dict[float, list[float]] = {}
        for folder in folders:
            rows = _numbers(folder / SCORES, "step", "tokens", value)
            for step, tokens, score in rows:
                if step == rows[-1][0]:
                    points.setdefault(tokens, []).append(score)
        means = sorted((tokens, sum(values) / len(values)) for tokens, values in points.items())
        (line,) = axes.plot(*zip(*means, strict=True), label=name)
        dots = [(tokens, one) for tokens, values in points.items() for one in values]
        axes.scatter(*zip(*dots, strict=True), color=line.get_color(), s=12)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, out)


def plot_loss(folder: Path, out: Path) -> None:
    """The loss against the steps."""
    figure, axes = _figure(xlabel="step", ylabel="loss")
    rows = _numbers(folder / LOG, "step", "loss")
    axes.plot(*zip(*rows, strict=True), marker="." if len(rows) < 20 else None)  # a line of one point is invisible
    _save(figure, out)


def _numbers(path: Path, *columns: str) -> list[tuple[float, ...]]:
    """These columns of a table, which somebody may have edited."""
    try:
        rows = [tuple(float(row[name]) for name in columns) for row in rows_of(path)]
    except (LookupError, TypeError, ValueError, csv.Error) as problem:
        raise InputError(f"{path}: has rows without numbers for {', '.join(columns)}: nothing is drawn") from problem
    if not rows:
        raise InputError(f"{path}: has no rows: nothing is drawn")
    return rows


def _figure(**labels: str) -> tuple[Any, Any]:
    try:
        import matplotlib.pyplot as plt
    except ImportError as problem:
        raise InputError("pictures are drawn by an extra: pip install 'quadtok[plot]'") from problem
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.set(**labels)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure, axes


def _save(figure: Any, out: Path) -> None:
    import matplotlib.pyplot as plt

    data = io.BytesIO()
    figure.savefig(data, dpi=120)
    plt.close(figure)
    write_atomically(out, data.getvalue())
