"""What a user names to a list of files: files, folders, globs, and lists.

One input costs itself alone: what cannot be taken (a folder that may not be listed, one that is empty, a glob that
matches nothing) is a `Refusal` among the others. Only where nothing at all is found is that an error: most often a
typing error.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from quadtok.errors import ImageError, InputError, about
from quadtok.files import read_regular
from quadtok.jobs.archives import Member, members_of
from quadtok.jobs.parquet import Pieces, rows_of
from quadtok.jobs.shard_inputs import samples_of, why_none
from quadtok.jobs.store_inputs import StoreItem, is_folder, items_at
from quadtok.jobs.walk import Refusal, matches, walk
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import (
    IMAGE_SUFFIXES,
    MAP_SUFFIXES,
    PARQUET_SUFFIX,
    SAFETENSORS_SUFFIX,
    TAR_SUFFIX,
    TOKEN_SUFFIX,
)
from quadtok.places import Url, is_url, place_of, url_meant
from quadtok.storage.container import Held
from quadtok.storage.parquet_file import holds_samples

__all__ = ["Found", "Refusal", "Source", "find_sources"]


class Inside(Protocol):
    """Where an input lies in another file."""

    @property
    def archive(self) -> Path:
        """That file."""

    def read(self) -> bytes:
        """Its own bytes."""


@dataclass(frozen=True)
class Source:
    """One input file.

    Attributes:
        path: as the user would type it.
        relative: its name below the folder (or the fixed part of the glob, the common parent of a list, or
            `relative_to`) that was given; the bare name of a file that was given itself. Output folders mirror it,
            and random seeds depend on it.
        found: in a folder or by a glob, rather than named itself. Pictures that quadtok made are passed over there.
        inside: where it lies in an archive, if it does; `path` is then the archive's with the name behind it.
    """

    path: Path
    relative: Path
    found: bool = False
    inside: Inside | None = None

    def read(self) -> bytes:
        """The bytes of the file.

        Raises:
            ImageError: where it cannot be read, or is empty.
        """
        with about(self.path):
            data = read_regular(self.path, ImageError) if self.inside is None else self.inside.read()
            if not data:
                raise ImageError("empty file")
        return data


def map_in(folder: Path, source: Source) -> Path:
    """The importance map of an input, in a folder that mirrors the inputs: the first of its names that is there.

    `cat.jpg.pt` is more surely of `cat.jpg` than `cat.pt` is. A photograph that lies there is no map of itself.
    """
    place = folder / source.relative
    kept = [place.with_name(place.name + suffix) for suffix in MAP_SUFFIXES]
    names = [place.with_suffix(suffix) for suffix in MAP_SUFFIXES]
    return next((name for name in kept + names if name != source.path and os.path.lexists(name)), names[0])


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


class _Wanted(NamedTuple):
    """The endings of the files that are looked for, and what rows of Parquet files and samples of shards share."""

    suffixes: frozenset[str]
    pieces: Pieces
    held: Held


def find_sources(
    arguments: Sequence[str],
    suffixes: frozenset[str],
    listed: Sequence[str] | None = None,
    relative_to: Path | None = None,
    words: Words = ARGUMENTS,
) -> Found:
    """All files that the arguments name.

    Two paths are two inputs, also where links lead both to one file; one path is one input, however often it is given.

    Args:
        arguments: files, folders and globs.
        suffixes: of the files to take from folders and globs.
        listed: paths that stand in the place of the argument `-`; None: that is a name like any other.
        relative_to: the folder that names are relative to; None: see `Source.relative`.
        words: what sentences call it.

    Raises:
        InputError: where nothing is found at all.
    """
    if relative_to is not None and not isinstance(relative_to, Url) and not os.path.isdir(relative_to):
        problem = "not a folder" if os.path.lexists(relative_to) else "no such folder"
        raise InputError(f"{words.relative_to} {relative_to}: {problem}")
    sources: dict[str, Source] = {}
    refused: dict[Path, Refusal] = {}
    for item in _items(arguments, _Wanted(suffixes, Pieces(), Held()), listed):
        found = _named_below(relative_to, item, words) if relative_to is not None and isinstance(item, Source) else item
        if isinstance(found, Source):
            sources.setdefault(_identity(found.path), found)
        else:
            refused.setdefault(found.path, found)
    if not sources:
        raise _nothing_found(list(refused.values()), listed is not None)
    return Found(list(sources.values()), list(refused.values()))


def _nothing_found(refused: list[Refusal], from_list: bool) -> InputError:
    if not refused:
        return InputError("no inputs: the list is empty" if from_list else "no inputs were given")
    others = f" (and {len(refused) - 1} more inputs that cannot be taken)" if len(refused) > 1 else ""
    return InputError(f"{refused[0].problem}{others}")


def _items(arguments: Sequence[str], wanted: _Wanted, listed: Sequence[str] | None) -> Iterator[_Item]:
    for argument in arguments:
        if argument == "-" and listed is not None:
            yield from _in_list(listed, wanted)
        else:
            yield from _expand(argument, wanted)


def _identity(path: Path) -> str:
    """The same for all spellings of one path. `..` is followed; links are not, that would be the file's identity."""
    parts = path.parts
    if ".." in parts:
        behind = len(parts) - parts[::-1].index("..")
        path = Path(os.path.realpath(Path(*parts[:behind])), *parts[behind:])
    return str(path) if path.is_absolute() else os.path.join(os.getcwd(), path)


