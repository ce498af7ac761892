"""Which inputs are to be done, and their bytes as photos, while those before them are worked on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Any, Generic

from quadtok.errors import as_ours
from quadtok.jobs.base import Job, Outcome, P, R, Sink, Status
from quadtok.jobs.engines.pool import ahead
from quadtok.jobs.sources import Source
from quadtok.marks import is_passed_over, read_mark

# Of all batches, and again of what is read ahead: 200 MB as uint8, and some times that while they are scored.
PIXELS_IN_FLIGHT = 1 << 26
MOST_ENTRIES = 1000  # inputs with nothing to do are not kept waiting for others
LOOKED_AT = 64  # inputs that a thread looks for results of in one turn: where all are done, turns take the time


@dataclass
class Entry(Generic[P]):
    """An input on its way: a photo that is to be run, or an outcome already."""

    source: Source
    started: float
    photo: P | None = None
    wanted: frozenset[str] = frozenset()
    outcome: Outcome | None = None


def outcome_of(sink: Sink, source: Source, status: Status, problem: Exception | None = None) -> Outcome:
    """What became of an input; its error in our words."""
    error = None if problem is None else as_ours(problem, source.path)
    return Outcome(source, status, sink.output(source), error)


def pixels_of(entry: Entry[Any]) -> int:
    """Of its photo."""
    return entry.photo.spec.height * entry.photo.spec.width if entry.photo else 0


def _is_unread(entry: Entry[Any]) -> bool:
    return entry.photo is None and entry.outcome is None


class Reader(Generic[P, R]):
    """Reads the inputs of a job.

    Args:
        job: what is done with them.
        sink: which knows what is there.
        workers: threads.
        ahead: how many inputs are read ahead, besides two a worker.
    """

    def __init__(self, job: Job[P, R], sink: Sink, workers: int, ahead: int) -> None:
        self._job, self._sink, self._workers = job, sink, workers
        self._ahead = workers and 2 * workers + ahead
        self._held = 0  # pixels of photos that are read and not handed on yet
        self._counting = threading.Lock()

    def entries(self, pool: Executor, sources: Sequence[Source]) -> Iterator[Entry[P]]:
        """All inputs in their order, while some after them are read already."""
        begun: deque[Entry[P] | Future[Entry[P]]] = deque()
        reading = 0
        for settled in self._looked_at(pool, sources):
            begun.append(settled if settled.outcome else pool.submit(self._read, settled))
            reading += settled.outcome is None
            while begun and (reading > self._ahead or not isinstance(begun[0], Future) or len(begun) > MOST_ENTRIES):
                reading -= isinstance(begun[0], Future)
                yield self._first(pool, begun)
        while begun:
            yield self._first(pool, begun)

    def _first(self, pool: Executor, begun: deque[Entry[P] | Future[Entry[P]]]) -> Entry[P]:
        """The next entry. Where it was put back, it is read now, and those behind it are begun again."""
        first = begun.popleft()
        entry = first.result() if isinstance(first, Future) else first
        if _is_unread(entry):
            again = pool.submit(self._read, entry, whatever_is_held=True)
            for place, other in enumerate(begun):
                if isinstance(other, Future) and other.done() and _is_unread(other.result()):
                    begun[place] = pool.submit(self._read, other.result())
            entry = again.result()
        self._hold(-pixels_of(entry))
        return entry

    def _hold(self, pixels: int) -> None:
        with self._counting:
            self._held += pixels

    def _looked_at(self, pool: Executor, sources: Sequence[Source]) -> Iterator[Entry[P]]:
        """All inputs, those with an outcome that are settled already."""
        parts = [sources[first : first + LOOKED_AT] for first in range(0, len(sources), LOOKED_AT)]
        for part in ahead(pool, lambda some: [self._look_at(source) for source in some], parts, self._workers):
            yield from part.result()

    def _look_at(self, source: Source) -> Entry[P]:
        entry = Entry[P](source, time.perf_counter())
        try:
            return self._settled(entry, "skipped") if self._sink.is_settled(source) else entry
        except Exception as problem:
            return self._settled(entry, "failed", problem)

    def _read(self, entry: Entry[P], whatever_is_held: bool = False) -> Entry[P]:
        """Read one input, in any thread; where enough is read that is not wanted yet, it is put back as it is."""
        if self._held >= PIXELS_IN_FLIGHT and not whatever_is_held:
            return entry
        job, source = self._job, entry.source
        entry.started = time.perf_counter()
        try:
            data = job.load(source)
            if source.found and is_passed_over(read_mark(data)):
                return self._settled(entry, "passed over")
            fingerprint = job.fingerprint(source, data)
            entry.wanted = self._sink.outstanding(source, fingerprint)
            if not entry.wanted and not job.tells:
                return self._settled(entry, "skipped")
            entry.photo = job.read(source, data, fingerprint)
            self._hold(pixels_of(entry))
        except Exception as problem:
            return self._settled(entry, "failed", problem)
        return entry

    def _settled(self, entry: Entry[P], status: Status, problem: Exception | None = None) -> Entry[P]:
        return replace(entry, photo=None, outcome=outcome_of(self._sink, entry.source, status, problem))
