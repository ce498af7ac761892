"""New parts of an adapted model: nothing at the start, learned from then on, and in the state dict by themselves."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("timm", reason="adapts timm's models; the extra timm has it")

from helpers import random_saliency
from quadtok import Spec, get_quadtree, tokenize
from quadtok.errors import InputError
from quadtok.models import adapt
from quadtok.models.detail import ScaleEmbedding, Subpatches
from vits import FEW, SPEC, assert_close, make, make_bytes, make_images, shaken

DEEP = Spec(64, 64, 8, 32, 31)
PARTS = {
    "scale embedding": {"scale_embedding": True},
    "detail": {"detail": "subpatch"},
    "both": {"scale_embedding": True, "detail": "subpatch"},
}
NEW_NAMES = {
    "scale embedding": {"quadtok.scale_embedding.weight"},
    "detail": {f"quadtok.subpatch.{part}.{name}" for part in ("merge", "out") for name in ("weight", "bias")},
}
NEW_NAMES["both"] = NEW_NAMES["scale embedding"] | NEW_NAMES["detail"]


def plan_of(spec, batch=2):
    return get_quadtree()(random_saliency(spec, batch), spec)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", FEW)
def test_at_the_start_nothing_is_changed_to_the_last_bit(kind, parts):
    original = make(kind)
    plan, images = plan_of(DEEP), make_images(2, DEEP)
    without, with_parts = (adapt(original, DEEP, "blur", **options) for options in ({}, PARTS[parts]))
    with torch.no_grad():
        assert torch.equal(with_parts(images, plan=plan), without(images, plan=plan))


@pytest.mark.parametrize("parts", PARTS)
def test_what_is_new_in_the_state_dict_is_under_one_prefix(parts):
    original = make("cls")
    model = adapt(original, SPEC, "blur", check=False, **PARTS[parts])
    new = model.state_dict().keys() - original.state_dict().keys()
    assert new == NEW_NAMES[parts]
    found = model.load_state_dict(original.state_dict(), strict=False)
    assert (set(found.missing_keys), found.unexpected_keys) == (new, [])
    again = adapt(original, SPEC, "blur", check=False, **PARTS[parts])
    again.load_state_dict(shaken(model).state_dict())


def test_without_new_parts_the_state_dict_is_the_originals():
    original = make("cls")
    assert adapt(original, SPEC, "blur", check=False).state_dict().keys() == original.state_dict().keys()


@pytest.mark.parametrize("parts", PARTS)
def test_new_parts_learn_from_the_first_step_on(parts):
    model = adapt(make("cls"), DEEP, "blur", check=False, **PARTS[parts])
    plan, images = plan_of(DEEP), make_images(2, DEEP)
    optimizer = torch.optim.SGD(model.quadtok.parameters(), lr=0.1)
    before = copy.deepcopy(model.quadtok.state_dict())
    with torch.no_grad():
        first = model(images, plan=plan)
    for _ in range(2):  # what lies before a layer of zeros moves from the second on
        optimizer.zero_grad()
        model(images, plan=plan).square().sum().backward()
        optimizer.step()
    moved = {name for name, value in model.quadtok.state_dict().items() if not torch.equal(value, before[name])}
    assert {f"quadtok.{name}" for name in moved} == NEW_NAMES[parts]
    with torch.no_grad():
        assert not torch.allclose(model(images, plan=plan), first)


class TestScaleEmbedding:
    def test_each_token_gets_the_vector_of_its_scale(self):
        part = ScaleEmbedding(3, torch.empty(6, 3, 8, 8))
        with torch.no_grad():
            part.weight.copy_(torch.arange(18.0).view(3, 6))
        plan = plan_of(DEEP)
        assert torch.equal(part(plan), part.weight[plan.scale])

    def test_a_plan_of_more_scales_is_refused(self):
        model = adapt(make("cls"), SPEC, "blur", check=False, scale_embedding=True)
        with pytest.raises(InputError, match="the plan has 3 scales, the model's scale embedding 2"):
            model(make_images(2, DEEP), plan=plan_of(DEEP))


class TestSubpatches:
    def shaken_part(self, dim=6):
        return shaken(Subpatches(torch.empty(dim, 3, 8, 8)))

    def by_definition(self, part, fine, plan, image, token):
        """Cut the token's own cells out, and merge them until one is left."""
        scale = int(plan.scale[image, token])
        if scale == 0:
            return torch.zeros(fine.shape[1])
        side = plan.spec.min_patch
        top, left = int(plan.top[image, token]) // side, int(plan.left[image, token]) // side
        own = fine[image : image + 1, :, top : top + 2**scale, left : left + 2**scale]
        for _ in range(scale):
            own = F.conv2d(own, part.merge.weight, part.merge.bias, stride=2)
        return F.linear(own[0, :, 0, 0], part.out.weight, part.out.bias)

    @pytest.mark.parametrize("spec", [DEEP, Spec(32, 96, 8, 16, 21), Spec(64, 64, 4, 64, 100)], ids=str)
    def test_a_coarse_token_gets_its_own_cells_merged(self, spec):
        part, plan = self.shaken_part(), plan_of(spec)
        fine = torch.randn(2, 6, *spec.grid(0), generator=torch.Generator().manual_seed(0))
        added = part(fine, plan)
        for image in range(2):
            for token in range(spec.num_tokens):
                expected = self.by_definition(part, fine, plan, image, token)
                torch.testing.assert_close(added[image, token], expected, rtol=1e-5, atol=1e-5)

    def test_where_there_is_one_scale_nothing_is_added(self):
        spec = Spec.full(32, 32, 8, 8)
        added = self.shaken_part()(torch.randn(2, 6, 4, 4), plan_of_one_scale(spec))
        assert added.shape == (2, 16, 6)
        assert not added.any()

    def test_it_begins_as_the_mean_of_four_behind_a_zero(self):
        part = Subpatches(torch.empty(6, 3, 8, 8, dtype=torch.bfloat16))
        fine = torch.randn(1, 6, 4, 4).bfloat16()
        assert torch.equal(part.merge(fine), F.avg_pool2d(fine, 2))
        assert not part.out.weight.any() and not part.out.bias.any()

    def test_making_one_draws_no_random_numbers(self):
        before = torch.get_rng_state()
        adapt(make("cls"), SPEC, "blur", check=False, detail="subpatch", scale_embedding=True)
        assert torch.equal(torch.get_rng_state(), before)


