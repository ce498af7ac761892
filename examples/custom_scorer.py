"""A scorer of one's own: patches with more edges are split first.

`python examples/custom_scorer.py PHOTO PICTURE` draws what it chooses. The command line takes it, with its option:
`cd examples && quadtok tokenize ../sample_images -o tokens --scorer custom_scorer:EdgeScorer --scorer-option power=2`.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok import Spec, read_image, render, tokenize
from quadtok.images.fit import fit_image


class EdgeScorer:
    """The mean step between neighbouring gray values of a patch, times its side to a power.

    Args:
        power: how much larger patches gain; 0 compares the means alone.
    """

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Images `[B, C, H, W]`, bytes or floats → one `[B, H/P, W/P]` a patch size P, the finest first."""
        gray = images.float().mean(dim=1, keepdim=True)
        across = F.pad(gray.diff(dim=3).abs(), (0, 1))
        down = F.pad(gray.diff(dim=2).abs(), (0, 0, 0, 1))
        edges = across + down  # [B, 1, H, W]
        sizes = [spec.patch_size(scale) for scale in range(1, spec.num_scales)]  # the finest of all is never split
        return [F.avg_pool2d(edges, size)[:, 0] * size**self.power for size in sizes]

    def describe(self) -> dict[str, Any]:
        """What a token file records of the scorer."""
        return {"name": "edges", "power": self.power}


def main(photograph: str, picture: str) -> None:
    """Choose 100 patches of a photograph and draw them."""
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)
    image = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels
    tokens = tokenize(torch.stack([image]), spec, EdgeScorer())
    render(image, tokens.plan).save(picture)
    print(f"{tokens.plan}\n{picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
