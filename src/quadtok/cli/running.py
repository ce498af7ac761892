"""How a command goes through its inputs: a bad one costs only itself, and a signal ends it tidily."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from quadtok.cli.terminal import Report
from quadtok.errors import DiskFull, QuadtokError, ScorerError, as_ours
from quadtok.jobs.sinks.naming import Task
from quadtok.jobs.sources import Refusal


@dataclass
class StopRequest:
    """Set by the first SIGINT or SIGTERM: finish what is in flight, then stop. The second leaves at once."""

    signal: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one input: `written` or `skipped`, and facts for the report."""

    status: str
    facts: dict[str, Any] = field(default_factory=dict)


class Trial:
    """Whether the scorer works at all: one that fails for all of the first images would do so for a million.

    Until it has worked once, its failures are counted and, but for the first, held back: either they are said when it
    works, or at the end; or one sentence stands for all of them, and the run ends.

    Args:
        report: hears of every failure.
        patience: how many images it may fail for.
    """

    def __init__(self, report: Report, patience: int = 16) -> None:
        self._report = report
        self._patience = patience
        self._failures = 0
        self._worked = False

    def worked(self) -> None:
        """An image was scored."""
        if not self._worked:
            self._worked = True
            self._report.say_held()

    def failed(self, task: Task, problem: QuadtokError) -> None:
        """Report that the scorer failed for an image."""
        hold = not self._worked and self._failures > 0
        self._failures += 1
        self._report.file("failed", str(task.source.path), output=str(task.target), error=problem, hold=hold)
        if self.is_lost and self._report.total > sum(self._report.counts.values()):
            self._report.replace_held(
                f"the scorer failed for each of the first {self._failures} images: stopped; see the first error above"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the run should end."""
        return not self._worked and self._failures >= self._patience


def for_each(tasks: Sequence[Task], report: Report, fail_fast: bool, do: Callable[[Task], Outcome]) -> StopRequest:
    """Do each task on its own and report on it; afterwards the report knows how each went.

    Whatever one raises costs that task alone.
    """
    trial = Trial(report)
    with stop_on_signals() as stop:
        for task in tasks:
            try:
                outcome = do(task)
            except BrokenPipeError:  # the reader of our stdout went away: no fault of this input
                raise
            except ScorerError as problem:
                trial.failed(task, problem)
            except DiskFull as problem:
                report.file("failed", str(task.source.path), output=str(task.target), error=problem)
                break
            except Exception as problem:
                ours = as_ours(problem, task.source.path)
                report.file("failed", str(task.source.path), output=str(task.target), error=ours)
            else:
                if outcome.status == "written":
                    trial.worked()
                report.file(outcome.status, str(task.source.path), output=str(task.target), **outcome.facts)
            if stop.signal or trial.is_lost or (fail_fast and report.counts["failed"]):
                break
    return stop


def say_refused(refused: Sequence[Refusal], report: Report, fail_fast: bool = False) -> bool:
    """Report on what is refused before any work, as on every other input; whether the others are to be done."""
    for refusal in refused[:1] if fail_fast else refused:
        report.file("failed", str(refusal.path), output=None, error=refusal.problem)
    return not (fail_fast and refused)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the block runs, the first SIGINT or SIGTERM only leaves a note; then the usual handlers are back."""
    stop = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()


def finish(report: Report, stop: StopRequest, **facts: Any) -> int:
    """Say the summary; the exit code."""
    report.summary(interrupted=bool(stop.signal), **facts)
    if stop.signal:
        return 130 if stop.signal == signal.SIGINT else 143
    return 1 if report.counts["failed"] else 0
