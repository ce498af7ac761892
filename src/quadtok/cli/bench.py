"""`quadtok bench`: what each quadtree costs, as tables, and whether all give the same plan."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from quadtok import __version__
from quadtok.cli import options
from quadtok.cli.device import check_device_name, resolve_device
from quadtok.cli.given import check_flags, is_given
from quadtok.cli.settings import check_scorers, parse_geometry, parse_options
from quadtok.cli.terminal import passed_over, say, say_error, write_data, write_json
from quadtok.environment import machine
from quadtok.errors import InputError, OutputError
from quadtok.files import destination, write_atomically
from quadtok.geometry import Geometry
from quadtok.jobs.sinks.naming import without_our_pictures
from quadtok.jobs.sources import Found, find_sources
from quadtok.marks import describe_content, head_of, holds_nothing, mark_of_file
from quadtok.names import IMAGE_SUFFIXES, QuadtreeName

if TYPE_CHECKING:
    from quadtok.bench import Row
    from quadtok.bench.cases import Benchmark

DtypeName = Literal["float32", "float16", "bfloat16", "uint8"]

_QUADTREE, _RUN, _SAY = "Quadtree", "Running", "Reporting"
_CSV_HEAD = b"implementation,compiled,scorer,"
_PLOT_SUFFIXES = (".png", ".svg")


def bench(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUTS", help="Images, repeated to fill a batch; none: random ones."),
    ] = None,
    null: options.Null = False,
    impl: Annotated[
        str, typer.Option(metavar="all|NAME,...", rich_help_panel=_QUADTREE, help="Which quadtrees to time.")
    ] = "all",
    scorer: Annotated[
        str,
        typer.Option(metavar="NAME,...", rich_help_panel=_QUADTREE, help="random, blur, feature or MODULE:NAME."),
    ] = "random",
    scorer_option: options.ScorerOption = None,
    weights: options.Weights = None,
    seed: Annotated[
        int,
        typer.Option(
            rich_help_panel=_QUADTREE,
            envvar="QUADTOK_SEED",
            help="Of random images; --scorer random adds each image's place in the batch.",
        ),
    ] = 0,
    tokens: options.Tokens = "100",
    image_sizes: Annotated[
        str, typer.Option("--image-sizes", "-s", metavar="N|HxW,...", rich_help_panel=_QUADTREE, help="A table each.")
    ] = "256",
    min_patch: options.MinPatch = 16,
    max_patch: options.MaxPatch = 64,
    fit: options.Fit = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", "-b", metavar="N,...", rich_help_panel=_RUN, help="A table each.")
    ] = "128",
    device: Annotated[
        str,
        typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=_RUN, envvar="QUADTOK_DEVICE", help="Where to run."),
    ] = "auto",
    dtype: Annotated[
        DtypeName, typer.Option(rich_help_panel=_RUN, help="Of the images; all but uint8 are normalised.")
    ] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=_RUN, show_default="torch's choice", help="On the CPU.")
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", rich_help_panel=_RUN, help="Add rows with torch.compile; its own time stands apart."),
    ] = False,
    warmup: Annotated[int, typer.Option(min=0, rich_help_panel=_RUN, help="Untimed runs of each quadtree.")] = 3,
    min_time: Annotated[
        float, typer.Option(min=0, rich_help_panel=_RUN, help="Seconds of each row; never under 3 repetitions.")
    ] = 1.0,
    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_SAY, help="JSON lines on stdout: one per row, then a summary."),
    ] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", rich_help_panel=_SAY, help="Also write the rows as CSV.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|svg",
            rich_help_panel=_SAY,
            help="Also draw time against batch size or image size, whichever has several values.",
        ),
    ] = None,
) -> int:
    """Time the quadtrees, and check that all of them give the same plan."""
    check_flags(context)
    if is_given(context, "fit") and not inputs:
        raise InputError("--fit is about image files: give INPUTS, too")
    implementations = parse_implementations(impl)
    geometries = [_fixed(parse_geometry(size, fit, min_patch, max_patch, tokens)) for size in _listed(image_sizes)]
    batches = [_batch_size(text) for text in _listed(batch_sizes)]
    scorers, scorer_options = _listed(scorer), parse_options(scorer_option or [])
    _check_scorers(scorers, weights)
    check_device_name(device)
    if plot is not None:
        _check_plot(plot, several=len(batches) > 1 or len(geometries) > 1)
    _check_places(csv_file, plot)
    found = find_sources(inputs, IMAGE_SUFFIXES, null) if inputs else Found([], [])
    photographs, ours = without_our_pictures(found.sources)
    if found.sources and not photographs:
        raise InputError(f"no photographs: {passed_over(len(ours))}; name one to time it all the same")
    if found.refused:  # timing other images than were asked for would be another benchmark
        raise found.refused[0].problem

    with _status("loading torch"):
        import torch

        from quadtok.bench.cases import Benchmark, make_scorings
        from quadtok.bench.tables import draw, heading

        device = resolve_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        benchmark = Benchmark(
            implementations=implementations,
            geometries=geometries,
            batches=batches,
            scorings=make_scorings(scorers, weights=weights, seed=seed, options=scorer_options, tell=say),
            sources=photographs,
            seed=seed,
            dtype=dtype,
            device=device,
            compiled=compiled,
            warmup=warmup,
            min_time=min_time,
        )
        facts = machine(device)

    rows = _run(benchmark, facts, as_json)
    if csv_file is not None:
        write_atomically(csv_file, _as_csv(rows))
    if plot is not None and any(row.times for row in rows):
        write_atomically(plot, draw(rows, heading(facts), plot.suffix[1:].lower()))
    return _verdict(rows)


def _run(benchmark: Benchmark, facts: dict[str, Any], as_json: bool) -> list[Row]:
    """Time one case after another, and show each as soon as it is done."""
    from quadtok.bench.tables import heading, show

    rows: list[Row] = []
    if not as_json:
        write_data(heading(facts))
    for case in benchmark.cases():
        with _status(f"timing {case}"):
            found = benchmark.rows(case)
        rows += found
        if as_json:
            for row in found:
                write_json({"type": "row", **row.describe()})
        else:
            show(found)
    if as_json:
        mismatches = sum(row.mismatch is not None for row in rows)
        write_json(
            {"type": "summary", "rows": len(rows), "mismatches": mismatches, "version": __version__, "machine": facts}
        )
    return rows


def _verdict(rows: list[Row]) -> int:
    """Say which quadtrees disagree; the exit code."""
    mismatches = [row.mismatch for row in rows if row.mismatch]
    for mismatch in mismatches:
        say_error(f"{mismatch}; please report it, with what 'quadtok info' prints")
    return 1 if mismatches else 0


def parse_implementations(text: str) -> list[str]:
    """`all`, or names of quadtrees, each once."""
    known = get_args(QuadtreeName)
    names = list(known) if text == "all" else _listed(text)
    for name in names:
        if name not in known:
            raise InputError(f"--impl: there is no quadtree {name!r}: choose from {', '.join(known)}, or all")
    return names


def _listed(text: str) -> list[str]:
    """`a,b` to its parts, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _batch_size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch-sizes: {text!r} is not a number of images, such as 1,32,128")
    return int(text)


