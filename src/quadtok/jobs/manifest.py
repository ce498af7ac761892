"""A file that says of each input what became of it, a line each: what was done before is then known without opening it.

    {"input": "cats/1.jpg", "status": "written", "files": {"/out/cats/1.pt": 158421}, "source_bytes": 81231,
     "source_mtime_ns": 1700000000000000000, "settings": "9f…", "error": null, "seconds": 0.021}

A line is appended by one call once the files are on the disk, so that several processes may append to one manifest,
and a killed one leaves at most a torn line at the end, which counts for nothing. Of two lines of one input the later
counts.

An input is done where the line says so, its own size and time and the sizes of its files are what they were, and the
settings are those of now. That believes the clock of the disk: whoever changed a file and set its time back is not
found out, and neither is a bit that fell over. `--verify` opens everything instead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quadtok.errors import InputError, cannot_write
from quadtok.jobs.base import Outcome
from quadtok.jobs.sources import Source

_DONE = ("written", "skipped")
_BEGINNING = b'{"input": "'  # of each line
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Line:
    """What became of an input, and how to tell that nothing has changed since; fields as above."""

    status: str
    files: dict[str, int]
    source_bytes: int
    source_mtime_ns: int
    settings: str


class Manifest:
    """A manifest of before, to which this run appends.

    Args:
        path: of the file, which need not be there.
        settings: a digest of all but the input's bytes that its files depend on.
        files: the files that a source becomes.
        believed: whether what stands in it counts; else it is only written to.

    Raises:
        InputError: where the file is something else.
        OutputError: where it cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        settings: Callable[[Source], str],
        files: Callable[[Source], Collection[Path]],
        believed: bool = True,
    ) -> None:
        self.path, self._settings, self._files = path, settings, files
        if path.exists() and not path.is_file():  # to open a pipe would be to wait
            raise InputError(f"{path}: is no file, which a manifest is: name another")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = dict(_read(path)) if path.exists() else {}
            self._lines = lines if believed else {}
            self._file = os.open(path, _APPEND, 0o666)
            if not _ends_with_a_line(path):
                os.write(self._file, b"\n")
        except OSError as problem:
            raise cannot_write(path, problem) from problem
        self._known: set[Source] = set()
        self._before: dict[Source, os.stat_result] = {}

    def is_done(self, source: Source) -> bool:
        """Whether nothing is to be done for an input, by what stands here and what the disk says without opening it."""
        try:
            # Before it is read: what is written to it later must not count as what was read.
            now = self._before[source] = _stat(source)
            line = self._lines.get(source.relative.as_posix())
            if line is None or line.status not in _DONE or line.settings != self._settings(source):
                return False
            files = {str(path): os.stat(path).st_size for path in self._files(source)}
        except OSError:
            return False
        is_same = (now.st_size, now.st_mtime_ns, files) == (line.source_bytes, line.source_mtime_ns, line.files)
        if is_same:
            self._known.add(source)
        return is_same

    def hear(self, outcome: Outcome) -> None:
        """Append a line, but for what stood here already.

        Raises:
            OutputError: where it cannot be written. `DiskFull` where no space is left.
        """
        if outcome.source in self._known or outcome.status == "passed over":
            return
        line = (json.dumps(self._line(outcome)) + "\n").encode()
        try:
            if os.write(self._file, line) < len(line):  # the rest alone would be no line where others append, too
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:
            raise cannot_write(self.path, problem) from problem

    def close(self) -> None:
        """Put it on the disk."""
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def _line(self, outcome: Outcome) -> dict[str, Any]:
        source, before = outcome.source, self._before.get(outcome.source)
        files = dict[str, int]()
        if outcome.status in _DONE:
            with contextlib.suppress(OSError):
                files = {str(path): os.stat(path).st_size for path in self._files(source)}
        return {
            "input": source.relative.as_posix(),
            "status": outcome.status,
            "files": files,
            "source_bytes": before.st_size if before else -1,
            "source_mtime_ns": before.st_mtime_ns if before else -1,
            "settings": self._settings(source) if outcome.status in _DONE else "",
            "error": None if outcome.error is None else str(outcome.error),
            "seconds": round(outcome.facts.get("ms", 0) / 1000, 4),
        }


class NoManifest:
    """Where nothing is remembered."""

    def is_done(self, source: Source) -> bool:
        """Nobody knows."""
        return False

    def hear(self, outcome: Outcome) -> None:
        """Nobody hears."""


def _read(path: Path) -> Iterator[tuple[str, Line]]:
    """Each whole line; the names of files and inputs may hold what UTF-8 cannot, as JSON escapes it."""
    is_first = True
    with path.open("rb") as stream:
        for text in stream:
            if not text.strip():
                continue
            try:
                yield _parse(text)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                is_torn = text.startswith(_BEGINNING) or _BEGINNING.startswith(text.rstrip(b"\n"))
                if is_first and not is_torn:
                    raise InputError(f"{path}: is no manifest of quadtok: name another file") from None
            is_first = False


def _parse(text: bytes) -> tuple[str, Line]:
    line = json.loads(text)
    files = {str(name): int(size) for name, size in line["files"].items()}
    facts = (int(line["source_bytes"]), int(line["source_mtime_ns"]), str(line["settings"]))
    return str(line["input"]), Line(str(line["status"]), files, *facts)


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


def _stat(source: Source) -> os.stat_result:
    return os.stat(source.path if source.inside is None else source.inside.archive)
