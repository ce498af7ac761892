"""timm's ViTs read mixed-resolution tokens: on the full grid they are the originals, whatever the order of tokens."""

import copy
import io

import pytest
import torch
from torch import nn

pytest.importorskip("timm", reason="adapts timm's models; the extra timm has it")

import timm.optim
import timm.utils
from packaging.version import Version
from timm.models.vision_transformer import VisionTransformer

from helpers import assert_same_plan, random_saliency
from quadtok import Plan, Spec, get_quadtree
from quadtok.errors import InputError
from quadtok.models import adapt
from quadtok.models.positions import at_centers
from quadtok.models.rope import rope_at_centers
from vits import (
    FEW,
    KINDS,
    SPEC,
    TINY,
    assert_close,
    in_raster_order,
    make,
    make_bytes,
    make_images,
    resized,
    shuffled,
)

FULL = SPEC.num_cells
LARGE = Spec.full(144, 152, 8, 8)


def adapted(kind, spec=SPEC, **options):
    return adapt(make(kind, **options), spec, "blur", check=False)


def full_grid(spec=SPEC, batch=2):
    return Plan.uniform(Spec.full(spec.height, spec.width, spec.min_patch, spec.max_patch), 0, batch)


def timm_runs(kind, dtype):
    """Whether timm's own model runs in this precision."""
    return dtype == torch.float32 or "mixed" not in kind or Version(timm.__version__) >= Version("1.0.31")


def mixed(batch=2, spec=SPEC, seed=0):
    return get_quadtree("parallel")(random_saliency(spec, batch, seed), spec)


def assert_equals_original(model, original, images, plan):
    """On a plan of the finest cells: every token, and the output where it is one of the image."""
    with torch.no_grad():
        features, output = model.forward_features(images, plan=plan), model(images, plan=plan)
        theirs = original.forward_features(images)
        assert_close(in_raster_order(features, plan, original.num_prefix_tokens), theirs)
        if output.ndim == 2:
            assert_close(output, original(images))


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_full_grid_in_any_order_the_adapted_model_is_the_original(kind):
    original = make(kind)
    model = adapt(original, SPEC, "blur", check=False)
    for plan in (full_grid(), shuffled(full_grid())):
        assert_equals_original(model, original, make_images(), plan)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (16, 64), (64, 96)], ids=str)
def test_at_other_sizes_it_is_the_original_as_timm_resizes_it(kind, size):
    original = make(kind)
    spec = Spec.full(*size, 8, 16)
    model = adapt(original, SPEC, "blur", check=False)
    assert_equals_original(model, resized(original, *size), make_images(2, spec), full_grid(spec))


@pytest.mark.parametrize("kind", FEW)
def test_at_other_sizes_it_is_the_original_with_dynamic_sizes(kind):
    spec = Spec.full(48, 80, 8, 16)
    original = make(kind, dynamic_img_size=True)
    assert_equals_original(adapted(kind), original, make_images(2, spec), full_grid(spec))
    assert_equals_original(adapted(kind, dynamic_img_size=True), original, make_images(2, spec), full_grid(spec))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_read_as_it_would_be_alone(kind):
    model, images, plan = adapted(kind), make_images(3), mixed(3)
    with torch.no_grad():
        together = model(images, plan=plan)
        for image in range(3):
            assert_close(model(images[image : image + 1], plan=plan[image]), together[image : image + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_and_every_pixel_that_is_read_gets_a_gradient(kind):
    model, images = adapted(kind).train(), make_images().requires_grad_()
    output = model(images, plan=mixed())
    output = output[0] + output[1] if isinstance(output, tuple) else output
    output.square().sum().backward()
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    # A key's bias shifts all scores of a query alike, and a pool that leaves prefix tokens out leaves out their rows.
    assert [name for name in silent if "k_bias" not in name] == []
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_dict_is_the_originals_both_ways(kind):
    original = make(kind)
    model = adapt(original, SPEC, "blur", check=False)
    ours, theirs = model.state_dict(), original.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    other = KINDS[kind]()
    model.load_state_dict(other.state_dict(), strict=True)
    original.load_state_dict(model.state_dict(), strict=True)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in original.state_dict().items())


def test_the_original_stays_as_it_is_and_shares_nothing():
    original = make("cls").train()
    before, kind = copy.deepcopy(original.state_dict()), type(original)
    model = adapt(original, SPEC, "blur")
    assert type(original) is kind and original.training and all(module.training for module in original.modules())
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())


