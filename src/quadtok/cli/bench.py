"""`quadtok bench`: what each quadtree costs, as tables, and whether all give the same plan."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from quadtok import __version__
from quadtok.cli.bench_flags import Contestants, Photographs, Results, Sizes, Timing
from quadtok.cli.flags import PreprocessFlags
from quadtok.cli.grouped import grouped
from quadtok.cli.terminal import passed_over, say, say_error, write_data, write_json
from quadtok.environment import machine
from quadtok.errors import InputError, PatchSizeError
from quadtok.files import write_atomically
from quadtok.jobs.sinks.naming import without_our_pictures
from quadtok.jobs.sources import Source
from quadtok.names import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from quadtok.bench import ModelRow, Row
    from quadtok.bench.cases import Benchmark, Case


@grouped
def bench(
    context: typer.Context,
    inputs: Photographs,
    contestants: Contestants,
    sizes: Sizes,
    preprocess: PreprocessFlags,
    timing: Timing,
    results: Results,
) -> int:
    """Time the quadtrees, and check that all of them give the same plan."""
    if not inputs.inputs and (ignored := preprocess.given(context)):
        raise InputError(f"{ignored[0]} is about image files: give INPUTS, too")
    geometries, batches = sizes.geometries(preprocess.fit), timing.batches()
    results.check_places(several=len(batches) > 1 or len(geometries) > 1)
    photographs = _photographs(inputs)

    with _status("loading torch"):
        import torch

        from quadtok.bench.cases import Benchmark

        if timing.threads is not None:
            torch.set_num_threads(timing.threads)
        benchmark = Benchmark(
            device=(device := timing.resolve()),
            implementations=contestants.quadtrees,
            sizes=[preprocess.value(geometry) for geometry in geometries],
            batches=batches,
            scorings={name: contestants.scoring(name, photographs, device, say) for name in contestants.names},
            sources=photographs,
            seed=contestants.seed,
            dtype=timing.dtype,
            compiled=timing.compiled,
            warmup=timing.warmup,
            min_time=timing.min_time,
            model=contestants.model,
        )

    rows = _run(benchmark, facts := machine(device), results.as_json)
    _write(results, rows, facts)
    return _verdict(rows)


def _photographs(inputs: Photographs) -> list[Source]:
    found = inputs.find(IMAGE_SUFFIXES)
    photographs, ours = without_our_pictures(found.sources)
    if found.sources and not photographs:
        raise InputError(f"no photographs: {passed_over(len(ours))}; name one to time it all the same")
    if found.refused:  # timing other images than were asked for would be another benchmark
        raise found.refused[0].problem
    return photographs


def _model_rows(benchmark: Benchmark, case: Case) -> list[ModelRow]:
    """The rows of `--model`; where its patches are of another size, the flags that it needs are named."""
    try:
        return benchmark.model_rows(case)
    except PatchSizeError as problem:
        patch, scales = problem.patch, case.geometry.num_scales
        raise InputError(
            f"--model {benchmark.model}: its patches are {patch}×{patch} pixels: "
            f"give --min-patch {patch} --max-patch {patch << (scales - 1)}, and an --image-size in multiples of that"
        ) from problem


def _run(benchmark: Benchmark, facts: dict[str, Any], as_json: bool) -> list[Row]:
    """Time one case after another, and show each as soon as it is done."""
    from quadtok.bench.tables import heading, show, show_model

    rows: list[Row] = []
    if not as_json:
        write_data(heading(facts))
    for case in benchmark.cases():
        with _status(f"timing {case}"):
            of_model = _model_rows(benchmark, case)  # which may be refused: first
            found = benchmark.rows(case)
        rows += found
        if as_json:
            for row in found:
                write_json({"type": "row", **row.describe()})
            for model_row in of_model:
                write_json({"type": "model", **model_row.describe()})
            continue
        show(found)
        if of_model:
            show_model(of_model)
    if as_json:
        mismatches = sum(row.mismatch is not None for row in rows)
        write_json(
            {"type": "summary", "rows": len(rows), "mismatches": mismatches, "version": __version__, "machine": facts}
        )
    return rows


def _write(results: Results, rows: list[Row], facts: dict[str, Any]) -> None:
    """The files that were asked for."""
    from quadtok.bench.tables import draw, heading

    if results.csv_file is not None:
        write_atomically(results.csv_file, _as_csv(rows))
    if results.plot is not None and any(row.times for row in rows):
        write_atomically(results.plot, draw(rows, heading(facts), results.plot.suffix[1:].lower()))


def _as_csv(rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    records = [row.describe() for row in rows]
    writer = csv.DictWriter(text, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def _verdict(rows: list[Row]) -> int:
    """Say which quadtrees disagree; the exit code."""
    mismatches = [row.mismatch for row in rows if row.mismatch]
    for mismatch in mismatches:
        say_error(f"{mismatch}; please report it, with what 'quadtok info' prints")
    return 1 if mismatches else 0


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
