"""How an image file becomes an image of a size: decoded, fitted, and with the spec that fits it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quadtok.colors import check_color
from quadtok.errors import InputError, about
from quadtok.geometry import Geometry
from quadtok.images import (
    CROP_FRACTION,
    DraftRule,
    Fitted,
    decode_image,
    draft_for,
    fit_image,
    fit_native,
    pixels_of,
)
from quadtok.names import DEFAULT_BACKGROUND, MAX_PIXELS
from quadtok.spec import Spec


@dataclass(frozen=True)
class Photo:
    """An image file brought to size; the decoded image itself is gone.

    Attributes:
        fitted: the pixels, and which part of the image they are.
        spec: that fits them.
        file: what is recorded of the file, as JSON values.
        draft: 1, 2, 4 or 8: the part of its size that it was decoded at.
        notes: what a careful user may want to know of it.
        left_out: how many further frames, pages and previews it holds.
        extra: what its scorer wants to know of it.
        fingerprint: of all that depends on it.
    """

    fitted: Fitted
    spec: Spec
    file: dict[str, Any]
    draft: int
    notes: list[str]
    left_out: int
    extra: Any = None
    fingerprint: str = ""


@dataclass(frozen=True)
class Preprocess:
    """How image files are read.

    Attributes:
        geometry: what the images are brought to.
        max_pixels: refuse larger ones.
        background: colour behind transparency.
        exif: apply the EXIF orientation.
        draft: decode JPEGs that are far larger than a fixed size at a fraction of theirs. Native sizes need all of it.

    Raises:
        InputError: where that is no colour, or no image has so few pixels.
    """

    geometry: Geometry
    max_pixels: int = MAX_PIXELS
    background: str = DEFAULT_BACKGROUND
    exif: bool = True
    draft: bool = True

    def __post_init__(self) -> None:
        check_color(self.background)
        if self.max_pixels < 1:
            raise InputError(f"max_pixels must be at least 1, got {self.max_pixels}")

    @property
    def _draft(self) -> DraftRule | None:
        size = self.geometry.size
        return draft_for(*size, self.geometry.fit) if size and self.draft else None

    def pixels(self, data: bytes) -> int:
        """How many pixels of an image file `decode` would decode, by its header; 0 where that cannot be read."""
        return pixels_of(data, self._draft)

    def decode(self, data: bytes, path: Path) -> Photo:
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
            draft=self._draft,
        )
        if size:
            fitted = fit_image(file.image, *size, fit, file.draft)
        else:
            fitted = fit_native(file.image, self.geometry.max_patch, fit)
        with about(path):
            spec = self.geometry.spec(*fitted.pixels.shape[1:])
        return Photo(fitted, spec, file.describe(), file.draft.divisor if file.draft else 1, file.notes, file.left_out)

    def describe(self) -> dict[str, Any]:
        """What the result depends on, as JSON values."""
        draft = self.draft and self.geometry.size is not None
        return {**self.geometry.describe(), "background": self.background, "exif": self.exif, "draft": draft}

    def record(self, photo: Photo) -> dict[str, Any]:
        """The steps that a photo went through, as `read_like` reads them."""
        cropped = self.geometry.size and self.geometry.fit == "crop"
        return {
            "image_size": self.geometry.describe()["image_size"],
            "fit": self.geometry.fit,
            "crop_fraction": CROP_FRACTION if cropped else None,
            "resample": "bilinear",
            "background": self.background,
            "exif": self.exif,
            "draft": photo.draft,
            "crop_box": list(photo.fitted.crop_box),
        }
