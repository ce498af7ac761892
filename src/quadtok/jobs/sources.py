"""INPUTS to a list of files: files, folders, globs, and lists on stdin.

One input costs itself alone: what cannot be taken (a folder that may not be listed, one that is empty, a glob that
matches nothing) is a `Refusal` among the others. Only where nothing at all is found is that an error: most often a
typing error.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from quadtok.errors import InputError, QuadtokError

_MOST_WAYS = 100


@dataclass(frozen=True)
class Source:
    """One input file.

    Attributes:
        path: as the user would type it.
        relative: its name below the folder (or the fixed part of the glob, the common parent of a list, or
            `--relative-to`) that was given; the bare name of a file that was given itself. Output folders mirror it,
            and random seeds depend on it.
        found: in a folder or by a glob, rather than named itself. Pictures that quadtok made are passed over there.
    """

    path: Path
    relative: Path
    found: bool = False


@dataclass(frozen=True)
class Refusal:
    """An input that cannot be taken, which is known before any work."""

    path: Path
    problem: QuadtokError


@dataclass(frozen=True)
class Found:
    """What the arguments name.

    Attributes:
        sources: each path once, in the order given and sorted inside folders. One that does not exist is kept: it
            fails on its own when it is read.
        refused: what else was named, and why it is not taken.
    """

    sources: list[Source]
    refused: list[Refusal]


_Item = Source | Refusal


def find_sources(
    arguments: Sequence[str],
    suffixes: frozenset[str],
    null_separated: bool = False,
    relative_to: Path | None = None,
) -> Found:
    """All files that the arguments name.

    Two paths are two inputs, also where links lead both to one file; one path is one input, however often it is given.

    Args:
        arguments: files, folders and globs; `-` for a list on stdin.
        suffixes: of the files to take from folders and globs.
        null_separated: whether the entries of the list end in NUL, not in a newline.
        relative_to: the folder that names are relative to; None: see `Source.relative`.

    Raises:
        InputError: where nothing is found at all, or the list cannot be read.
    """
    if relative_to is not None and not os.path.isdir(relative_to):
        problem = "not a folder" if os.path.lexists(relative_to) else "no such folder"
        raise InputError(f"--relative-to {relative_to}: {problem}")
    sources: dict[str, Source] = {}
    refused: dict[Path, Refusal] = {}
    for item in _items(arguments, suffixes, null_separated):
        found = _named_below(relative_to, item) if relative_to is not None and isinstance(item, Source) else item
        if isinstance(found, Source):
            sources.setdefault(_identity(found.path), found)
        else:
            refused.setdefault(found.path, found)
    if not sources:
        raise _nothing_found(list(refused.values()), "-" in arguments)
    return Found(list(sources.values()), list(refused.values()))


def _nothing_found(refused: list[Refusal], from_list: bool) -> InputError:
    if not refused:
        return InputError("no inputs: stdin was empty" if from_list else "no inputs were given")
    others = f" (and {len(refused) - 1} more inputs that cannot be taken)" if len(refused) > 1 else ""
    return InputError(f"{refused[0].problem}{others}")


def _items(arguments: Sequence[str], suffixes: frozenset[str], null_separated: bool) -> Iterator[_Item]:
    for argument in arguments:
        if argument == "-":
            yield from _in_list(_read_list(null_separated), suffixes)
        else:
            yield from _expand(argument, suffixes)


def _identity(path: Path) -> str:
    """The same for all spellings of one path. `..` is followed; links are not, that would be the file's identity."""
    parts = path.parts
    if ".." in parts:
        behind = len(parts) - parts[::-1].index("..")
        path = Path(os.path.realpath(Path(*parts[:behind])), *parts[behind:])
    return str(path) if path.is_absolute() else os.path.join(os.getcwd(), path)


def _named_below(folder: Path, source: Source) -> _Item:
    """The source, named relative to this folder."""
    for spelled in (os.path.abspath, os.path.realpath):
        name, top = Path(spelled(source.path.parent), source.path.name), Path(spelled(folder))
        if name.is_relative_to(top):
            return replace(source, relative=name.relative_to(top))
    return Refusal(source.path, InputError(f"{source.path}: does not lie in --relative-to {folder}"))


