"""`quadtok tokenize` into files that hold many images: a file of plans, or shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quadtok.cli.flags import Batches, Engines, MapScorerFlags, PreprocessFlags, Reporting
from quadtok.cli.running import begin, execute, finish, load
from quadtok.cli.terminal import Report, printable, write_data
from quadtok.geometry import Geometry
from quadtok.jobs.sinks.naming import without_our_pictures
from quadtok.jobs.sources import Found, Source
from quadtok.jobs.targets import Target

if TYPE_CHECKING:
    from quadtok.jobs.base import StopRequest


def collect(
    found: Found, geometry: Geometry, scorer: MapScorerFlags, preprocess: PreprocessFlags, target: Target,
    batches: Batches, running: Engines, say: Reporting, dry_run: bool,
) -> int:  # fmt: skip
    """Put all images where they go together; the exit code."""
    # A file of maps has a row for each input that is tokenized: so which are must be known first.
    look_at_all = dry_run or scorer.maps is not None
    sources, ours = without_our_pictures(found.sources) if look_at_all else (found.sources, [])
    report, goes_on = begin(say, running, found, sources, ours)
    if dry_run:
        _show(sources, target, report)
        return 1 if report.counts["failed"] else 0
    if not goes_on:
        return finish(report)
    load("jobs.scored", running.module)
    with report.progress("tokenize"):
        stop = _run(sources, geometry, scorer, preprocess, target, batches, running, report)
    return finish(report, stop)


def _run(
    sources: Sequence[Source], geometry: Geometry, scorer: MapScorerFlags, preprocess: PreprocessFlags,
    target: Target, batches: Batches, running: Engines, report: Report,
) -> StopRequest:  # fmt: skip
    device = batches.resolve()
    scoring = scorer.scoring(scorer.names[0], sources, device, report.tell)
    job, sink = target.start(preprocess.value(geometry), scoring, device, sources)
    engine = running.on(device, batches.batch_size, same_size=geometry.size is not None)
    return execute(job, sink, engine, report)


def _show(sources: Sequence[Source], target: Target, report: Report) -> None:
    for source in sources:
        output = target.place(source)
        report.file("planned", str(source.path), output=output)
        if not report.as_json:
            write_data(f"{printable(str(source.path))} -> {printable(output)}")