def test_timms_own_tools_work_on_it():
    model = adapted("cls")
    assert isinstance(model, VisionTransformer)
    assert model.no_weight_decay() == VisionTransformer.no_weight_decay(model)
    assert model.group_matcher()["blocks"]
    timm.optim.create_optimizer_v2(model, "adamw", lr=1e-3, layer_decay=0.7)
    timm.utils.ModelEmaV3(model).update(model)
    model.reset_classifier(3, "avg")
    assert model(make_images()).shape == (2, 3)
    model.set_input_size((64, 64))
    assert model(make_images()).shape == (2, 3)
    assert model.get_intermediate_layers(make_images(), 2, reshape=True, norm=True)[0].shape == (2, 32, 4, 6)
    assert model.prune_intermediate_layers([0]) == [0]
    assert model(make_images()).shape == (2, 1 + SPEC.num_tokens, 32)


@pytest.mark.parametrize("kind", FEW)
def test_a_copy_and_a_pickled_one_give_the_same(kind):
    model, images, plan = adapted(kind), make_images(), mixed()
    expected = model(images, plan=plan)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(other(images, plan=plan), expected)
        assert other.spec == model.spec


@pytest.mark.parametrize("kind", FEW)
def test_gradient_checkpointing_saves_memory_and_changes_nothing(kind):
    images, plan, gradients = make_images(), mixed(), []
    for checkpointing in (False, True):
        model, saved = adapted(kind), []
        model.set_grad_checkpointing(checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor) or tensor, lambda tensor: tensor
        ):
            output = model(images, plan=plan)
        output.square().sum().backward()
        gradients.append((len(saved), [value.grad for value in model.parameters() if value.grad is not None]))
    (all_saved, expected), (few_saved, ours) = gradients
    assert few_saved < all_saved / 2
    for gradient, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", FEW)
