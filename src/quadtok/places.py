"""Places by URL: `s3://bucket/photos`, where others have paths. Imports nothing that speaks to stores."""

from __future__ import annotations

import os
import re
from pathlib import Path, PosixPath

# One letter before the colon is a drive of Windows.
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):(//+)(.*)", re.DOTALL)
_SLASH = "\x01"  # stands for a slash that `Path` would drop
_SQUEEZED = re.compile(rf"[a-zA-Z][a-zA-Z0-9+.-]+:(/(?!/)|{_SLASH})")  # what `Path` makes of a URL


class Url(PosixPath):
    """A place in a store, written as it was typed: for names and sentences. Nothing on a disk is called so.

    The scheme and what follows its slashes are one part, so that `parent`, `/`, `with_suffix` and their like do what
    they do for paths.
    """

    def __str__(self) -> str:
        return super().__str__().replace(_SLASH, "/")


def is_url(text: str) -> bool:
    """Whether a text is `SCHEME://…`. On Windows none is: its paths are no places in a store."""
    return os.name == "posix" and _URL.match(text) is not None


def place_of(text: str) -> Path:
    """The path or URL that a text is."""
    found = _URL.match(text) if is_url(text) else None
    return Path(text) if found is None else Url(f"{found[1]}:{_SLASH * len(found[2])}{found[3]}")


def url_meant(text: str) -> str:
    """The URL that a text lacks a slash of; empty where it is one, or no such thing, or a path of something."""
    if os.name != "posix" or is_url(text) or not _SQUEEZED.match(text) or os.path.lexists(text):
        return ""
    return text.replace(":/", "://", 1)


def is_elsewhere(path: os.PathLike[str]) -> bool:
    """Whether a path is a URL, or was one before it was made a `Path`."""
    return isinstance(path, Url) or _SQUEEZED.match(os.fspath(path)) is not None


def folder_above(one: Path, other: Path) -> Path | None:
    """The innermost folder that holds both of these, or is one of them; None where they are in different stores."""
    if not (isinstance(one, Url) or isinstance(other, Url)):
        return Path(os.path.commonpath([os.path.abspath(one), os.path.abspath(other)]))
    return next((place for place in (one, *one.parents) if other.is_relative_to(place) and place.name), None)
