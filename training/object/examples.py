"""Training images of 256 × 256 pixels, made beforehand, with the truth about pasted things.

`python examples.py FOLDER --bank BANK` writes `training/` and `held-out/`, each `pixels.npy` `[M, 256, 256, 3]`,
`cells.npy` `[M, 16, 16]` (the share of pasted things, 255 = 1) and `kinds.npy` `[M]`. An example is a function of
(kind, part, seed, number).

Photographs show mostly one thing in the middle. So that the net also meets things that are small, several and off the
middle, crops go wherever they fit, collages show two to four photographs beside each other, and things are pasted
before others' surfaces by the camera of training/bundled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

import bundled  # noqa: F401  # finds what scenes are made of
from bank import Bank
from materials import Materials, power_law
from scenes import CELL, SIDE, TRAINING, scene

Example = tuple[np.ndarray, np.ndarray]  # pixels [256, 256, 3] and cells [16, 16], both uint8
CHUNK = 100  # examples a task
# How many of each kind, for training and held out.
COUNTS = {"crop": (6000, 240), "collage": (1600, 60), "paste": (4200, 100), "scene": (1800, 0), "noise": (400, 0)}
PASTED = replace(
    TRAINING,
    backgrounds=("photograph",) * 6 + ("real", "real", "landscape", "cloudy", "strokes", "rooms"),
    num_objects=(1, 4),
    object_side=(0.2, 1.1),
    drawn_share=0.05,
    focus=0.3,
    noise=0.04,
)
NOTHING = np.zeros((SIDE // CELL, SIDE // CELL), np.uint8)


@dataclass(frozen=True)
class Source:
    """Where examples come from: the pictures, and the same as materials of scenes."""

    bank: Bank
    materials: Materials

    @classmethod
    def of(cls, bank: Bank, seed: int) -> Source:
        """Photographed things three times as likely as a drawing each."""
        return cls(
            bank, replace(Materials.from_noise(seed), textures=bank.photographs, cutouts=bank.real * 3 + bank.drawn)
        )


def crop(rng: Generator, source: Source) -> Example:
    """A photograph, from all of it down to a half of its shorter side, through a camera of its own."""
    return _developed(rng, _cut(rng, source.bank, SIDE, SIDE)), NOTHING


def collage(rng: Generator, source: Source) -> Example:
    """Two or four photographs beside each other."""
    down, across = [(1, 2), (2, 1), (2, 2), (2, 2)][rng.integers(4)]
    tops = [0, *(round(SIDE * rng.uniform(0.35, 0.65)) for _ in range(down - 1)), SIDE]
    lefts = [0, *(round(SIDE * rng.uniform(0.35, 0.65)) for _ in range(across - 1)), SIDE]
    canvas = np.empty((SIDE, SIDE, 3), np.float32)
    for top, bottom in zip(tops, tops[1:], strict=False):
        for left, right in zip(lefts, lefts[1:], strict=False):
            canvas[top:bottom, left:right] = _cut(rng, source.bank, bottom - top, right - left)
    return _developed(rng, canvas), NOTHING


def paste(rng: Generator, source: Source) -> Example:
    """Things before crops of photographs, of landscapes and rooms, all made up."""
    return scene(PASTED, source.materials, int(rng.integers(2**31)), 0)


def made_up(rng: Generator, source: Source) -> Example:
    """A scene as the bundled weights were trained on."""
    return scene(TRAINING, source.materials, int(rng.integers(2**31)), 0)


def noise(rng: Generator, source: Source) -> Example:
    """Nothing but noise of one kind on one colour: no place is worth more than another."""
    slope = rng.choice([0.0, 0.0, rng.uniform(0, 1)])
    channels = (
        [power_law(rng, SIDE, slope) for _ in range(3)] if rng.random() < 0.7 else [power_law(rng, SIDE, slope)] * 3
    )
    sigma = np.exp(rng.uniform(np.log(0.01), np.log(0.25)))
    return _bytes(rng.uniform(0.2, 0.8, 3) + sigma * np.stack(channels, axis=2)), NOTHING


MAKERS: dict[str, Callable[[Generator, Source], Example]] = {
    "crop": crop,
    "collage": collage,
    "paste": paste,
    "scene": made_up,
    "noise": noise,
}


def _cut(rng: Generator, bank: Bank, height: int, width: int) -> np.ndarray:
    """`[height, width, 3]` in 0 … 1: some of a photograph, stretched a little."""
    picture = bank.photographs[rng.integers(len(bank.photographs))]
    rows, cols = picture.shape[:2]
    scale = min(rows / height, cols / width) * min(1.0, np.exp(rng.uniform(np.log(0.45), 0.1)))
    stretch = np.exp(rng.uniform(-0.15, 0.15, 2))
    taken = [
        min(limit, side * scale * s) for limit, side, s in zip((rows, cols), (height, width), stretch, strict=True)
    ]
    top, left = (rng.uniform(0, limit - part) for limit, part in zip((rows, cols), taken, strict=True))
    box = (left, top, left + taken[1], top + taken[0])
    small = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)
    cut = np.asarray(small, dtype=np.float32) / 255
    return cut[:, ::-1] if rng.random() < 0.5 else cut


def _developed(rng: Generator, picture: np.ndarray) -> np.ndarray:
    """Exposure, colour, grey now and then; noise and compression come during training."""
    if rng.random() < 0.4:
        picture = np.clip(picture, 0, 1) ** np.exp(rng.normal(0, 0.25)) * rng.uniform(0.85, 1.15)
        picture = picture + rng.normal(0, 0.02, 3)
    if rng.random() < 0.1:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    return _bytes(picture)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Task:
    """Some examples of one kind.

    Attributes:
        folder: of the bank.
        held_out: from which part of it.
        strict: of the strict list alone.
        kind: one of `MAKERS`.
        seed, count: which, and how many.
    """

    folder: Path
    held_out: bool
    strict: bool
    kind: str
    seed: int
    count: int


@cache
def _source(folder: Path, held_out: bool, strict: bool) -> Source:
    return Source.of(Bank.of(folder, held_out, strict), seed=int(held_out))


def make(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[M, 256, 256, 3]` and cells `[M, 16, 16]` of a task."""
    source = _source(task.folder, task.held_out, task.strict)
    kind = list(MAKERS).index(task.kind)
    examples = []
    for number in range(task.count):
        rng = np.random.default_rng([kind, int(task.held_out), task.seed, number])
        examples.append(MAKERS[task.kind](rng, source))
    pixels, cells = zip(*examples, strict=True)
    return np.stack(pixels), np.stack(cells)


