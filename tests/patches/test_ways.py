"""Every way of gathering gives what `gather_indexed` gives, to the last bit."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from helpers import SPECS, random_saliency
from quadtok import Plan, Spec, extract_patches, get_quadtree, normalize
from quadtok.errors import InputError
from quadtok.patches import gather_indexed, gather_rows, suits_rows

SPEC = Spec(32, 48, 4, 16, 21)
DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]
MEAN, STD = (0.1, 0.5, 0.7), (0.2, 1.0, 0.3)
# The fused kernel runs on no CPU: test_fused.py has the same for it.
WAYS = {
    "rows": gather_rows,
    "the one that suits": lambda images, plan, out: extract_patches(images, plan, out=out),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def make_plan(spec=SPEC, batch=2):
    return get_quadtree()(random_saliency(spec, batch), spec) if spec.num_scales > 1 else Plan.uniform(spec, 0, batch)


def make_images(spec=SPEC, batch=2, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(batch, channels, spec.height, spec.width, generator=generator) * 256).to(dtype)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_on_every_spec(way, spec, dtype):
    images, plan = make_images(spec, dtype=dtype), make_plan(spec)
    assert torch.equal(way(images, plan, None), gather_indexed(images, plan))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_on_every_type_and_number_of_channels(way, dtype, channels):
    images, plan = make_images(channels=channels, dtype=dtype), make_plan()
    patches = way(images, plan, None)
    assert patches.dtype == (torch.float32 if dtype == torch.uint8 else dtype)
    assert torch.equal(patches, gather_indexed(images, plan))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kept", ["contiguous", "behind a cls token", "transposed"])
def test_into_a_kept_buffer_wherever_it_lies(way, dtype, kept):
    images, plan = make_images(dtype=dtype), make_plan()
    expected = gather_indexed(images, plan)
    out = {
        "contiguous": torch.full_like(expected, -1),
        "behind a cls token": torch.full_like(F.pad(expected, (0, 0) * 3 + (1, 0)), -1)[:, 1:],
        "transposed": torch.full_like(expected.transpose(1, 2).contiguous(), -1).transpose(1, 2),
    }[kept]
    assert way(images, plan, out) is out
    assert torch.equal(out, expected)


def test_of_more_images_than_are_worked_on_at_a_time(way):
    spec = Spec(512, 512, 8, 128, 400)
    images, plan = make_images(spec, batch=19, channels=1), make_plan(spec, batch=19)
    assert torch.equal(way(images, plan, None), gather_indexed(images, plan))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_one_thread_and_in_several(dtype):
    spec, before = Spec(512, 512, 8, 128, 400), torch.get_num_threads()
    images, plan = make_images(spec, batch=19, dtype=dtype), make_plan(spec, batch=19)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(gather_rows(images, plan), gather_indexed(images, plan))
    finally:
        torch.set_num_threads(before)


def test_into_a_buffer_that_is_seen_with_the_other_sign():
    images, plan = make_images(), make_plan()
    expected = gather_indexed(images, plan)
    out = torch.zeros(expected.shape, dtype=torch.complex64).conj().imag
    assert out.is_neg()
    assert extract_patches(images, plan, out=out) is out
    assert torch.equal(out, expected)


def test_rows_suit_contiguous_images_on_a_cpu_of_which_nobody_wants_gradients():
    images, plan = make_images(), make_plan()
    assert suits_rows(images, plan)
    assert not suits_rows(images.contiguous(memory_format=torch.channels_last), plan)
    assert not suits_rows(images.to("meta"), plan)
    images.requires_grad_()
    assert not suits_rows(images, plan)
    with torch.no_grad():
        assert suits_rows(images, plan)


def forward_derivative(images, plan):
    """Patches are linear in the pixels: of a tangent they are the tangent of the patches."""
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.zeros_like(images), images)
        return torch.autograd.forward_ad.unpack_dual(extract_patches(dual, plan)).tangent


def mapped_with_its_plan(images, plan):
    def each(image, left, top, scale):
        one = Plan(left[None], top[None], scale[None], plan.spec)
        return extract_patches(image[None], one)[0]

    return torch.vmap(each)(images, plan.left, plan.top, plan.scale)


def of_one_image_and_many_plans(images, plan):
    """The image is no one's but the function's own: only the plans are mapped over."""
    each = torch.vmap(lambda left, top, scale: mapped_with_its_plan(images, Plan(left, top, scale, plan.spec)))
    return each(*(field[None] for field in (plan.left, plan.top, plan.scale)))[0]


FOLLOWED = {
    "mapped": lambda images, plan: torch.vmap(lambda batch: extract_patches(batch, plan))(images[None])[0],
    "mapped with its plan": mapped_with_its_plan,
    "mapped over plans": of_one_image_and_many_plans,
    "functionalized": lambda images, plan: torch.func.functionalize(extract_patches)(images, plan),
    "traced": lambda images, plan: make_fx(
        lambda pixels, left, top, scale: extract_patches(pixels, Plan(left, top, scale, plan.spec)), tracing_mode="fake"
    )(images, plan.left, plan.top, plan.scale)(images, plan.left, plan.top, plan.scale),
    "a forward derivative": forward_derivative,
    "torch.func.jvp": lambda images, plan: torch.func.jvp(
        lambda pixels: extract_patches(pixels, plan), (images * 0,), (images,)
    )[1],
}


@pytest.mark.parametrize("how", FOLLOWED)
def test_patches_are_the_same_where_operations_are_followed(how):
    images, plan = make_images(), make_plan()
    assert torch.equal(FOLLOWED[how](images, plan), gather_indexed(images, plan))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_fake_images_have_fake_patches(dtype):
    images, plan = make_images(dtype=dtype), make_plan()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        patches = extract_patches(mode.from_tensor(images), plan)
    assert patches.shape == gather_indexed(images, plan).shape


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_mean_and_std_give_what_normalize_gives(dtype, layout, device):
    images = make_images(dtype=dtype).to(device).contiguous(memory_format=layout)
    plan = make_plan().to(device)
    before = images.clone()
    patches = extract_patches(images, plan, mean=MEAN, std=STD)
    expected = normalize(extract_patches(images, plan), MEAN, STD)
    tolerance = torch.finfo(dtype).eps if dtype in (torch.float16, torch.bfloat16) else 1e-6
    torch.testing.assert_close(patches, expected, rtol=4 * tolerance, atol=4 * tolerance)
    if device == "cpu":
        assert torch.equal(patches, expected)
    assert torch.equal(images, before)
    out = torch.full_like(expected, -1)
    assert extract_patches(images, plan, out=out, mean=MEAN, std=STD) is out
    assert torch.equal(out, patches)


def test_gradients_pass_through_mean_and_std():
    images, plan = make_images().requires_grad_(), make_plan()
    (gradient,) = torch.autograd.grad(extract_patches(images, plan, mean=MEAN, std=STD).sum(), images)
    (expected,) = torch.autograd.grad(normalize(extract_patches(images, plan), MEAN, STD).sum(), images)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"mean": MEAN}, "mean and std go together: give both or neither"),
        ({"std": STD}, "mean and std go together: give both or neither"),
        ({"mean": MEAN, "std": (1.0,)}, "mean and std must have a number a channel: got 1 for 3 channels"),
        ({"mean": (0.5,) * 4, "std": STD}, "mean and std must have a number a channel: got 4 for 3 channels"),
    ],
)
def test_a_mean_or_std_that_does_not_fit_is_refused(numbers, sentence):
    with pytest.raises(InputError, match=f"^{sentence}$"):
        extract_patches(make_images(), make_plan(), **numbers)
