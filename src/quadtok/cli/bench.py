"""`quadtok bench`: what each quadtree costs, as a table, and whether all give the same plan."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from quadtok import __version__
from quadtok.cli import options
from quadtok.cli.device import check_device_name, resolve_device
from quadtok.cli.info import environment
from quadtok.cli.inputs import find_sources
from quadtok.cli.output import say_error, write_json
from quadtok.cli.settings import Geometry, check_scorers, parse_geometry, parse_options
from quadtok.errors import InputError
from quadtok.files import write_atomically
from quadtok.names import IMAGE_SUFFIXES, QuadtreeName

if TYPE_CHECKING:
    from quadtok.bench import Row

DtypeName = Literal["float32", "float16", "bfloat16", "uint8"]
PLOT_SUFFIXES = (".png", ".svg")

_QUADTREE, _RUN, _SAY = "Quadtree", "Running", "Reporting"


def bench(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUTS]...", help="Images, repeated to fill a batch; none: random ones."),
    ] = None,
    null: options.Null = False,
    impl: Annotated[
        str, typer.Option(metavar="all|NAME,...", rich_help_panel=_QUADTREE, help="Which quadtrees to time.")
    ] = "all",
    scorer: Annotated[
        str,
        typer.Option(metavar="NAME,...", rich_help_panel=_QUADTREE, help="random, blur, feature, MODULE:NAME."),
    ] = "random",
    scorer_option: options.ScorerOption = None,
    weights: options.Weights = None,
    seed: Annotated[
        int,
        typer.Option(
            rich_help_panel=_QUADTREE,
            envvar="QUADTOK_SEED",
            help="Of the random images, and for --scorer random, which gives each place in the batch its own.",
        ),
    ] = 0,
    tokens: options.Tokens = "100",
    image_sizes: Annotated[
        str,
        typer.Option("--image-sizes", "-s", metavar="N|HxW,...", rich_help_panel=_QUADTREE, help="One table for each."),
    ] = "256",
    min_patch: options.MinPatch = 16,
    max_patch: options.MaxPatch = 64,
    fit: options.Fit = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", "-b", metavar="N,...", rich_help_panel=_RUN, help="One table for each.")
    ] = "128",
    device: Annotated[
        str,
        typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=_RUN, envvar="QUADTOK_DEVICE", help="Where to run."),
    ] = "auto",
    dtype: Annotated[
        DtypeName, typer.Option(rich_help_panel=_RUN, help="Of the images; all but uint8 are normalised.")
    ] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=_RUN, show_default="torch's", help="Of torch, on the CPU.")
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", rich_help_panel=_RUN, help="Also with torch.compile, its own time shown apart."),
    ] = False,
    warmup: Annotated[int, typer.Option(min=0, rich_help_panel=_RUN, help="Untimed runs of each quadtree.")] = 3,
    min_time: Annotated[
        float, typer.Option(min=0, rich_help_panel=_RUN, help="Seconds to time each for; 3 repetitions at least.")
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
    """Time the quadtrees against each other, and check that they agree."""
    names = parse_names(impl)
    geometries = [parse_geometry(size, fit, min_patch, max_patch, tokens) for size in _listed(image_sizes)]
    batches = parse_batch_sizes(batch_sizes)
    scorers = _listed(scorer)
    scorer_options = parse_options(scorer_option or [])
    _check_scorers(scorers, weights)
    _check_sizes(geometries)
    check_device_name(device)
    if plot is not None:
        _check_plot(plot, len(batches) > 1 or len(geometries) > 1)
    sources = find_sources(inputs, IMAGE_SUFFIXES, null) if inputs else []

    with _status("loading torch"):
        import torch

        from quadtok.bench import time_quadtrees
        from quadtok.cli.bench_tables import heading, tables
        from quadtok.cli.workloads import Plenty, make_workloads

        device = resolve_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        machine = {**environment(), "processor": processor(device)}
        plenty = Plenty(geometries, batches, scorers, scorer_options, weights, seed, dtype, device, sources)

    if not as_json:
        print(heading(machine))
    started, rows = time.monotonic(), []
    for workload in make_workloads(plenty):
        with _status(f"timing {workload.describe()}"):
            found = time_quadtrees(workload, names, compiled=compiled, warmup=warmup, min_time=min_time)
        rows += found
        for row in found if as_json else []:
            write_json({"type": "row", **row.describe()})
        if not as_json:
            print(tables(workload.describe(), found))
    if csv_file is not None:
        write_atomically(csv_file, _as_csv(rows))
    if plot is not None:
        write_atomically(plot, _drawn(rows, plot, machine))
    mismatches = [row.mismatch for row in rows if row.mismatch]
    if as_json:
        seconds = round(time.monotonic() - started, 3)
        summary = {"rows": len(rows), "mismatches": len(mismatches), "seconds": seconds, "version": __version__}
        write_json({"type": "summary", **summary, "environment": machine})
    for mismatch in mismatches:
        say_error(f"{mismatch}. Please report this, with what 'quadtok info' prints.")
    return 1 if mismatches else 0
