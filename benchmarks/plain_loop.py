"""A folder of images to files of tokens, as docs/reference.md describes the reference, without a thought of speed.

    find jpegs -name '*.jpg' -print0 | python benchmarks/plain_loop.py --scorer feature -o tokens

One image after another, and for each the reference's operations in order, each waiting for the last: preprocess, score
every patch, make every patch of every scale, choose with a heap and a dictionary, take the chosen ones, `torch.save`.
Of quadtok only the bundled network is used. `folder.py` times it.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

SIZE, MIN_PATCH, SCALES, NUM_TOKENS = 256, 16, 3, 100  # the paper's, and quadtok's defaults
CROP_FRACTION = 0.875
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

Patch = tuple[int, int, int]  # (scale, row, col) in the grid of that scale
Score = Callable[[Tensor, Path], list[Tensor]]  # an image and its path to maps [h, w]: first scale 1, then scale 2


@torch.no_grad()
def tokenize(path: Path, score: Score) -> Tensor:
    """`[N, 3·p·p + 3]`: a row a token, its pixels, then x and y of its centre in finest patches, then its scale."""
    image = preprocess(path)
    saliency = as_dictionary(score(image, path))
    patches, number = all_patches(image)
    chosen = choose(saliency)
    return patches[[number[patch] for patch in chosen]]


def preprocess(path: Path) -> Tensor:
    """`[1, 3, 256, 256]`: the short side to 256 / 0.875, then the centre, normalised with ImageNet's mean and std."""
    image = Image.open(path).convert("RGB")
    short = int(SIZE / CROP_FRACTION)
    across, down = (max(short, int(short * side / min(image.size))) for side in image.size)
    left, top = round((across - SIZE) / 2), round((down - SIZE) / 2)
    resized = image.resize((across, down), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized.crop((left, top, left + SIZE, top + SIZE))))
    return ((pixels.permute(2, 0, 1).float() / 255 - MEAN) / STD)[None]


def resize(images: Tensor, side: int) -> Tensor:
    """Bilinear, no antialiasing."""
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def blurred(image: Tensor, scale: int) -> Tensor:
    """The image at the resolution of the tokens of a scale, at its own size."""
    return resize(resize(image, SIZE >> scale), SIZE)


def pooled(errors: Tensor, scale: int) -> Tensor:
    """`[1, h, w]` → the mean over each patch of a scale, `[rows, cols]`."""
    return F.avg_pool2d(errors, errors.shape[-1] // grid(scale))[0]


def grid(scale: int) -> int:
    """How many patches of a scale lie side by side."""
    return SIZE // (MIN_PATCH << scale)


def blur(image: Tensor, path: Path) -> list[Tensor]:
    """How much the pixels lose."""
    errors = [(blurred(image, scale) - image).square().mean(dim=1) for scale in range(1, SCALES)]
    return [(pooled(error, scale) * (MIN_PATCH << scale)).sqrt() for scale, error in enumerate(errors, start=1)]


def feature(image: Tensor, path: Path, net: nn.Module) -> list[Tensor]:
    """How much the features lose."""
    sharp = net(image)
    errors = [(net(blurred(image, scale)) - sharp).square().mean(dim=1) for scale in range(1, SCALES)]
    return [pooled(error, scale) for scale, error in enumerate(errors, start=1)]


def random(image: Tensor, path: Path) -> list[Tensor]:
    """Any numbers."""
    return [torch.rand(grid(scale), grid(scale)) for scale in range(1, SCALES)]


def precomputed(image: Tensor, path: Path, maps: Path) -> list[Tensor]:
    """What a file says: one map `[h, w]` for all scales."""
    importance = torch.load(maps / f"{path.stem}.pt", weights_only=True)
    return [pooled(importance[None], scale) for scale in range(1, SCALES)]


def make_score(name: str, maps: Path) -> Score:
    """The scorer of that name."""
    if name == "feature":
        from quadtok.scorers.feature.weights import load_trunk

        return partial(feature, net=load_trunk("bundled", None).net.eval())
    return {"blur": blur, "random": random, "precomputed": partial(precomputed, maps=maps)}[name]


def as_dictionary(maps: list[Tensor]) -> dict[Patch, float]:
    """The saliency of every patch that can be split."""
    return {
        (scale, row, col): value
        for scale, rows in enumerate(maps, start=1)
        for row, values in enumerate(rows.tolist())
        for col, value in enumerate(values)
    }


def choose(saliency: dict[Patch, float]) -> list[Patch]:
    """Split the patch of the highest saliency until there are enough."""
    side = grid(SCALES - 1)
    finest, heap = [], []
    for row in range(side):
        for col in range(side):
            root = (SCALES - 1, row, col)
            heapq.heappush(heap, (-saliency[root], root))
    while len(finest) + len(heap) < NUM_TOKENS:
        for child in quadrants(heapq.heappop(heap)[1]):
            if child in saliency:
                heapq.heappush(heap, (-saliency[child], child))
            else:
                finest.append(child)
    return finest + [patch for _, patch in heap]


def quadrants(patch: Patch) -> list[Patch]:
    """The four patches that take a patch's place."""
    scale, row, col = patch
    return [(scale - 1, 2 * row + down, 2 * col + right) for down in (0, 1) for right in (0, 1)]


def all_patches(image: Tensor) -> tuple[Tensor, dict[Patch, int]]:
    """Every patch of every scale as a row, and the number of each patch's row."""
    rows, number = [], {}
    for scale in range(SCALES):
        small = resize(image, SIZE >> scale) if scale else image
        pixels = F.unfold(small, MIN_PATCH, stride=MIN_PATCH)[0].T  # [n, 3·p·p], channel first, then row, then column
        places = [(row, col) for row in range(grid(scale)) for col in range(grid(scale))]
        number |= {(scale, *place): len(number) + index for index, place in enumerate(places)}
        centres = [[(col + 0.5) * 2**scale, (row + 0.5) * 2**scale, scale] for row, col in places]
        rows.append(torch.cat([pixels, torch.tensor(centres)], dim=1))
    return torch.cat(rows), number


def main() -> None:
    """Paths from stdin, each behind a NUL; a line on stdout for each that is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", choices=["blur", "feature", "random", "precomputed"], required=True)
    parser.add_argument("--maps", type=Path, metavar="DIR", help="for precomputed: a map NAME.pt for each image")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    score = make_score(arguments.scorer, arguments.maps)
    for path in [Path(name) for name in sys.stdin.read().split("\0") if name]:
        torch.save(tokenize(path, score), arguments.output / f"{path.stem}.pt")
        print(path, flush=True)


if __name__ == "__main__":
    main()
