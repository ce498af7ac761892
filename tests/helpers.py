"""What many tests share: goldens, specs, kinds of saliency, slow definitions, and checkers."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quadtok import Plan, Spec, get_scorer, normalize
from quadtok.errors import WeightsError
from quadtok.scorers.feature.shufflenet import shufflenet_trunk

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_INDEX = json.loads((GOLDEN / "index.json").read_text())
SAMPLE_IMAGES = Path(__file__).parents[1] / "sample_images"
MANIFEST = ".quadtok-manifest.jsonl"  # in every output folder; it says when things were done, and so always differs
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

# Squares and rectangles, 1 to 7 scales, min_patch 1, 14, 16 and odd; budgets from the roots to the full grid.
SPECS = [
    Spec(256, 256, 16, 64, 100),
    Spec(256, 256, 16, 64, 16),
    Spec(256, 256, 16, 64, 256),
    Spec(224, 224, 14, 56, 64),
    Spec(32, 32, 16, 16, 4),
    Spec(32, 96, 16, 32, 9),
    Spec(96, 64, 1, 4, 501),
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


def golden_plan(name: str) -> Plan:
    """The golden's boxes in canonical order, and so checked to tile the images."""
    spec = golden_spec(name)
    left, top, size = golden(name)["boxes"].unbind(dim=2)
    sizes = torch.tensor([spec.patch_size(scale) for scale in range(spec.num_scales)])
    return Plan.from_boxes(left, top, torch.searchsorted(sizes, size.long()), spec)


def golden_saliency(name: str) -> list[Tensor]:
    """The golden's saliency as quadtok passes it around: one `[B, rows, cols]` a splittable scale."""
    spec, data = golden_spec(name), golden(name)
    return [
        data[f"saliency_{spec.patch_size(scale)}"].view(-1, *spec.grid(scale)) for scale in range(1, spec.num_scales)
    ]


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


def _with_negative_nans(scores: Tensor) -> Tensor:
    """NaNs of both signs: a sort by bits would tear them apart."""
    return torch.where(
        scores < 0.2, math.nan, torch.where(scores < 0.4, torch.full_like(scores, math.nan).neg(), scores)
    )


# Each kind turns uniform numbers in 0…1 into a saliency that has broken a quadtree somewhere.
SALIENCY_KINDS = {
    "random": lambda scores: scores,
    "tied": lambda scores: (scores * 4).round(),
    "constant": torch.zeros_like,
    "signed zeros": lambda scores: torch.where(scores < 0.5, -0.0, 0.0),
    "infinite": _with_infinities,
    "nan": _with_nans,
    "nans of both signs": _with_negative_nans,
    "shifted by -1e12": lambda scores: scores.double() - 1e12,
    "shifted by +1e12": lambda scores: scores.double() + 1e12,
    "half": lambda scores: scores.half(),
    "bfloat16": lambda scores: scores.bfloat16(),
}


def saliency_of_kind(kind: str, spec: Spec, batch: int = 3, seed: int = 0) -> list[Tensor]:
    return [SALIENCY_KINDS[kind](scores) for scores in random_saliency(spec, batch, seed)]


def assert_partition(plan: Plan) -> None:
    """Every image is covered exactly once, in forest z-order. Paints the boxes: shares no code with Plan."""
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


def boxes(plan: Plan, image: int = 0) -> list[tuple[int, int, int]]:
    """(left, top, size) of the tokens of one image, in the plan's order."""
    return list(zip(*(field[image].tolist() for field in (plan.left, plan.top, plan.size)), strict=True))


def patches_in_tie_order(spec: Spec, finest: int = 1) -> list[tuple[int, int, int]]:
    """(scale, left, top) of all patches down to scale `finest`: coarser first, then in forest z-order."""
    patches = [
        (scale, left, top)
        for scale in range(finest, spec.num_scales)
        for top in range(0, spec.height, spec.patch_size(scale))
        for left in range(0, spec.width, spec.patch_size(scale))
    ]
    return sorted(patches, key=lambda patch: (-patch[0], z_order_key(patch[1], patch[2], spec)))


