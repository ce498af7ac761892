"""The job of `quadtok tokenize`: an image file becomes a token file, and a picture of its plan if asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from quadtok.errors import about
from quadtok.geometry import parse_threshold
from quadtok.jobs.base import FileKind
from quadtok.jobs.faults import refuse_nan, scorers_fault
from quadtok.jobs.scored import ScoredJob
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sources import Source
from quadtok.marks import Mark
from quadtok.names import (
    DEFAULT_PIXEL_DTYPE,
    DEFAULT_QUADTREE,
    OVERLAY_SUFFIX,
    SAFETENSORS_SUFFIX,
    TOKEN_SUFFIX,
    PixelDtypeName,
    QuadtreeName,
)
from quadtok.pictures.encode import encode_picture
from quadtok.pictures.render import render
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD
from quadtok.preprocess import Photo, Preprocess
from quadtok.quadtrees import get_quadtree
from quadtok.spec import Spec
from quadtok.storage.content import check_dtype, check_size
from quadtok.storage.safetensors_file import check_safetensors
from quadtok.storage.token_file import VERSION, encode_tokens
from quadtok.tokens import Tokens, tokenize


@dataclass(frozen=True)
class TokenizeJob(ScoredJob):
    """Image file to token file.

    Attributes:
        preprocess: how images are read.
        scoring: what scores them.
        quadtree: which one; all give the same plan.
        dtype: of the stored pixels.
        device: where images are scored.
        overlay: also draw each image's plan.
        threshold: split only what has a larger saliency; the budget is then the most.
        suffix: of the token file, and so its format.

    Raises:
        InputError: where there is no such quadtree or dtype, the images would be too large for a token file, or the
            extra for its format is missing.
    """

    preprocess: Preprocess
    scoring: Scoring
    quadtree: QuadtreeName = DEFAULT_QUADTREE
    dtype: PixelDtypeName = DEFAULT_PIXEL_DTYPE
    device: str = "cpu"
    overlay: bool = False
    threshold: float | None = None
    suffix: str = TOKEN_SUFFIX

    def __post_init__(self) -> None:
        get_quadtree(self.quadtree)
        parse_threshold(self.threshold)
        check_dtype(self.dtype)
        if self.suffix == SAFETENSORS_SUFFIX:
            check_safetensors()
        geometry = self.preprocess.geometry
        if geometry.size:
            check_size(geometry.spec(*geometry.size))

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {self.suffix: "token file", **({OVERLAY_SUFFIX: "overlay"} if self.overlay else {})}

    def describe(self) -> dict[str, Any]:
        """What a token file's content depends on, besides the scorer and the input."""
        return {**self.preprocess.describe(), **self._threshold(), "dtype": self.dtype, "version": VERSION}

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`."""
        return self._fingerprint(source, data, self.describe())

    def read(self, source: Source, data: bytes, fingerprint: str) -> Photo:
        """See `Job`."""
        photo = super().read(source, data, fingerprint)
        with about(source.path):
            check_size(photo.spec)  # before it is scored
        return replace(photo, file={"name": source.relative.as_posix(), **photo.file})

    def run(self, photos: Sequence[Photo]) -> list[Tokens]:
        """See `Job`."""
        images = torch.stack([photo.fitted.pixels for photo in photos]).to(self.device)
        extras = [photo.extra for photo in photos]
        tokens = tokens_of(images, photos[0].spec, self.scoring, extras, self.quadtree, self.threshold)
        return [tokens.unpadded(row) for row in range(len(photos))]

    def encode(self, photo: Photo, result: Tokens, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        files = {}
        if self.suffix in wanted:
            files[self.suffix] = encode_tokens(result, self.dtype, None, self._metadata(photo), self.suffix)
        if OVERLAY_SUFFIX in wanted:
            mark = Mark("picture of a plan", photo.fingerprint)
            files[OVERLAY_SUFFIX] = encode_picture(render(photo.fitted.pixels, result.plan), mark=mark)
        return files

    def facts(self, photo: Photo, result: Tokens) -> dict[str, Any]:
        """See `Job`."""
        scales = result.plan.counts[0].tolist()
        return {"tokens": result.plan.spec.num_tokens, "scales": scales, "left_out": photo.left_out}

    def _threshold(self) -> dict[str, float]:
        """For the fingerprint and the metadata; nothing where there is none."""
        return {} if self.threshold is None else {"threshold": self.threshold}

    def _metadata(self, photo: Photo) -> dict[str, Any]:
        return {
            "scorer": self.scoring.describe(photo.extra),
            "tokens_requested": str(self.preprocess.geometry.budget),
            **self._threshold(),
            "normalize": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "applied": False},
            "preprocess": self.preprocess.record(photo),
            "source": photo.file,
            "fingerprint": photo.fingerprint,
        }


def tokens_of(
    images: torch.Tensor,
    spec: Spec,
    scoring: Scoring,
    extras: Sequence[Any],
    quadtree: QuadtreeName,
    threshold: float | None = None,
) -> Tokens:
    """The tokens of a batch, on the CPU.

    Raises:
        ScorerError: whatever went wrong, in one sentence.
    """
    scorer = partial(scoring.saliency, extras=extras)
    with scorers_fault():
        tokens = tokenize(images, spec, scorer, quadtree, threshold=threshold).to("cpu")
    refuse_nan(tokens.saliency or [])
    # Copied: a user's scorer may give the same memory again for the next image.
    return replace(tokens, saliency=tokens.saliency and [scores.clone() for scores in tokens.saliency])
