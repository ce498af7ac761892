"""Feature scoring against the plain computation: how long, and how many boxes stay the same (goal 4).

`plain` is docs/reference.md section 3 written down with torchvision's net: the whole batch, once for the images and
once for the blurred copies of each scale. The rounds are interleaved, so that a busy minute slows all of them; run it
on a quiet machine all the same: two threads that share one core wait for each other at every layer.

The boxes are compared on two nets, both random, since ImageNet weights were not available:
- `feature_net.pt`, the goldens' net. Its features hardly differ between an image and its blurred copies (4e-5 of their
  size), far below what half precision can tell apart.
- `calibrated`: the same net, its batch norms set from other crops, as training would set them. Its features differ as
  much as those of a net that looks at images.

A second table does the same for the net that ships with quadtok.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import DEVICE, interleaved, ms, print_machine, print_table, times
from PIL import Image
from torch import Tensor, nn
from torchvision.models import shufflenet_v2_x0_5

from quadtok import Spec, get_quadtree, get_scorer, normalize
from quadtok.scorers import on_device

ROOT = Path(__file__).parents[1]
NET = ROOT / "tests" / "golden" / "feature_net.pt"
SPEC = Spec(256, 256, 16, 64, 100)

Score = Callable[[Tensor], list[Tensor]]


class Plain:
    """The feature scorer as the reference computes it: mse, stride 32."""

    def __init__(self, weights: Path, device: str) -> None:
        net = shufflenet_v2_x0_5(weights=None)
        net.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        trunk = (net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5)
        self.net = nn.Sequential(*trunk).eval().to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """One map a scale."""
        sharp, saliency = self.net(images), []
        for scale in range(1, SPEC.num_scales):
            blurry = resize(resize(images, SPEC.height >> scale), SPEC.height)
            error = (self.net(blurry) - sharp).square().mean(dim=1)
            saliency.append(F.avg_pool2d(error[:, None], error.shape[1] // SPEC.grid(scale)[0])[:, 0])
        return saliency


def resize(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def crops(count: int, seed: int) -> Tensor:
    """`[count, 3, 256, 256]` uint8: crops of the photographs, in turn, each at a place of its own."""
    places = np.random.default_rng(seed)
    photographs = [np.array(Image.open(path).convert("RGB")) for path in sorted((ROOT / "sample_images").glob("*.jpg"))]
    found = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top, left = (int(places.integers(0, side - 255)) for side in photograph.shape[:2])
        found.append(photograph[top : top + 256, left : left + 256])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def calibrated(weights: Path, images: Tensor) -> dict[str, Tensor]:
    """The weights with the batch norms' statistics taken from these images, as training would leave them."""
    net = shufflenet_v2_x0_5(weights=None)
    net.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        net.train()(images)
    return net.state_dict()


def scorers(weights: Path, device: str) -> dict[str, Score]:
    """The plain computation and ours."""
    return {"plain": Plain(weights, device), **in_precisions(weights, device)}


def in_precisions(weights: str | Path, device: str) -> dict[str, Score]:
    """quadtok's, in each precision; float16 only where it is not emulated."""
    precisions = ("exact", "float32", "bfloat16", *(["float16"] if device == "cuda" else []))
    ways = {precision: get_scorer("feature", weights=weights, precision=precision) for precision in precisions}
    return {
        f"quadtok {precision}": partial(on_device(score, torch.device(device)), spec=SPEC)
        for precision, score in ways.items()
    }


def boxes(saliency: list[Tensor]) -> list[set[tuple[int, ...]]]:
    """The boxes of each image."""
    plan = get_quadtree("parallel")(saliency, SPEC)
    rows = torch.stack((plan.left, plan.top, plan.scale), dim=-1).tolist()
    return [set(map(tuple, image)) for image in rows]


def same_boxes(runs: dict[str, Score], images: Tensor) -> dict[str, str]:
    """The boxes that are also the first run's, of all boxes."""
    found = {name: boxes(score(images)) for name, score in runs.items()}
    first = next(iter(found.values()))
    total = len(images) * SPEC.num_tokens
    counts = {
        name: sum(len(ours & theirs) for ours, theirs in zip(chosen, first, strict=True))
        for name, chosen in found.items()
    }
    return {name: f"{count / total:.1%} ({count} of {total})" for name, count in counts.items()}


def main() -> None:
    """Measure and print the table."""
    device = DEVICE.type
    images = normalize(crops(32, seed=0)).to(device)
    compared = normalize(crops(64, seed=1)).to(device)
    print_machine()
    runs = scorers(NET, device)
    found = interleaved({name: partial(score, images) for name, score in runs.items()}, rounds=15)
    with tempfile.TemporaryDirectory() as folder:
        lively = Path(folder) / "calibrated.pt"
        torch.save(calibrated(NET, normalize(crops(32, seed=2))), lively)
        golden, trained_like = (same_boxes(scorers(weights, device), compared) for weights in (NET, lively))
    rows = [
        (name, ms(each), times(found["plain"], each), golden[name], trained_like[name]) for name, each in found.items()
    ]
    print_table(
        f"Feature scoring of 32 × 256², 100 tokens, mse, stride 32, on {device}; random nets, for want of ImageNet's",
        ["computation", "time", "plain ÷ it", "plain's boxes, golden net", "plain's boxes, calibrated net"],
        rows,
    )
    runs = in_precisions("bundled", device)
    found = interleaved({name: partial(score, images) for name, score in runs.items()}, rounds=15)
    same = same_boxes(runs, compared)
    print_table(
        f"Feature scoring of 32 × 256², 100 tokens, bundled weights, on {device}",
        ["computation", "time", "exact ÷ it", "exact's boxes"],
        [(name, ms(each), times(found["quadtok exact"], each), same[name]) for name, each in found.items()],
    )


if __name__ == "__main__":
    main()
