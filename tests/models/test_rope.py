"""Rotary positions at any centre, against their definitions and against timm's own on the full grid."""

import math

import pytest
import torch

pytest.importorskip("timm", reason="reads the rotary positions of timm's models; the extra timm has it")

import timm
from packaging.version import Version
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat, RotaryEmbeddingDinoV3, RotaryEmbeddingMixed

from helpers import random_saliency
from quadtok import Plan, Spec, get_quadtree, reverse
from quadtok.models.rope import knows_rope, rope_at_centers

SPEC = Spec(32, 48, 8, 16, 15)  # 4 × 6 cells
GRID = (4, 6)
DIM, DEPTH, HEADS = 16, 2, 2  # of a head
BANDS = [10000 ** (-number / 4) for number in range(4)]
PERIODS = [100 ** (number / 4) for number in range(4)]


def cat(**options):
    return RotaryEmbeddingCat(DIM, in_pixels=False, **options)


def pixels(**options):
    return RotaryEmbeddingCat(DIM, max_res=32, **options)


def of_bands(y, x, bands):
    return [y * band for band in bands] + [x * band for band in bands]


def of_periods(y, x):
    return [2 * math.pi * place / period for place in (y, x) for period in PERIODS]


PIXEL_BANDS = [math.pi * 2**power for power in (0, 4 / 3, 8 / 3, 4)]
# Each kind, and its angles at the centre (x, y) in cells.
KINDS = {
    "index": (cat, lambda x, y: of_bands(y - 0.5, x - 0.5, BANDS)),
    "index, one size": (lambda: cat(feat_shape=[4, 6]), lambda x, y: of_bands(y - 0.5, x - 0.5, BANDS)),
    "index, offset": (lambda: cat(grid_offset=0.5), lambda x, y: of_bands(y, x, BANDS)),
    "index, xy": (lambda: cat(grid_indexing="xy"), lambda x, y: of_bands(x - 0.5, y - 0.5, BANDS)),
    "index, reference": (
        lambda: cat(ref_feat_shape=[2, 9]),
        lambda x, y: of_bands((y - 0.5) / 4 * 2, (x - 0.5) / 6 * 9, BANDS),
    ),
    "index, reference, xy": (
        lambda: cat(ref_feat_shape=[2, 9], grid_indexing="xy"),
        lambda x, y: of_bands((x - 0.5) / 6 * 9, (y - 0.5) / 4 * 2, BANDS),
    ),
    "pixel": (pixels, lambda x, y: of_bands(2 * (y - 0.5) / 3 - 1, 2 * (x - 0.5) / 5 - 1, PIXEL_BANDS)),
    "pixel, one size": (
        lambda: pixels(feat_shape=[4, 6]),
        lambda x, y: of_bands(2 * (y - 0.5) / 3 - 1, 2 * (x - 0.5) / 5 - 1, PIXEL_BANDS),
    ),
    "DINOv3": (lambda: RotaryEmbeddingDinoV3(DIM), lambda x, y: of_periods(2 * y / 4 - 1, 2 * x / 6 - 1)),
    "DINOv3, longest side": (
        lambda: RotaryEmbeddingDinoV3(DIM, normalize_coords="max"),
        lambda x, y: of_periods(2 * y / 6 - 1, 2 * x / 6 - 1),
    ),
    "DINOv3, shortest side, offset, xy": (
        lambda: RotaryEmbeddingDinoV3(DIM, normalize_coords="min", grid_offset=0.25, grid_indexing="xy"),
        lambda x, y: of_periods(2 * (x + 0.25) / 4 - 1, 2 * (y + 0.25) / 4 - 1),
    ),
}


def mixed_plan():
    return get_quadtree("parallel")(random_saliency(SPEC, 2), SPEC)


def full_grid():
    return Plan.uniform(Spec.full(32, 48, 8, 16), 0)


def doubled(angles, half):
    return angles + angles if half else [angle for angle in angles for _ in range(2)]


def sines_and_cosines(angles):
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


