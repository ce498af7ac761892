"""Plans with lengths: whoever reads a plan sees each image's own tokens and nothing of the padding behind them.

The oracle is the image alone: `plan.unpadded(image)` is an ordinary plan (tests/quadtrees/test_threshold.py).
"""

import math
from dataclasses import replace

import pytest
import torch

from helpers import assert_same_plan, saliency_of_kind
from quadtok import (
    Plan,
    QuadtreeTokenizer,
    Spec,
    extract_patches,
    get_quadtree,
    load_tokens,
    render,
    render_tokens,
    reverse,
    reverse_patches,
    save_tokens,
    tokenize,
)
from quadtok.errors import InputError
from quadtok.storage.content import describe_tokens

SPEC = Spec(64, 96, 4, 16, 120)
THRESHOLDS = torch.tensor([0.3, 0.9, 0.5, math.inf])
FIELDS = ("left", "top", "scale")


def padded_plan():
    return get_quadtree()(saliency_of_kind("random", SPEC, batch=4), SPEC, THRESHOLDS)


def images(dtype=torch.uint8):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 3, SPEC.height, SPEC.width), generator=generator, dtype=torch.uint8)
    return pixels if dtype == torch.uint8 else (pixels / 128 - 1).to(dtype)


class Scorer:
    """The saliency of `padded_plan`, whatever the images."""

    def __call__(self, pixels, spec):
        return saliency_of_kind("random", spec, batch=len(pixels))


def padded_tokens(dtype=torch.uint8):
    return tokenize(images(dtype), SPEC, Scorer(), threshold=THRESHOLDS)


def test_the_plan_has_images_from_the_roots_alone_to_the_cap():
    assert padded_plan().lengths.tolist() == [120, 39, 117, 24]


