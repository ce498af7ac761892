"""Tokens as values: rows for models, items, devices, equality, and what a session shows of them."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import assert_same_plan, boxes, random_saliency
from quadtok import Plan, Spec, Tokens, extract_patches, get_quadtree, normalize, tokenize
from quadtok.errors import InputError

SPEC = Spec(32, 48, 4, 16, 21)


def make_plan(spec=SPEC, batch=2, seed=0):
    return get_quadtree()(random_saliency(spec, batch, seed), spec)


def make_images(spec=SPEC, batch=2, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    if dtype == torch.uint8:
        return torch.randint(256, (batch, channels, spec.height, spec.width), generator=generator, dtype=dtype)
    return torch.randn(batch, channels, spec.height, spec.width, generator=generator, dtype=torch.float64).to(dtype)


def test_reference_rows_hold_pixels_centre_and_scale():
    plan = make_plan()
    tokens = Tokens(plan, extract_patches(make_images(), plan))
    rows = tokens.to_reference_layout()
    assert rows.shape == (2, 21, 3 * 4 * 4 + 3)
    for image in range(2):
        for token, (left, top, side) in enumerate(boxes(plan, image)):
            pixels, (x, y, scale) = rows[image, token, :-3], rows[image, token, -3:].tolist()
            assert torch.equal(pixels.view(3, 4, 4), tokens.patches[image, token])
            assert (x, y) == ((left + side / 2) / 4, (top + side / 2) / 4)
            assert side == 4 * 2**scale


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_reference_rows_are_in_the_patches_type(dtype):
    tokens = tokenize(make_images(dtype=dtype), SPEC, "blur")
    assert tokens.to_reference_layout().dtype == dtype


def test_normalized_patches_of_bytes_are_the_patches_of_normalised_images():
    images, plan = make_images(dtype=torch.uint8), make_plan()
    tokens = Tokens(plan, extract_patches(images, plan))
    # A mean, then a linear map, or the other way round: float32 roundings.
    torch.testing.assert_close(tokens.normalized(), extract_patches(normalize(images), plan), rtol=0, atol=1e-6)
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    assert torch.equal(tokens.normalized(mean, std), normalize(tokens.patches, mean, std))


def test_what_is_normalised_already_is_not_normalised_again():
    tokens = tokenize(normalize(make_images(dtype=torch.uint8)), SPEC, "blur")
    with pytest.raises(InputError, match=r"on the scale 0…255 and go down to -.*: take tokens.patches"):
        tokens.normalized()


@pytest.mark.parametrize("image", [0, 1, -1])
def test_an_item_is_a_batch_of_one_image(image):
    tokens = dataclasses.replace(tokenize(make_images(), SPEC, "blur"), metadata={"source": "here"})
    one = tokens[image]
    assert (len(tokens), len(one)) == (2, 1)
    assert_same_plan(one.plan, tokens.plan[image])
    assert torch.equal(one.patches[0], tokens.patches[image])
    assert all(torch.equal(a[0], b[image]) for a, b in zip(one.saliency, tokens.saliency, strict=True))
    assert one.metadata == {"source": "here"}


def test_an_image_that_is_not_there_is_an_index_error_so_that_loops_end():
    tokens = tokenize(make_images(), SPEC, "blur")
    assert [len(one) for one in tokens] == [1, 1]
    with pytest.raises(IndexError, match="image 2 of a plan for 2 images"):
        tokens[2]


def test_to_moves_everything(device):
    tokens = tokenize(make_images(), SPEC, "blur").to(device)
    for tensor in (tokens.plan.left, tokens.plan.top, tokens.plan.scale, tokens.patches, *tokens.saliency):
        assert tensor.device.type == device
    assert_same_plan(tokens.to("cpu").plan, tokenize(make_images(), SPEC, "blur").plan)


def test_a_layout_alone_moves_and_is_indexed_and_says_that_it_holds_no_pixels(device):
    layout = Tokens(make_plan(), None).to(device)
    assert layout[1].patches is None
    assert layout[1].saliency is None
    for needs_pixels in (layout.to_reference_layout, layout.normalized):
        with pytest.raises(InputError, match=r"these tokens hold no pixels, only their layout \(dtype 'none'\)"):
            needs_pixels()


class TestTokensAsValues:
    """Equality, words and pictures of what was chosen and what it shows."""

    def tokens(self, **changes):
        return dataclasses.replace(tokenize(make_images(), SPEC, "blur"), **changes)

    def test_tokens_of_the_same_bits_are_equal_whatever_was_recorded(self, device):
        assert (self.tokens() == self.tokens(metadata={"source": "there"})) is True
        assert self.tokens().to(device) == self.tokens()
        assert self.tokens() == self.tokens().to(device)
        assert self.tokens()[0] == self.tokens()[:1]
        assert Tokens(make_plan(), None) == Tokens(make_plan(), None)

    def test_a_nan_is_itself_and_zeros_have_a_sign(self):
        patches = self.tokens().patches
        odd = [patches.clone() for _ in range(3)]
        odd[0][1, 2], odd[1][1, 2], odd[2][1, 2] = torch.nan, 0.0, -0.0
        assert self.tokens(patches=odd[0]) == self.tokens(patches=odd[0].clone())
        assert self.tokens(patches=odd[1]) != self.tokens(patches=odd[2])

    @pytest.mark.parametrize(
        "change",
        [
            lambda tokens: {"plan": make_plan(seed=5)},
            lambda tokens: {"patches": None},
            lambda tokens: {"patches": tokens.patches.double()},
            lambda tokens: {"patches": tokens.patches[:1]},
            lambda tokens: {"patches": tokens.patches + 1e-6},
            lambda tokens: {"saliency": None},
            lambda tokens: {"saliency": tokens.saliency[:1]},
            lambda tokens: {"saliency": [tokens.saliency[0], tokens.saliency[1] + 1]},
        ],
    )
    def test_another_plan_or_bit_makes_tokens_others(self, change):
        assert (self.tokens() == self.tokens(**change(self.tokens()))) is False

    def test_views_and_gradients_do_not_count(self):
        turned = self.tokens().patches.transpose(3, 4).contiguous().transpose(3, 4).requires_grad_()
        assert self.tokens(patches=turned) == self.tokens()

    def test_tokens_are_nothing_else_and_have_no_hash(self):
        assert self.tokens() != self.tokens().plan
        assert self.tokens() != "tokens"
        with pytest.raises(TypeError, match="unhashable"):
            hash(self.tokens())

    def test_a_slice_gives_tokens_of_those_images(self):
        tokens = tokenize(make_images(batch=4), SPEC, "blur")
        assert [len(tokens[part]) for part in (slice(1, 3), slice(None, None, 2), slice(4, None), slice(-1, None))] == [
            2, 2, 0, 1,
        ]  # fmt: skip
        assert tokens[1:3][1] == tokens[2]
        assert tokens[::2][1] == tokens[2]

    @pytest.mark.parametrize("index", [2, -3])
    def test_an_index_out_of_range_is_an_index_error(self, index):
        with pytest.raises(IndexError, match=f"image {index} of a plan for 2 images"):
            self.tokens()[index]

    def test_cpu_is_to_the_cpu(self, device):
        tokens = self.tokens().to(device).cpu()
        assert {tensor.device.type for tensor in (tokens.plan.left, tokens.patches, *tokens.saliency)} == {"cpu"}

    def test_the_words_are_two_lines(self):
        assert repr(self.tokens(metadata={"source": "here"})) == (
            f"Tokens({self.tokens().plan!r},\n"
            "       patches torch.float32 [2, 21, 3, 4, 4], saliency of 2 scales, metadata source)"
        )
        assert repr(Tokens(make_plan(), None)).endswith(",\n       no patches, no saliency)")
        assert "on meta" in repr(self.tokens().to("meta"))

    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_a_notebook_shows_the_pixels_of_the_tokens(self, channels):
        spec = Spec(32, 48, 4, 16, 96)
        images = make_images(spec, channels=channels, dtype=torch.uint8)
        plan = Plan.uniform(spec, 0, batch=2)
        png = Tokens(plan, extract_patches(images, plan))[0]._repr_png_()
        drawn = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        cell = drawn.shape[0] // 8
        inside = drawn.reshape(8, cell, 12, cell, 3)[:, 1:-1, :, 1:-1]  # without the lines
        pixels = images[0, :3] if channels >= 3 else images[0, :1].expand(3, -1, -1)
        index = np.arange(1, cell - 1) * 4 // cell
        expected = pixels.numpy().reshape(3, 8, 4, 12, 4).transpose(1, 2, 3, 4, 0)[:, index][:, :, :, index]
        assert np.array_equal(inside, expected)

    @pytest.mark.parametrize("patches", [torch.nan, torch.inf, 0.5, -3.0, 1e30], ids=str)
    def test_a_picture_is_there_for_any_numbers(self, patches):
        images = torch.full((2, 3, 32, 48), patches)
        assert Tokens(make_plan(), extract_patches(images, make_plan()))._repr_png_()[:4] == b"\x89PNG"

    def test_layouts_show_their_boxes_and_what_cannot_be_drawn_shows_nothing(self):
        assert Tokens(make_plan(), None)._repr_png_() == make_plan()._repr_png_()
        assert self.tokens().to("meta")._repr_png_() is None
