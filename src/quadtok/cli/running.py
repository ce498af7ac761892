"""A run of a command: an engine does the job, a report hears of it, and an exit code comes of both."""

from __future__ import annotations

import importlib
import os
import signal
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quadtok.cli.flags import FLAGS, RememberedOutput, Reporting, Running
from quadtok.cli.terminal import Report, passed_over, printable, write_data
from quadtok.errors import OutputError, QuadtokError, ScorerError, Unwritable
from quadtok.jobs.base import Ending, Engine, Job, Listener, OpenSink, Outcome, StopRequest
from quadtok.jobs.sinks.naming import Outputs
from quadtok.jobs.sources import Found, Source
from quadtok.names import OVERLAY_SUFFIX
from quadtok.places import Url

# What may go wrong with all inputs alike, and what is said of the run then.
_OF_ALL = (ScorerError, Unwritable)
_ENDS: dict[Ending, tuple[type[QuadtokError], str]] = {
    "scorer fails": (ScorerError, "the scorer failed for"),
    "output fails": (Unwritable, "nothing could be written for"),
}


class Telling:
    """Says what became of each input.

    Until an image is done, failures of the scorer, and of writing, are held back but for the first: either they are
    said when one is, or at the end; or, where that works for no image, one sentence stands for all of them.

    Args:
        report: hears of every input.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._works = False
        self._failures = Counter[type[QuadtokError]]()

    def __call__(self, outcome: Outcome) -> None:
        """Report on one input."""
        for note in outcome.notes:
            self._report.note(f"{outcome.source.path}: {note}")
        of_all = next((kind for kind in _OF_ALL if isinstance(outcome.error, kind)), None)
        if outcome.status == "written" and not self._works:
            self._works = True
            self._report.say_held()
        self._report.file(
            outcome.status,
            str(outcome.source.path),
            error=outcome.error,
            hold=of_all is not None and not self._works and self._failures[of_all] > 0,
            output=outcome.output,
            **outcome.facts,
        )
        if of_all is not None:
            self._failures[of_all] += 1

    def end(self, ending: Ending) -> None:
        """Say what the end of the run says of the scorer, or of the place of results."""
        kind, what = _ENDS.get(ending, (QuadtokError, ""))
        if (failures := self._failures[kind]) > 1 and self._report.left:
            first = f"each of the first {failures} images: stopped; see the first error above"
            self._report.replace_held(f"{what} {first}")


def load(*modules: str) -> None:
    """Load what takes seconds to load, torch before all: before this, everything has failed already if it could."""
    from quadtok.jobs.engines.signals import ended_by_interrupts

    with ended_by_interrupts():
        for module in modules:
            importlib.import_module(f"quadtok.{module}")


def begin(
    say: Reporting, running: Running, found: Found, planned: Sequence[object], ours: Sequence[Source] = ()
) -> tuple[Report, bool]:
    """Report on the inputs of which nothing will be done; the report, and whether the others are to be done.

    Args:
        say: who hears what.
        running: whether the first failure is the end.
        found: the inputs; those that are refused already failed.
        planned: what will be done.
        ours: inputs that are pictures made by quadtok, to be passed over.
    """
    report = say.report(len(planned) + len(ours) + len(found.refused))
    report.pass_over([str(source.path) for source in ours])
    for refusal in found.refused[:1] if running.fail_fast else found.refused:
        report.file("failed", str(refusal.path), output=None, error=refusal.problem)
    return report, not (running.fail_fast and found.refused)


def execute(
    job: Job[Any, Any],
    sink: OpenSink,
    engine: Engine,
    report: Report,
    also: Listener = lambda outcome: None,
) -> StopRequest:
    """Do a job for all that the sink is planned for; whether a signal asked to stop.

    Args:
        job: what to do.
        sink: where the results go.
        engine: who does it.
        report: hears of every input.
        also: hears of each outcome before the report. An `OutputError` of it ends the run.
    """
    from quadtok.images import own_stderr
    from quadtok.jobs.engines.signals import stop_on_signals

    telling = Telling(report)

    def hear(outcome: Outcome) -> None:
        with own_stderr():
            try:
                also(outcome)
            finally:
                telling(outcome)

    ending: Ending | None = None
    with stop_on_signals() as stop:
        try:
            with sink.open():
                ending = "stopped"
                ending = engine.run(job, sink.sources, sink, hear, stop)
        except OutputError as problem:
            if ending is None:  # nothing was begun
                raise
            if ending not in ("disk full", "output fails"):  # else it was said of an input
                report.break_off(problem)
    telling.end(ending)
    return stop


def execute_in_folder(
    job: Job[Any, Any], planned: Sequence[Outputs], output: RememberedOutput, engine: Engine, report: Report,
    scorer: str = "",
) -> StopRequest:  # fmt: skip
    """As above, where each input has files of its own, of which a manifest may know that they are done.

    Args:
        job: what to do.
        planned: the files of each input.
        output: what becomes of those that are there.
        engine: who does it.
        report: hears of every input.
        scorer: see `FolderSink`.
    """
    from quadtok.jobs.sinks.folder import FolderSink
    from quadtok.jobs.sinks.manifest import remembered
    from quadtok.jobs.sinks.rooms import Rooms

    settings, rooms = partial(job.fingerprint, data=b""), Rooms()
    place, looked = output.remembered_in, output.policy != "skip"
    with remembered(place, settings, planned, output.believes, rooms, looked) as manifest:
        sink = FolderSink(planned, job.makes, output.policy, FLAGS, scorer, manifest.is_done, rooms)
        return execute(job, sink, engine, report, manifest.hear)


def finish(report: Report, stop: StopRequest | None = None, **facts: Any) -> int:
    """Say the summary; the exit code."""
    number = stop.signal if stop else None
    report.summary(interrupted=bool(number), **facts)
    if number:
        return 130 if number == signal.SIGINT else 143
    return 1 if report.counts["failed"] or report.is_broken else 0


def show_plan(planned: Sequence[Outputs], report: Report) -> int:
    """Say what would be written, in place of a run; the exit code."""
    from quadtok.jobs.sinks.rooms import Rooms

    rooms = Rooms()

    def exists(path: Path) -> bool:
        return rooms.of(path).has(path) if isinstance(path, Url) else os.path.lexists(path)

    if report.counts["passed over"]:
        report.tell(passed_over(report.counts["passed over"]))
    for outputs in planned:
        source, result = str(outputs.source.path), str(outputs.result)
        if outputs.refused:
            report.file("failed", source, output=result, error=outputs.refused)
            continue
        facts: dict[str, Any] = {"output": result, "exists": exists(outputs.result)}
        if overlay := outputs.files.get(OVERLAY_SUFFIX):
            facts |= {"overlay": str(overlay), "overlay_exists": exists(overlay)}
        report.file("planned", source, **facts)
        if not report.as_json:
            shown = [printable(str(path)) + " (exists)" * exists(path) for path in outputs.files.values()]
            write_data(f"{printable(source)} -> {', '.join(shown)}")
    return 1 if report.counts["failed"] else 0
