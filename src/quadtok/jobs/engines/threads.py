"""A job done by threads of this process: they read, score and encode; the calling thread writes and talks.

One pool does both kinds of work, the reading of one input and the making of one batch, in the order in which they
were begun: so it is at work as long as anything is to be done, whichever of the two is the slower. A batch is scored
by one thread, and several batches side by side; torch's own threads would wait for each other on cores that are busy
decoding, and sums would depend on how many they are. A job that cannot be run by several threads (a scorer of the
user's own; a GPU) is run by the calling thread, which then has half of the cores for it.

Which inputs make a batch, what is written and what is said, and in which order, does not depend on the number of
threads. What is in flight is bounded: the inputs that are read ahead, brought to size already, and a batch a thread;
of large images fewer batches, and smaller ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic

import torch

from quadtok.decoders import opened
from quadtok.errors import InputError, ScorerError, scorer_failed
from quadtok.jobs.base import DecodingJob, Ending, Job, Listener, Outcome, P, R, Sink, Status, StopRequest
from quadtok.jobs.engines.finish import Finish, Made
from quadtok.jobs.engines.pool import InThisThread, torch_threads, worker_threads
from quadtok.jobs.engines.reading import MOST_ENTRIES, PIXELS_IN_FLIGHT, Entry, Reader, outcome_of, pixels_of
from quadtok.jobs.faults import is_out_of_memory
from quadtok.jobs.sources import Source


@dataclass(frozen=True)
class Threads:
    """How many threads, and how much at once.

    Attributes:
        workers: threads that read, score and encode; 0: the calling thread does one thing after another.
        batch_size: how many photos of one spec are run at once, at most; of large ones fewer.
        ahead: how many inputs are read ahead, besides two a worker.
        fail_fast: end at the first input that fails.
        decoders: processes that decode images: one that dies costs one file; 0: the threads do it themselves.

    Raises:
        InputError: where there are less than no workers, or no photos in a batch.
    """

    workers: int
    batch_size: int = 1
    ahead: int = 0
    fail_fast: bool = False
    decoders: int = 0

    def __post_init__(self) -> None:
        numbers = (("workers", self.workers, 0), ("batch_size", self.batch_size, 1), ("decoders", self.decoders, 0))
        for name, number, least in numbers:
            if not isinstance(number, int) or number < least:
                raise InputError(f"{name} must be an integer of at least {least}, got {number!r}")

    def run(
        self, job: Job[P, R], sources: Sequence[Source], sink: Sink, hear: Listener, stop: StopRequest | None = None
    ) -> Ending:
        """Do the job for each source; see `Engine`."""
        with opened(self.decoders) as decoder:
            decoding = job.decoded_by(decoder) if isinstance(job, DecodingJob) else job
            return _Run(self, decoding, sources, sink, hear, stop or StopRequest()).over()


class _Run(Generic[P, R]):
    """One run of an engine."""

    def __init__(
        self, engine: Threads, job: Job[P, R], sources: Sequence[Source], sink: Sink, hear: Listener, stop: StopRequest
    ) -> None:
        self._engine = engine
        self._job = job
        self._sources = sources
        self._sink = sink
        self._stop = stop
        self._reader = Reader(job, sink, engine.workers, engine.ahead)
        self._end = Finish(sink, hear, engine.batch_size, engine.fail_fast, sources)

    def over(self) -> Ending:
        threads = 1 if self._job.in_parallel else max(1, torch.get_num_threads() // 2)
        with torch_threads(threads), worker_threads(self._engine.workers) as pool:
            self._over(pool)
        return self._end.ending or ("stopped" if self._stop.asked else "done")

    def _over(self, pool: Executor) -> None:
        waiting: deque[tuple[int, Future[list[Made]]]] = deque()
        for batch in self._batches(pool):
            pixels = sum(pixels_of(entry) for entry in batch)
            while waiting and sum(size for size, _ in waiting) + pixels > PIXELS_IN_FLIGHT and not self._end.ending:
                self._finish(waiting.popleft()[1])
            if self._end.ending:
                return
            waiting.append((pixels, self._begin(pool, batch)))
            # One more than there are threads, so that none is idle while this one writes.
            while len(waiting) > self._engine.workers and not self._end.ending:
                self._finish(waiting.popleft()[1])
            if self._end.ending:
                return
        while waiting and not self._end.ending:
            self._finish(waiting.popleft()[1])

    def _batches(self, pool: Executor) -> Iterator[list[Entry[P]]]:
        """Neighbours of one spec, up to the batch size and `PIXELS_IN_FLIGHT`, with the outcomes between them."""
        engine = self._engine
        batch: list[Entry[P]] = []
        photos = pixels = 0
        for entry in self._reader.entries(pool, self._sources):
            last = next((one.photo for one in reversed(batch) if one.photo), None)
            if entry.photo and last and entry.photo.spec != last.spec:
                yield batch
                batch, photos, pixels = [], 0, 0
            batch.append(entry)
            photos += entry.photo is not None
            pixels += pixels_of(entry)
            full = photos in (0, engine.batch_size) or len(batch) >= MOST_ENTRIES or pixels >= PIXELS_IN_FLIGHT
            failed = entry.outcome is not None and entry.outcome.status == "failed"
            if full or (failed and engine.fail_fast):
                yield batch
                batch, photos, pixels = [], 0, 0
            if self._stop.asked:
                break
        if batch:
            yield batch

    def _outcome(self, source: Source, status: Status, problem: Exception | None = None) -> Outcome:
        return outcome_of(self._sink, source, status, problem)

    def _begin(self, pool: Executor, batch: list[Entry[P]]) -> Future[list[Made]]:
        """Have a batch made. What the calling thread must do itself is done at once, and what is nothing to do."""
        if not any(entry.photo for entry in batch):
            return InThisThread().submit(self._make, batch, {})
        if self._job.in_parallel:
            return pool.submit(lambda: self._make(batch, self._results(batch)))
        results = self._results(batch)
        return pool.submit(lambda: self._make(batch, results))

    def _results(self, batch: list[Entry[P]]) -> dict[int, R | Exception]:
        """What the job makes of the photos of a batch, by their place; nothing for those that a stop leaves undone."""
        places = [place for place, entry in enumerate(batch) if entry.photo]
        photos = [entry.photo for entry in batch if entry.photo]
        if len(photos) > 1:
            with suppress(Exception):
                return dict(zip(places, self._at_once(photos), strict=True))
        # One by one, so that only the culprit is lost.
        results: dict[int, R | Exception] = {}
        for place, photo in zip(places, photos, strict=True):
            failed = self._engine.fail_fast and any(isinstance(found, Exception) for found in results.values())
            if self._stop.asked or failed:
                break
            try:
                results[place] = self._job.run([photo])[0]
            except Exception as raised:
                results[place] = raised
        return results

    def _at_once(self, photos: Sequence[P]) -> Sequence[R]:
        """What the job makes of all; where memory runs out, of one half after the other."""
        try:
            return self._job.run(photos)
        except Exception as problem:
            if len(photos) < 2 or not is_out_of_memory(problem):
                raise
        half = len(photos) // 2  # outside the block: the traceback that was caught holds what did not fit
        return [*self._at_once(photos[:half]), *self._at_once(photos[half:])]

    def _make(self, batch: list[Entry[P]], results: dict[int, R | Exception]) -> list[Made]:
        """Outcomes and files of a batch, in its order."""
        made = []
        for place, entry in enumerate(batch):
            if entry.outcome:
                made.append(Made(entry.outcome))
            elif place in results:
                made.append(self._encoded(entry, results[place]))
            entry.photo = None  # its memory is free before the whole batch is
        return made

    def _encoded(self, entry: Entry[P], result: R | Exception) -> Made:
        source, photo = entry.source, entry.photo
        assert photo is not None  # else there is no result
        if isinstance(result, Exception):
            problem = scorer_failed(source.path, result) if isinstance(result, ScorerError) else result
            return Made(replace(self._outcome(source, "failed", problem), notes=photo.notes))
        try:
            files = self._job.encode(photo, result, entry.wanted) if entry.wanted else {}
            outcome = replace(self._outcome(source, "written"), facts=self._job.facts(photo, result))
        except Exception as problem:
            files, outcome = {}, self._outcome(source, "failed", problem)
        return Made(replace(outcome, notes=photo.notes), True, files, entry.started)

    def _finish(self, making: Future[list[Made]]) -> None:
        """Write a batch and say what became of it."""
        for made in making.result():
            self._end(made)
            if self._end.ending:
                return
