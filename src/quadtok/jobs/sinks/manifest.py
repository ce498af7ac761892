"""A file that says of each input what became of it, a line each: what was done before is then known without opening it.

    {"input": "cats/1.jpg", "status": "written", "files": {"cats/1.pt": [158421, 1700000000500000000]},
     "source_bytes": 81231, "source_mtime_ns": 1700000000000000000, "settings": "9f…", "error": null, "seconds": 0.021}

Files have their sizes and times; one in the manifest's folder, or below it, goes by its name there, so that the folder
may be moved. A line is appended by one call once the files are on the disk, so that several processes may append to
one manifest, and a killed one leaves at most a torn line at the end, which counts for nothing. Of two lines of one
input the later counts.

An input is done where the line says so, sizes and times of it and of its files are what they were, and the settings are
those of now. That believes the clock of the disk: whoever changed a file and set its time back is not found out, and
neither is a bit that fell over. `--verify` opens everything instead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quadtok.errors import InputError, QuadtokError, Unwritable, writing
from quadtok.jobs.base import Outcome
from quadtok.jobs.sinks.naming import Outputs
from quadtok.jobs.sinks.rooms import Rooms
from quadtok.jobs.sources import Source
from quadtok.jobs.store_inputs import Stored
from quadtok.places import Url, is_elsewhere

_DONE = ("written", "skipped")
_BEGINNING = b'{"input": "'  # of each line
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Line:
    """What became of an input, and how to tell that nothing has changed since; fields as above."""

    status: str
    files: dict[str, list[int]]
    source_bytes: int
    source_mtime_ns: int
    settings: str


class Manifest:
    """A manifest of before, to which this run appends; the file is made with the first line.

    Args:
        path: of the file, which need not be there.
        settings: a digest of all but the input's bytes that its files depend on.
        planned: the inputs, and the files that they become.
        believed: whether what stands in it counts; else it is only written to.
        rooms: where the files lie.
        looked: whether files that are there are looked at; else nobody knows their settings, and no line says some.

    Raises:
        InputError: where the file is something else.
        OutputError: where it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        settings: Callable[[Source], str],
        planned: Sequence[Outputs],
        believed: bool = True,
        rooms: Rooms | None = None,
        looked: bool = True,
    ) -> None:
        self._looked = looked
        self.path, self._settings, self._rooms = path, settings, rooms or Rooms()
        self._planned = {outputs.source: outputs for outputs in planned}
        self._names = _Names(path)
        with writing(path):
            is_there = path.exists()
        if is_there and not path.is_file():  # to open a pipe would be to wait
            raise InputError(f"{path}: is no file, which a manifest is: name another")
        lines = dict(_read(path)) if is_there else {}
        self._lines = lines if believed else {}
        # At once, where there is a folder for it: what cannot be written should be said before hours of work.
        self._refusal: Unwritable | None = None
        self._file: int | None = None
        if os.path.lexists(path.parent):
            self._open(path)
        self._held: list[str] = []  # lines of failures alone, for which no folder is made
        self._known: set[str] = set()
        self._before: dict[str, tuple[tuple[int, int], str]] = {}  # facts and settings

    def is_done(self, outputs: Outputs) -> bool:
        """Whether nothing is to be done for an input, by what stands here and what the disk says without opening it."""
        source = outputs.source
        name = source.relative.as_posix()
        try:
            # Before it is read: what is written to it, or to its importance map, later must not count as what was read.
            now, settings = self._before[str(source.path)] = _facts_of(source), self._settings(source)
            line = self._lines.get(name)
            if line is None or line.status not in _DONE or (line.source_bytes, line.source_mtime_ns) != now:
                return False
            if line.settings != settings or line.files != self._files(outputs):
                return False
        except (OSError, QuadtokError):
            return False
        self._known.add(str(source.path))
        del self._before[str(source.path)]
        return True

    def hear(self, outcome: Outcome) -> None:
        """Append a line, but for what stood here already.

        Raises:
            OutputError: where it cannot be written. `DiskFull` where no space is left.
        """
        if str(outcome.source.path) in self._known or outcome.status == "passed over":
            return
        if self._refusal is not None:
            if outcome.status == "written":
                raise self._refusal
            return
        self._held.append(json.dumps(self._line(outcome)) + "\n")
        if outcome.status in _DONE or self._file is not None:
            self._write()

    def close(self) -> None:
        """Put it on the disk. Where nothing was done and there is no folder for it, none is made."""
        if self._held and self.path.parent.is_dir():
            self._write()
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def _open(self, path: Path) -> None:
        """What is in a folder without permission to write may all be done, and then no line is missed."""
        try:
            self._file = _opened(path)
        except Unwritable as problem:
            if not path.parent.is_dir() or os.access(path.parent, os.W_OK | os.X_OK):
                raise
            self._refusal = problem

    def _write(self) -> None:
        if self._file is None:
            self._file = _opened(self.path)
        lines, self._held = self._held, []
        data = "".join(lines).encode()
        with writing(self.path):
            if os.write(self._file, data) < len(data):  # the rest alone would be no line where others append, too
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _line(self, outcome: Outcome) -> dict[str, Any]:
        source = outcome.source
        (size, time), settings = self._before.pop(str(source.path), ((-1, -1), ""))
        files = dict[str, list[int]]()
        if outcome.status in _DONE:
            with contextlib.suppress(OSError, QuadtokError):
                files = self._files(self._planned[source])
        return {
            "input": source.relative.as_posix(),
            "status": outcome.status,
            "files": files,
            "source_bytes": size,
            "source_mtime_ns": time,
            "settings": settings if outcome.status in _DONE and self._looked else "",
            "error": None if outcome.error is None else str(outcome.error),
            "seconds": round(outcome.facts.get("ms", 0) / 1000, 4),
        }

    def _files(self, outputs: Outputs) -> dict[str, list[int]]:
        """Sizes and times of the files of an input, by their names in the manifest."""
        return {self._names.of(path): [*self._rooms.of(path).facts(path)] for path in outputs.files.values()}


