"""Who hears what: data on stdout, talk on stderr, a progress bar only where somebody watches."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quadtok import __version__

if TYPE_CHECKING:
    from rich.progress import Progress


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
    """

    total: int
    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _started: float = field(default_factory=time.monotonic)
    _progress: Progress | None = None

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

    def file(self, status: str, source: str, *, error: Exception | str | None = None, **facts: Any) -> None:
        """One input is done: `status` is written, skipped, failed, passed over or planned."""
        self.counts[status] += 1
        if error is not None:
            self._line(f"error: {error}")
        elif self.verbose and not self.quiet:
            self._line(f"{status}: {source}" + "".join(f", {key} {value}" for key, value in facts.items() if value))
        if self.as_json:
            problem = None if error is None else {"kind": type(error).__name__, "message": str(error)}
            write_json({"type": "file", "input": source, "status": status, **facts, "error": problem})
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def pass_over(self, sources: Sequence[str]) -> None:
        """Inputs that are pictures made by quadtok, and were found in folders: nothing is done with them."""
        for source in sources:
            self.file("passed over", source)

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
        seconds = time.monotonic() - self._started
        done = {status: self.counts[status] for status in ("written", "skipped", "failed")}
        left = self.total - sum(self.counts.values())
        if self.as_json:
            write_json(
                {
                    "type": "summary",
                    **done,
                    "passed_over": self.counts["passed over"],
                    "left": left,
                    "seconds": round(seconds, 3),
                    "version": __version__,
                    **facts,
                }
            )
        if self.quiet:
            return
        counted = ", ".join(f"{number} {status}" for status, number in done.items())
        passed_over = _passed_over(self.counts["passed over"])
        if interrupted:
            say(f"interrupted: {counted}, {left} left{passed_over}; run the same command to go on")
        else:
            rate = sum(done.values()) / max(seconds, 1e-9)
            say(f"done: {counted} in {seconds:.1f} s ({rate:.1f} images/s){passed_over}")

    def _line(self, message: str) -> None:
        if self._progress is None:
            say(message)
        else:  # above the bar, unwrapped and unstyled
            self._progress.console.print(
                f"quadtok: {printable(message)}", markup=False, highlight=False, soft_wrap=True, emoji=False
            )


def _passed_over(number: int) -> str:
    return f"; {number} picture{'s' * (number != 1)} made by quadtok passed over" if number else ""


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
