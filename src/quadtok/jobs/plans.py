"""The job of `quadtok tokenize --store plans`: an image file becomes its plans at every budget."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from quadtok import __version__
from quadtok.geometry import Budget
from quadtok.jobs.base import FileKind
from quadtok.jobs.scored import ScoredJob
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sources import Source
from quadtok.names import MinimaName
from quadtok.preprocess import Photo, Preprocess
from quadtok.storage.plan_format import FINGERPRINT, Entry, Header, encode_entry
from quadtok.storage.plan_stream import PlanStream, plan_streams

ENTRY_SUFFIX = ".plans"  # of what an image becomes; no file is called so
WHOLE = Budget(share=Fraction(1))


@dataclass(frozen=True)
class PlansJob(ScoredJob):
    """Image file to an entry of a plan store.

    Attributes:
        preprocess: how images are read; its budget plays no part.
        scoring: what scores them.
        minima: see `plan_streams`.
        device: where images are scored.
    """

    preprocess: Preprocess
    scoring: Scoring
    minima: MinimaName = "none"
    device: str = "cpu"

    def __post_init__(self) -> None:
        geometry = replace(self.preprocess.geometry, budget=WHOLE)
        object.__setattr__(self, "preprocess", replace(self.preprocess, geometry=geometry))

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {ENTRY_SUFFIX: "plans"}

    @property
    def header(self) -> Header:
        """What the plans of all images have in common."""
        steps = self.preprocess.describe()
        min_patch, max_patch = steps.pop("min_patch"), steps.pop("max_patch")
        del steps["tokens"]
        made = {"scorer": self.scoring.common, "preprocess": steps, "quadtok": __version__, "torch": torch.__version__}
        return Header(min_patch, max_patch, self.minima, made)

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`."""
        return self._fingerprint(source, data, {**self.preprocess.describe(), "minima": self.minima})

    def read(self, source: Source, data: bytes, fingerprint: str) -> Photo:
        """See `Job`."""
        photo = super().read(source, data, fingerprint)
        digest = hashlib.sha256(data).hexdigest()
        return replace(photo, file={"name": source.relative.as_posix(), "sha256": digest})

    def run(self, photos: Sequence[Photo]) -> list[PlanStream]:
        """See `Job`."""
        streams = plan_streams(self._saliency(photos), photos[0].spec, self.minima)
        return streams if len(streams) == len(photos) else streams * len(photos)  # of one scale: nothing is scored

    def encode(self, photo: Photo, result: PlanStream, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        return {ENTRY_SUFFIX: encode_entry(self._entry(photo, result))}

    def facts(self, photo: Photo, result: PlanStream) -> dict[str, Any]:
        """See `Job`."""
        spec = result.spec
        return {"roots": spec.num_roots, "most": spec.num_cells, "left_out": photo.left_out}

    def _entry(self, photo: Photo, stream: PlanStream) -> Entry:
        return Entry(photo.file["name"], photo.file["sha256"], stream, photo.fingerprint[:FINGERPRINT])
