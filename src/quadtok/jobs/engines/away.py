"""Work in another process, which may die over it: what it is given, what it gives back, and who is blamed for a death.

Inputs go out in chunks, neighbours of the run's order. A chunk is done by `Threads` there, as a whole run is here; what
comes back is a `Made` for each input, in their order. Where a process dies, whoever started it gives the chunk to
another one, and that does its inputs one by one, after it has told the ledger which. The one over which it dies again
is given up, and the others lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from quadtok.errors import QuadtokError, UnexpectedError, described
from quadtok.jobs.base import Engine, Job, Outcome, Sink, StopRequest
from quadtok.jobs.engines.finish import Made, ending_by
from quadtok.jobs.engines.ledger import DEATHS_ALONE, Attempt, LedgerClient
from quadtok.jobs.engines.reading import outcome_of
from quadtok.jobs.sources import Source

BYTES_KEPT = 1 << 26  # of files of a chunk, before they are given back


@runtime_checkable
class ShareableSink(Sink, Protocol):
    """A sink of which other processes can have a part."""

    @property
    def shared(self) -> Path | None:
        """A folder that files go to, where those of each source are apart from all others': then the parts are written
        to, by processes that see this folder. None: the parts are only asked, and one process writes all.
        """

    def part(self, sources: Sequence[Source]) -> Sink:
        """What is known of these sources, in a sink that can be pickled."""


@dataclass(frozen=True)
class Actors:
    """Processes that do chunks.

    Attributes:
        count: of them.
        gpus: that each has to itself.
        threads: of each; see `Threads`.
    """

    count: int
    gpus: int
    threads: int


@dataclass(frozen=True)
class Given:
    """What a process begins with.

    Attributes:
        job: pickled.
        batch_size: how many photos of one spec are run at once.
        threads: see `Threads`.
        witness: a file that it must see in order to write; None: it does not write.
        folder: where relative paths begin.
        version: of quadtok.
    """

    job: bytes
    batch_size: int
    threads: int
    witness: Path | None
    folder: str
    version: str


@dataclass(frozen=True)
class Chunk:
    """Inputs that are given away together.

    Attributes:
        number: of the chunk.
        first: the place of its first input in the run.
        sources: the inputs.
        sink: the sink's part of them.
    """

    number: int
    first: int
    sources: Sequence[Source]
    sink: Sink


@dataclass(frozen=True)
class Row:
    """What became of one input.

    Attributes:
        chunk: the number of its chunk.
        place: of the input in the run.
        made: what it became; None: its chunk was not begun, as the run is over.
    """

    chunk: int
    place: int
    made: Made | None


class Worker:
    """Does chunks of a job.

    Args:
        job: what to do.
        engine: who does it here.
        ledger: is told of it.
        writes: whether files are written here.
    """

    def __init__(self, job: Job[Any, Any], engine: Engine, ledger: LedgerClient, writes: bool) -> None:
        self._job, self._engine, self._ledger, self._writes = job, engine, ledger, writes

    def rows(self, chunk: Chunk) -> Iterator[Row]:
        """What becomes of the inputs of a chunk, in their order."""
        attempt = self._ledger.begin(chunk.number)
        if attempt is None:
            yield Row(chunk.number, chunk.first, None)
            return
        made = self._one_by_one(chunk, attempt) if attempt.alone else self._together(chunk.sources, chunk.sink)
        for place, item in enumerate(made, chunk.first):
            yield Row(chunk.number, place, item)
        self._ledger.end(chunk.number)

    def _one_by_one(self, chunk: Chunk, attempt: Attempt) -> Iterator[Made]:
        for place, source in enumerate(chunk.sources, chunk.first):
            if place in attempt.given_up:
                yield Made(outcome_of(chunk.sink, source, "failed", _given_up(source)))
                continue
            self._ledger.at(chunk.number, place)
            yield from self._together([source], chunk.sink)

    def _together(self, sources: Sequence[Source], sink: Sink) -> Iterator[Made]:
        """Where a run ends before all is done, another one goes on: why runs end is for the whole run to say."""
        while sources:
            made = self._some(sources, sink)
            yield from made
            if ending_by(made[-1].outcome.error):
                return
            sources = sources[len(made) :]

    def _some(self, sources: Sequence[Source], sink: Sink) -> list[Made]:
        """What became of the first of these inputs, and of as many more as may be kept."""
        kept, stop, made = _Kept(sink, self._writes), StopRequest(), list[Made]()

        def hear(outcome: Outcome) -> None:
            has_run = outcome.status == "written" or bool(outcome.facts) or outcome.source == kept.last
            made.append(Made(outcome, has_run, kept.files_of(outcome)))
            stop.asked = kept.bytes >= BYTES_KEPT

        self._engine.run(self._job, sources, kept, hear, stop)
        # One that a stop left undone may be followed by others, of which was known already what becomes of them.
        pairs = zip(made, sources, strict=False)
        whole = next((place for place, (item, source) in enumerate(pairs) if item.outcome.source != source), len(made))
        return made[:whole]


class _Kept:
    """A part of a sink, in whose place files are kept unless it is written to.

    Attributes:
        bytes: of the files that were kept.
        last: the input whose files were last to be written.
    """

    def __init__(self, part: Sink, writes: bool) -> None:
        self._part, self._writes = part, writes
        self._files: dict[Source, Mapping[str, bytes]] = {}
        self.bytes = 0
        self.last: Source | None = None

    def output(self, source: Source) -> str:
        return self._part.output(source)

    def is_settled(self, source: Source) -> bool:
        return self._part.is_settled(source)

    def outstanding(self, source: Source, fingerprint: str) -> frozenset[str]:
        return self._part.outstanding(source, fingerprint)

    def write(self, source: Source, files: Mapping[str, bytes]) -> bool:
        self.last = source
        if self._writes:
            return self._part.write(source, files)
        self._files[source] = files
        self.bytes += sum(map(len, files.values()))
        return True

    def files_of(self, outcome: Outcome) -> Mapping[str, bytes] | None:
        """What is still to be written."""
        return self._files.pop(outcome.source, None)


def as_sentence(problem: Exception, what: str) -> QuadtokError:
    """A problem of all inputs; one of quadtok's as it is."""
    return problem if isinstance(problem, QuadtokError) else UnexpectedError(f"{what}: {described(problem)}")


def _given_up(source: Source) -> UnexpectedError:
    return UnexpectedError(
        f"{source.path}: {1 + DEATHS_ALONE} processes died over it, or over a batch that it was in: memory ran out, or "
        "something that reads it crashed"
    )
