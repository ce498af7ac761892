"""The job of `quadtok calibrate`: an image file becomes the levels at which it is split."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quadtok.calibration import Calibration, Levels, calibrate, levels_of
from quadtok.geometry import Budget
from quadtok.jobs.base import FileKind
from quadtok.jobs.scored import ScoredJob
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sources import Source
from quadtok.preprocess import Photo, Preprocess

LEVELS_SUFFIX = ".levels"


@dataclass(frozen=True)
class CalibrateJob(ScoredJob):
    """Image file to levels: float64 numbers, the mean that is wanted of it first, then its roots.

    Attributes:
        preprocess: how images are read; its budget is the most that an image may have.
        scoring: what scores them.
        wanted: tokens of an image, on average; of a share each image has its own.
        device: where images are scored.
    """

    preprocess: Preprocess
    scoring: Scoring
    wanted: Budget
    device: str = "cpu"

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {LEVELS_SUFFIX: "levels"}

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`; nothing is kept, so nothing is compared."""
        return hashlib.sha256(data).hexdigest()

    def run(self, photos: Sequence[Photo]) -> list[Levels]:
        """See `Job`."""
        saliency = self._saliency(photos)
        levels = levels_of(saliency, photos[0].spec)
        return levels if saliency else levels * len(photos)  # of one scale, where nothing is scored

    def encode(self, photo: Photo, result: Levels, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        mean = self.wanted.of(photo.spec)
        return {LEVELS_SUFFIX: np.concatenate([[mean, result.roots], result.levels]).tobytes()}

    def facts(self, photo: Photo, result: Levels) -> dict[str, Any]:
        """See `Job`."""
        return {"roots": result.roots, "most": result.most, "left_out": photo.left_out}


def calibration_of(results: Iterable[Mapping[str, bytes]]) -> Calibration:
    """The threshold for the images that a run of `CalibrateJob` has kept.

    Raises:
        InputError: see `calibrate`.
    """
    rows = [np.frombuffer(files[LEVELS_SUFFIX]) for files in results]
    wanted = float(np.mean([row[0] for row in rows])) if rows else 0.0
    return calibrate([Levels(int(row[1]), row[2:]) for row in rows], wanted)
