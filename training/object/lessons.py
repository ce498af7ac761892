"""What a step of training shows: examples in two views, each through a camera of its own, and what they teach.

A step has 16 examples, each once as it is and once mirrored; some are rolled round before. Which, and how they look,
depends on the seed and the step's number alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from examples import MAKERS
from quadtok.pixels import normalize
from teacher import SCALES, SPEC, apart, joined, mirrored, shares

EXAMPLES = 16  # of a step
SHARPENED = 2.0  # power of the classifier's shares: those of things are as uneven, and both weigh alike in the mean
ROLLED = 0.3  # of the examples
SIDES = [SPEC.patch_size(k) for k in SCALES]  # of the nodes


class Lessons:
    """Examples with what is to be learned of them."""

    def __init__(self, folder: Path, without: tuple[str, ...] = ()) -> None:
        names = ("pixels", "kinds", "classes", "things", "truth")
        self.pixels, kinds, self.classes, self.things, truth = (
            np.load(folder / f"{name}.npy", mmap_mode="r" if name == "pixels" else None) for name in names
        )
        self.classes = shares(torch.from_numpy(self.classes) ** SHARPENED).numpy()
        if "truth" not in without:
            known = truth.sum(1) > 0
            self.things = np.where(known[:, None], truth, self.things)
        left_out = [list(MAKERS).index(kind) for kind in ("crop", "collage") if "photographs" in without]
        self.places = np.flatnonzero(~np.isin(kinds, left_out))

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images `[2·B, 3, 256, 256]`, as they are and then mirrored, and two targets `[2·B, 80]`."""
        rng = np.random.default_rng([seed, step])
        chosen = self._chosen(step, seed)
        turns = [rolling(rng) for _ in chosen]
        pixels = [np.roll(self.pixels[row], turn, (0, 1)) for row, turn in zip(chosen, turns, strict=True)]
        views = [varied(rng, image) for image in pixels] + [varied(rng, image[:, ::-1]) for image in pixels]
        images = normalize(torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous())
        targets = [rolled(torch.from_numpy(wanted[chosen]), turns) for wanted in (self.classes, self.things)]
        classes, things = (torch.cat([wanted, mirrored(wanted)]) for wanted in targets)
        return images, classes, things

    def _chosen(self, step: int, seed: int) -> np.ndarray:
        """Every example once before any comes again."""
        an_epoch = len(self.places) // EXAMPLES or 1
        epoch, number = divmod(step, an_epoch)
        order = np.random.default_rng([seed, epoch, 1]).permutation(self.places)
        return order[number * EXAMPLES : (number + 1) * EXAMPLES]


def rolling(rng: Generator) -> tuple[int, int]:
    """How far down and right an example is rolled round, in pixels: by whole root patches, most not at all.

    What is in the middle of a photograph comes to stand elsewhere, and is as much worth there: so the net does not
    learn that the middle is.
    """
    if rng.random() >= ROLLED:
        return 0, 0
    down, right = (int(SPEC.max_patch * rng.integers(side // SPEC.max_patch)) for side in (SPEC.height, SPEC.width))
    return down, right


def rolled(nodes: Tensor, turns: Sequence[tuple[int, int]]) -> Tensor:
    """`[B, 80]`: what is to be learned of each example where it is rolled round."""
    examples = []
    for one, turn in zip(nodes.split(1), turns, strict=True):
        grids = zip(SIDES, apart(one), strict=True)
        examples.append(joined([grid.roll([pixels // side for pixels in turn], (1, 2)) for side, grid in grids]))
    return torch.cat(examples)


def varied(rng: Generator, pixels: np.ndarray) -> np.ndarray:
    """The same view `[h, w, 3]` uint8 through another camera."""
    picture = pixels.astype(np.float32) / 255
    picture = picture * (rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)) + rng.normal(0, 0.03)
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.random() * 0.05, picture.shape)
    shown = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        file = io.BytesIO()
        Image.fromarray(shown).save(file, "JPEG", quality=int(rng.integers(50, 96)))
        shown = np.asarray(Image.open(file))
    return shown