class TestPlan:
    def test_valid_lengths_and_offsets_say_the_same(self):
        plan = padded_plan()
        assert plan.valid.shape == (4, SPEC.num_tokens)
        assert torch.equal(plan.valid.sum(dim=1), plan.lengths)
        assert not plan.valid[:, :-1].logical_not().logical_and(plan.valid[:, 1:]).any()
        for prefix in (0, 5):
            offsets = plan.cu_seqlens(prefix)
            assert offsets.dtype == torch.int32
            assert offsets[0] == 0
            assert torch.equal(offsets.diff(), (plan.lengths + prefix).int())
            assert plan.max_seqlen(prefix) == int(plan.lengths.max()) + prefix
            assert type(plan.max_seqlen(prefix)) is int

    def test_without_lengths_all_slots_hold_tokens(self):
        plan = get_quadtree()(saliency_of_kind("random", SPEC), SPEC)
        assert plan.valid.all()
        assert plan.cu_seqlens(1).tolist() == [0, 121, 242, 363]
        assert plan.max_seqlen(1) == 121
        assert plan.unpadded(2) == plan[2]

    @pytest.mark.parametrize("image", range(4))
    def test_each_image_reads_as_if_it_were_alone(self, image):
        plan, alone = padded_plan()[image], padded_plan().unpadded(image)
        assert alone.lengths is None
        count = alone.spec.num_tokens
        assert torch.equal(plan.cell_to_token, alone.cell_to_token)
        assert torch.equal(plan.counts, alone.counts)
        for name in ("size", "centers"):
            assert torch.equal(getattr(plan, name)[:, :count], getattr(alone, name))
        assert torch.equal(plan.first_cell()[:, :count], alone.first_cell())
        assert (plan.first_cell()[:, count:] == SPEC.num_cells).all()

    def test_from_boxes_takes_tokens_in_any_order_before_their_padding(self):
        plan = padded_plan()
        mixed = {name: getattr(plan, name).clone() for name in FIELDS}
        for image, length in enumerate(plan.lengths.tolist()):
            order = torch.randperm(length, generator=torch.Generator().manual_seed(image))
            for field in mixed.values():
                field[image, :length] = field[image, order]
        again = Plan.from_boxes(**mixed, spec=SPEC, lengths=plan.lengths.int())
        assert_same_plan(again, plan)
        assert torch.equal(again.lengths, plan.lengths)

    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            (lambda plan: plan.lengths.sub_(3), "tokens do not tile image 0|image 3 has 21 tokens: it must have 24"),
            (lambda plan: plan.lengths[:1].add_(1), "token|tokens do not tile image 0 exactly once"),
            (lambda plan: plan.lengths[:1].fill_(121), r"image 0 has 121 tokens: it must have 24 \(the roots\) to 120"),
            (lambda plan: plan.lengths[:1].fill_(0), r"image 0 has 0 tokens: it must have 24 \(the roots\) to 120"),
            (lambda plan: plan.left[3, -1:].fill_(4), "left of slot 119 of image 3 is 4: padding must be 0"),
            (lambda plan: plan.scale[3, 24:25].fill_(1), "scale of slot 24 of image 3 is 1: padding must be 0"),
            (lambda plan: plan.left[1, :1].fill_(4), "image 1"),
        ],
    )
    def test_what_does_not_tile_is_refused_with_the_place(self, spoil, sentence):
        plan = padded_plan()
        spoil(plan)
        with pytest.raises(InputError, match=sentence):
            plan.check_tiling()

    @pytest.mark.parametrize(
        ("lengths", "sentence"),
        [
            (torch.zeros(3, dtype=torch.long), r"lengths have shape \[3\], there are 4 images"),
            (torch.zeros(4), r"lengths of a plan must be integers \(tokens of an image\), got torch.float32"),
            ([24] * 4, "lengths of a plan must be integers .*got list"),
        ],
    )
    def test_what_are_no_lengths_is_refused(self, lengths, sentence):
        plan = padded_plan()
        with pytest.raises(InputError, match=sentence):
            Plan.from_boxes(plan.left, plan.top, plan.scale, SPEC, lengths)

    def test_a_dict_holds_the_lengths_and_gives_the_plan_back(self):
        plan = padded_plan()
        again = Plan.from_dict(plan.to_dict())
        assert again == plan
        assert torch.equal(again.lengths, plan.lengths)
        assert again.to_dict()["lengths"] is not plan.lengths

    def test_lengths_of_a_dict_must_lie_in_memory(self):
        told = padded_plan().to_dict() | {"lengths": torch.tensor(120).expand(4)}
        with pytest.raises(InputError, match=r"lengths of a plan must be numbers in memory, got \[4\] of fewer"):
            Plan.from_dict(told)

    def test_tokens_of_a_dict_must_come_in_order(self):
        told = padded_plan().to_dict()
        for name in FIELDS:
            told[name][0, :2] = told[name][0, :2].flip(0)
        with pytest.raises(InputError, match="forest z-order"):
            Plan.from_dict(told)

    def test_plans_are_equal_where_their_tokens_are(self):
        plan = padded_plan()
        full = get_quadtree()(saliency_of_kind("random", SPEC), SPEC)
        assert plan == padded_plan()
        assert plan != replace(plan, lengths=plan.lengths.roll(1))
        assert replace(full, lengths=torch.full((3,), 120)) == full
        assert replace(full, lengths=torch.full((3,), 117)) != full

    def test_slices_and_devices_take_the_lengths_along(self):
        plan = padded_plan()
        assert plan[1:3].lengths.tolist() == plan.lengths[1:3].tolist()
        assert plan[-1].lengths.tolist() == [24]
        assert plan.to("meta").lengths.is_meta

    def test_a_line_of_words_says_how_many_tokens_there_are(self):
        plan = padded_plan()
        least, most = int(plan.lengths.min()), int(plan.lengths.max())
        assert f"4 images of 64×96, {least} to {most} tokens each: " in repr(plan)
        assert "1 image of 64×96, 24 tokens: 0 of 4 px, 0 of 8 px, 24 of 16 px" in repr(plan[3])
        assert "4 images of 64×96, at most 120 tokens each of 4, 8, 16 px, on meta" in repr(plan.to("meta"))
        assert "0 images of 64×96, at most 120 tokens" in repr(plan[:0])

    def test_a_notebook_shows_the_picture_of_each_image(self):
        assert padded_plan()._repr_png_() is not None
        assert padded_plan()[3]._repr_png_() == padded_plan().unpadded(3)._repr_png_()


class TestPatches:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("options", [{}, {"mean": [0.5] * 3, "std": [0.2] * 3}], ids=["as they are", "normalised"])
    def test_a_padded_slot_holds_zeros_and_a_token_its_pixels(self, dtype, options):
        plan = padded_plan()
        patches = extract_patches(images(dtype), plan, **options)
        for image in range(4):
            alone = plan.unpadded(image)
            count = alone.spec.num_tokens
            own = extract_patches(images(dtype)[image : image + 1], alone, **options)
            assert torch.equal(patches[image : image + 1, :count], own)
            assert not patches[image, count:].any()

    def test_a_nan_in_the_corner_does_not_come_in(self):
        pixels = images(torch.float32)
        pixels[:, :, 0, 0] = math.nan
        plan = padded_plan()
        out = torch.full((4, 120, 3, 4, 4), 7.0)
        for patches in (extract_patches(pixels, plan), extract_patches(pixels, plan, out=out), out):
            assert not patches[~plan.valid].any()

    def test_padded_slots_give_no_gradient(self):
        plan = padded_plan()
        pixels = images(torch.float32).requires_grad_()
        weights = torch.rand(4, 120, 3, 4, 4, generator=torch.Generator().manual_seed(2))
        (extract_patches(pixels, plan) * weights).sum().backward()
        for image in range(4):
            alone = plan.unpadded(image)
            own = images(torch.float32)[image : image + 1].requires_grad_()
            (extract_patches(own, alone) * weights[image, : alone.spec.num_tokens]).sum().backward()
            assert torch.equal(pixels.grad[image : image + 1], own.grad)


