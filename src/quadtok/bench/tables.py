"""What `quadtok bench` shows: two tables a case, and the drawing."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.bar import Bar
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from quadtok.bench.plot import Line, Point, draw_lines
from quadtok.bench.rows import STAGES, ModelRow, Row, Timed

_PAGE = 100  # columns, where there is no terminal
_NUMBERS = 55  # columns that the first table takes besides labels and bars
_NOTHING = "–"


def heading(facts: dict[str, Any]) -> str:
    """The machine and the versions, in two lines."""
    versions = (f"{name} {facts[name]}" for name in ("quadtok", "torch", "python"))
    return f"{facts['processor']} · {facts['platform']}\n{' · '.join(versions)}"


def show(rows: Sequence[Row]) -> None:
    """Print the rows of one case: a title, the table, the stages, and why a row is empty."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _PAGE)
    bar = max(1, min(8, (console.width - _NUMBERS - max(len(row.label) for row in rows)) // 4))
    console.print(f"\n{_title(rows[0])}", style="bold", markup=False)
    for table in (_totals(rows, bar), _stages(rows, bar)):
        console.print()
        console.print(table)
    for row in rows:
        if row.failure:
            console.print(f"  {row.failure}", markup=False)


def show_model(rows: Sequence[ModelRow]) -> None:
    """Print the rows of a model on one case, and where the quadtree pays for itself."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _PAGE)
    full, _, tree = rows
    console.print(f"\nmodel {tree.model} · quadtree {tree.quadtree} · {tree.dtype} on {tree.device}", style="bold")
    columns = [
        _Column("tokens", [str(row.tokens) for row in rows]),
        _Column("ms/batch", [_shown(_ms(row.median)) for row in rows]),
        _Column("quartiles", [_spread(row) for row in rows]),
        _Column("images/s", [_shown(row.images_per_second) for row in rows]),
        _Column("prepare ms", [_shown(_ms(row.seconds[0])) for row in rows]),
        _Column("forward ms", [_shown(_ms(row.seconds[1])) for row in rows]),
        _Column("GFLOPs/image", [_shown(sum(row.flops) / row.batch / 1e9) for row in rows]),
    ]
    console.print()
    console.print(_table("reads", [_reads(row) for row in rows], columns, padding=1))
    at_most = f"up to about {tree.break_even} tokens of {full.tokens}" if tree.break_even else "at no number of tokens"
    console.print(f"  scorer, plan and patches pay for themselves {at_most}", markup=False)


def _reads(row: ModelRow) -> str:
    return f"{row.way}, {row.grid[0]}×{row.grid[1]}" if row.grid else row.way


def draw(rows: Sequence[Row], title: str, file_format: str) -> bytes:
    """Time against batch size, or against image size where there is one batch size; a panel for all that is left."""
    against_batch = len({row.batch for row in rows}) > 1
    panels: dict[str, dict[str, list[Point]]] = {}
    ticks: dict[float, dict[str, None]] = {}  # 256×512 and 512×256 share a place
    for row in rows:
        if row.median is None or row.quartiles is None:
            continue
        x = row.batch if against_batch else row.spec.height * row.spec.width
        ticks.setdefault(x, {})[str(row.batch) if against_batch else _size(row)] = None
        panel = f"{row.scorer}, {_size(row) if against_batch else f'{row.batch} images'}"
        lower, upper = row.quartiles
        point = Point(x, row.median * 1000, lower * 1000, upper * 1000)
        panels.setdefault(panel, {}).setdefault(row.label, []).append(point)
    return draw_lines(
        {name: [Line(label, points) for label, points in lines.items()] for name, lines in panels.items()},
        title=title,
        x_label="images in a batch" if against_batch else "image size in pixels",
        y_label="ms for a batch: median and quartiles",
        ticks={x: "\n".join(names) for x, names in ticks.items()},
        file_format=file_format,
    )


def _title(row: Row) -> str:
    spec = row.spec
    images = f"{row.batch} image{'s' * (row.batch > 1)} of {_size(row)}"
    patches = f"{spec.num_tokens} tokens of {spec.min_patch} to {spec.max_patch} px"
    return f"{images} · {patches} · scorer {row.scorer} · {row.dtype} on {row.device}"


def _size(row: Row) -> str:
    return f"{row.spec.height}×{row.spec.width}"


def _totals(rows: Sequence[Row], bar: int) -> Table:
    """A row an implementation; beside each number a bar, as long as the number is large in its column."""
    memory = [None if row.peak_bytes is None else row.peak_bytes / 1e6 for row in rows]
    columns = [
        *_barred("ms/batch", [_ms(row.median) for row in rows], "cyan", bar),
        _Column("quartiles", [_spread(row) for row in rows]),
        *_barred("images/s", [row.images_per_second for row in rows], "green", bar),
        *_barred("× slowest", [row.speedup for row in rows], "green", bar),
        *_barred("peak MB", memory, "magenta", bar),
    ]
    return _table("quadtree", [row.label for row in rows], columns)


def _stages(rows: Sequence[Row], bar: int) -> Table:
    """The same for the time of each stage, and for how long it took to compile."""
    columns = []
    for stage in STAGES:
        columns += _barred(f"{stage} ms", [_ms(row.stages[stage]) for row in rows], "cyan", bar)
    if any(row.compiled for row in rows):
        columns.append(_Column("compile s", [_shown(row.compile_seconds) for row in rows]))
    return _table("quadtree", [row.label for row in rows], columns)


@dataclass(frozen=True)
class _Column:
    header: str
    cells: Sequence[str | Bar]
    justify: Literal["left", "right"] = "right"


def _table(header: str, labels: Sequence[str], columns: Sequence[_Column], padding: int = 0) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, padding, 0, 0), show_edge=False)
    for column in [_Column(header, labels, "left"), *columns]:
        table.add_column(column.header, justify=column.justify, no_wrap=True)
    for label, *cells in zip(labels, *(column.cells for column in columns), strict=True):
        table.add_row(label, *cells)
    return table


def _barred(header: str, numbers: Sequence[float | None], color: str, width: int) -> list[_Column]:
    largest = max((number for number in numbers if number is not None), default=1.0)
    bars = [Bar(largest, 0, number or 0, width=width, color=color) for number in numbers]
    return [_Column(header, [_shown(number) for number in numbers]), _Column("", bars, "left")]


def _spread(row: Timed) -> str:
    return "…".join(_shown(_ms(seconds)) for seconds in row.quartiles) if row.quartiles else _NOTHING


def _shown(number: float | None) -> str:
    """Three significant digits, and all of those before the point."""
    if not number:
        return _NOTHING if number is None else "0"
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
