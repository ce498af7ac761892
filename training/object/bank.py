"""The training pictures as arrays, in two parts that share no photograph, place or thing.

`Bank.of(folder)` reads what `pictures.py` fetched. Every tenth is held out: nothing is learned from it, and agreement
with the teacher is measured on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pictures import Picture, listed

PHOTOGRAPH_SIDE, CUTOUT_SIDE = 800, 320  # the longer side at which they are kept
LEAST_SIDE, LEAST_SPREAD = 120, 14  # of a photograph, in pixels and in grey levels
HELD_OUT = 10  # one in so many
# Places of which several photographs are in the list, by what their names have in common.
PLACES = ("neuschwanstein", "tajmahal", "eiffel", "chenonceau", "pyramid", "opera", "christ", "rushmore", "liberty")
PLACES += ("greatwall", "utubminar", "victoria", "gateway", "indiagate")


@dataclass(frozen=True)
class Bank:
    """Pictures in memory.

    Attributes:
        photographs: `[h, w, 3]` uint8 each.
        real: photographed things, `[h, w, 4]` uint8 each; the last channel is the opacity.
        drawn: drawings of things, the same.
    """

    photographs: list[np.ndarray]
    real: list[np.ndarray]
    drawn: list[np.ndarray]

    @classmethod
    def of(cls, folder: Path, held_out: bool = False, strict: bool = False) -> Bank:
        """One of the two parts of what was fetched to the folder; `strict`: of the strict list alone."""
        chosen = [picture for picture in listed(strict) if is_held_out(picture) == held_out]
        kinds = {kind: [one for one in chosen if one.kind == kind] for kind in ("photograph", "cut-out")}
        drawings = [one for one in kinds["cut-out"] if is_drawn(one)]
        real = [one for one in kinds["cut-out"] if not is_drawn(one)]
        photographs = [photograph(one.file(folder)) for one in kinds["photograph"]]
        return cls(_some(photographs), _cutouts(real, folder), _cutouts(drawings, folder))

    def without_photographs(self) -> Bank:
        """Drawings alone: for the ablation."""
        return replace(self, photographs=[], real=[])


def is_held_out(picture: Picture) -> bool:
    """By what it shows: a place is on one side, however often it was photographed."""
    number = int(hashlib.sha256(subject(picture).encode()).hexdigest(), 16)
    return number % HELD_OUT == 0


def subject(picture: Picture) -> str:
    """The same for photographs of one place; else the file's own name and folder."""
    stem = Path(picture.path).stem.lower()
    return next((place for place in PLACES if place in stem), picture.path)


def is_drawn(picture: Picture) -> bool:
    """Is this cut-out a drawing, and no photograph?"""
    return picture.package == "openclipart-png" or "cartoon" in picture.path


def photograph(path: Path) -> np.ndarray | None:
    """`[h, w, 3]`, or None where it is too small or shows nothing."""
    pixels = np.asarray(_opened(path, PHOTOGRAPH_SIDE))
    white = np.full_like(pixels[..., :3], 255)
    opacity = pixels[..., 3:].astype(np.float32) / 255
    flat = np.round(white + (pixels[..., :3].astype(np.float32) - white) * opacity).astype(np.uint8)
    return flat if min(flat.shape[:2]) >= LEAST_SIDE and flat.std() >= LEAST_SPREAD else None


def cutout(path: Path) -> np.ndarray | None:
    """`[h, w, 4]`, cut to what is opaque, or None where nothing is."""
    picture = _opened(path, CUTOUT_SIDE)
    box = picture.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
    return np.asarray(picture.crop(box)) if box else None


def _cutouts(pictures: Sequence[Picture], folder: Path) -> list[np.ndarray]:
    return _some([cutout(picture.file(folder)) for picture in pictures])


def _some(arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    return [array for array in arrays if array is not None]


def _opened(path: Path, side: int) -> Image.Image:
    with Image.open(path) as picture:
        whole = picture.convert("RGBA")
    whole.thumbnail((side, side), Image.Resampling.LANCZOS)
    return whole
