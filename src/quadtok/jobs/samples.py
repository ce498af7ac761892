"""The jobs of `quadtok tokenize --format shards`, or parquet: an image file becomes a sample of a shard."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from quadtok.jobs.base import FileKind
from quadtok.jobs.plans import PlansJob
from quadtok.jobs.tokenize import TokenizeJob
from quadtok.preprocess import Photo
from quadtok.storage.plan_stream import PlanStream
from quadtok.storage.sample import SAMPLE, plan_members, token_members
from quadtok.tokens import Tokens


@dataclass(frozen=True)
class TokenSamplesJob(TokenizeJob):
    """As `TokenizeJob`; what it makes are the members of a sample, by their endings."""

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`; one thing, whatever its members are."""
        return {SAMPLE: "sample"}

    def encode(self, photo: Photo, result: Tokens, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        return token_members(result, photo.file["name"], self.dtype, self._metadata(photo), photo.fingerprint)


@dataclass(frozen=True)
class PlanSamplesJob(PlansJob):
    """As `PlansJob`; what it makes are the members of a sample, by their endings."""

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`; one thing, whatever its members are."""
        return {SAMPLE: "sample"}

    def encode(self, photo: Photo, result: PlanStream, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        return plan_members(self._entry(photo, result), self.header, photo.fingerprint)
