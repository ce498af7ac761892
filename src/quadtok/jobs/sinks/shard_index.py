"""What stands beside shards, and which shards a folder holds.

    DIR/shard-000000.tar    samples, or .parquet
    DIR/shard-000000.idx    where they lie in a tar, for DALI
    DIR/shard-000000.json   its bytes and sha256, and of each sample its key and fingerprint
    DIR/index.json          all shards, after the last one was written

They are written in this order. So whatever a killed run did not come to is missing, and made from the shard.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from quadtok.errors import OutputError, TokenFileError, about
from quadtok.files import read_regular, reading, write_atomically
from quadtok.marks import holds_nothing
from quadtok.storage.container import Container, Held
from quadtok.storage.sample import JSON, facts_of
from quadtok.storage.shards import CONTAINERS, container_of, places_in, read_sample

INDEX = "index.json"
FORMAT, VERSION = "quadtok shards", 1
_SHARD = re.compile(rf"shard-(?:\d+-)?\d{{6}}(?:{'|'.join(map(re.escape, CONTAINERS))})")


@dataclass
class Shard:
    """A shard that is written, as its index tells it.

    Attributes:
        file: its name.
        fingerprints: of each sample, by its key.
        bytes: its size.
        sha256: of it.
    """

    file: str
    fingerprints: dict[str, str]
    bytes: int
    sha256: str


def shards_in(folder: Path) -> list[Shard]:
    """The shards of a folder, by their names; one that lacks an index of its own is read, and given it.

    What a power cut left empty or all NUL is no shard and no index, and is made again.

    Raises:
        QuadtokError: where one cannot be read, or its index does not fit it.
    """
    return [_shard(folder / name) for name in names_in(folder) if not is_blank(folder / name)]


def names_in(folder: Path) -> list[str]:
    """The names of all files that are called as shards are."""
    return sorted(filter(is_shard, os.listdir(folder))) if folder.is_dir() else []


def is_shard(name: str) -> bool:
    """Whether a file is called as shards are."""
    return _SHARD.fullmatch(name) is not None


def is_blank(path: Path) -> bool:
    """Whether a power cut left nothing in a file."""
    return path.is_file() and holds_nothing(path)


def check_kind(folder: Path, names: Iterable[str], container: Container) -> None:
    """Refuse a folder that holds shards of another kind: their indexes would be of one name.

    Raises:
        OutputError: where one of these names is that of such a shard.
    """
    other = next((name for name in names if is_shard(name) and not name.endswith(container.suffix)), None)
    if other is not None:
        raise OutputError(f"{folder}: holds {other}, and would get *{container.suffix} beside it: name a new folder")


def write_indexes(folder: Path, shard: Shard, indexes: Mapping[str, bytes]) -> None:
    """What stands beside a shard.

    Args:
        folder: of the shard.
        shard: one that is in place.
        indexes: for other readers, by their endings; see `Container`.
    """
    path = folder / shard.file
    for ending, data in indexes.items():
        write_atomically(path.with_suffix(ending), data)
    write_atomically(path.with_suffix(".json"), json.dumps(asdict(shard), sort_keys=True).encode())


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """What a trainer wants to know of all shards, in one file."""
    rows = [
        {"file": one.file, "samples": len(one.fingerprints), "bytes": one.bytes, "sha256": one.sha256} for one in shards
    ]
    total = sum(len(one.fingerprints) for one in shards)
    index = {"format": FORMAT, "version": VERSION, "samples": total, "shards": rows}
    write_atomically(folder / INDEX, json.dumps(index, indent=1, sort_keys=True).encode())


def _shard(path: Path) -> Shard:
    if not _is_there(path.with_suffix(".json")):
        shard = _read_shard(path)
        write_indexes(path.parent, shard, _indexes(path))
        return shard
    shard = shard_of(read_regular(path.with_suffix(".json"), TokenFileError), path, path.stat().st_size)
    if not all(_is_there(path.with_suffix(ending)) for ending in container_of(path).beside):
        write_indexes(path.parent, shard, _indexes(path))
    return shard


def _is_there(index: Path) -> bool:
    return index.exists() and not is_blank(index)


def shard_of(data: bytes, path: Path, size: int) -> Shard:
    """What the index of a shard tells.

    Args:
        data: of the index.
        path: of the shard.
        size: of the shard, in bytes.

    Raises:
        TokenFileError: where it is no index, or that of another shard.
    """
    index = path.with_suffix(".json")
    try:
        shard = Shard(**json.loads(data))
        if shard.file == path.name and shard.bytes == size:
            return shard
    except (ValueError, TypeError, AttributeError) as problem:
        raise TokenFileError(f"{index}: is no index of a shard; remove it to have it made again") from problem
    raise TokenFileError(f"{index}: is not the index of {path.name} as it is; remove it to have it made again")


def _read_shard(path: Path) -> Shard:
    fingerprints, held = {}, Held()
    for place in places_in(path):
        members = read_sample(place, (JSON,), held)
        with about(path):
            fingerprints[place.key] = str(facts_of(members).get("fingerprint"))
    with about(path), reading(path, TokenFileError) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # files do have readinto
    return Shard(path.name, fingerprints, path.stat().st_size, digest)


def _indexes(path: Path) -> Mapping[str, bytes]:
    with about(path):
        return container_of(path).indexes(path)
