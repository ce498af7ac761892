"""The jobs of `quadtok reverse`: a token file becomes an image again, or features of its tokens a dense map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError, about
from quadtok.jobs.base import FileKind, last_ending
from quadtok.jobs.photograph import other_photograph, read_like
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.marks import Mark
from quadtok.pictures.encode import encode_picture
from quadtok.pictures.render import to_picture
from quadtok.reversal import psnr, reverse, reverse_patches
from quadtok.spec import Spec
from quadtok.storage.token_file import decode_tokens, read_token_file
from quadtok.tokens import Tokens


@dataclass(frozen=True)
class Restorable:
    """A token file that was read.

    Attributes:
        source: the file.
        tokens: what it holds.
        fingerprint: of all that the result depends on.
    """

    source: Source
    tokens: Tokens
    fingerprint: str
    notes: Sequence[str] = ()

    @property
    def spec(self) -> Spec:
        """See `Photo`."""
        return self.tokens.plan.spec


@dataclass(frozen=True)
class _RestoreJob:
    """What both jobs share: they read token files."""

    suffix: str

    @property
    def in_parallel(self) -> bool:
        """See `Job`."""
        return True

    def load(self, source: Source) -> bytes:
        """See `Job`."""
        with about(source.path):
            return read_token_file(source.path) if source.inside is None else source.inside.read()

    def read(self, source: Source, data: bytes, fingerprint: str) -> Restorable:
        """See `Job`."""
        with about(source.path):
            return Restorable(source, decode_tokens(data), fingerprint)


@dataclass(frozen=True)
class RestoreImageJob(_RestoreJob):
    """Token file to picture.

    Attributes:
        suffix: of the picture; its last part is the format.
        smooth: see `reverse_patches`.
        against: the photograph to compare with, or None.
        words: what sentences call these.
    """

    smooth: bool = False
    against: Path | None = None
    words: Words = ARGUMENTS

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {self.suffix: "restored image"}

    @property
    def tells(self) -> bool:
        """See `Job`: the PSNR is."""
        return self.against is not None

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`."""
        facts = {"input": hashlib.sha256(data).hexdigest(), "smooth": self.smooth, "suffix": self._format}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def run(self, photos: Sequence[Restorable]) -> list[Tensor]:
        """See `Job`: uint8-valued floats `[3, H, W]` of each."""
        return [self._pixels(photo) for photo in photos]

    def _pixels(self, photo: Restorable) -> Tensor:
        tokens = photo.tokens
        if tokens.patches is None:
            only = f"only the layout ({self.words.layout_alone})"
            raise InputError(f"{photo.source.path}: holds no pixels, {only}")
        return reverse_patches(tokens.patches, tokens.plan, self.smooth).round().clamp(0, 255)[0]

    def encode(self, photo: Restorable, result: Tensor, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        mark = Mark("restored image", photo.fingerprint)
        with about(photo.source.path):
            return {self.suffix: encode_picture(to_picture(result.byte()), self._format, mark)}

    def facts(self, photo: Restorable, result: Tensor) -> dict[str, Any]:
        """See `Job`."""
        if self.against is None:
            return {}
        facts = {"psnr": f"{psnr(result, read_like(self.against, photo.tokens).pixels):.2f}"}
        warning = other_photograph(self.against, photo.tokens)
        return {**facts, "warning": warning} if warning else facts

    @property
    def _format(self) -> str:
        return last_ending(self.suffix)


@dataclass(frozen=True)
class RestoreFeaturesJob(_RestoreJob):
    """Features in token order to a dense map `[D, H/p, W/p]`.

    Attributes:
        suffix: of the file.
        rows: the features `[N, D]` of each token file.
    """

    rows: Mapping[Source, Tensor]

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {self.suffix: "tensor"}

    @property
    def tells(self) -> bool:
        """See `Job`."""
        return False

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`: a tensor file cannot carry one, and is made and compared."""
        return ""

    def run(self, photos: Sequence[Restorable]) -> list[Tensor]:
        """See `Job`."""
        return [reverse(self.rows[photo.source][None], photo.tokens.plan)[0] for photo in photos]

    def encode(self, photo: Restorable, result: Tensor, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        buffer = BytesIO()
        torch.save(result.clone(), buffer)
        return {self.suffix: buffer.getvalue()}

    def facts(self, photo: Restorable, result: Tensor) -> dict[str, Any]:
        """See `Job`."""
        return {"shape": list(result.shape)}