def _fixed(geometry: Geometry) -> Geometry:
    """Refuse what has no single size, or nothing to time."""
    if geometry.size is None:
        raise InputError("--image-sizes native: the images of a batch have one size; give it as N or HxW")
    if geometry.num_scales == 1:
        size = geometry.max_patch
        raise InputError(
            f"--min-patch and --max-patch are both {size}: nothing is to choose; use --max-patch {2 * size}"
        )
    return geometry


def _check_scorers(names: list[str], weights: str | None) -> None:
    check_scorers(names, weights)
    if "precomputed" in names:
        raise InputError("--scorer precomputed: bench has no maps to read; time random, blur, feature or MODULE:NAME")


def _check_plot(plot: Path, several: bool) -> None:
    """Refuse at once what would fail after all the timing."""
    if plot.suffix.lower() not in _PLOT_SUFFIXES:
        raise InputError(f"--plot {plot}: the name must end in {' or '.join(_PLOT_SUFFIXES)}")
    if not several:
        raise InputError("--plot draws time against batch size or image size: give several, as in --batch-sizes 1,8,64")
    if find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install 'quadtok[plot]'")


def _check_places(csv_file: Path | None, plot: Path | None) -> None:
    """Refuse at once what is not to be replaced: anything but what bench wrote there before."""
    if csv_file is not None and plot is not None and csv_file.resolve() == plot.resolve():
        raise InputError(f"--plot and --csv name one file, {plot}: give two")
    for flag, path in (("--csv", csv_file), ("--plot", plot)):
        if path is None or not destination(path).exists() or holds_nothing(path):
            continue
        head, mark = head_of(path), mark_of_file(path)
        if not (head.startswith(_CSV_HEAD) if flag == "--csv" else mark is not None and mark.kind == "plot"):
            raise OutputError(
                f"{flag} {path}: is {describe_content(head)} that bench did not write; it is kept: choose another name"
            )


def _as_csv(rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    records = [row.describe() for row in rows]
    writer = csv.DictWriter(text, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


@contextmanager
def _status(doing: str) -> Iterator[None]:
    """A line while the block runs, if stderr is a terminal. No spinner: its thread would take part in the timing."""
    if not sys.stderr.isatty():
        yield
        return
    print(f"{doing} …", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
