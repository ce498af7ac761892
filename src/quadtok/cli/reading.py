"""Image files as commands read them: decoded, fitted, and with the spec that fits them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quadtok.cli.settings import Geometry
from quadtok.errors import InputError, QuadtokError
from quadtok.images import (
    DRAFT_DIVISORS,
    Fitted,
    ImageFile,
    decode_image,
    draft_for,
    fit_image,
    fit_native,
    read_bytes,
    read_image,
)
from quadtok.patches import Tokens
from quadtok.spec import Spec


@dataclass(frozen=True)
class Reading:
    """How image files are read: the flags that every command shares.

    Attributes:
        geometry: what the images are brought to.
        max_pixels: refuse larger ones.
        background: colour behind transparency.
        exif: apply the EXIF orientation.
        draft: decode JPEGs that are far larger than a fixed size at a fraction of theirs. Native sizes need all of it.
    """

    geometry: Geometry
    max_pixels: int
    background: str
    exif: bool
    draft: bool = False

    def decode(self, data: bytes, path: Path) -> Photograph:
        """Decode and fit the bytes of an image file.

        Raises:
            QuadtokError: one sentence that begins with the path.
        """
        size, fit = self.geometry.size, self.geometry.fit
        file = decode_image(
            data,
            path,
            max_pixels=self.max_pixels,
            background=self.background,
            exif=self.exif,
            draft=draft_for(*size, fit) if size and self.draft else None,
        )
        if size:
            fitted = fit_image(file.image, *size, fit, file.draft)
        else:
            fitted = fit_native(file.image, self.geometry.max_patch, fit)
        try:
            return Photograph(file, fitted, self.geometry.spec(*fitted.pixels.shape[1:]))
        except QuadtokError as problem:
            raise type(problem)(f"{path}: {problem}") from problem

    def describe(self) -> dict[str, Any]:
        """What the result depends on, as JSON values."""
        draft = self.draft and self.geometry.size is not None
        return {**self.geometry.describe(), "background": self.background, "exif": self.exif, "draft": draft}


@dataclass(frozen=True)
class Photograph:
    """An image file that is ready to be scored."""

    file: ImageFile
    fitted: Fitted
    spec: Spec


def read_like(path: Path, tokens: Tokens) -> Fitted:
    """An image file brought to the size of tokens that were made from it, by the steps that their file records.

    Raises:
        InputError: where that does not lead to the tokens' size.
    """
    spec, steps = tokens.plan.spec, tokens.metadata.get("preprocess", {})
    fit, divisor = steps.get("fit", "crop"), steps.get("draft", 1)
    if divisor not in (1, *DRAFT_DIVISORS):
        raise InputError(f"{path}: the tokens record draft {divisor!r}: expected 1, 2, 4 or 8")
    file = read_image(
        path,
        background=steps.get("background", "white"),
        exif=steps.get("exif", True),
        draft=lambda height, width: divisor,
    )
    if steps.get("image_size") == "native":
        fitted = fit_native(file.image, spec.max_patch, fit)
    else:
        fitted = fit_image(file.image, spec.height, spec.width, fit, file.draft)
    height, width = fitted.pixels.shape[1:]
    if (height, width) != (spec.height, spec.width):
        raise InputError(f"{path}: becomes {height}×{width}, the tokens are of {spec.height}×{spec.width} pixels")
    return fitted


def other_photograph(path: Path, tokens: Tokens) -> str:
    """A sentence where tokens record that they were made from another file than this; empty where they do not."""
    source = tokens.metadata.get("source")
    if not isinstance(source, dict):
        return ""
    recorded = source.get("sha256")
    if not isinstance(recorded, str) or recorded == hashlib.sha256(read_bytes(path)).hexdigest():
        return ""
    return f"{path}: is another file than the tokens were made from ({source.get('name')}, sha256 {recorded[:12]}…)"
