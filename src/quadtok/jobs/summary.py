"""What became of the inputs of a run that was called from Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quadtok.errors import QuadtokError
from quadtok.jobs.base import Ending, Listener, Outcome
from quadtok.jobs.sources import Source
from quadtok.jobs.walk import Refusal


@dataclass
class Summary:
    """What became of the inputs of a run.

    Attributes:
        written: inputs whose files were written.
        skipped: whose files were there.
        failed: which failed; `failures` says why.
        passed_over: pictures that quadtok made, found in folders.
        left: which the run did not come to.
        ending: why it ended; `"done"` where it came to its end.
        failures: the error of each input that failed.
    """

    written: int = 0
    skipped: int = 0
    failed: int = 0
    passed_over: int = 0
    left: int = 0
    ending: Ending = "done"
    failures: dict[Path, QuadtokError] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one input of those that are left."""
        self.written += outcome.status == "written"
        self.skipped += outcome.status == "skipped"
        self.failed += outcome.status == "failed"
        self.passed_over += outcome.status == "passed over"
        self.left -= 1
        if outcome.error is not None:
            self.failures[outcome.source.path] = outcome.error


def listener(summary: Summary, progress: Listener | None) -> Listener:
    """Counts what becomes of the inputs, and passes it on."""

    def hear(outcome: Outcome) -> None:
        summary.add(outcome)
        if progress is not None:
            progress(outcome)

    return hear


def known(passed_over: Sequence[Source], refused: Sequence[Refusal]) -> Iterator[Outcome]:
    """What is known of some inputs before any work."""
    yield from (Outcome(source, "passed over", "") for source in passed_over)
    yield from (Outcome(Source(one.path, one.path), "failed", "", one.problem) for one in refused)
