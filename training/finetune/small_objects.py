"""Pictures for proof 2: one of twelve small creatures somewhere on a large, busy ground, and where it is.

Creatures and grounds are those of training/bundled's scenes. A creature is always the same drawing, mirrored, turned,
stretched and lit anew in each picture; no ground is there twice. A picture is a function of the part and its number.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "bundled"))  # where the generator is; its folder is no package

from backgrounds import BACKGROUNDS
from materials import Materials
from objects import drawn, turned

SIDE, CELL = 256, 16
GROUNDS = ("strokes", "pieces", "boards", "real", "rooms", "landscape")
CREATURES = (0, 1, 2, 3, 4, 6, 8, 10, 11, 13, 14, 15)  # looked at: twelve that are whole and differ
OBJECT_SIDE = (44, 68)  # the longer side in pixels
PARTS = {"train": 1000, "val": 100}  # pictures of each creature
SEED = 7


@dataclass(frozen=True)
class Scene:
    """One picture.

    Attributes:
        pixels: uint8 `[256, 256, 3]`.
        cells: float32 `[16, 16]`: how much of each cell of 16 pixels the creature covers.
    """

    pixels: np.ndarray
    cells: np.ndarray


def creatures(materials: Materials) -> list[np.ndarray]:
    """Each cut to what is opaque, `[h, w, 4]` float32 from 0 to 1."""
    return [_cut(drawn(np.random.default_rng([SEED, number]), materials)) for number in CREATURES]


def scene(creature: np.ndarray, materials: Materials, *numbers: int) -> Scene:
    """The picture of these numbers with this creature in it."""
    rng = np.random.default_rng(numbers)
    ground = np.clip(BACKGROUNDS[rng.choice(GROUNDS)](rng, materials, SIDE), 0, 1).astype(np.float32)
    shape = _sized(turned(rng, creature), rng.uniform(*OBJECT_SIDE))
    height, width = shape.shape[:2]
    top, left = rng.integers(0, SIDE - height + 1), rng.integers(0, SIDE - width + 1)
    place = np.s_[top : top + height, left : left + width]
    light, opacity = rng.uniform(0.75, 1.15), shape[..., 3:]
    ground[place] += (np.clip(shape[..., :3] * light, 0, 1) - ground[place]) * opacity
    covered = np.zeros((SIDE, SIDE), np.float32)
    covered[place] = opacity[..., 0]
    cells = covered.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean(axis=(1, 3))
    return Scene((ground * 255).round().astype(np.uint8), cells)


def write(folder: Path, processes: int = 2) -> None:
    """FOLDER/photographs/PART/creature-NN/NNNN.jpg, and of the same names FOLDER/masks and FOLDER/random, as `.npy`."""
    done = folder / "written"
    if done.exists():
        return
    tasks = [(folder, part, kind) for part in PARTS for kind in range(len(CREATURES))]
    with get_context("spawn").Pool(processes) as pool:
        for _ in pool.imap_unordered(_write_one, tasks):
            pass
    done.touch()


def _write_one(task: tuple[Path, str, int]) -> None:
    folder, part, kind = task
    materials = Materials.from_noise(SEED)
    creature = creatures(materials)[kind]
    for number, name in enumerate(_names(part, kind)):
        made = scene(creature, materials, SEED, list(PARTS).index(part), kind, number)
        maps = {"masks": made.cells, "random": np.random.default_rng([SEED, kind, number]).random(made.cells.shape)}
        for where, values in maps.items():
            path = folder / where / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values.astype(np.float32))
        path = folder / "photographs" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made.pixels).save(path, quality=92, subsampling=0)


def _names(part: str, kind: int) -> Iterator[str]:
    return (f"{part}/creature-{kind:02d}/{number:04d}" for number in range(PARTS[part]))


def _cut(picture: np.ndarray) -> np.ndarray:
    rows, cols = (np.flatnonzero((picture[..., 3] > 0.1).any(axis=axis)) for axis in (1, 0))
    return picture[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _sized(picture: np.ndarray, longer: float) -> np.ndarray:
    """Shrunk, with colours weighted by opacity, so that what is transparent does not bleed in."""
    scale = longer / max(picture.shape[:2])
    size = [max(4, round(side * scale)) for side in picture.shape[1::-1]]
    weighted = np.concatenate([picture[..., :3] * picture[..., 3:], picture[..., 3:]], axis=2).astype(np.float32)
    bands = [np.asarray(Image.fromarray(weighted[..., band]).resize(size, Image.Resampling.BOX)) for band in range(4)]
    shrunk = np.stack(bands, axis=2)
    return np.concatenate([shrunk[..., :3] / np.maximum(shrunk[..., 3:], 1e-3), shrunk[..., 3:]], axis=2)
