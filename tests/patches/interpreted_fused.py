"""The fused kernel, run by Triton's interpreter on a CPU: test_fused.py starts this file with TRITON_INTERPRET=1."""

import pytest
import torch
import torch.nn.functional as F

from helpers import random_saliency
from quadtok import Plan, Spec, get_quadtree, normalize
from quadtok.patches import gather_indexed
from quadtok.patches.fused import gather_fused

SPEC = Spec(32, 96, 16, 32, 9)
# The interpreter takes milliseconds a program, so these are small: p a power of two or not, 1, and beyond a program.
SPECS = [
    SPEC,
    Spec(56, 56, 14, 28, 10),
    Spec(8, 24, 1, 8, 60),
    Spec(36, 12, 3, 12, 27),
    Spec(64, 64, 4, 32, 19),
    Spec(64, 32, 2, 32, 14),
    Spec(160, 80, 40, 80, 5),
    Spec(32, 32, 16, 16, 4),
]
DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]
MEAN, STD = (0.1, 0.5, 0.7), (0.2, 1.0, 0.3)


def random_images(spec, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(2, channels, spec.height, spec.width, generator=generator) * 256).to(dtype)


def make_plan(spec, batch=2):
    return get_quadtree()(random_saliency(spec, batch), spec) if spec.num_scales > 1 else Plan.uniform(spec, 0, batch)


def assert_same(patches, expected):
    """To the last bit, but for bfloat16, which the interpreter cuts off where a GPU rounds."""
    assert patches.shape == expected.shape
    rtol = torch.finfo(torch.bfloat16).eps if expected.dtype == torch.bfloat16 else 0.0
    torch.testing.assert_close(patches, expected, rtol=rtol, atol=0.0)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_patches_are_those_of_the_indexed_way(spec):
    images, plan = random_images(spec), make_plan(spec)
    assert_same(gather_fused(images, plan), gather_indexed(images, plan))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_type_and_number_of_channels(dtype, channels):
    images, plan = random_images(SPEC, channels=channels, dtype=dtype), make_plan(SPEC)
    assert_same(gather_fused(images, plan), gather_indexed(images, plan))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mean_and_std_give_what_normalize_gives(dtype):
    images, plan = random_images(SPEC, dtype=dtype), make_plan(SPEC)
    patches = gather_fused(images, plan, mean=MEAN, std=STD)
    expected = normalize(gather_indexed(images.double() if dtype.itemsize == 2 else images, plan), MEAN, STD)
    if dtype.itemsize == 2:  # rounded once here, after each step there
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(patches, expected.to(dtype), rtol=eps, atol=eps)
    else:
        assert torch.equal(patches, expected)


def test_half_precision_sums_do_not_overflow():
    images = torch.full((1, 3, 32, 96), 60000.0, dtype=torch.float16)
    assert (gather_fused(images, make_plan(SPEC, batch=1)) == 60000).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: F.pad(x, (3, 2, 1, 4))[..., 1:-4, 3:-2],
        lambda x: x[:1].expand(2, -1, -1, -1),
    ],
    ids=["channels last", "transposed", "window", "expanded"],
)
def test_images_may_lie_in_memory_in_any_way(view):
    images, plan = view(random_images(SPEC)), make_plan(SPEC)
    assert_same(gather_fused(images, plan), gather_indexed(images, plan))


def test_a_kept_buffer_is_filled_and_returned_wherever_it_lies():
    images, plan = random_images(SPEC), make_plan(SPEC)
    expected = gather_indexed(images, plan)
    with_cls = torch.full((2, 10, 3, 16, 16), -1.0)
    for out in (torch.full((2, 9, 3, 16, 16), -1.0), with_cls[:, 1:]):
        assert gather_fused(images, plan, out) is out
        assert_same(out, expected)
    assert (with_cls[:, 0] == -1).all()


@pytest.mark.parametrize("strides", [(1 << 31, 32 * 96, 96, 1), (1, 1 << 31, 96, 1), (1, 1 << 27, 1 << 27, 1)])
def test_a_pixel_may_lie_more_than_two_to_the_31_elements_away(strides):
    """In memory that is asked for but, except for a few pages, never touched."""
    pixels, plan = random_images(SPEC, channels=2, dtype=torch.uint8), make_plan(SPEC)
    if strides[0] == 1:
        pixels, plan = pixels[:1], plan[:1]
    last = sum((side - 1) * stride for side, stride in zip(pixels.shape, strides, strict=True))
    assert last >= 1 << 31
    images = torch.empty(last + 1, dtype=torch.uint8).as_strided(pixels.shape, strides)
    images.copy_(pixels)
    assert_same(gather_fused(images, plan), gather_indexed(images.contiguous(), plan))


def test_a_plan_that_breaks_its_promise_reads_no_foreign_memory():
    spec = Spec(16, 16, 4, 16, 4)
    memory = torch.full((3, 1, 48, 48), torch.nan)
    memory[1, :, 16:32, 16:32] = 1.0
    boxes = torch.tensor([[-99, 3, 17, 1 << 40]])
    for scale in (-5, 0, 1, 2, 60):
        plan = Plan(boxes, boxes.flip(1), torch.full_like(boxes, scale), spec)
        assert (gather_fused(memory[1:2, :, 16:32, 16:32], plan) == 1).all()