class _Names:
    """What files are called in a manifest."""

    def __init__(self, manifest: Path) -> None:
        self._here = os.path.dirname(os.path.abspath(manifest))
        self._folders: dict[str, str] = {}

    def of(self, path: Path) -> str:
        """Its name below the manifest's folder, if it is there."""
        if isinstance(path, Url):
            return str(path)
        folder, name = os.path.split(path)
        if folder not in self._folders:
            whole = os.path.abspath(folder)
            is_below = Path(whole).is_relative_to(self._here)
            self._folders[folder] = os.path.relpath(whole, self._here) if is_below else whole
        shown = self._folders[folder]
        return name if shown == os.curdir else os.path.join(shown, name)


@contextmanager
def remembered(
    path: Path | None,
    settings: Callable[[Source], str],
    planned: Sequence[Outputs],
    believed: bool,
    rooms: Rooms | None = None,
    looked: bool = True,
) -> Iterator[Manifest | NoManifest]:
    """The manifest while a run is on; see `Manifest`.

    Raises:
        InputError: where it is an input or an output of the run, or something else than a manifest.
    """
    if path is None:
        yield NoManifest()
        return
    if is_elsewhere(path):
        raise InputError(f"the manifest {path}: it grows, which a file by a URL does not: name one on a disk")
    if any(_is_same(path, other) for one in planned for other in (one.source.path, *one.files.values())):
        raise InputError(f"the manifest {path} is an input or an output of this run: name another file")
    manifest = Manifest(path, settings, planned, believed, rooms, looked)
    try:
        yield manifest
    finally:
        manifest.close()


def _is_same(path: Path, other: Path) -> bool:
    return path.name == other.name and os.path.abspath(path) == os.path.abspath(other)


class NoManifest:
    """Where nothing is remembered."""

    def is_done(self, outputs: Outputs) -> bool:
        """Nobody knows."""
        return False

    def hear(self, outcome: Outcome) -> None:
        """Nobody hears."""


def _read(path: Path) -> Iterator[tuple[str, Line]]:
    """Each whole line; the names of files and inputs may hold what UTF-8 cannot, as JSON escapes it."""
    is_first = True
    with writing(path), path.open("rb") as stream:
        for text in stream:
            if not text.strip():
                continue
            try:
                yield _parse(text)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                is_torn = text.startswith(_BEGINNING) or _BEGINNING.startswith(text.rstrip(b"\0\n"))
                if is_first and not is_torn:
                    raise InputError(f"{path}: is no manifest of quadtok: name another file") from None
            is_first = False


def _parse(text: bytes) -> tuple[str, Line]:
    line = json.loads(text)
    files = {str(name): [int(size), int(time)] for name, (size, time) in line["files"].items()}
    facts = (int(line["source_bytes"]), int(line["source_mtime_ns"]), sys.intern(str(line["settings"])))
    return str(line["input"]), Line(sys.intern(str(line["status"])), files, *facts)


def _opened(path: Path) -> int:
    """The file, to append to it; what was torn off ends its line."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, _APPEND, 0o666)
        if not _ends_with_a_line(path):
            os.write(descriptor, b"\n")
    return descriptor


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


def _facts(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _facts_of(source: Source) -> tuple[int, int]:
    if isinstance(source.inside, Stored):
        return source.inside.facts()
    return _facts(os.stat(source.path if source.inside is None else source.inside.archive))
