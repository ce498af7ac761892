"""What scorers are worth on scenes that training never saw: `python measure.py [--scenes 64] [--materials FILE]`.

The scenes are of the recipe HELD_OUT: other backgrounds and another seed, objects of the same generator; made from
noise alone, or with the cut-outs that were held out. The figures on
photographs (docs/bundled-weights.md) cannot be repeated from a clone.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from materials import Materials
from pool import make
from quadtok import Plan, Spec, get_quadtree, get_scorer
from quadtok.scorers import ScorerFunction

SEED = 1_000_003
SPEC = Spec(256, 256, 16, 64, 40)


def held_out(count: int, materials: Path | None = None) -> tuple[Tensor, Tensor]:
    """Images `[M, 3, 256, 256]` uint8 and the share of object in their cells, `[M, 16, 16]` in 0 … 1."""
    source = Materials.collected(materials, SEED, held_out=True) if materials else Materials.from_noise(SEED)
    scenes = make("held-out", source, SEED, count)
    images = torch.from_numpy(scenes["pixels"]).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(scenes["cells"]).float() / 255


def plan_of(saliency: list[Tensor]) -> Plan:
    """The 40 tokens that this saliency asks for."""
    return get_quadtree()(saliency, SPEC)


def finest_on_objects(plan: Plan, cells: Tensor) -> Tensor:
    """`[M]`: of the finest tokens, the share that touches an object."""
    row, col = plan.top // 16, plan.left // 16
    touches = torch.stack([cell[r, c] > 0 for cell, r, c in zip(cells, row, col, strict=True)])
    finest = plan.scale == 0
    return (touches & finest).sum(1) / finest.sum(1).clamp(min=1)


def budget_allows(cells: Tensor) -> Tensor:
    """`[M]`: whether all finest tokens touch an object where the truth itself is the saliency."""
    truth = [2**k * F.avg_pool2d(cells[:, None], 1 << k)[:, 0] for k in (1, 2)]
    return finest_on_objects(plan_of(truth), cells) == 1


def coverage(plan: Plan, cells: Tensor) -> Tensor:
    """`[M]`: how much of the objects the tokens resolve: 1 all of it, 0.25 none above the coarsest."""
    owner = plan.cell_to_token.flatten(1)
    resolution = (16 / plan.size).gather(1, owner).view_as(cells)
    return (cells * resolution).sum((1, 2)) / cells.sum((1, 2)).clamp(min=1e-6)


def kendall(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """`[M]`: Kendall's τ between the orders of all nodes: 1 the same, 0 unrelated."""
    signs = []
    for saliency in (first, second):
        values = torch.cat([scores.flatten(1) for scores in saliency], dim=1)
        signs.append((values[:, :, None] - values[:, None, :]).sign())
    nodes = signs[0].shape[1]
    return (signs[0] * signs[1]).sum((1, 2)) / (nodes * (nodes - 1))


def brighter(images: Tensor, factor: float) -> Tensor:
    """Bytes times a factor."""
    return (images.float() * factor).round().clamp(0, 255).byte()


def as_jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Bytes through a file of this quality."""
    decoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def finest_on_noise(score: ScorerFunction, images: Tensor, cells: Tensor, sigma: float = 12) -> Tensor:
    """`[M]`: of the finest tokens, the share in the right half, which is nothing but noise.

    The left half shows the scene's object, cut out along its cells, before the same flat grey, without noise.

    Args:
        score: a scorer.
        images: `[M, 3, 256, 256]` uint8.
        cells: `[M, 16, 16]`, the share of object.
        sigma: of the noise, in grey levels of 255.
    """
    generator = torch.Generator().manual_seed(SEED)
    shown = F.interpolate((cells[:, None] > 0.5).float(), scale_factor=16) > 0
    shown[..., 128:] = False
    flat = torch.where(shown, images.float(), 120)
    noise = torch.randn(flat.shape, generator=generator) * sigma
    noise[..., :128] = 0
    plan = plan_of(score((flat + noise).round().clamp(0, 255).byte(), SPEC))
    finest, right = plan.scale == 0, plan.left >= 128
    return (finest & right).sum(1) / finest.sum(1).clamp(min=1)


def middle_over_border(score: ScorerFunction, images: Tensor) -> float:
    """How much more the four nodes of 64 pixels in the middle get than the twelve others, where no place is special.

    Each image is shown four times, rolled round by half its width, half its height and both: so every quadrant of every
    image stands once in every corner, and on the whole all places show the same.
    """
    rolled = [images.roll((down, across), (2, 3)) for down in (0, 128) for across in (0, 128)]
    coarse = torch.stack([score(each, SPEC)[1] for each in rolled])
    shares = (coarse / coarse.sum((2, 3), keepdim=True)).mean((0, 1))
    middle = shares[1:3, 1:3].sum()
    return float((middle / 4) / ((shares.sum() - middle) / 12))


def report(score: ScorerFunction, images: Tensor, cells: Tensor) -> dict[str, float]:
    """All figures of one scorer."""
    saliency = score(images, SPEC)
    plan = plan_of(saliency)
    changed = {
        "τ, 10 % brighter": brighter(images, 1.1),
        "τ, 10 % darker": brighter(images, 0.9),
        "τ, JPEG quality 75": as_jpeg(images),
    }
    shows_left = (cells[..., :8] > 0.5).sum((1, 2)) >= 8  # else there is nothing to look at beside the noise
    figures = {
        "finest tokens on objects": finest_on_objects(plan, cells)[budget_allows(cells)].mean(),
        "coverage of objects": coverage(plan, cells).mean(),
        **{name: kendall(saliency, score(other, SPEC)).mean() for name, other in changed.items()},
        "middle over border": torch.tensor(middle_over_border(score, images)),
        "finest tokens on noise": finest_on_noise(score, images[shows_left], cells[shows_left]).mean(),
    }
    return {name: float(value) for name, value in figures.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--materials", type=Path)
    parser.add_argument("--weights", default="bundled")
    options = parser.parse_args()
    images, cells = held_out(options.scenes, options.materials)
    scorers = {
        "feature": get_scorer("feature", weights=options.weights),
        "blur": get_scorer("blur"),
        "random": get_scorer("random", seed=0),
    }
    rows = {name: report(scorer, images, cells) for name, scorer in scorers.items()}
    print("| | " + " | ".join(rows) + " |")
    print("|---" * (1 + len(rows)) + "|")
    for figure in rows["feature"]:
        print(f"| {figure} | " + " | ".join(f"{row[figure]:.3f}" for row in rows.values()) + " |")


if __name__ == "__main__":
    main()