@pytest.mark.parametrize("kind", KINDS)
def test_angles_at_any_centre_are_as_defined(kind):
    build, definition = KINDS[kind]
    rope, plan = build(), mixed_plan()
    half = kind.startswith("DINOv3")
    expected = [
        [sines_and_cosines(doubled(definition(x, y), half)) for x, y in image] for image in plan.centers.tolist()
    ]
    found = rope_at_centers(rope, plan)(1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, 0], torch.tensor(expected), rtol=0, atol=3e-6)


@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_each_head_of_each_block_has_its_own_mixed_angles(indexing):
    rope = RotaryEmbeddingMixed(DIM * HEADS, depth=DEPTH, num_heads=HEADS, grid_indexing=indexing)
    plan = mixed_plan()
    for block in range(DEPTH):
        found = rope_at_centers(rope, plan)(block)
        assert found.shape == (2, HEADS, SPEC.num_tokens, 2 * DIM)
        for head in range(HEADS):
            first, second = rope.freqs[:, block, head].tolist()
            for token, (x, y) in enumerate(plan.centers[1].tolist()):
                one, two = (y - 0.5, x - 0.5) if indexing == "ij" else (x - 0.5, y - 0.5)
                angles = [one * f + two * s for f, s in zip(first, second, strict=True)]
                expected = torch.tensor(sines_and_cosines(doubled(angles, half=False)))
                torch.testing.assert_close(found[1, head, token], expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_full_grid_the_angles_are_timms(kind):
    if kind == "DINOv3, shortest side, offset, xy" and Version(timm.__version__) < Version("1.0.31"):
        pytest.skip("timm before 1.0.31 orders them (y, x) there, too")
    rope = KINDS[kind][0]()
    dense = reverse(rope_at_centers(rope, full_grid())(0)[:, 0], full_grid())  # [1, 2d, rows, cols]
    torch.testing.assert_close(dense[0].flatten(1).T, rope.get_embed(list(GRID)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["index", "DINOv3"])
def test_angles_of_a_model_in_half_precision_are_float32(kind, dtype):
    rope = KINDS[kind][0]().to(dtype)
    found = rope_at_centers(rope, mixed_plan())(0)
    assert found.dtype == torch.float32
    # timm before 1.0.31 rounds the frequencies.
    torch.testing.assert_close(found, rope_at_centers(rope.float(), mixed_plan())(0))


def test_gradients_reach_learned_frequencies():
    rope = RotaryEmbeddingMixed(DIM * HEADS, depth=DEPTH, num_heads=HEADS)
    rope_at_centers(rope, mixed_plan())(1).square().sum().backward()
    rope_at_centers(rope, mixed_plan())(1)[..., :DIM].sum().backward()
    assert rope.freqs.grad[:, 1].abs().sum() > 0
    assert not rope.freqs.grad[:, 0].any()


@pytest.mark.parametrize("option", ["shift_coords", "jitter_coords", "rescale_coords"])
def test_coordinates_are_augmented_only_while_training_and_for_all_images_alike(option):
    rope, plain = RotaryEmbeddingDinoV3(DIM, **{option: 1.5}), RotaryEmbeddingDinoV3(DIM)
    plan = Plan.uniform(Spec.full(32, 48, 8, 16), 0, batch=2)
    expected = rope_at_centers(plain, plan)(0)
    assert torch.equal(rope_at_centers(rope.eval(), plan)(0), expected)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        turned, again = rope_at_centers(rope.train(), plan), rope_at_centers(rope, plan)
    assert not torch.allclose(turned(0), expected, atol=1e-3)
    assert torch.equal(turned(0)[0], turned(0)[1])
    assert torch.equal(turned(0), turned(1))
    assert not torch.equal(again(0), turned(0))


class RotaryEmbeddingCatOfAnother(torch.nn.Module):
    pass


def test_only_timms_own_kinds_are_known():
    assert knows_rope(cat())
    assert not knows_rope(RotaryEmbeddingCatOfAnother())
    assert not knows_rope(type("RotaryEmbeddingCat", (torch.nn.Module,), {"__module__": "mine"})())
