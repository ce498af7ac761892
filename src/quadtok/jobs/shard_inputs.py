"""Samples of tokens inside shards: each is an input of its own, and is read as the token file that it could have been.

So whatever reads token files reads shards, and says the same of both. Loads torch when it is asked for the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from quadtok.errors import InputError, QuadtokError, about
from quadtok.jobs.walk import Refusal
from quadtok.names import PARQUET_SUFFIX, TAR_SUFFIX, TOKEN_SUFFIX
from quadtok.storage.container import Held

if TYPE_CHECKING:
    from quadtok.storage.container import Place


@dataclass(frozen=True)
class Sample:
    """Where a sample lies in a shard, and what was read of that and others last."""

    archive: Path
    place: Place
    held: Held = field(compare=False, repr=False)

    def read(self) -> bytes:
        """Its tokens as the bytes of a token file; the saliency, which shards leave out, is not in it.

        Raises:
            TokenFileError: where it cannot be read, or is damaged.
        """
        from quadtok.storage.content import pixel_dtype
        from quadtok.storage.sample import tokens_of
        from quadtok.storage.shards import read_sample
        from quadtok.storage.token_file import encode_tokens

        tokens = tokens_of(read_sample(self.place, held=self.held))
        return encode_tokens(tokens, pixel_dtype(tokens), metadata=tokens.metadata)

    def __hash__(self) -> int:
        return hash((self.archive, self.place.key))


def samples_of(archive: Path, held: Held) -> Iterator[tuple[PurePosixPath, Sample] | Refusal]:
    """The samples of tokens in a shard, in its order, each with the name of its image and the ending of a token file.

    What is no sample of tokens is refused: plans, and names that would lead out of the folder where outputs go.
    """
    from quadtok.storage.shards import places_in

    try:
        yield from (_sample_at(archive, place, held) for place in places_in(archive))
    except QuadtokError as problem:
        yield Refusal(archive, problem)


def why_none(path: Path, kind: str) -> InputError:
    """Why nothing of a kind is found in a folder or an archive, and what to give in its place."""
    if path.is_dir():
        endings = {name.suffix.lower() for name in path.iterdir()} & {TAR_SUFFIX, PARQUET_SUFFIX}
        others = " ".join(str(path / f"*{ending}") for ending in sorted(endings))
        way_out = f": to have its archives looked into, give {others}" if others else ""
        return InputError(f"no {kind} found in {path}{way_out}")
    if path.suffix.lower() == TAR_SUFFIX and _is_shard(path):
        return InputError(f"{path}: holds tokens or plans that quadtok made, and no images: give the images themselves")
    return InputError(f"no {kind} found in {path}")


def _is_shard(archive: Path) -> bool:
    """Going by the first sample."""
    from quadtok.storage.sample import JSON
    from quadtok.storage.shards import places_in

    try:
        return any(JSON in place.endings for place in places_in(archive)[:1])
    except QuadtokError:
        return False


def _sample_at(archive: Path, place: Place, held: Held) -> tuple[PurePosixPath, Sample] | Refusal:
    from quadtok.storage.sample import JSON, LAYOUT, image_of
    from quadtok.storage.shards import read_sample

    try:
        with about(archive):
            name = PurePosixPath(f"{image_of(place.key, read_sample(place, (JSON,), held))}{TOKEN_SUFFIX}")
    except QuadtokError as problem:
        return Refusal(archive / place.key, problem)
    if LAYOUT not in place.endings:
        return Refusal(archive / name, InputError(f"{archive}: {place.key} holds no tokens: give its image"))
    if name.is_absolute() or ".." in name.parts:
        return Refusal(archive / name.name, InputError(f"{archive}: {name} leads out of the folder that it is in"))
    return name, Sample(archive, place, held)
