"""How a command goes through its inputs: a bad one costs only itself, and a signal ends it tidily."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from quadtok.cli.inputs import Refusal
from quadtok.cli.output import Report
from quadtok.cli.outputs import Task
from quadtok.errors import DiskFull, QuadtokError


@dataclass
class StopRequest:
    """Set by the first SIGINT or SIGTERM: finish what is in flight, then stop. The second leaves at once."""

    signal: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one input: `written` or `skipped`, and facts for the report."""

    status: str
    facts: dict[str, Any] = field(default_factory=dict)


def for_each(tasks: Sequence[Task], report: Report, fail_fast: bool, do: Callable[[Task], Outcome]) -> StopRequest:
    """Do each task on its own and report on it; afterwards the report knows how each went."""
    with stop_on_signals() as stop:
        for task in tasks:
            try:
                outcome = do(task)
                report.file(outcome.status, str(task.source.path), output=str(task.target), **outcome.facts)
            except DiskFull as problem:
                report.file("failed", str(task.source.path), output=str(task.target), error=problem)
                break
            except QuadtokError as problem:
                report.file("failed", str(task.source.path), output=str(task.target), error=problem)
            if stop.signal or (fail_fast and report.counts["failed"]):
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
