"""`quadtok tokenize` into files that hold many images: a file of plans, or tar shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from quadtok.cli.flags import FLAGS, Batches, Engines, MapScorerFlags, PreprocessFlags, Reporting
from quadtok.cli.running import begin, execute, finish, load
from quadtok.cli.terminal import Report, printable, write_data
from quadtok.geometry import Geometry
from quadtok.jobs.parts import Part
from quadtok.jobs.sinks.naming import without_our_pictures
from quadtok.jobs.sources import Found, Source
from quadtok.names import IfExistsName, MinimaName, PixelDtypeName, QuadtreeName, StoreName

if TYPE_CHECKING:
    from quadtok.jobs.base import Job, OpenSink, StopRequest
    from quadtok.jobs.scoring import Scoring
    from quadtok.preprocess import Preprocess


class Target(Protocol):
    """Where many images go together."""

    def place(self, source: Source) -> str:
        """What a dry run calls the output of an image."""

    def start(
        self, steps: Preprocess, scoring: Scoring, device: str, sources: Sequence[Source]
    ) -> tuple[Job[Any, Any], OpenSink]:
        """The job, and the sink of its results. Loads torch."""


@dataclass(frozen=True)
class PlanFile:
    """A file of plans.

    Attributes:
        path: of the file.
        minima: see `plan_streams`.
        policy: what becomes of plans that are there.
    """

    path: Path
    minima: MinimaName
    policy: IfExistsName

    def place(self, source: Source) -> str:
        """See `Target`."""
        return f"{self.path}:{source.relative.as_posix()}"

    def start(
        self, steps: Preprocess, scoring: Scoring, device: str, sources: Sequence[Source]
    ) -> tuple[Job[Any, Any], OpenSink]:
        """See `Target`."""
        from quadtok.jobs.plans import ENTRY_SUFFIX, PlansJob
        from quadtok.jobs.sinks.plan_file import PlanFileSink

        job = PlansJob(steps, scoring, self.minima, device)
        return job, PlanFileSink(self.path, job.header, sources, ENTRY_SUFFIX, self.policy, FLAGS)


@dataclass(frozen=True)
class Shards:
    """A folder of tar shards.

    Attributes:
        folder: of the shards.
        size: samples of a shard.
        store: what a sample holds.
        dtype: of the pixels of tokens.
        minima: see `plan_streams`.
        impl: which quadtree chooses tokens.
        threshold: above which tokens are split.
        policy: what becomes of samples that are there.
        part: of a job array, whose shards have names of its own.
    """

    folder: Path
    size: int
    store: StoreName
    dtype: PixelDtypeName
    minima: MinimaName
    impl: QuadtreeName
    threshold: float | None
    policy: IfExistsName
    part: Part | None

    def place(self, source: Source) -> str:
        """See `Target`."""
        return f"{self.folder}:{source.relative.as_posix()}"

    def start(
        self, steps: Preprocess, scoring: Scoring, device: str, sources: Sequence[Source]
    ) -> tuple[Job[Any, Any], OpenSink]:
        """See `Target`."""
        from quadtok.jobs.samples import PlanSamplesJob, TokenSamplesJob
        from quadtok.jobs.sinks.shards import ShardSink

        job = (
            PlanSamplesJob(steps, scoring, self.minima, device)
            if self.store == "plans"
            else TokenSamplesJob(steps, scoring, self.impl, self.dtype, device, threshold=self.threshold)
        )
        return job, ShardSink(self.folder, self.size, sources, self.part, self.policy, FLAGS)


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
