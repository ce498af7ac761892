"""The end of an input's way, in the calling thread: it is written, it is heard of, and the run may end with it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from quadtok.errors import DiskFull, NoOutput, QuadtokError, ScorerError, Unwritable, let_go_of_locals
from quadtok.jobs.base import Ending, Listener, Outcome, Sink
from quadtok.jobs.engines.reading import outcome_of
from quadtok.jobs.sources import Source

LEAST_PATIENCE = 16


@dataclass
class Made:
    """What an input became, before it is written.

    Attributes:
        outcome: what will be heard, if its files can be written.
        has_run: whether the job's `run` has done its part.
        files: to be written before the outcome is true; None: they are written already.
        started: when the input was begun, by `time.perf_counter`; None where the outcome says what it took.
    """

    outcome: Outcome
    has_run: bool = False
    files: Mapping[str, bytes] | None = field(default_factory=dict)
    started: float | None = None


def ending_by(problem: QuadtokError | None) -> Ending | None:
    """Why the run is over after what went wrong with one input."""
    if isinstance(problem, DiskFull):
        return "disk full"
    return "output fails" if isinstance(problem, NoOutput) else None


class Finish:
    """Writes and tells, one input after another. Whatever goes wrong with one, the others are written.

    Args:
        sink: where files go.
        hear: is told what became of each input.
        batch_size: photos that are run at once.
        sources: all inputs.
        fail_fast: end at the first input that fails.

    Attributes:
        ending: why the run is over, once it is.
    """

    def __init__(
        self, sink: Sink, hear: Listener, batch_size: int, fail_fast: bool, sources: Sequence[Source] = ()
    ) -> None:
        self.ending: Ending | None = None
        self._sink = sink
        self._hear = hear
        self._fail_fast = fail_fast
        # Two batches and, where those are small, some more: the first images of a folder may be odd ones.
        patience = max(LEAST_PATIENCE, 2 * batch_size)
        self._trials = _ScorerTrial(patience), _OutputTrial(patience, sink, sources)

    def __call__(self, made: Made) -> None:
        """Finish one input."""
        is_to_write = made.outcome.status == "written" and made.files is not None
        outcome = self._written(made) if is_to_write else made.outcome
        self.ending = ending_by(outcome.error)
        let_go_of_locals(outcome.error)
        self._hear(outcome)
        for trial in self._trials:
            self.ending = self.ending or trial.of(outcome, made.has_run)
        if outcome.status == "failed" and self._fail_fast:
            self.ending = "failed fast"

    def _written(self, made: Made) -> Outcome:
        outcome = made.outcome
        try:
            is_new = self._sink.write(outcome.source, made.files or {})
        except Exception as problem:
            return replace(outcome_of(self._sink, outcome.source, "failed", problem), notes=outcome.notes)
        took = {} if made.started is None else {"ms": round((time.perf_counter() - made.started) * 1000, 1)}
        return replace(outcome, status="written" if is_new else "skipped", facts={**outcome.facts, **took})


class _ScorerTrial:
    """Whether the scorer works at all: one that fails for all of the first images would do so for a million."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._failures = 0
        self._works = False

    def of(self, outcome: Outcome, has_run: bool) -> Ending | None:
        self._works = self._works or has_run
        self._failures += isinstance(outcome.error, ScorerError)
        return "scorer fails" if not self._works and self._failures >= self._patience else None


class _OutputTrial:
    """Whether anything can be written: where that fails for all of the first images, it would do so for a million.

    Unless it is one folder that is odd, and there are others.
    """

    def __init__(self, patience: int, sink: Sink, sources: Sequence[Source]) -> None:
        self._patience, self._sink, self._sources = patience, sink, sources
        self._failures = 0
        self._folders: set[str] = set()
        self._works = False

    def of(self, outcome: Outcome, has_run: bool) -> Ending | None:
        self._works = self._works or outcome.status == "written"
        if self._works or not (has_run and isinstance(outcome.error, Unwritable)):
            return None
        self._failures += 1
        self._folders.add(os.path.dirname(outcome.output))
        return "output fails" if self._failures >= self._patience and self._is_everywhere() else None

    def _is_everywhere(self) -> bool:
        if len(self._folders) > 1:
            return True
        return all(os.path.dirname(self._sink.output(source)) in self._folders for source in self._sources)
