"""What many tests share: the goldens, grids of specs, kinds of saliency, and two checkers (tested in test_helpers.py)."""

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from quadtok import Plan, Spec

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_INDEX = json.loads((GOLDEN / "index.json").read_text())
SAMPLE_IMAGES = Path(__file__).parents[1] / "sample_images"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

# Squares and rectangles, 1 to 5 scales, min_patch 1, 14, 16 and odd ones; budgets from the roots to the full grid.
SPECS = [
    Spec(256, 256, 16, 64, 100),
    Spec(256, 256, 16, 64, 16),
    Spec(256, 256, 16, 64, 256),
    Spec(224, 224, 14, 56, 64),
    Spec(32, 32, 16, 16, 4),
    Spec(32, 96, 16, 32, 9),
    Spec(96, 64, 1, 4, 500),
    Spec(8, 24, 1, 8, 60),
    Spec(448, 224, 14, 224, 50),
    Spec(384, 128, 8, 128, 120),
    Spec(36, 12, 3, 12, 27),
    Spec(512, 512, 8, 128, 400),
    Spec(64, 64, 1, 64, 1000),
]


def golden(name: str) -> dict[str, Tensor]:
    """One golden file, named as in golden/index.json."""
    return torch.load(GOLDEN / f"{name}.pt", weights_only=True)


def golden_spec(name: str) -> Spec:
    facts = GOLDEN_INDEX[name]
    side = facts["image_size"]
    return Spec(side, side, facts["min_patch"], facts["max_patch"], facts["num_tokens"])


def golden_saliency(name: str) -> list[Tensor]:
    """The golden's saliency as quadtok passes it around: one `[B, rows, cols]` a splittable scale."""
    spec, data = golden_spec(name), golden(name)
    return [data[f"saliency_{spec.patch_size(scale)}"].view(-1, *spec.grid(scale)) for scale in range(1, spec.num_scales)]


def goldens(kind: str) -> list[str]:
    return [name for name, facts in GOLDEN_INDEX.items() if facts["kind"] == kind]


def random_saliency(spec: Spec, batch: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(batch, *spec.grid(scale), generator=generator, dtype=torch.float64).to(dtype)
        for scale in range(1, spec.num_scales)
    ]


def _with_infinities(scores: Tensor) -> Tensor:
    return torch.where(scores < 0.3, -math.inf, torch.where(scores > 0.7, math.inf, scores))


def _with_nans(scores: Tensor) -> Tensor:
    return torch.where(scores < 0.3, math.nan, torch.where(scores > 0.8, -math.inf, scores))


# Each kind turns uniform numbers in 0…1 into a saliency that has broken a quadtree somewhere.
SALIENCY_KINDS = {
    "random": lambda scores: scores,
    "tied": lambda scores: (scores * 4).round(),
    "constant": torch.zeros_like,
    "signed zeros": lambda scores: torch.where(scores < 0.5, -0.0, 0.0),
    "infinite": _with_infinities,
    "nan": _with_nans,
    "shifted by -1e12": lambda scores: scores.double() - 1e12,
    "shifted by +1e12": lambda scores: scores.double() + 1e12,
    "half": lambda scores: scores.half(),
    "bfloat16": lambda scores: scores.bfloat16(),
}


def saliency_of_kind(kind: str, spec: Spec, batch: int = 3, seed: int = 0) -> list[Tensor]:
    return [SALIENCY_KINDS[kind](scores) for scores in random_saliency(spec, batch, seed)]


def assert_partition(plan: Plan) -> None:
    """Every image is covered exactly once, in forest z-order. Paints each box, so it shares no code with Plan."""
    spec = plan.spec
    for image in range(len(plan)):
        painted = torch.zeros(spec.height, spec.width, dtype=torch.int32)
        keys = []
        for left, top, scale in zip(*(f[image].tolist() for f in (plan.left, plan.top, plan.scale)), strict=True):
            size = spec.min_patch * 2**scale
            assert 0 <= scale < spec.num_scales
            assert left % size == 0 and top % size == 0
            assert left + size <= spec.width and top + size <= spec.height
            painted[top : top + size, left : left + size] += 1
            keys.append(z_order_key(left, top, spec))
        assert len(keys) == spec.num_tokens
        assert (painted == 1).all()
        assert keys == sorted(keys)


def z_order_key(left: int, top: int, spec: Spec) -> tuple[int, ...]:
    """(root row, root column, then a quadrant 0…3 a level): forest z-order by its definition."""
    key = [top // spec.max_patch, left // spec.max_patch]
    size = spec.max_patch
    while size > spec.min_patch:
        size //= 2
        key.append(2 * (top // size % 2) + left // size % 2)
    return tuple(key)


def assert_same_plan(plan: Plan, other: Plan) -> None:
    """Bit-identical integers, types and spec."""
    assert plan.spec == other.spec
    for name in ("left", "top", "scale"):
        ours, theirs = getattr(plan, name), getattr(other, name)
        assert ours.dtype == theirs.dtype == torch.int64
        assert torch.equal(ours.cpu(), theirs.cpu()), name


def boxes_by_scale(plan: Plan) -> Tensor:
    """`[B, N, 3]` int32 (left, top, size), sorted by (scale, top, left): the goldens' order."""
    boxes = torch.stack([plan.left, plan.top, plan.size], dim=-1).int()
    order = order_by_scale(plan)
    return boxes.gather(1, order[..., None].expand(-1, -1, 3))


def order_by_scale(plan: Plan) -> Tensor:
    """`[B, N]`: which token comes at each place of the goldens' order (scale, top, left)."""
    spec = plan.spec
    key = (plan.scale * spec.height + plan.top) * spec.width + plan.left
    return key.argsort(dim=1)
