"""Inputs that lie in a store: a URL names a file, a folder or a pattern there, as a path does on a disk.

A URL with the ending of an image is a file, of which nothing is asked before it is read. Of a folder, or the fixed part
of a pattern, all is listed at once; what is taken of that is what `walk` takes on a disk, in its order.
"""

from __future__ import annotations

import fnmatch
import glob
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from quadtok.errors import InputError, QuadtokError, about
from quadtok.jobs.walk import Refusal
from quadtok.names import PARQUET_SUFFIX, TAR_SUFFIX
from quadtok.places import place_of, url_meant

if TYPE_CHECKING:
    from quadtok.stores import Facts

_ARCHIVES = {TAR_SUFFIX: "a tar", PARQUET_SUFFIX: "a Parquet file"}
_SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Stored:
    """A file in a store.

    Attributes:
        url: of it, letter for letter: a path would put two slashes together, which are others in a store.
        listed: what its listing told.
    """

    url: str
    listed: Facts | None = field(default=None, compare=False)

    @property
    def archive(self) -> Path:
        """Itself."""
        return place_of(self.url)

    def facts(self) -> tuple[int, int]:
        """Its size, and its time in nanoseconds, as they were when it was listed, or are now.

        Raises:
            InputError: where the store does not tell.
        """
        from quadtok.stores import facts_of

        facts = facts_of(self.url) if self.listed is None else self.listed
        return facts.bytes, facts.time * _SECOND

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            ImageError: where it cannot be read.
        """
        from quadtok.stores import read

        return read(self.url)


@dataclass(frozen=True)
class StoreItem:
    """A file to take; see `Source`."""

    relative: Path
    inside: Stored
    found: bool


def is_folder(url: str, suffixes: frozenset[str]) -> bool:
    """Whether a URL in a list is a folder; also where the store does not answer, which is said when it is searched."""
    if _has_ending(url, suffixes | _ARCHIVES.keys()):
        return False
    from quadtok.stores import is_file

    try:
        return not is_file(url)
    except QuadtokError:
        return True


def items_at(url: str, suffixes: frozenset[str], patterns: bool, kind: str) -> list[StoreItem | Refusal]:
    """The files at a URL.

    Args:
        url: of a file, a folder, or a pattern; one that lacks a slash is refused, with the URL that was meant.
        suffixes: of the files to take from folders.
        patterns: whether it may be a pattern.
        kind: what sentences call these files.
    """
    if meant := url_meant(url):
        return [Refusal(Path(url), InputError(f"{url}: no such file; a URL has two slashes: {meant}"))]
    is_pattern = patterns and glob.has_magic(url)
    if not is_pattern and _has_ending(url, suffixes):
        return [_named(url)]
    if not is_pattern and _has_ending(url, frozenset(_ARCHIVES)):
        return [
            _refused(
                url, f"{_ARCHIVES[PurePosixPath(url).suffix.lower()]} is not read where a store has it: copy it here"
            )
        ]
    try:
        with about(url):
            return _listed(url, suffixes, is_pattern, kind)
    except QuadtokError as problem:
        return [Refusal(place_of(url), problem)]


def _listed(url: str, suffixes: frozenset[str], is_pattern: bool, kind: str) -> list[StoreItem | Refusal]:
    from quadtok.stores import is_file, listing

    if is_pattern and not is_file(url):
        root, pattern = _parted(url)
        items = _taken(root, pattern, suffixes)
        return items or [Refusal(place_of(url), InputError(f"no {kind} match {url}"))]
    files = {} if is_pattern else listing(url)
    if url in files or not files:  # what is not there says so when it is read
        return [_named(url)]
    items = _taken(url, (), suffixes, files)
    return items or [Refusal(place_of(url), InputError(f"no {kind} found in {url}"))]


def _named(url: str) -> StoreItem:
    return StoreItem(Path(posixpath.basename(url.rstrip("/"))), Stored(url), found=False)


def _refused(url: str, reason: str) -> Refusal:
    return Refusal(place_of(url), InputError(f"{url}: {reason}"))


def _has_ending(url: str, suffixes: frozenset[str]) -> bool:
    return PurePosixPath(url).suffix.lower() in suffixes and not url.endswith("/")


def _parted(pattern: str) -> tuple[str, list[str]]:
    """The URL of the folder before the first part that is a pattern, and the parts from there."""
    scheme, separator, rest = pattern.partition("://")
    parts = rest.split("/")
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return scheme + separator + "/".join(parts[:fixed]), [part for part in parts[fixed:] if part]


def _taken(
    root: str, pattern: Sequence[str], suffixes: frozenset[str], files: dict[str, Facts] | None = None
) -> list[StoreItem | Refusal]:
    """The files below a folder that match, in the order that a disk would give them."""
    if files is None:
        from quadtok.stores import listing

        is_flat = "**" not in pattern and PurePosixPath(pattern[-1]).suffix.lower() in suffixes
        files = listing(root, len(pattern) if is_flat else None)
    taken: list[tuple[str, tuple[str, ...], StoreItem | Refusal]] = []
    for url, facts in files.items():
        parts = PurePosixPath(url[len(root) :].lstrip("/")).parts
        if not parts or PurePosixPath(parts[-1]).suffix.lower() not in suffixes:
            continue
        if (matched := _matched(parts, pattern)) is not None:
            taken.append(("/".join(parts[:matched]), parts, _taken_as(url, facts, parts)))
    return [item for _, _, item in sorted(taken, key=lambda entry: entry[:2])]


def _taken_as(url: str, facts: Facts, parts: Sequence[str]) -> StoreItem | Refusal:
    if ".." in parts:
        return _refused(url, "its name leads out of the folder that it is in")
    return StoreItem(Path(*parts), Stored(url, facts), found=True)


def _matched(parts: Sequence[str], pattern: Sequence[str]) -> int | None:
    """How many parts match, of a file or of the outermost folder that it is in; None: none does.

    Hidden ones do only where the pattern says so.
    """
    if not pattern:
        return None if any(part.startswith(".") and part != ".." for part in parts) else 0
    if not parts:
        return None
    if pattern[0] == "**":
        ways = ((skipped, _matched(parts[skipped:], pattern[1:])) for skipped in _open(parts))
        return min((skipped + rest for skipped, rest in ways if rest is not None), default=None)
    is_hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    if is_hidden or not fnmatch.fnmatchcase(parts[0], pattern[0]):
        return None
    rest = _matched(parts[1:], pattern[1:])
    return None if rest is None else 1 + rest


def _open(parts: Sequence[str]) -> Iterator[int]:
    """How many folders `**` may stand for."""
    yield 0
    for number, part in enumerate(parts, 1):
        if part.startswith("."):
            return
        yield number
