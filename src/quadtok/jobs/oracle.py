"""The job of `quadtok oracle`: an image file becomes a map of where a classifier sees a class."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from quadtok.decoders import Decoder, decoded_by
from quadtok.jobs.base import FileKind, last_ending
from quadtok.jobs.classes import Classes
from quadtok.jobs.faults import scorers_fault
from quadtok.jobs.sources import Source
from quadtok.marks import Mark
from quadtok.oracle import grad_cam
from quadtok.oracle.classifiers import Classifier
from quadtok.own_code import ours_only
from quadtok.pictures.encode import encode_picture
from quadtok.preprocess import Photo, Preprocess


@dataclass(frozen=True)
class _Asked:
    """What is asked about an image: the class, None for the likeliest; and where the image lies, for a warning."""

    wanted: int | None
    path: Path


@dataclass(frozen=True)
class OracleJob:
    """Image file to importance map.

    Attributes:
        preprocess: how images are read; the map has a number for each finest patch.
        classifier: what looks at them.
        classes: what for.
        layer: the name of a layer; None: see `default_layer`.
        suffix: of the map; its last part is the format: `.pt`, `.npy` or `.png`.
        device: where the classifier is.
    """

    preprocess: Preprocess
    classifier: Classifier
    classes: Classes
    layer: str | None = None
    suffix: str = ".pt"
    device: str = "cpu"

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {self.suffix: "picture of a map" if last_ending(self.suffix) == ".png" else "map"}

    @property
    def in_parallel(self) -> bool:
        """See `Job`: a layer is listened to meanwhile."""
        return False

    @property
    def tells(self) -> bool:
        """See `Job`."""
        return False

    def decoded_by(self, decoder: Decoder) -> OracleJob:
        """See `DecodingJob`."""
        return replace(self, preprocess=decoded_by(self.preprocess, decoder))

    def load(self, source: Source) -> bytes:
        """See `Job`."""
        return source.read()

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`."""
        facts = {
            **self.preprocess.describe(),
            **self.classifier.describe(),
            "class": self.classes.wanted(source),
            "layer": self.layer,
            "format": last_ending(self.suffix),
            "input": hashlib.sha256(data).hexdigest(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def read(self, source: Source, data: bytes, fingerprint: str) -> Photo:
        """See `Job`."""
        photo = self.preprocess.decode(data, source.path)
        return replace(photo, extra=_Asked(self.classes.wanted(source), source.path), fingerprint=fingerprint)

    def run(self, photos: Sequence[Photo]) -> list[Tensor]:
        """See `Job`."""
        with scorers_fault(), ours_only("the model failed"):
            return self._maps(photos)

    def _maps(self, photos: Sequence[Photo]) -> list[Tensor]:
        images = torch.stack([photo.fitted.pixels for photo in photos]).to(self.device)
        inputs = self.classifier.inputs(images)
        wanted = [photo.extra.wanted for photo in photos]
        target = None if None in wanted else wanted
        maps = grad_cam(self.classifier.model, inputs, target, self.layer, size=photos[0].spec.grid(0))
        return list(maps.cpu())

    def encode(self, photo: Photo, result: Tensor, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        writer = _WRITERS[last_ending(self.suffix)]
        return {self.suffix: writer(result, Mark("importance map", photo.fingerprint))}

    def facts(self, photo: Photo, result: Tensor) -> dict[str, Any]:
        """See `Job`; whether anything speaks for the class at all."""
        nothing = f"{photo.extra.path}: nothing in the image speaks for this class: an empty map"
        return {"left_out": photo.left_out} if bool(result.any()) else {"left_out": photo.left_out, "warning": nothing}


def _as_torch(values: Tensor, mark: Mark) -> bytes:
    buffer = io.BytesIO()
    torch.save(values.clone(), buffer)
    return buffer.getvalue()


def _as_numpy(values: Tensor, mark: Mark) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values.numpy())
    return buffer.getvalue()


def _as_png(values: Tensor, mark: Mark) -> bytes:
    """16 bits of gray; the only one that has a place for a mark."""
    levels = Image.fromarray((values * 65535).round().numpy().astype(np.uint16))
    return encode_picture(levels, ".png", mark)


_WRITERS = {".pt": _as_torch, ".npy": _as_numpy, ".png": _as_png}
