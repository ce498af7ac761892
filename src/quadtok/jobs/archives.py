"""Images inside tar files: each is an input of its own, and is read where it lies (see storage/tar.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from quadtok.errors import InputError
from quadtok.jobs.walk import Refusal
from quadtok.storage import tar
from quadtok.storage.tar import Slice

__all__ = ["Member", "Slice", "members_of"]


@dataclass(frozen=True)
class Member:
    """A file in an archive, and its name there."""

    name: PurePosixPath
    inside: Slice


def members_of(archive: Path, suffixes: frozenset[str]) -> Iterator[Member | Refusal]:
    """The files with these endings in a tar, in its order, and why others are not read.

    Refused is what `storage.tar.members_of` tells is no file to read, and the rest of an archive that ends too early or
    goes on behind its end.
    """
    found, problem = tar.members_of(archive, suffixes)
    for item in found:
        if item.inside is not None:
            yield Member(item.name, item.inside)
        else:
            leads_out = item.name.is_absolute() or ".." in item.name.parts
            path = archive / (item.name.name if leads_out else item.name)
            yield Refusal(path, InputError(f"{archive}: {item.name} {item.problem}"))
    if problem is not None:
        yield Refusal(archive, problem)