def tasks(folder: Path, held_out: bool, strict: bool, share: float) -> list[Task]:
    """What is to be made, in parts of `CHUNK`."""
    parts = []
    for kind, counts in COUNTS.items():
        count = round(counts[held_out] * share)
        sizes = [CHUNK] * (count // CHUNK) + [count % CHUNK] * (count % CHUNK > 0)
        parts += [Task(folder, held_out, strict, kind, seed, size) for seed, size in enumerate(sizes)]
    return parts


def write(out: Path, parts: list[Task], processes: int) -> None:
    """Make and write them; `kinds` are places in `MAKERS`."""
    out.mkdir(parents=True, exist_ok=True)
    count = sum(part.count for part in parts)
    pixels = np.lib.format.open_memmap(out / "pixels.npy", "w+", np.uint8, (count, SIDE, SIDE, 3))
    cells, kinds, begin = np.empty((count, *NOTHING.shape), np.uint8), np.empty(count, np.uint8), 0
    with ProcessPoolExecutor(processes) as pool:
        for part, (some, truth) in zip(parts, pool.map(make, parts), strict=True):
            end = begin + part.count
            pixels[begin:end], cells[begin:end], kinds[begin:end] = some, truth, list(MAKERS).index(part.kind)
            begin = end
    pixels.flush()
    save(out / "cells.npy", cells)
    save(out / "kinds.npy", kinds)


def save(path: Path, array: np.ndarray) -> None:
    """Whole or not at all: a file that is there is not made again."""
    with path.with_suffix(".new").open("wb") as file:
        np.save(file, array)
    path.with_suffix(".new").replace(path)


def main() -> None:
    """Write both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--bank", type=Path, required=True, help="from pictures.py")
    parser.add_argument("--strict", action="store_true", help="public domain, CC0 and CC-BY alone")
    parser.add_argument("--share", type=float, default=1.0, help="of the examples, for a smaller run")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    for name, held_out in (("held-out", True), ("training", False)):
        write(options.out / name, tasks(options.bank, held_out, options.strict, options.share), options.processes)


if __name__ == "__main__":
    main()
