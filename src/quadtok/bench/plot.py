"""Lines with a band around them, in panels side by side. Needs matplotlib: `pip install 'quadtok[plot]'`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from quadtok.errors import InputError
from quadtok.marks import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers can tell apart; the markers say the same once more.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
PANEL_INCHES, DPI = (5.0, 4.0), 150


class Point(NamedTuple):
    """A value at x, and the band around it."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """Points in any order, under a name that has the same colour in each panel."""

    label: str
    points: Sequence[Point]


def draw_lines(
    panels: Mapping[str, Sequence[Line]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    ticks: Mapping[float, str],
    file_format: str,
) -> bytes:
    """Draw panels that share both axes, which are logarithmic.

    Args:
        panels: the lines of each, by its heading; one at least.
        title: above all of them.
        x_label: below each.
        y_label: at the left.
        ticks: the values of x, and how to write them.
        file_format: `"png"` or `"svg"`.

    Returns:
        The picture file's content.

    Raises:
        InputError: where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError as problem:
        raise InputError("plots need matplotlib: pip install 'quadtok[plot]'") from problem

    labels = list(dict.fromkeys(line.label for lines in panels.values() for line in lines))
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(panels), height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="small", color="#555555", x=0.01, horizontalalignment="left")
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (heading, lines) in zip(row, panels.items(), strict=True):
        for line in lines:
            _draw_line(axes, line, labels.index(line.label))
        axes.set_title(heading, loc="left")
        axes.set_xlabel(x_label)
        _dress(axes, ticks)
    row[0].set_ylabel(y_label)
    row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    row[0].yaxis.set_major_formatter("{x:g}")
    row[0].yaxis.set_minor_formatter(NullFormatter())
    row[0].legend(frameon=False)
    buffer = BytesIO()
    mark = str(Mark("plot"))
    metadata = {"Date": None, "Creator": mark} if file_format == "svg" else {"Comment": mark}
    figure.savefig(buffer, format=file_format, metadata=metadata)
    return buffer.getvalue()


def _draw_line(axes: Axes, line: Line, number: int) -> None:
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    x, y, low, high = zip(*sorted(line.points), strict=True)
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, y, color=color, marker=marker, markersize=5, label=line.label)


def _dress(axes: Axes, ticks: Mapping[float, str]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sorted(ticks), [ticks[x] for x in sorted(ticks)])
    axes.set_xticks([], minor=True)
    axes.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