class TestTokens:
    def test_tokenize_gives_each_image_its_own_tokens(self):
        tokens = padded_tokens()
        assert_same_plan(tokens.plan, padded_plan())
        for image in range(4):
            alone = tokenize(
                images()[image : image + 1],
                replace(SPEC, num_tokens=int(tokens.plan.lengths[image])),
                lambda _, spec, row=image: [scores[row : row + 1] for scores in Scorer()(images(), spec)],
            )
            assert tokens.unpadded(image) == alone

    def test_where_there_is_one_scale_every_image_is_full(self):
        tokens = tokenize(images(), Spec.full(64, 96, 16, 16), "blur", threshold=0.5)
        assert tokens.plan.lengths.tolist() == [24] * 4

    @pytest.mark.parametrize("spec", [SPEC, Spec.full(64, 96, 16, 16)], ids=["three scales", "one scale"])
    @pytest.mark.parametrize("threshold", [math.nan, "high", torch.zeros(3)])
    def test_what_is_no_threshold_is_refused(self, threshold, spec):
        with pytest.raises(InputError, match="threshold"):
            tokenize(images(), spec, "blur", threshold=threshold)

    def test_normalized_and_reference_rows_are_zero_behind_the_tokens(self):
        tokens = padded_tokens()
        for values in (tokens.normalized(), tokens.to_reference_layout()):
            assert not values[~tokens.plan.valid].any()
        alone = tokens.unpadded(1)
        count = alone.plan.spec.num_tokens
        assert torch.equal(tokens.normalized()[1:2, :count], alone.normalized())
        assert torch.equal(tokens.to_reference_layout()[1:2, :count], alone.to_reference_layout())

    def test_layouts_without_pixels_are_cut_too(self):
        tokens = replace(padded_tokens(), patches=None)
        assert tokens.unpadded(3).patches is None
        assert tokens.unpadded(3).plan.spec.num_tokens == 24


class TestReversal:
    @pytest.mark.parametrize("image", range(4))
    def test_features_of_padded_slots_are_never_read(self, image):
        tokens = padded_tokens(torch.float32)
        features = torch.rand(4, 120, 5, generator=torch.Generator().manual_seed(1))
        features[~tokens.plan.valid] = math.nan
        alone = tokens.unpadded(image)
        count = alone.plan.spec.num_tokens
        own = reverse(features[image : image + 1, :count], alone.plan)
        assert torch.equal(reverse(features, tokens.plan)[image : image + 1], own)
        for smooth in (False, True):
            dense = reverse_patches(tokens.patches, tokens.plan, smooth=smooth)
            assert torch.equal(dense[image : image + 1], reverse_patches(alone.patches, alone.plan, smooth=smooth))


@pytest.mark.parametrize("style", ["overlay", "blur", "mini", "levels"])
def test_pictures_show_no_padding(style):
    tokens = padded_tokens()
    for image in (0, 3):
        alone = tokens.unpadded(image)
        assert render(images()[image], tokens.plan[image], style) == render(images()[image], alone.plan, style)
        assert render_tokens(tokens[image], style) == render_tokens(alone, style)


def test_a_file_holds_its_own_length(tmp_path):
    tokens = padded_tokens()
    for image in range(4):
        save_tokens(tmp_path / "a.pt", tokens[image], dtype="float32")
        loaded = load_tokens(tmp_path / "a.pt")
        assert loaded == tokens.unpadded(image)
        told = describe_tokens(tokens[image])
        assert told["num_tokens"] == loaded.plan.spec.num_tokens == sum(row["tokens"] for row in told["scales"])


class TestTokenizer:
    def test_rows_of_padded_slots_are_zero_and_the_others_those_of_the_image_alone(self):
        tokenizer = QuadtreeTokenizer(SPEC, "blur", embed_dim=8, threshold=0.0)
        tokenizer.threshold = 0.9
        pixels = images(torch.float32)
        tokenizer.threshold = sorted(tokenize(pixels, SPEC, "blur").saliency[1].flatten().tolist())[40]
        rows, plan = tokenizer(pixels, return_plan=True)
        assert plan.lengths.unique().numel() > 1
        for image in range(4):
            length = int(plan.lengths[image])
            alone = QuadtreeTokenizer(replace(SPEC, num_tokens=length), "blur", embed_dim=8)
            alone.load_state_dict(tokenizer.state_dict())
            torch.testing.assert_close(rows[image, : length + 1], alone(pixels[image : image + 1])[0])
            assert not rows[image, length + 1 :].any()

    def test_it_says_its_threshold(self):
        assert "threshold=0.25" in repr(QuadtreeTokenizer(SPEC, "blur", embed_dim=8, threshold=0.25))
        assert "threshold" not in repr(QuadtreeTokenizer(SPEC, "blur", embed_dim=8))

    def test_what_is_no_threshold_is_refused_at_once(self):
        with pytest.raises(InputError, match="threshold nan is no number"):
            QuadtreeTokenizer(SPEC, "blur", embed_dim=8, threshold=math.nan)
