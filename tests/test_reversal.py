"""Features laid over the cells they cover: the golden, a painting loop, gradients (docs/reference.md section 6)."""

import pytest
import torch

from helpers import SPECS, boxes, golden, golden_plan, order_by_scale, random_saliency
from quadtok import Plan, Spec, get_quadtree, reverse, reverse_patches, tokenize
from quadtok.errors import InputError


def make_plan(spec, batch=2):
    if spec.num_scales == 1:
        return Plan.uniform(spec, 0, batch)
    return get_quadtree()(random_saliency(spec, batch), spec)


def painted(features, plan):
    """Each token's features written into its cells, box by box."""
    rows, cols = plan.spec.grid(0)
    volume = features.new_zeros(len(plan), features.shape[2], rows, cols)
    for image in range(len(plan)):
        for token, (left, top, size) in enumerate(boxes(plan, image)):
            x, y, side = (number // plan.spec.min_patch for number in (left, top, size))
            volume[image, :, y : y + side, x : x + side] = features[image, token, :, None, None]
    return volume


def test_the_volume_is_the_references():
    data, plan = golden("reverse_256"), golden_plan("tokens_256_16_64_100_blur")
    order = order_by_scale(plan)[..., None].expand_as(data["embeddings"])
    ours = torch.empty_like(data["embeddings"]).scatter_(1, order, data["embeddings"])
    assert torch.equal(reverse(ours, plan), data["volume"])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_cell_holds_the_features_of_the_token_over_it(spec, device):
    plan = make_plan(spec)
    features = torch.randn(2, spec.num_tokens, 3)
    volume = reverse(features.to(device), plan.to(device))
    assert volume.device.type == device
    assert torch.equal(volume.cpu(), painted(features, plan))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("width", [0, 1, 17])
def test_features_of_any_width_and_type_keep_them(dtype, width):
    spec = SPECS[0]
    features = (torch.randn(2, spec.num_tokens, width) * 3).to(dtype)
    volume = reverse(features, make_plan(spec))
    assert volume.dtype == dtype
    assert volume.shape == (2, width, 16, 16)
    assert torch.equal(volume, painted(features, make_plan(spec)))


def mixed_plan(spec, roots):
    """Roots in raster order, each left whole (2) or cut to its finest cells (0): scale 1 never appears."""
    left, top, scale = [], [], []
    for root, finest in enumerate(roots):
        y, x = divmod(root, spec.width // spec.max_patch)
        step = spec.patch_size(finest)
        for dy in range(0, spec.max_patch, step):
            for dx in range(0, spec.max_patch, step):
                left.append(x * spec.max_patch + dx)
                top.append(y * spec.max_patch + dy)
                scale.append(finest)
    return Plan.from_boxes(*(torch.tensor([numbers]) for numbers in (left, top, scale)), spec)


@pytest.mark.parametrize(
    ("roots", "tokens"),
    [((2, 0), 17), ((0, 2), 17), ((2, 2), 2), ((0, 0), 32)],
    ids=["middle missing", "middle missing, fine first", "only the coarsest", "only the finest"],
)
def test_scales_that_are_missing_do_not_matter(roots, tokens):
    # The reference counts the distinct scales that are present, and so takes the coarse patches for middle ones.
    plan = mixed_plan(Spec(8, 16, 2, 8, tokens), roots)
    assert 1 not in plan.scale
    features = torch.randn(1, tokens, 2)
    assert torch.equal(reverse(features, plan), painted(features, plan))


def test_a_token_may_be_read_back_at_its_own_corner():
    plan, features = make_plan(SPECS[0]), torch.randn(2, SPECS[0].num_tokens, 4)
    volume, size = reverse(features, plan), SPECS[0].min_patch
    back = volume[torch.arange(2)[:, None], :, plan.top // size, plan.left // size]
    assert torch.equal(back, features)


def test_on_the_uniform_grid_of_one_root_scale_it_is_a_reshape():
    spec = Spec(32, 48, 8, 8, 24)
    features = torch.randn(2, 24, 5)
    expected = features.transpose(1, 2).view(2, 5, 4, 6)
    assert torch.equal(reverse(features, Plan.uniform(spec, 0, batch=2)), expected)


def test_each_token_gets_as_many_gradients_as_it_has_cells():
    plan = make_plan(SPECS[0])
    features = torch.randn(2, SPECS[0].num_tokens, 3, requires_grad=True)
    reverse(features, plan).sum().backward()
    assert torch.equal(features.grad, (4.0**plan.scale)[..., None].expand(-1, -1, 3))


def test_features_that_lie_in_memory_in_another_order_are_read_right():
    plan = make_plan(SPECS[0])
    strided = torch.randn(2, 3, SPECS[0].num_tokens).transpose(1, 2)
    assert torch.equal(reverse(strided, plan), painted(strided, plan))


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (
            (2, 101, 4),
            r"shape \[2, 101, 4\], .* 2 images of 100 tokens: .*\[2, 100, D\].* cls .*pass features\[:, 1:\]",
        ),
        ((2, 99, 4), r"shape \[2, 99, 4\], the plan has 2 images of 100 tokens: expected \[2, 100, D\]$"),
        ((3, 100, 4), r"shape \[3, 100, 4\], the plan has 2 images .* expected \[2, 100, D\]$"),
        ((2, 100), r"shape \[2, 100\], .* expected \[2, 100, D\]$"),
    ],
)
def test_features_of_other_tokens_are_refused_with_both_shapes(shape, sentence):
    with pytest.raises(InputError, match=sentence):
        reverse(torch.zeros(shape), make_plan(SPECS[0]))


class TestPatches:
    """reverse_patches: what the tokens keep of the image."""

    @pytest.mark.parametrize("smooth", [False, True])
    def test_a_full_grid_is_the_image(self, device, smooth):
        spec = Spec(64, 96, 8, 32, 96)
        images = torch.rand(2, 5, 64, 96, device=device)
        tokens = tokenize(images, spec, "blur")
        assert torch.equal(reverse_patches(tokens.patches, tokens.plan, smooth), images)

    @pytest.mark.parametrize("smooth", [False, True])
    @pytest.mark.parametrize("spec", SPECS, ids=str)
    def test_each_box_holds_its_own_token_enlarged(self, spec, smooth):
        saliency = random_saliency(spec, 2)
        plan = get_quadtree()(saliency, spec) if saliency else Plan.uniform(spec, 0, batch=2)
        size = spec.min_patch
        patches = torch.rand(2, spec.num_tokens, 2, size, size)
        image = reverse_patches(patches, plan, smooth)
        for token in range(0, spec.num_tokens, 7):
            left, top, side = (int(field[1, token]) for field in (plan.left, plan.top, plan.size))
            mode = {"mode": "bilinear"} if smooth else {"mode": "nearest"}
            expected = torch.nn.functional.interpolate(patches[1, token][None], size=(side, side), **mode)[0]
            # Two float32 interpolations, whose weights are rounded in another order.
            torch.testing.assert_close(image[1, :, top : top + side, left : left + side], expected, rtol=0, atol=2e-6)

    def test_gradients_flow(self):
        spec = Spec(8, 8, 2, 4, 7)
        plan = get_quadtree()(random_saliency(spec, 1), spec)
        patches = torch.rand(1, 7, 1, 2, 2, dtype=torch.float64, requires_grad=True)
        for smooth in (False, True):
            assert torch.autograd.gradcheck(
                lambda pixels, smooth=smooth: reverse_patches(pixels, plan, smooth), patches
            )

    def test_patches_of_another_plan_are_refused_with_both_shapes(self):
        plan = Plan.uniform(Spec(8, 8, 2, 4, 4), 1)
        with pytest.raises(InputError, match=r"\[1, 5, 3, 2, 2\], expected \[1, 4, C, 2, 2\]"):
            reverse_patches(torch.rand(1, 5, 3, 2, 2), plan)


def test_integers_are_repeated_but_not_interpolated():
    spec = Spec(64, 64, 8, 32, 19)
    plan, patches = make_plan(spec), torch.randint(256, (2, 19, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(reverse_patches(patches, plan), reverse_patches(patches.float(), plan).byte())
    with pytest.raises(InputError, match=r"patches are torch.uint8: only floating .* give patches.float\(\)"):
        reverse_patches(patches, plan, smooth=True)


def test_features_and_patches_on_another_device_than_the_plan_are_refused():
    spec = Spec(64, 64, 8, 32, 19)
    plan = make_plan(spec)
    with pytest.raises(InputError, match=r"the features are on meta, the plan on cpu: move one \(plan.to\)"):
        reverse(torch.zeros(2, 19, 5, device="meta"), plan)
    with pytest.raises(InputError, match="the patches are on meta, the plan on cpu"):
        reverse_patches(torch.zeros(2, 19, 3, 8, 8, device="meta"), plan)


NO_DENSE_TENSORS = [
    (lambda values: values.numpy(), "must be one tensor, got ndarray"),
    (lambda _: None, "must be one tensor, got NoneType"),
    (lambda values: values.to_sparse(), "must be dense, got a tensor torch.sparse_coo"),
    (lambda values: torch.nested.nested_tensor(list(values)), "must be dense, got a nested tensor"),
    (lambda values: torch.quantize_per_tensor(values, 1, 0, torch.qint8), "must be plain numbers, got torch.qint8"),
]


@pytest.mark.filterwarnings("ignore")  # of torch, about quantised tensors
@pytest.mark.parametrize(("change", "sentence"), NO_DENSE_TENSORS)
def test_what_is_no_dense_tensor_is_refused_for_what_it_is(change, sentence):
    plan = make_plan(Spec(64, 64, 8, 32, 19))
    with pytest.raises(InputError, match=f"features {sentence}"):
        reverse(change(torch.zeros(2, 19, 5)), plan)
    with pytest.raises(InputError, match=f"patches {sentence}"):
        reverse_patches(change(torch.zeros(2, 19, 3, 8, 8)), plan)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0)])
def test_no_images_or_no_channels_are_reversed_to_none(smooth, batch, channels):
    plan = make_plan(Spec(64, 64, 8, 32, 19))[:batch]
    assert reverse_patches(torch.zeros(batch, 19, channels, 8, 8), plan, smooth).shape == (batch, channels, 64, 64)
