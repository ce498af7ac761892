"""The pixels of a plan's tokens: goldens, a slow twin, dtypes, gradients, and the Tokens that hold them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import (
    GOLDEN_INDEX,
    SPECS,
    boxes,
    golden,
    golden_plan,
    goldens,
    order_by_scale,
    random_saliency,
)
from quadtok import Plan, Spec, Tokens, extract_patches, get_quadtree, normalize
from quadtok.bench.memory import peak_of_all
from quadtok.errors import InputError

PIXEL_GOLDENS = [name for name in goldens("tokens") if GOLDEN_INDEX[name]["scorer"] == "blur"]
SPEC = Spec(32, 48, 4, 16, 21)


def make_plan(spec=SPEC, batch=2, seed=0):
    return get_quadtree()(random_saliency(spec, batch, seed), spec)


def make_images(spec=SPEC, batch=2, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    if dtype == torch.uint8:
        return torch.randint(256, (batch, channels, spec.height, spec.width), generator=generator, dtype=dtype)
    return torch.randn(batch, channels, spec.height, spec.width, generator=generator, dtype=torch.float64).to(dtype)


def slow_patches(images, plan):
    """The definition: the whole image resized bilinearly for each scale, then cut; `[B, N, C, p, p]` float64."""
    size, out = plan.spec.min_patch, []
    for image, pixels in enumerate(images.double()):
        for left, top, side in boxes(plan, image):
            factor = side // size
            resized = F.interpolate(pixels[None], scale_factor=1 / factor, mode="bilinear")[0]
            y, x = top // factor, left // factor
            out.append(resized[:, y : y + size, x : x + size])
    return torch.stack(out).view(len(images), -1, images.shape[1], size, size)


@pytest.mark.parametrize("name", PIXEL_GOLDENS)
def test_pixels_centres_and_scales_are_the_references(name):
    data, plan = golden(name), golden_plan(name)
    rows = Tokens(plan, extract_patches(normalize(data["images_u8"]), plan)).to_reference_layout()
    rows = rows.gather(1, order_by_scale(plan)[..., None].expand_as(rows))
    pixels, centers, scale = rows.split([rows.shape[2] - 3, 2, 1], dim=2)
    assert (pixels - data["patches"]).abs().max() <= 1e-5  # of numbers up to 2.7: float32 in another order
    assert torch.equal(centers, data["centers"])
    assert torch.equal(scale[..., 0], data["size_ids"])


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.num_tokens < 300], ids=str)
def test_patches_are_cut_from_the_resized_image_in_the_plans_order(spec, device):
    plan = make_plan(spec) if spec.num_scales > 1 else Plan.uniform(spec, 0, batch=2)
    images = make_images(spec)
    patches = extract_patches(images.to(device), plan.to(device))
    assert patches.device.type == device
    assert patches.is_contiguous()
    torch.testing.assert_close(patches.cpu().double(), slow_patches(images, plan), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_bytes_give_exact_float32_means_in_quarter_steps(channels):
    images, plan = make_images(channels=channels, dtype=torch.uint8), make_plan()
    patches = extract_patches(images, plan)
    assert patches.dtype == torch.float32
    assert torch.equal(patches.double(), slow_patches(images, plan))
    assert torch.equal(patches * 4, (patches * 4).round())
    assert (patches % 1 != 0).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_patches_keep_the_images_type_and_round_once(dtype):
    images, plan = make_images(dtype=dtype), make_plan()
    patches = extract_patches(images, plan)
    assert patches.dtype == dtype
    rounding = torch.finfo(dtype).eps if dtype in (torch.float16, torch.bfloat16) else 4 * torch.finfo(dtype).eps
    expected = slow_patches(images, plan)
    assert ((patches.double() - expected).abs() <= rounding * expected.abs().clamp(min=1)).all()


def test_half_precision_sums_do_not_overflow():
    images = torch.full((1, 3, 32, 48), 60000.0, dtype=torch.float16)
    assert (extract_patches(images, make_plan(batch=1)) == 60000).all()


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
    images = view(make_images())
    assert torch.equal(extract_patches(images, make_plan()), extract_patches(images.clone().contiguous(), make_plan()))


def central_pixels(left, top, side, size):
    """(rows, columns) that one token reads: of each cell the pixel, or the two at its centre."""
    step = side // size
    offsets = [0] if step == 1 else [step // 2 - 1, step // 2]
    return [[start + step * cell + offset for cell in range(size) for offset in offsets] for start in (top, left)]


def test_a_token_depends_on_the_central_pixels_of_its_own_patch_alone():
    images, plan = make_images(batch=1), make_plan(batch=1)
    whole = extract_patches(images, plan)[0]
    for token, (left, top, side) in enumerate(boxes(plan)):
        rows, cols = (torch.tensor(line) for line in central_pixels(left, top, side, SPEC.min_patch))
        spoiled = torch.full_like(images, torch.nan)
        spoiled[..., rows[:, None], cols] = images[..., rows[:, None], cols]
        assert torch.equal(extract_patches(spoiled, plan)[0, token], whole[token])


def test_gradients_reach_exactly_the_pixels_that_were_read():
    images, plan = make_images().requires_grad_(), make_plan()
    extract_patches(images, plan).sum().backward()
    expected = torch.zeros(2, SPEC.height, SPEC.width)
    for image in range(2):
        for left, top, side in boxes(plan, image):
            rows, cols = central_pixels(left, top, side, SPEC.min_patch)
            expected[image, torch.tensor(rows)[:, None], torch.tensor(cols)] = 1.0 if side == SPEC.min_patch else 0.25
    assert torch.equal(images.grad, expected[:, None].expand_as(images))


def test_gradients_are_those_of_finite_differences():
    spec = Spec(8, 8, 2, 8, 7)
    images = make_images(spec, batch=1, channels=2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: extract_patches(x, make_plan(spec, batch=1)), (images,))


def test_a_batch_of_no_images_gives_no_patches():
    assert extract_patches(make_images(batch=0), make_plan(batch=2)[:0]).shape == (0, 21, 3, 4, 4)


def test_a_plan_for_another_number_of_images_is_refused():
    with pytest.raises(InputError, match="the plan is for 3 images and was given 2"):
        extract_patches(make_images(), make_plan(batch=3))


def test_images_on_another_device_than_the_plan_are_refused():
    with pytest.raises(InputError, match=r"the images are on meta, the plan on cpu: move one \(plan.to\)"):
        extract_patches(make_images().to("meta"), make_plan())


def test_images_of_another_size_than_the_plans_are_refused():
    with pytest.raises(InputError, match="images are 48×32 .* and the spec says 32×48"):
        extract_patches(make_images().transpose(2, 3), make_plan())


def test_the_memory_of_tensors_and_of_arrays_is_counted():
    assert peak_of_all(lambda: torch.zeros(1_000_000, dtype=torch.uint8)) >= 1_000_000
    assert peak_of_all(lambda: np.zeros(1_000_000, dtype=np.uint8)) >= 1_000_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_little_memory_is_needed_beside_images_and_tokens(dtype):
    """At most a tenth of the images; the whole batch is never copied (not even bytes to floats)."""
    spec = Spec(256, 256, 16, 64, 100)
    images = torch.zeros(128, 3, 256, 256, dtype=dtype)
    plan = get_quadtree()(random_saliency(spec, 128), spec)
    out = torch.empty(128, 100, 3, 16, 16)
    assert peak_of_all(lambda: extract_patches(images, plan, out=out)) <= 0.1 * images.numel() * images.element_size()


def test_a_kept_buffer_is_written_and_returned():
    spec = Spec(48, 72, 6, 24, 21)
    plan = get_quadtree()(random_saliency(spec, 2), spec)
    for images in (torch.rand(2, 3, 48, 72), torch.randint(256, (2, 3, 48, 72), dtype=torch.uint8)):
        out = torch.full((2, 21, 3, 6, 6), -1.0)
        assert extract_patches(images, plan, out=out) is out
        assert torch.equal(out, extract_patches(images, plan))
        for wrong in (out[:1], out.double(), out[..., :5]):
            with pytest.raises(
                InputError, match=r"out is torch\.float\d\d \[.*expected torch\.float32 \[2, 21, 3, 6, 6\]"
            ):
                extract_patches(images, plan, out=wrong)


def test_a_buffer_of_any_strides_will_do():
    spec = Spec(48, 72, 6, 24, 21)
    plan, images = get_quadtree()(random_saliency(spec, 2), spec), torch.rand(2, 3, 48, 72)
    wide = torch.zeros(2, 21, 3, 6, 12)
    assert torch.equal(extract_patches(images, plan, out=wide[..., ::2]), extract_patches(images, plan))
    assert (wide[..., 1::2] == 0).all()
