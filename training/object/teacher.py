"""What the net is to learn of each example: EfficientNet-Lite0's opinion, the bundled net's, and the truth.

`python teacher.py FOLDER` reads `pixels.npy` and `cells.npy` that examples.py wrote, and writes three arrays `[M, 80]`
of shares: of all 64 nodes of 32 pixels and the 16 of 64, in raster order, how much each deserves to be split.

- `classes.npy`: what a classifier of ImageNet looks at. The mean of two opinions of EfficientNet-Lite0: the class
  activation map of what it says (all classes, weighted by their probability), and how far its features move when a node
  is blurred, which is the paper's scorer. Both are asked of the image and of its mirror image.
- `things.npy`: where a thing is, guessed: the geometric mean of `classes` and of the bundled net's saliency.
- `truth.npy`: where something was pasted: its share of each node times the root of the detail lost there; zeros for
  examples without.

Everything is computed in bfloat16, which is three times as fast on the machine that the weights were made on.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples import MAKERS, save
from quadtok import Spec, get_scorer
from quadtok.pixels import normalize
from quadtok.scorers.base import pool_to_grid, resize
from quadtok.scorers.feature.lite0 import fold_lite0, lite0_state, lite0_trunk

SPEC = Spec(256, 256, 16, 64, 64)
SCALES = range(1, SPEC.num_scales)
NUM_NODES = sum(rows * cols for rows, cols in map(SPEC.grid, SCALES))
A_PASS = 6  # images that go through the teacher at once: more leave the cache
CHUNK = 120  # examples a task
LEAST_SHARE = 1e-5  # under a root, so that one opinion alone cannot forbid a node
LEAST_TRUTH = 2.0  # cells of pasted things, below which there is nothing to see
NAMES = ("classes", "things", "truth")


class Teacher:
    """Both networks, once a process."""

    def __init__(self) -> None:
        state = lite0_state()
        self.trunk = fold_lite0(lite0_trunk(state, "lite0")).bfloat16()
        self.weight, self.bias = state["_fc.weight"].float(), state["_fc.bias"].float()
        self.bundled = get_scorer("feature", precision="bfloat16")

    def classes(self, images: Tensor) -> Tensor:
        """`[B, 80]` for normalised images `[B, 3, 256, 256]`, the same for both views."""
        return shares(self._one_view(images) + mirrored(self._one_view(images.flip(-1))))

    def things(self, images: Tensor, classes: Tensor) -> Tensor:
        """`[B, 80]`, a guess."""
        bundled = shares(joined(self.bundled(images, SPEC)))
        return shares(((bundled + LEAST_SHARE) * (classes + LEAST_SHARE)).sqrt())

    def _one_view(self, images: Tensor) -> Tensor:
        sharp = self._features(images)
        moved = []
        for k in SCALES:
            small = resize(images, SPEC.height >> k, SPEC.width >> k)
            error = (self._features(resize(small, SPEC.height, SPEC.width)) - sharp).square().mean(1)
            moved.append(pool_to_grid(error, *SPEC.grid(k)))
        return shares(joined(moved)) + shares(joined(self._activation(sharp)))

    def _activation(self, features: Tensor) -> list[Tensor]:
        """The map of every class weighted by its probability, over the nodes."""
        odds = features.mean((2, 3)) @ self.weight.T + self.bias
        weights = odds.softmax(1) @ self.weight
        found = torch.einsum("bd,bdhw->bhw", weights, features).relu()
        fine = resize(found[:, None], *SPEC.grid(0))[:, 0]
        return [pool_to_grid(fine, *SPEC.grid(k)) for k in SCALES]

    def _features(self, images: Tensor) -> Tensor:
        seen = images.to(torch.bfloat16, memory_format=torch.channels_last)
        features: Tensor = self.trunk(seen)
        return features.float()


def joined(saliency: list[Tensor]) -> Tensor:
    """`[B, 80]`: all nodes, the finest scale first."""
    return torch.cat([scores.flatten(1) for scores in saliency], dim=1)


def apart(nodes: Tensor) -> list[Tensor]:
    """The inverse of `joined`."""
    grids = [SPEC.grid(k) for k in SCALES]
    parts = nodes.split([rows * cols for rows, cols in grids], dim=-1)
    return [part.unflatten(-1, grid) for part, grid in zip(parts, grids, strict=True)]


def mirrored(nodes: Tensor) -> Tensor:
    """`[..., 80]`: left and right exchanged."""
    return torch.cat([part.flip(-1).flatten(-2) for part in apart(nodes)], dim=-1)


def shares(nodes: Tensor) -> Tensor:
    """`[B, 80]` that add to one an image; alike where all are zero."""
    total = nodes.sum(1, keepdim=True)
    return torch.where(total > 0, nodes / total.clamp(min=1e-12), 1 / nodes.shape[1])


def truth(images: Tensor, cells: Tensor) -> Tensor:
    """`[B, 80]`: what a split brings things nearer to full resolution, times the root of the detail that is lost.

    For the same share of thing a split brings twice as much a scale up; the pixels' loss is that of the blur scorer,
    which grows by the root of 2 a scale on its own.
    """
    lost = get_scorer("blur")(images, SPEC)
    worth = joined([2 ** (0.75 * k) * pool_to_grid(cells, *SPEC.grid(k)) * lost[k - 1].sqrt() for k in SCALES])
    shown = (cells.sum((1, 2)) > LEAST_TRUTH) & (worth.sum(1) > 0)
    return shares(worth) * shown[:, None]


@torch.no_grad()
def taught(folder: Path, begin: int, end: int) -> list[np.ndarray]:
    """The three arrays of some examples, in the order of `NAMES`."""
    torch.set_num_threads(1)
    pixels, cells = (np.load(folder / f"{name}.npy", mmap_mode="r")[begin:end] for name in ("pixels", "cells"))
    kinds, teacher = np.load(folder / "kinds.npy")[begin:end], Teacher()
    images = normalize(torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2))
    classes = torch.cat([teacher.classes(part) for part in images.split(A_PASS)])
    classes[torch.from_numpy(kinds) == list(MAKERS).index("noise")] = 1 / NUM_NODES
    things = torch.cat([teacher.things(*part) for part in zip(images.split(CHUNK), classes.split(CHUNK), strict=True)])
    things[torch.from_numpy(kinds) == list(MAKERS).index("noise")] = 1 / NUM_NODES
    pasted = truth(images, torch.from_numpy(cells.astype(np.float32) / 255))
    return [array.numpy() for array in (classes, things, pasted)]


def teach(folder: Path, processes: int) -> None:
    """Write the arrays beside the examples."""
    count = len(np.load(folder / "kinds.npy"))
    begins = range(0, count, CHUNK)
    ends = [min(begin + CHUNK, count) for begin in begins]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(taught, [folder] * len(begins), begins, ends))
    for name, arrays in zip(NAMES, zip(*parts, strict=True), strict=True):
        save(folder / f"{name}.npy", np.concatenate(arrays))


def main() -> None:
    """Teach the examples of one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    teach(options.folder, options.processes)


if __name__ == "__main__":
    main()
