"""Images of several lengths: padded with a mask or packed into a row, each is what it is alone."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("timm", reason="packs images for timm's models; the extra timm has it")

from helpers import random_saliency
from quadtok import Spec, get_quadtree, tokenize
from quadtok.errors import InputError
from quadtok.models import adapt
from quadtok.models.packing import PackedMask, pack, unpack
from vits import FEW, KINDS, SPEC, assert_close, make, make_bytes, make_images

TALL = replace(SPEC, num_tokens=24)
THRESHOLDS = torch.tensor([0.8, 0.3, 2.0, 0.6])


def several_lengths(spec=TALL):
    plan = get_quadtree()(random_saliency(spec, 4), spec, THRESHOLDS)
    assert plan.lengths.unique().numel() > 2
    return plan


def ends_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def alone(model, images, plan, image):
    return model(images[image : image + 1], plan=plan.unpadded(image))


@pytest.mark.parametrize("attention", ["padded", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_what_it_is_alone(kind, attention):
    model = adapt(make(kind), TALL, "blur", check=False, attention=attention)
    plan, images = several_lengths(), make_images(4)
    prefix = model.num_prefix_tokens
    with torch.no_grad():
        features, output = model.forward_features(images, plan=plan), model(images, plan=plan)
        for image in range(4):
            own = plan.unpadded(image)
            kept = prefix + own.spec.num_tokens
            assert_close(
                features[image : image + 1, :kept],
                model.forward_features(images[image : image + 1], plan=own),
                relative=4e-6,
            )
            if output.ndim == 2:
                assert_close(output[image : image + 1], alone(model, images, plan, image), relative=4e-6)


@pytest.mark.parametrize("kind", FEW)
def test_gradients_reach_every_image_and_no_padding(kind):
    gradients = {}
    plan = several_lengths()
    for attention in ("padded", "packed"):
        model = adapt(make(kind), TALL, "blur", check=False, attention=attention)
        images = make_images(4).requires_grad_()
        model(images, plan=plan).square().sum().backward()
        gradients[attention] = [images.grad, *(value.grad for value in model.parameters())]
        assert all(gradient is not None for gradient in gradients[attention])
    for packed, padded in zip(gradients["packed"], gradients["padded"], strict=True):
        if padded.abs().max() > 0:
            assert_close(packed, padded, relative=1e-4)


@pytest.mark.parametrize("kind", ["rope", "cls"])
def test_gradient_checkpointing_of_packed_images_gives_the_same_gradients(kind):
    plan, gradients = several_lengths(), []
    for enable in (False, True):
        model = adapt(make(kind), TALL, "blur", check=False, attention="packed")
        model.set_grad_checkpointing(enable)
        model(make_images(4), plan=plan).square().sum().backward()
        gradients.append([value.grad for value in model.parameters()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["cls", "parallel blocks", "DINOv3"])
def test_stochastic_depth_drops_packed_images_one_by_one_as_padded_ones(kind):
    plan, outputs = several_lengths(), {}
    for attention in ("padded", "packed"):
        model = adapt(make(kind, drop_path_rate=0.5), TALL, "blur", check=False, attention=attention).train()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            outputs[attention] = [model(make_images(4), plan=plan) for _ in range(4)]
    for packed, padded in zip(outputs["packed"], outputs["padded"], strict=True):
        assert_close(packed, padded, relative=2e-6)
    assert not torch.equal(padded, outputs["padded"][0])  # something was dropped


@pytest.mark.parametrize("kind", FEW)
def test_intermediate_maps_are_those_of_each_image_alone(kind):
    model = adapt(make(kind), TALL, "blur", check=False, attention="packed")
    plan, images = several_lengths(), make_images(4)
    with torch.no_grad():
        maps = model.forward_intermediates(images, plan=plan, intermediates_only=True)
        for image in range(4):
            own = model.forward_intermediates(
                images[image : image + 1], plan=plan.unpadded(image), intermediates_only=True
            )
            for ours, theirs in zip(maps, own, strict=True):
                assert_close(ours[image : image + 1], theirs, relative=2e-6)


@pytest.mark.parametrize("attention", ["auto", "padded", "packed"])
def test_a_threshold_and_tokens_give_images_of_several_lengths(attention):
    model = adapt(make("attention pool"), TALL, "blur", check=False, attention=attention, mean=[0.5] * 3, std=[0.5] * 3)
    threshold = float(tokenize(make_bytes(4), TALL, "blur").saliency[0].median())
    with torch.no_grad():
        output, plan = model(make_bytes(4), threshold=threshold, return_plan=True)
        tokens = tokenize(make_bytes(4), TALL, "blur", threshold=threshold)
        assert plan == tokens.plan
        assert_close(model(tokens), output, relative=2e-6)
        for image in range(4):
            assert_close(output[image : image + 1], model(tokens.unpadded(image)), relative=2e-6)


def test_images_of_one_length_need_neither():
    model = adapt(make("cls"), TALL, "blur", check=False, attention="packed")
    full = get_quadtree()(random_saliency(TALL, 2), TALL)
    with torch.no_grad():
        padded = adapt(make("cls"), TALL, "blur", check=False)(make_images(2), plan=full)
        assert torch.equal(model(make_images(2), plan=full), padded)


def test_half_precision_follows_its_input():
    model = adapt(make("rope").bfloat16(), TALL, "blur", check=False, attention="packed")
    reference = adapt(make("rope"), TALL, "blur", check=False, attention="padded")
    plan = several_lengths()
    with torch.no_grad():
        output = model(make_images(4).bfloat16(), plan=plan)
        assert output.dtype == torch.bfloat16
        assert_close(output.float(), reference(make_images(4), plan=plan), relative=5e-2)


class TestSizeBias:
    """A token of k cells counts as k tokens: as if its key stood there k times."""

    def by_definition(self, query, key, value, cells):
        return F.scaled_dot_product_attention(query, *(part.repeat_interleave(cells, dim=2) for part in (key, value)))

    def test_a_key_of_four_cells_counts_as_four(self):
        generator = torch.Generator().manual_seed(0)
        query, key, value = (torch.randn(1, 2, 5, 8, generator=generator) for _ in range(3))
        cells = torch.tensor([1, 4, 1, 16, 1])
        bias = cells.log()
        biased = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        torch.testing.assert_close(biased, self.by_definition(query, key, value, cells))
        packed = F.scaled_dot_product_attention(query, key, value, attn_mask=PackedMask.of([5], ends_of([5]), bias))
        torch.testing.assert_close(packed, biased)

    @pytest.mark.parametrize("kind", FEW)
    def test_it_is_the_same_padded_and_packed_and_alone(self, kind):
        plan, images, outputs = several_lengths(), make_images(4), {}
        with torch.no_grad():
            for attention in ("padded", "packed"):
                model = adapt(make(kind), TALL, "blur", check=False, attention=attention, size_bias=0.7)
                outputs[attention] = model(images, plan=plan)
                assert_close(outputs[attention][:1], alone(model, images, plan, 0), relative=2e-6)
            without = adapt(make(kind), TALL, "blur", check=False)(images, plan=plan)
        assert_close(outputs["packed"], outputs["padded"], relative=2e-6)
        assert not torch.allclose(outputs["padded"], without, atol=1e-4)

    def test_one_colour_without_positions_is_the_same_at_any_number_of_tokens(self):
        original = make("cls")
        with torch.no_grad():
            original.pos_embed.zero_()  # then only how often a cell counts is left of the plan
        model, images = adapt(original, TALL, "blur", check=False, size_bias=1), torch.full((4, 3, 32, 48), 0.3)
        with torch.no_grad():
            assert_close(model(images, plan=several_lengths()), original(images), relative=2e-6)

    def test_on_the_full_grid_it_changes_nothing(self):
        for kind in FEW:
            model = adapt(make(kind), TALL, "blur", size_bias=1)  # which checks just that
            assert model is not None

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True])
    def test_what_is_no_number_is_refused(self, value):
        with pytest.raises(InputError, match="size_bias must be a finite number"):
            adapt(make("cls"), SPEC, "blur", size_bias=value)


class TestMask:
    lengths = (3, 1, 4)

    def parts(self, generator_seed=0):
        generator = torch.Generator().manual_seed(generator_seed)
        return [torch.randn(1, 2, 8, 4, generator=generator) for _ in range(3)]

    def test_attention_under_it_is_attention_image_by_image(self):
        query, key, value = self.parts()
        blocks = torch.block_diag(*(torch.ones(length, length) for length in self.lengths)).bool()
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=blocks)
        mask = PackedMask.of(self.lengths, ends_of(self.lengths))
        torch.testing.assert_close(F.scaled_dot_product_attention(query, key, value, attn_mask=mask), expected)
        torch.testing.assert_close(F.scaled_dot_product_attention(query, key, value, mask, 0.0, False), expected)

    def test_it_is_a_tensor_like_others_else(self):
        mask = PackedMask.of(self.lengths, ends_of(self.lengths))
        assert (mask.dtype, mask.shape) == (torch.bool, (0,))

    def test_rows_come_back_where_they_were(self):
        keys = torch.tensor([[True, True, False], [True, False, False]])
        values = torch.arange(12.0).view(2, 3, 2)
        packed = pack(values, keys)
        assert packed.shape == (1, 3, 2)
        assert torch.equal(unpack(packed, keys), values * keys[..., None])


def test_a_way_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="there is no attention 'flash': choose one of auto, padded, packed"):
        adapt(make("cls"), SPEC, "blur", attention="flash")


def test_packing_is_refused_where_blocks_do_not_hand_their_mask_on():
    model = make("cls")
    for block in model.blocks:
        block.attn.fused_attn = False
    with pytest.raises(InputError, match='attention="packed" needs blocks'):
        adapt(model, SPEC, "blur", attention="packed")
    plan, images = several_lengths(), make_images(4)
    unfused = adapt(model, SPEC, "blur", check=False)  # padded then
    with torch.no_grad():
        fused = adapt(make("cls"), SPEC, "blur", check=False, attention="padded")(images, plan=plan)
        assert_close(unfused(images, plan=plan), fused, relative=1e-5)


class TestCompiled:
    def run(self, attention):
        torch._dynamo.reset()
        model = adapt(make("average"), TALL, "blur", check=False, attention=attention)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        with torch.no_grad():
            return compiled(make_images(4), threshold=torch.full((4,), 3.0)), model

    @pytest.mark.parametrize("attention", ["auto", "padded"])
    def test_several_lengths_compile_to_one_graph(self, attention):
        output, model = self.run(attention)
        with torch.no_grad():
            assert_close(output, model(make_images(4), threshold=3.0), relative=2e-6)

    def test_packing_says_that_it_cannot(self):
        with pytest.raises(Exception, match="packed attention looks at the lengths"):
            self.run("packed")


@pytest.mark.parametrize("attention", ["auto", "padded", "packed"])
def test_a_batch_of_no_image_has_nothing_to_pack(attention):
    model = adapt(make("cls"), TALL, "blur", check=False, attention=attention)
    assert model(make_images(2, TALL)[:0], threshold=1.0).shape == (0, 5)


def test_packing_is_refused_where_lengths_are_no_numbers():
    model = adapt(make("cls"), TALL, "blur", check=False, attention="packed").to("meta")
    with pytest.raises(InputError, match='packed attention looks at the lengths: .* run on "meta" with attention'):
        model(make_images(2, TALL).to("meta"), threshold=1.0)


def test_the_plan_may_have_a_spec_of_its_own():
    spec = Spec(64, 64, 8, 32, 40)
    plan = get_quadtree()(random_saliency(spec, 3), spec, torch.tensor([0.2, 0.5, 0.9]))
    model = adapt(make("DINOv3"), TALL, "blur", check=False, attention="packed")
    images = make_images(3, spec)
    with torch.no_grad():
        output = model(images, plan=plan)
        for image in range(3):
            assert_close(output[image : image + 1], alone(model, images, plan, image), relative=4e-6)