def _named_below(folder: Path, source: Source, words: Words) -> _Item:
    """The source, named relative to this folder."""
    for spelled in (os.path.abspath, os.path.realpath):
        name, top = Path(spelled(source.path.parent), source.path.name), Path(spelled(folder))
        if name.is_relative_to(top):
            return replace(source, relative=name.relative_to(top))
    return Refusal(source.path, InputError(f"{source.path}: does not lie in {words.relative_to} {folder}"))


def _in_list(entries: Sequence[str], wanted: _Wanted) -> Iterator[_Item]:
    """Entries are paths, never patterns. Names are relative to the folder that holds them all: the tree is mirrored."""
    if not entries:
        return
    places = [_place(entry, wanted.suffixes) for entry in entries]
    common = os.path.commonpath(set(places))
    for entry, place in zip(entries, places, strict=True):
        below = Path(place).relative_to(common)
        for item in _of_entry(entry, wanted):
            yield item if isinstance(item, Refusal) else replace(item, relative=below / item.relative)


def _of_entry(entry: str, wanted: _Wanted) -> list[_Item]:
    if is_url(entry) or url_meant(entry):
        return _in_store(entry, wanted.suffixes, patterns=False)
    return _in_folder(Path(entry), wanted.suffixes) if os.path.isdir(entry) else _of_file(Path(entry), wanted)


def _place(entry: str, suffixes: frozenset[str]) -> str:
    """The folder that an entry is, or lies in."""
    if is_url(entry):
        whole = os.path.normpath(f"/{entry}")  # below a root of its own, whatever the working folder is
        return whole if is_folder(entry, suffixes) else os.path.dirname(whole)
    whole = os.path.abspath(entry)
    return whole if os.path.isdir(whole) else os.path.dirname(whole)


def _expand(argument: str, wanted: _Wanted) -> Iterable[_Item]:
    if not argument:
        return [Refusal(Path(), InputError("an input has no name: an empty text was given"))]
    if is_url(argument) or url_meant(argument):
        return _in_store(argument, wanted.suffixes, patterns=True)
    path = Path(argument)
    if os.path.isdir(path):
        return _in_folder(path, wanted.suffixes)
    if os.path.lexists(path) or not glob.has_magic(argument):
        return _of_file(path, wanted)
    return _in_glob(argument, wanted)


def _of_file(path: Path, wanted: _Wanted) -> list[_Item]:
    """The file; of one that is looked into, what is in it."""
    if not _is_looked_into(path, wanted.suffixes) or not os.path.isfile(path):
        return [Source(path, Path(path.name))]
    stem = Path(path.stem)
    items = [
        item if isinstance(item, Refusal) else Source(path / item[0], stem / item[0], inside=item[1])
        for item in _in_archive(path, wanted)
    ]
    return items or [Refusal(path, why_none(path, _kind(wanted.suffixes)))]


def _is_looked_into(path: Path, suffixes: frozenset[str]) -> bool:
    """Tars and Parquet files are, unless they themselves are looked for."""
    kind = path.suffix.lower()
    return kind in (TAR_SUFFIX, PARQUET_SUFFIX) and kind not in suffixes


def _in_archive(path: Path, wanted: _Wanted) -> Sequence[tuple[PurePosixPath, Inside] | Refusal]:
    """The images in a file, or else the samples of tokens."""
    images = wanted.suffixes & IMAGE_SUFFIXES
    if path.suffix.lower() == PARQUET_SUFFIX:
        is_shard = TOKEN_SUFFIX in wanted.suffixes and (not images or holds_samples(path))
        return list(samples_of(path, wanted.held) if is_shard else rows_of(path, wanted.pieces))
    members = list(members_of(path, images)) if images else []
    if TOKEN_SUFFIX in wanted.suffixes and not members:
        return list(samples_of(path, wanted.held))
    return [(item.name, item.inside) if isinstance(item, Member) else item for item in members]


def _in_store(url: str, suffixes: frozenset[str], patterns: bool) -> list[_Item]:
    items = items_at(url, suffixes, patterns, _kind(suffixes))
    return [_of_store(item) if isinstance(item, StoreItem) else item for item in items]


def _of_store(item: StoreItem) -> Source:
    return Source(place_of(item.inside.url), item.relative, item.found, item.inside)


def _in_folder(folder: Path, suffixes: frozenset[str]) -> list[_Item]:
    items = [_named(item, folder) for item in walk(folder, suffixes, frozenset())]
    return items or [Refusal(folder, why_none(folder, _kind(suffixes)))]


def _in_glob(pattern: str, wanted: _Wanted) -> list[_Item]:
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    items: list[_Item] = []
    for match in sorted(matches(root, parts[fixed:]), key=_by_path):
        if isinstance(match, Refusal):
            items.append(match)
        elif os.path.isdir(match):
            above = frozenset(os.path.realpath(parent) for parent in match.parents if parent.is_relative_to(root))
            items += [_named(item, root) for item in walk(match, wanted.suffixes, above)]
        elif _is_looked_into(match, wanted.suffixes):
            items += _of_file(match, wanted)
        elif match.suffix.lower() in wanted.suffixes:
            items.append(Source(match, match.relative_to(root), found=True))
    return items or [Refusal(Path(pattern), InputError(f"no {_kind(wanted.suffixes)} match {pattern}"))]


def _by_path(found: Path | Refusal) -> str:
    return str(found.path if isinstance(found, Refusal) else found)


def _named(item: Path | Refusal, root: Path) -> _Item:
    return item if isinstance(item, Refusal) else Source(item, item.relative_to(root), found=True)


def _kind(suffixes: frozenset[str]) -> str:
    return f"token files ({TOKEN_SUFFIX}, {SAFETENSORS_SUFFIX})" if TOKEN_SUFFIX in suffixes else "images"