def test_a_model_in_half_precision_chooses_the_same_plan_and_comes_close(kind, dtype):
    model, images = adapted(kind), make_bytes()
    expected, plan = model(images, return_plan=True)
    output, same = model.to(dtype)(images, return_plan=True)
    assert output.dtype == dtype
    assert_same_plan(same, plan)
    # bfloat16 keeps 8 bits, float16 keeps 11; two blocks add to that.
    assert_close(output.float(), expected, 0.1 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("kind", FEW)
def test_autocast_chooses_the_same_plan_and_comes_close(kind):
    model, images = adapted(kind), make_bytes()
    expected, plan = model(images, return_plan=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, same = model(images, return_plan=True)
    assert_same_plan(same, plan)
    assert_close(output.float(), expected, 0.1)


@pytest.mark.parametrize("kind", FEW)
def test_double_precision_is_kept_throughout(kind):
    if not timm_runs(kind, torch.float64):
        pytest.skip("the mixed rope of timm before 1.0.31 runs in single precision alone")
    original = make(kind).double()
    model = adapt(original, SPEC, "blur", check=False)
    with torch.no_grad():
        features = model.forward_features(make_images().double(), plan=shuffled(full_grid()))
        theirs = original.forward_features(make_images().double())
    # timm's rotary bands are float32 numbers.
    assert_close(in_raster_order(features, shuffled(full_grid()), original.num_prefix_tokens), theirs, 1e-7)


@pytest.mark.parametrize("kind", FEW)
def test_torchs_default_type_changes_nothing(kind):
    model, images, plan = adapted(kind), make_images(), mixed()
    expected = model(images, plan=plan)
    torch.set_default_dtype(torch.float64)
    try:
        output = model(images, plan=plan)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(output, expected)


@pytest.mark.parametrize("kind", ["cls", "DINOv3", "average with prefix", "attention pool past registers"])
def test_maps_of_the_full_grid_are_timms_own(kind):
    original, images = make(kind), make_images()
    model = adapt(original, SPEC, "blur", check=False)
    options = {"norm": True, "return_prefix_tokens": True}
    with torch.no_grad():
        features, ours = model.forward_intermediates(images, num_tokens=FULL, **options)
        expected, theirs = original.forward_intermediates(images, **options)
    assert len(ours) == len(theirs) == TINY["depth"]
    assert features.shape == expected.shape
    for (grid, prefix), (other_grid, other_prefix) in zip(ours, theirs, strict=True):
        assert_close(grid, other_grid)
        assert_close(prefix, other_prefix)


class Windowed(nn.Module):
    """Attention that goes by the order of tokens."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, x, **options):
        return self.attention(x, **options) + x.roll(1, dims=1)


def test_a_part_that_goes_by_the_order_of_tokens_is_found_by_the_check():
    model = make("cls")
    model.blocks[1].attn = Windowed(model.blocks[1].attn)
    with pytest.raises(InputError, match=r"on the full grid the adapted model's features differ .* by \d.*check=False"):
        adapt(model, SPEC, "blur")
    adapt(model, SPEC, "blur", check=False)


@pytest.mark.parametrize("kind", ["cls", "registers without rows"])
def test_positions_of_the_neighbouring_cell_are_found_by_the_check(kind, monkeypatch):
    monkeypatch.setattr("quadtok.models.timm.at_centers", lambda table, plan: at_centers(table.roll(1, 1), plan))
    with pytest.raises(InputError, match="on the full grid the adapted model's features differ from the original's by"):
        adapt(make(kind), SPEC, "blur")


@pytest.mark.parametrize("kind", ["rope", "DINOv3", "mixed rope"])
def test_rope_that_is_half_a_cell_off_is_found_by_the_check(kind, monkeypatch):
    class Shifted(Plan):
        centers = property(lambda self: super().centers + 0.5)

    def half_a_cell_off(rope, plan):
        return rope_at_centers(rope, Shifted(plan.left, plan.top, plan.scale, plan.spec))

    monkeypatch.setattr("quadtok.models.timm.rope_at_centers", half_a_cell_off)
    with pytest.raises(InputError, match="on the full grid the adapted model's features differ from the original's by"):
        adapt(make(kind), SPEC, "blur")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_check_passes_in_every_precision_and_keeps_every_mode(kind, dtype):
    if timm_runs(kind, dtype):
        model = make(kind).to(dtype).train()
        model.blocks[0].eval()
        before = torch.random.get_rng_state()
        result = adapt(model, SPEC, "blur")
        assert torch.equal(torch.random.get_rng_state(), before)
        assert [module.training for module in result.modules()] == [module.training for module in model.modules()]


@pytest.mark.parametrize("rate", ["drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_the_check_passes_for_a_model_that_trains_with_dropout(rate):
    model = adapt(make("cls", **{rate: 0.5}).train(), SPEC, "blur")
    assert not torch.equal(model(make_images(), plan=mixed()), model(make_images(), plan=mixed()))


@pytest.mark.parametrize("kind", FEW)
def test_the_check_takes_models_of_any_size(kind):
    adapt(make(kind, dynamic_img_size=True), SPEC, "blur")
    adapt(make(kind, img_size=(36, 44)), SPEC, "blur")  # no whole number of patches


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_large_images_is_checked_on_a_smaller_one_and_stays_as_it_is(kind):
    original = make(kind, img_size=(144, 152))  # 18 × 19 patches
    before = copy.deepcopy(original)
    sizes = []
    hook = original.patch_embed.register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].shape[2:]))
    model = adapt(original, SPEC, "blur")
    hook.remove()
    assert all(height * width < 144 * 152 for height, width in sizes) and sizes
    for checked in (original, model):
        assert checked.patch_embed.img_size == (144, 152)
        assert checked.state_dict().keys() == before.state_dict().keys()
        assert all(torch.equal(value, before.state_dict()[name]) for name, value in checked.state_dict().items())
    assert_equals_original(model, before, make_images(2, LARGE), full_grid(LARGE))


def test_half_a_cell_is_found_in_a_model_of_large_images(monkeypatch):
    monkeypatch.setattr("quadtok.models.timm.at_centers", lambda table, plan: table.flatten(0, 1)[None])
    with pytest.raises(InputError, match="the adapted model's features differ from the original's by"):
        adapt(make("cls", img_size=(144, 152)), SPEC, "blur")
