"""Where many images go together, in place of files of their own: a file of plans, or shards.

Loads no torch: what is wrong with a place is said before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from quadtok.errors import InputError
from quadtok.jobs.parts import Part
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import PARQUET_SUFFIX, IfExistsName, MinimaName, PixelDtypeName, QuadtreeName, StoreName
from quadtok.places import is_elsewhere
from quadtok.storage.parquet_file import check_parquet

if TYPE_CHECKING:
    from quadtok.jobs.base import Job, OpenSink
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
        words: what sentences call things.

    Raises:
        InputError: where the path is a URL.
    """

    path: Path
    minima: MinimaName
    policy: IfExistsName
    words: Words = ARGUMENTS

    def __post_init__(self) -> None:
        if is_elsewhere(self.path):
            raise InputError(
                f"{self.path}: a file of plans grows, which one by a URL does not: write it here, and copy it"
            )

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
        return job, PlanFileSink(self.path, job.header, sources, ENTRY_SUFFIX, self.policy, self.words)


@dataclass(frozen=True)
class Shards:
    """A folder of shards.

    Attributes:
        folder: of the shards.
        suffix: of their names, which says what kind of file they are.
        size: samples of a shard.
        store: what a sample holds.
        dtype: of the pixels of tokens.
        minima: see `plan_streams`.
        impl: which quadtree chooses tokens.
        threshold: above which tokens are split.
        policy: what becomes of samples that are there.
        part: of a job array, whose shards have names of its own.
        words: what sentences call things.

    Raises:
        InputError: where what writes such files is missing.
    """

    folder: Path
    suffix: str
    size: int
    store: StoreName
    dtype: PixelDtypeName
    minima: MinimaName
    impl: QuadtreeName
    threshold: float | None
    policy: IfExistsName
    part: Part | None
    words: Words = ARGUMENTS

    def __post_init__(self) -> None:
        if self.suffix == PARQUET_SUFFIX:
            check_parquet()

    def place(self, source: Source) -> str:
        """See `Target`."""
        return f"{self.folder}:{source.relative.as_posix()}"

    def start(
        self, steps: Preprocess, scoring: Scoring, device: str, sources: Sequence[Source]
    ) -> tuple[Job[Any, Any], OpenSink]:
        """See `Target`."""
        from quadtok.jobs.samples import PlanSamplesJob, TokenSamplesJob
        from quadtok.jobs.sinks.shards import ShardSink
        from quadtok.storage.shards import CONTAINERS

        job = (
            PlanSamplesJob(steps, scoring, self.minima, device)
            if self.store == "plans"
            else TokenSamplesJob(steps, scoring, self.impl, self.dtype, device, threshold=self.threshold)
        )
        container = CONTAINERS[self.suffix]
        return job, ShardSink(self.folder, self.size, sources, self.part, self.policy, self.words, container)
