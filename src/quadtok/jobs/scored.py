"""What jobs that score image files share: how one is loaded and read, and the saliency of several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor

from quadtok.decoders import Decoder, decoded_by
from quadtok.jobs.faults import refuse_nan, scorers_fault
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sources import Source
from quadtok.preprocess import Photo, Preprocess
from quadtok.tokens import choose


class ScoredJob:
    """A job's part of `Job` that does not depend on what becomes of the saliency. The fields are the job's own.

    Attributes:
        preprocess: how images are read.
        scoring: what scores them.
        device: where images are scored.
    """

    preprocess: Preprocess
    scoring: Scoring
    device: str

    @property
    def in_parallel(self) -> bool:
        """See `Job`. One thread at a time talks to a GPU: batches side by side would share its memory."""
        return self.scoring.in_parallel and self.device == "cpu"

    @property
    def tells(self) -> bool:
        """See `Job`."""
        return False

    def load(self, source: Source) -> bytes:
        """See `Job`."""
        return source.read()

    def read(self, source: Source, data: bytes, fingerprint: str) -> Photo:
        """See `Job`."""
        photo = self.preprocess.decode(data, source.path)
        extra = self.scoring.place(self._extra(source), photo.fitted.crop_box)
        return replace(photo, extra=extra, fingerprint=fingerprint)

    def decoded_by(self, decoder: Decoder) -> Self:
        """See `DecodingJob`."""
        return replace(cast(Any, self), preprocess=decoded_by(self.preprocess, decoder))

    def _extra(self, source: Source) -> Any:
        return self.scoring.prepare(source, self.preprocess.geometry.num_scales)

    def _fingerprint(self, source: Source, data: bytes, settings: Mapping[str, Any]) -> str:
        """Of these settings, the scorer as it is for this image, and the image's bytes."""
        facts = {
            "settings": settings,
            "scorer": self.scoring.describe(self._extra(source)),
            "input": hashlib.sha256(data).hexdigest(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _saliency(self, photos: Sequence[Photo]) -> Sequence[Tensor]:
        """Of photos of one spec.

        Raises:
            ScorerError: whatever went wrong, in one sentence.
        """
        images = torch.stack([photo.fitted.pixels for photo in photos]).to(self.device)
        scorer = partial(self.scoring.saliency, extras=[photo.extra for photo in photos])
        with scorers_fault():
            _, saliency = choose(images, photos[0].spec, scorer)
        refuse_nan(saliency)
        return saliency
