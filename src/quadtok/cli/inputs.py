"""INPUTS to a list of files: files, folders, globs, and lists on stdin."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quadtok.errors import InputError


@dataclass(frozen=True)
class Source:
    """One input file.

    Attributes:
        path: as the user would type it.
        relative: its name below the folder (or the fixed part of the glob) that was given; the bare name of a file
            that was given itself. Output folders mirror it, and random seeds depend on it.
    """

    path: Path
    relative: Path


def find_sources(arguments: list[str], suffixes: frozenset[str], null_separated: bool = False) -> list[Source]:
    """All files that the arguments name, each once, in the order given and sorted inside folders.

    A path that does not exist is kept: it fails on its own when it is read, and the others go on.

    Raises:
        InputError: where a folder or a glob holds nothing, because that is most often a typing error.
    """
    found: dict[str, Source] = {}
    for argument in _with_stdin(arguments, null_separated):
        for source in _expand(argument, suffixes):
            found.setdefault(os.path.realpath(source.path), source)
    if not found:
        raise InputError("no inputs: stdin was empty" if "-" in arguments else "no inputs were given")
    return list(found.values())


def _with_stdin(arguments: list[str], null_separated: bool) -> Iterator[str]:
    for argument in arguments:
        if argument != "-":
            yield argument
            continue
        data = sys.stdin.buffer.read()
        if b"\0" in data and not null_separated:
            raise InputError("the list on stdin holds NUL bytes: use -0 with find -print0")
        entries = data.split(b"\0") if null_separated else data.splitlines()
        yield from (os.fsdecode(entry) for entry in entries if entry.strip())


def _expand(argument: str, suffixes: frozenset[str]) -> list[Source]:
    path = Path(argument)
    if path.is_dir():
        return _in_folder(path, suffixes)
    if os.path.lexists(path) or not glob.has_magic(argument):
        return [Source(path, Path(path.name))]
    return _in_glob(argument, suffixes)


def _in_folder(folder: Path, suffixes: frozenset[str]) -> list[Source]:
    sources = [Source(path, path.relative_to(folder)) for path in _walk(folder, suffixes, set())]
    if not sources:
        raise InputError(f"no {_kind(suffixes)} found in {folder}")
    return sources


def _in_glob(pattern: str, suffixes: frozenset[str]) -> list[Source]:
    root = Path(*_fixed_parts(pattern))
    sources = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        paths = _walk(path, suffixes, set()) if path.is_dir() else [path] if path.suffix.lower() in suffixes else []
        sources += [Source(found, found.relative_to(root)) for found in paths]
    if not sources:
        raise InputError(f"no {_kind(suffixes)} match {pattern}")
    return sources


def _fixed_parts(pattern: str) -> list[str]:
    """The leading folders of a pattern that hold no wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return fixed


def _walk(folder: Path, suffixes: frozenset[str], visited: set[str]) -> Iterator[Path]:
    """Files with these endings, sorted, hidden ones skipped. A folder that links lead back to is visited once."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as problem:
        raise InputError(f"{folder}: {problem.strerror or 'cannot be listed'}") from problem
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, suffixes, visited)
        elif entry.suffix.lower() in suffixes:
            yield entry


def _kind(suffixes: frozenset[str]) -> str:
    return "token files (.pt)" if ".pt" in suffixes else "images"