def children_by_geometry(spec: Spec) -> list[list[int]]:
    """For each node the numbers of its four quadrants, in Morton order; the finest are numbered behind the nodes."""
    patches = patches_in_tie_order(spec, finest=0)
    number = {patch: place for place, patch in enumerate(patches)}
    halves = [(scale - 1, left, top, spec.patch_size(scale - 1)) for scale, left, top in patches if scale]
    return [
        [number[scale, x, y] for y in (top, top + half) for x in (left, left + half)]
        for scale, left, top, half in halves
    ]


def split_patches(plan: Plan, image: int = 0) -> set[tuple[int, int, int]]:
    """(scale, left, top) of the patches that were split: every ancestor of a token."""
    spec = plan.spec
    return {
        (scale, left - left % spec.patch_size(scale), top - top % spec.patch_size(scale))
        for left, top, size in boxes(plan, image)
        for scale in range(1, spec.num_scales)
        if spec.patch_size(scale) > size
    }


def best_first_by_definition(saliency: list[Tensor], spec: Spec, image: int = 0) -> list[tuple[int, int, int]]:
    """(scale, left, top) of the split patches, first to last: looks at all that wait before each split."""

    def priority(patch: tuple[int, int, int]) -> tuple[bool, float, int, tuple[int, ...]]:
        scale, left, top = patch
        size = spec.patch_size(scale)
        value = saliency[scale - 1][image, top // size, left // size].item()
        return math.isnan(value), 0.0 if math.isnan(value) else -value, -scale, z_order_key(left, top, spec)

    waiting = [patch for patch in patches_in_tie_order(spec) if patch[0] == spec.num_scales - 1]
    splits = []
    for _ in range(spec.num_splits):
        scale, left, top = min(waiting, key=priority)
        waiting.remove((scale, left, top))
        splits.append((scale, left, top))
        half = spec.patch_size(scale - 1)
        if scale > 1:
            waiting += [(scale - 1, x, y) for x in (left, left + half) for y in (top, top + half)]
    return splits


def assert_same_up_to_ties(plan: Plan, other: Plan, saliency: list[Tensor]) -> None:
    """As many patches are split in both, and those that only one of them splits tie.

    Best-first splitting takes patches by the smallest saliency on their path from the root, larger first: what
    lies below that bottleneck has to wait for it. So the order of ties decides between equal bottlenecks only.
    """
    spec = plan.spec
    assert spec == other.spec
    assert len(plan) == len(other)

    def bottleneck(image: int, left: int, top: int, finest: int) -> float:
        sizes = {scale: spec.patch_size(scale) for scale in range(finest, spec.num_scales)}
        return min(saliency[scale - 1][image, top // size, left // size].item() for scale, size in sizes.items())

    for image in range(len(plan)):
        ours, theirs = split_patches(plan, image), split_patches(other, image)
        assert len(ours) == len(theirs)
        tied = {bottleneck(image, left, top, scale) for scale, left, top in ours ^ theirs}
        assert len(tied) <= 1, f"image {image}: splits differ at saliency {sorted(tied)}"


def snapshot(net: nn.Module) -> tuple[dict[str, Tensor], list[tuple[bool, list[bool]]]]:
    """A net's weights, copied, and its flags."""
    flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in net.modules()]
    return {name: value.clone() for name, value in net.state_dict().items()}, flags


def photographs(height: int, width: int, batch: int = 2) -> Tensor:
    """`[batch, 3, height, width]`: parts of the goldens' photographs, normalised."""
    whole = golden("tokens_256_16_64_100_blur")["images_u8"][:batch]
    return normalize(whole)[..., 40 : 40 + height, 60 : 60 + width].contiguous()


def refused_weights(scorer: str, weights: object) -> str:
    """The sentence with which a scorer refuses weights: one line."""
    with pytest.raises(WeightsError) as caught:
        get_scorer(scorer, weights=weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lively_trunk(stride: int = 32) -> nn.Module:
    """The golden net with batch norms that know its activations, as after training: features that differ much."""
    trunk = shufflenet_trunk(stride, golden("feature_net"), "golden")
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        trunk.train()(photographs(128, 128))
    return trunk.eval()


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their names there, but for the manifest."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
