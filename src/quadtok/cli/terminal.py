"""Who hears what: data on stdout, talk on stderr, a progress bar only where somebody watches."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quadtok import __version__

if TYPE_CHECKING:
    from rich.progress import Progress

# Whether `--debug` was given. It belongs to one run of the command line, as a context does.
_tracebacks: ContextVar[bool] = ContextVar("tracebacks", default=False)


def show_tracebacks() -> None:
    """From here on, in this context, an error line is followed by its traceback."""
    _tracebacks.set(True)


def tracebacks_are_shown() -> bool:
    """Whether `--debug` was given."""
    return _tracebacks.get()


def open_closed_streams() -> None:
    """Where stdin, stdout or stderr is closed (`>&-`), it leads nowhere instead.

    Else the next file that is opened would take its number, and with it whatever a library prints.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free, so this one, is what the next open gives
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            setattr(sys, name, open(opened, mode, closefd=False))  # noqa: SIM115  # as long as the process lives


def escape_what_a_stream_cannot_show() -> None:
    """Where stdout or stderr is ASCII or Latin-1, other characters are written as escapes rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Text that cannot move the cursor: control characters and undecodable bytes of file names are escaped."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
    return shown.encode("utf-8", "backslashreplace").decode()


def say(message: str) -> None:
    """One line on stderr."""
    print(f"quadtok: {printable(message)}", file=sys.stderr)


def say_error(message: str) -> None:
    """One error line on stderr."""
    say(f"error: {message}")


def say_problem(problem: Exception) -> None:
    """One error line on stderr; with `--debug` the traceback too."""
    say_error(str(problem))
    if tracebacks_are_shown():
        print(_traceback(problem), file=sys.stderr)


def _traceback(problem: Exception) -> str:
    return "".join(traceback.format_exception(problem)).encode("utf-8", "backslashreplace").decode()


def write_data(text: str) -> None:
    """One line of data on stdout."""
    print(text.encode("utf-8", "backslashreplace").decode())


def write_json(record: dict[str, Any]) -> None:
    """One JSON line on stdout. ASCII, so that undecodable names survive."""
    print(json.dumps(record), flush=True)


@dataclass
class Report:
    """What happened to each input, as it happens; afterwards the summary.

    Attributes:
        total: how many inputs there are.
        as_json: one line an input on stdout, then a summary line.
        quiet: errors only.
        verbose: a line on stderr for each input.
        counts: inputs by status: written, skipped, failed, passed over.
        partly_read: how many of them hold further frames or previews, which were left out.
        worked: what an input is called with which all went well.
        keeps: whether what is done is kept, so that an interrupted run can go on.
        is_broken: whether what concerns no single input went wrong.
    """

    total: int
    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    partly_read: int = 0
    worked: str = "written"
    keeps: bool = True
    is_broken: bool = False
    _held: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _progress: Progress | None = None

    @property
    def left(self) -> int:
        """How many inputs were not heard of."""
        return self.total - sum(self.counts.values())

    @contextmanager
    def progress(self, doing: str) -> Iterator[None]:
        """A bar with rate and time left while the block runs, if stderr is a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        with _progress_bar(doing) as bar:
            bar.add_task(doing, total=self.total)
            self._progress = bar
            yield
        self._progress = None

    def file(
        self, status: str, source: str, *, error: Exception | None = None, hold: bool = False, **facts: Any
    ) -> None:
        """One input is done.

        Args:
            status: written, skipped, failed, passed over or planned.
            source: the input.
            error: why it failed.
            hold: say the error later, see `say_held`.
            **facts: what else is to be said of it.
        """
        status = self.worked if status == "written" else status
        self.counts[status] += 1
        if warning := facts.get("warning"):
            self.tell(f"warning: {warning}")
        self.partly_read += bool(facts.get("left_out"))
        if error is not None and hold and not tracebacks_are_shown():
            self._held.append(f"error: {error}")
        elif error is not None:
            self._error(error)
        elif self.verbose and not self.quiet:
            self._line(f"{status}: {source}" + "".join(f", {key} {value}" for key, value in _shown(facts)))
        if self.as_json:
            problem = None if error is None else {"kind": type(error).__name__, "message": str(error)}
            write_json({"type": "file", "input": source, "status": status, **facts, "error": problem})
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def pass_over(self, sources: Sequence[str]) -> None:
        """Inputs that are pictures made by quadtok, and were found in folders: nothing is done with them."""
        for source in sources:
            self.file("passed over", source)

    def break_off(self, problem: Exception) -> None:
        """Say what went wrong with the run, rather than with an input of it."""
        self.is_broken = True
        self._error(problem)

    def say_held(self) -> None:
        """Say the errors that were held back."""
        for line in self._held:
            self._line(line)
        self._held.clear()

    def replace_held(self, error: str) -> None:
        """Say one sentence in place of the errors that were held back."""
        self._held.clear()
        self._line(f"error: {error}")

    def tell(self, message: str) -> None:
        """Something that every user should know."""
        if not self.quiet:
            self._line(message)

    def note(self, message: str) -> None:
        """Something only a careful user wants to know: with -v."""
        if self.verbose and not self.quiet:
            self._line(message)

    def summary(self, interrupted: bool = False, **facts: Any) -> None:
        """The last line; with `as_json` also the summary record."""
        self.say_held()
        seconds = time.monotonic() - self._started
        done = {status: self.counts[status] for status in (self.worked, "skipped", "failed")}
        left = self.left
        if self.as_json:
            write_json(
                {
                    "type": "summary",
                    **done,
                    "passed_over": self.counts["passed over"],
                    "left": left,
                    "left_out": self.partly_read,
                    "seconds": round(seconds, 3),
                    "version": __version__,
                    **facts,
                }
            )
        if self.quiet:
            return
        counted = ", ".join(f"{number} {status}" for status, number in done.items())
        others = _others(self.counts["passed over"], self.partly_read)
        if interrupted:
            again = "go on" if self.keeps else "begin again"
            say(f"interrupted: {counted}, {left} left{others}; run the same command to {again}")
        elif left:
            say(f"stopped: {counted}, {left} left{others}")
        else:
            rate = sum(done.values()) / max(seconds, 1e-9)
            say(f"done: {counted} in {seconds:.1f} s ({rate:.1f} images/s){others}")

    def _error(self, problem: Exception) -> None:
        self._line(f"error: {problem}")
        if tracebacks_are_shown():
            for line in _traceback(problem).splitlines():
                self._line(line)

    def _line(self, message: str) -> None:
        if self._progress is None:
            say(message)
        else:  # above the bar, unwrapped and unstyled
            self._progress.console.print(
                f"quadtok: {printable(message)}", markup=False, highlight=False, soft_wrap=True, emoji=False
            )


def _shown(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in facts.items() if value and key != "warning"]


def _others(pictures: int, partly_read: int) -> str:
    """What else is to be counted in the summary, each part after a semicolon."""
    parts = [passed_over(pictures)] if pictures else []
    if partly_read:
        parts.append(f"{partly_read} with further frames or previews, which were left out")
    return "".join(f"; {part}" for part in parts)


def passed_over(number: int) -> str:
    """How many inputs were no inputs."""
    return f"{number} picture{'s' * (number != 1)} made by quadtok passed over"


def _progress_bar(doing: str) -> Progress:
    """Done of total, rate and time left; it vanishes when it is done, because the summary line says the same."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f}/s")

    columns = [TextColumn(doing), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn()]
    # Rich would take stdout over as well, and put what is data there on the terminal.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