def _read_list(null_separated: bool) -> list[str]:
    """The entries of the list on stdin; none the second time."""
    try:
        data = b"" if sys.stdin is None else sys.stdin.buffer.read()
    except OSError as problem:
        raise InputError(f"the list on stdin cannot be read: {_reason(problem)}") from problem
    if b"\0" in data and not null_separated:
        raise InputError("the list on stdin holds NUL bytes: use -0 with find -print0")
    if null_separated and b"\0" not in data and b"\n" in data and not os.path.lexists(data):
        raise InputError("the list on stdin holds no NUL byte: leave out -0, or use find -print0")
    entries = data.split(b"\0") if null_separated else [line for line in data.splitlines() if line.strip()]
    return [os.fsdecode(entry) for entry in entries if entry]


def _in_list(entries: list[str], suffixes: frozenset[str]) -> Iterator[_Item]:
    """Entries are paths, never patterns. Names are relative to the folder that holds them all: the tree is mirrored."""
    if not entries:
        return
    places = [_place(entry) for entry in entries]
    common = os.path.commonpath(set(places))
    for entry, place in zip(entries, places, strict=True):
        path, below = Path(entry), Path(place).relative_to(common)
        for item in _in_folder(path, suffixes) if os.path.isdir(entry) else [Source(path, Path(path.name))]:
            yield item if isinstance(item, Refusal) else replace(item, relative=below / item.relative)


def _place(entry: str) -> str:
    """The folder that an entry is, or lies in."""
    whole = os.path.abspath(entry)
    return whole if os.path.isdir(whole) else os.path.dirname(whole)


def _expand(argument: str, suffixes: frozenset[str]) -> Iterable[_Item]:
    if not argument:
        return [Refusal(Path(), InputError("an input has no name: an empty text was given"))]
    path = Path(argument)
    if os.path.isdir(path):
        return _in_folder(path, suffixes)
    if os.path.lexists(path) or not glob.has_magic(argument):
        return [Source(path, Path(path.name))]
    return _in_glob(argument, suffixes)


def _in_folder(folder: Path, suffixes: frozenset[str]) -> list[_Item]:
    items = [_named(item, folder) for item in _walk(folder, suffixes, frozenset())]
    return items or [Refusal(folder, InputError(f"no {_kind(suffixes)} found in {folder}"))]


def _in_glob(pattern: str, suffixes: frozenset[str]) -> list[_Item]:
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    items: list[_Item] = []
    for match in sorted(_matches(root, parts[fixed:]), key=_by_path):
        if isinstance(match, Refusal):
            items.append(match)
        elif os.path.isdir(match):
            above = frozenset(os.path.realpath(parent) for parent in match.parents if parent.is_relative_to(root))
            items += [_named(item, root) for item in _walk(match, suffixes, above)]
        elif match.suffix.lower() in suffixes:
            items.append(Source(match, match.relative_to(root), found=True))
    return items or [Refusal(Path(pattern), InputError(f"no {_kind(suffixes)} match {pattern}"))]


def _by_path(found: Path | Refusal) -> str:
    return str(found.path if isinstance(found, Refusal) else found)


def _named(item: Path | Refusal, root: Path) -> _Item:
    return item if isinstance(item, Refusal) else Source(item, item.relative_to(root), found=True)


def _matches(root: Path, pattern: Sequence[str]) -> Iterator[Path | Refusal]:
    """What in this folder matches the parts of a pattern, one a level, in any order; `**` is any number of folders.

    Python's `glob` passes over folders that it may not list without a word, and follows loops of links.
    """
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


def _walk(top: Path, suffixes: frozenset[str], above: frozenset[str]) -> Iterator[Path | Refusal]:
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
        return Refusal(folder, InputError(f"{folder}: {_reason(problem)}"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return False


def _reason(problem: OSError) -> str:
    return (problem.strerror or "cannot be listed").lower()


def _kind(suffixes: frozenset[str]) -> str:
    return "token files (.pt)" if ".pt" in suffixes else "images"
