"""Files below folders and behind patterns.

Every folder that may not be listed is said, and links are followed, but in no loop. Python's own `glob` and `os.walk`
pass over the first without a word, and follow either no links or loops of them, too.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from quadtok.errors import InputError, QuadtokError

_MOST_WAYS = 100


@dataclass(frozen=True)
class Refusal:
    """An input that cannot be taken, which is known before any work."""

    path: Path
    problem: QuadtokError


def matches(root: Path, pattern: Sequence[str]) -> Iterator[Path | Refusal]:
    """What in this folder matches the parts of a pattern, one a level, in any order; `**` is any number of folders."""
    # Where to look, for which parts, and what `**` has come through already, without links. A list and no recursion:
    # folders may lie deeper than Python's calls.
    waiting: list[tuple[Path, Sequence[str], frozenset[str]]] = [(root, pattern, frozenset())]
    ways = _Ways(root)
    while waiting:
        folder, parts, above = waiting.pop()
        if not parts:
            yield folder
            continue
        part, rest = parts[0], parts[1:]
        if not glob.has_magic(part):
            if os.path.isdir(folder / part) or (not rest and os.path.lexists(folder / part)):
                waiting.append((folder / part, rest, frozenset()))
            continue
        real = os.path.realpath(folder)
        if part == "**" and real in above:
            continue
        if part == "**":
            waiting.append((folder, rest, above))
        entries = ways.entries(folder, real)
        if isinstance(entries, Refusal):
            yield entries
            continue
        for path, is_folder in entries:
            if path.name.startswith(".") and not part.startswith("."):
                continue
            if part == "**" and is_folder and rest:
                waiting.append((path, parts, above | {real}))
            elif part != "**" and (is_folder or not rest) and fnmatch.fnmatchcase(path.name, part):
                waiting.append((path, rest, frozenset()))


def walk(top: Path, suffixes: frozenset[str], above: frozenset[str]) -> Iterator[Path | Refusal]:
    """Files with these endings, sorted, hidden ones skipped. A link that leads back to a folder above is a loop."""
    waiting = [(top, True, above)]  # the next one last
    ways = _Ways(top)
    while waiting:
        path, is_folder, above = waiting.pop()
        if not is_folder:
            if path.suffix.lower() in suffixes:
                yield path
            continue
        real = os.path.realpath(path)
        if real in above:
            continue
        entries = ways.entries(path, real)
        if isinstance(entries, Refusal):
            yield entries
            continue
        inside = above | {real}
        shown = [(entry, is_dir, inside) for entry, is_dir in entries if not entry.name.startswith(".")]
        waiting += reversed(shown)


class _Ways:
    """How often each folder below `top` was come to. Twenty folders that link to each other lead to one in 18! ways."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._number: Counter[str] = Counter()
        self._refused: set[str] = set()

    def entries(self, folder: Path, real: str) -> list[tuple[Path, bool]] | Refusal:
        """See `_entries`. After `_MOST_WAYS` ways there, one over several links is refused, which is said once."""
        self._number[real] += 1
        if self._number[real] <= _MOST_WAYS or self._links(folder) < 2:
            return _entries(folder)
        if real in self._refused:
            return []
        self._refused.add(real)
        return Refusal(folder, InputError(f"{folder}: over {_MOST_WAYS} ways lead here through links, others are cut"))

    def _links(self, folder: Path) -> int:
        way = takewhile(lambda part: part != self._top, (folder, *folder.parents))
        return sum(map(os.path.islink, way))


def _entries(folder: Path) -> list[tuple[Path, bool]] | Refusal:
    """What is in a folder, sorted, and whether it is a folder itself; links are followed."""
    try:
        with os.scandir(folder) as entries:
            return [(folder / entry.name, _is_folder(entry)) for entry in sorted(entries, key=lambda entry: entry.name)]
    except OSError as problem:
        return Refusal(folder, InputError(f"{folder}: {(problem.strerror or 'cannot be listed').lower()}"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return False
