"""What a token file says of its making, read without belief: its metadata is anybody's JSON.

Every entry may be missing, or be something else than `quadtok tokenize` writes there. Then it counts as not recorded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from quadtok.colors import check_color
from quadtok.errors import InputError
from quadtok.images import DRAFT_DIVISORS
from quadtok.names import DEFAULT_BACKGROUND, DEFAULT_FIT, DEFAULT_NATIVE_FIT, FitName


@dataclass(frozen=True)
class Record:
    """What is recorded, and what is not as the default that a reader should take.

    Attributes:
        scorer: its name; empty where there is none.
        scorer_options: what else is said of it.
        tokens_requested: as it was typed; may be empty.
        threshold: that decided what was split, or None.
        dtype: of the stored pixels; may be empty.
        made_by: versions, by the package; may be empty texts.
        source_name: of the image file; may be empty.
        source_format: likewise.
        source_size: (width, height) in pixels, or None.
        source_sha256: 64 digits, or empty.
        native: whether the image kept its own size.
        fit: how it was brought to the tokens' size.
        background: colour behind transparency.
        exif: whether the EXIF orientation was applied.
        draft: 1, 2, 4 or 8: the part of its size that a JPEG was decoded at.
        crop_box: (left, top, right, bottom) in the image, in its pixels, or None.
        fingerprint: of all that the file depends on; may be empty.
    """

    scorer: str
    scorer_options: dict[str, Any]
    tokens_requested: str
    threshold: float | None
    dtype: str
    made_by: dict[str, str]
    source_name: str
    source_format: str
    source_size: tuple[int, int] | None
    source_sha256: str
    native: bool
    fit: FitName
    background: str
    exif: bool
    draft: int
    crop_box: tuple[float, float, float, float] | None
    fingerprint: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Record:
        """The record in `Tokens.metadata`."""
        scorer, source, steps = (_entries(metadata.get(name)) for name in ("scorer", "source", "preprocess"))
        native = steps.get("image_size") == "native"
        exif, draft = steps.get("exif"), steps.get("draft")
        sha256 = _text(source.get("sha256"))
        return cls(
            scorer=_text(scorer.get("name")),
            scorer_options={key: value for key, value in scorer.items() if key != "name"},
            tokens_requested=_text(metadata.get("tokens_requested")),
            threshold=_number(metadata.get("threshold")),
            dtype=_text(metadata.get("dtype")),
            made_by={package: _text(metadata.get(package)) for package in ("quadtok", "torch")},
            source_name=_text(source.get("name")),
            source_format=_text(source.get("format")),
            source_size=_size(source.get("size")),
            source_sha256=sha256 if re.fullmatch("[0-9a-f]{64}", sha256) else "",
            native=native,
            fit=_fit(steps.get("fit"), native),
            background=_color(steps.get("background")),
            exif=exif if isinstance(exif, bool) else True,
            draft=draft if type(draft) is int and draft in DRAFT_DIVISORS else 1,
            crop_box=_box(steps.get("crop_box")),
            fingerprint=_text(metadata.get("fingerprint")),
        )


def _entries(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if type(value) is not float and type(value) is not int:
        return None
    number = float(value) if abs(value) < 1e308 else math.inf
    return number if math.isfinite(number) else None


def _fit(value: object, native: bool) -> FitName:
    for name in get_args(FitName):
        if value == name:
            return name
    return DEFAULT_NATIVE_FIT if native else DEFAULT_FIT  # what `tokenize` does unless told otherwise


def _size(value: object) -> tuple[int, int] | None:
    if isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value):
        return value[0], value[1]
    return None


def _box(value: object) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4 or not all(type(side) in (int, float) for side in value):
        return None
    try:
        left, top, right, bottom = map(float, value)
    except OverflowError:  # an integer of a thousand digits
        return None
    return (left, top, right, bottom) if all(map(math.isfinite, (left, top, right, bottom))) else None


def _color(value: object) -> str:
    try:
        return check_color(value) if isinstance(value, str) else DEFAULT_BACKGROUND
    except InputError:
        return DEFAULT_BACKGROUND