def plan_of_one_scale(spec):
    from quadtok import Plan

    return Plan.uniform(spec, 0, batch=2)


def test_bytes_and_floats_give_the_same_detail():
    model = shaken(adapt(make("cls"), DEEP, "blur", check=False, detail="subpatch", mean=[0.5] * 3, std=[0.25] * 3))
    pixels, plan = make_bytes(2, DEEP), plan_of(DEEP)
    with torch.no_grad():
        floats = (pixels.float() / 255 - 0.5) / 0.25
        assert_close(model(pixels, plan=plan), model(floats, plan=plan))


def test_stored_tokens_have_not_kept_the_fine_pixels():
    model = adapt(make("cls"), DEEP, "blur", check=False, detail="subpatch")
    tokens = tokenize(make_bytes(2, DEEP), DEEP, "blur")
    with pytest.raises(InputError, match="give the images, and plan=tokens.plan"):
        model(tokens)
    assert model(make_bytes(2, DEEP), plan=tokens.plan).shape == (2, 5)


def test_a_detail_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="there is no detail 'pixels': use \"subpatch\", or None"):
        adapt(make("cls"), SPEC, "blur", detail="pixels")


@pytest.mark.parametrize("attention", ["padded", "packed"])
def test_several_lengths_have_the_detail_of_each_image_alone(attention):
    spec = replace(DEEP, num_tokens=64)
    plan = get_quadtree()(random_saliency(spec, 3), spec, torch.tensor([0.2, 0.6, 0.9]))
    options = {"detail": "subpatch", "scale_embedding": True, "attention": attention}
    model = shaken(adapt(make("rope"), spec, "blur", check=False, **options))
    images = make_images(3, spec)
    with torch.no_grad():
        output = model(images, plan=plan)
        for image in range(3):
            alone = model(images[image : image + 1], plan=plan.unpadded(image))
            assert_close(output[image : image + 1], alone, relative=2e-6)


def test_it_compiles_to_one_graph():
    torch._dynamo.reset()
    model = shaken(adapt(make("cls"), DEEP, "blur", check=False, detail="subpatch", scale_embedding=True))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert_close(compiled(make_images(2, DEEP)), model(make_images(2, DEEP)))
