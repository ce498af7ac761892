"""Pictures of a plan: pixel for pixel the reference's, and for images that the reference mis-draws."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from helpers import GOLDEN, GOLDEN_INDEX, boxes, golden, golden_plan, goldens, random_saliency
from quadtok import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Plan,
    Spec,
    Tokens,
    get_quadtree,
    normalize,
    render,
    render_tokens,
    tokenize,
)
from quadtok.errors import InputError
from quadtok.pictures.render import STYLES, to_picture

SPEC = Spec(48, 72, 6, 24, 21)


def make_plan(spec=SPEC, batch=1):
    return get_quadtree()(random_saliency(spec, batch), spec)


def make_bytes(channels=3, spec=SPEC):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (channels, spec.height, spec.width), generator=generator, dtype=torch.uint8)


def pixels(picture):
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)  # [H, W, 3]


@pytest.fixture(params=sorted(STYLES))
def style(request):
    return request.param


@pytest.mark.parametrize("name", goldens("render"))
def test_pictures_are_the_references_pixel_for_pixel(name):
    options = GOLDEN_INDEX[name]["options"]
    tokens = "tokens_256_16_64_100_blur"
    assert GOLDEN_INDEX[name]["of"] == f"image 0 of {tokens}"
    style = "mini" if options["mini_patches"] else "blur" if options["blur"] else "overlay"
    image, plan = golden(tokens)["images_u8"][0], golden_plan(tokens)[0]
    picture = render(image, plan, style, line_width=int(options["show_lines"]))
    assert options["line_color_rgba"] == [0, 0, 0, 85]  # the default
    with Image.open(GOLDEN / f"{name}.png") as expected:
        assert np.array_equal(pixels(picture), pixels(expected.convert("RGB")))


def test_the_goldens_show_every_style_that_the_reference_has():
    options = [GOLDEN_INDEX[name]["options"] for name in goldens("render")]
    seen = {"mini" if o["mini_patches"] else "blur" if o["blur"] else "overlay" for o in options}
    assert seen == {"overlay", "blur", "mini"}


def border_pixels(plan, width):
    """`[H, W]`: the last rows and columns of each patch, and the first ones of the image."""
    border = np.zeros((plan.spec.height, plan.spec.width), dtype=bool)
    for left, top, size in boxes(plan):
        inner = max(0, size - width)
        border[top + inner : top + size, left : left + size] = True
        border[top : top + size, left + inner : left + size] = True
    border[:width] = border[:, :width] = True
    return border


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(
    ("color", "rgb"), [("red", (255, 0, 0)), ("#00FF7F", (0, 255, 127)), ("#102030ff", (16, 32, 48))]
)
def test_lines_lie_on_the_borders_of_the_patches_and_nowhere_else(style, width, color, rgb):
    plan = make_plan()
    bare = pixels(render(make_bytes(), plan, style, line_width=0))
    drawn = pixels(render(make_bytes(), plan, style, line_color=color, line_width=width))
    border = border_pixels(plan, width)
    assert (drawn[border] == rgb).all()
    assert np.array_equal(drawn[~border], bare[~border])


@pytest.mark.parametrize("width", [1, 3])
def test_a_translucent_line_darkens_once_and_where_it_meets_the_frame_twice(width):
    plan = make_plan()
    drawn = pixels(render(torch.full((3, 48, 72), 255, dtype=torch.uint8), plan, line_width=width))[..., 0]
    border, frame = border_pixels(plan, width), np.zeros((48, 72), dtype=bool)
    frame[:width] = frame[:, :width] = True
    inner = np.zeros_like(border)
    for left, top, size in boxes(plan):
        inner[top + size - min(width, size) : top + size, left : left + size] = True
        inner[top : top + size, left + size - min(width, size) : left + size] = True
    assert (drawn[~border] == 255).all()
    assert (drawn[border & ~(frame & inner)] == 170).all()  # 255 · (1 − 85/255)
    assert (abs(drawn[frame & inner] - 170 * 170 / 255) <= 1).all()
    assert (frame & inner).any()


def test_a_line_without_opacity_and_a_line_without_width_are_none(style):
    plan = make_plan()
    bare = pixels(render(make_bytes(), plan, style, line_width=0))
    assert np.array_equal(pixels(render(make_bytes(), plan, style, line_color="#ff000000")), bare)


def test_lines_wider_than_a_patch_stay_inside_the_picture():
    drawn = pixels(render(make_bytes(), make_plan(), line_color="lime", line_width=100))
    assert (drawn == (0, 255, 0)).all()


def test_the_overlay_without_lines_is_the_image():
    drawn = pixels(render(make_bytes(), make_plan(), "overlay", line_width=0))
    assert np.array_equal(drawn, make_bytes().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("style", ["blur", "mini"])
def test_the_finest_patches_are_drawn_as_they_are(style):
    drawn, plan = pixels(render(make_bytes(), make_plan(), style, line_width=0)), make_plan()
    finest = [(left, top, size) for left, top, size in boxes(plan) if size == SPEC.min_patch]
    assert finest
    for left, top, size in finest:
        cut = np.s_[top : top + size, left : left + size]
        assert np.array_equal(drawn[cut], make_bytes().permute(1, 2, 0).numpy()[cut])


def test_each_blurred_patch_is_drawn_from_its_own_pixels_alone():
    plan = make_plan()
    whole = pixels(render(make_bytes(), plan, "blur", line_width=0))
    for left, top, size in boxes(plan):
        alone = torch.zeros(3, 48, 72, dtype=torch.uint8)
        cut = np.s_[top : top + size, left : left + size]
        alone[:, *cut] = make_bytes()[:, *cut]
        assert np.array_equal(pixels(render(alone, plan, "blur", line_width=0))[cut], whole[cut])


@pytest.mark.parametrize(("min_patch", "channels"), [(6, 3), (9, 1), (18, 4)])
def test_mini_patches_are_token_sized_and_centred_on_white(min_patch, channels):
    # The reference takes a patch of 9 pixels and 1 channel, or of 18 and 4, for one of another shape.
    spec = Spec(min_patch * 8, min_patch * 12, min_patch, min_patch * 4, 21)
    plan = make_plan(spec)
    black = torch.zeros(channels, spec.height, spec.width, dtype=torch.uint8)
    drawn = pixels(render(black, plan, "mini", line_width=0))
    expected = np.full_like(drawn, 255)
    for left, top, size in boxes(plan):
        margin = (size - min_patch) // 2
        y, x = top + margin, left + margin
        expected[y : y + min_patch, x : x + min_patch] = 0
    assert np.array_equal(drawn, expected)


def test_levels_tints_a_gray_image_by_patch_size_alone():
    spec = Spec(64, 128, 2, 32, 104)
    plan, gray = make_plan(spec), torch.full((3, 64, 128), 100, dtype=torch.uint8)
    drawn = pixels(render(gray, plan, "levels", line_width=0))
    colors = {}
    for left, top, size in boxes(plan):
        patch = drawn[top : top + size, left : left + size].reshape(-1, 3)
        assert (patch == patch[0]).all()
        colors.setdefault(size, set()).add(tuple(patch[0]))
    assert all(len(seen) == 1 for seen in colors.values())
    assert len(set.union(*colors.values())) == len(colors) >= 4  # each size in a colour of its own
    colorful = torch.stack([gray[0] + 60, gray[1], gray[2]])  # the image's own colours do not show
    brighter = pixels(render(colorful, plan, "levels", line_width=0)) - drawn
    assert (brighter > 0).all()
    assert np.ptp(brighter, axis=2).max() <= 1  # gray, but for rounding


@pytest.mark.parametrize("min_patch", [6, 9, 18])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_other_channels_are_drawn_as_gray_or_as_the_first_three(style, channels, min_patch):
    spec = Spec(min_patch * 8, min_patch * 12, min_patch, min_patch * 4, 21)
    image, plan = make_bytes(channels, spec), make_plan(spec)
    rgb = image[:3] if channels > 3 else image[:1].expand(3, -1, -1)
    assert np.array_equal(pixels(render(image, plan, style)), pixels(render(rgb, plan, style)))


def test_bytes_floats_and_pillow_images_are_drawn_alike(style):
    image, plan = make_bytes(), make_plan()
    expected = pixels(render(image, plan, style))
    others = [
        image[None],
        image / 255,
        (image.double() / 255)[None],
        Image.fromarray(image.permute(1, 2, 0).numpy()),
        Image.fromarray(image.permute(1, 2, 0).numpy()).convert("RGBA"),
    ]
    for other in others:
        assert np.array_equal(pixels(render(other, plan, style)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_drawn_to_a_level_or_two(dtype):
    drawn = pixels(render((make_bytes() / 255).to(dtype), make_plan(), line_width=0))
    assert abs(drawn - make_bytes().permute(1, 2, 0).numpy()).max() <= 1  # bfloat16 has 8 bits too


def test_floats_a_little_outside_0_to_1_are_cut_off_and_gradients_ignored():
    image = torch.tensor([-0.015, 0.0, 1.0, 1.015]).view(1, 2, 2).repeat(3, 24, 36).requires_grad_()
    assert set(pixels(to_picture(image)).flatten()) == {0, 255}


NORMALIZED = normalize(make_bytes())


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (NORMALIZED, r"-2\.\d+ to 2\.\d+"),
        (make_bytes().float(), "0 to 255"),
        (make_bytes() / 255 - 0.02, r"-0\.02 to 0\.98"),
        (make_bytes() / 255 + 0.02, r"0\.02 to 1\.02"),
        (torch.full((3, 48, 72), torch.nan), "nan to nan"),
        (torch.full((3, 48, 72), torch.inf), "inf to inf"),
        (NORMALIZED.half(), r"-2\.\d+ to 2\.\d+"),
    ],
    ids=["normalised", "bytes as floats", "below", "above", "nan", "inf", "half"],
)
def test_floats_outside_0_to_1_are_refused_with_their_range_and_the_way_out(image, found):
    way_out = "give the mean= and std= of the normalisation, or bring the values to 0…1"
    with pytest.raises(InputError, match=f"an image to draw must lie in 0…1, found {found}: {way_out}"):
        render(image, make_plan())


def test_one_odd_pixel_is_enough_to_be_refused():
    image = make_bytes() / 255
    image[1, 47, 71] = torch.nan
    with pytest.raises(InputError, match="must lie in 0…1, found nan to nan"):
        render(image, make_plan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("numbers", [(IMAGENET_MEAN, IMAGENET_STD), ((0.5,) * 3, (0.5,) * 3), ((0,) * 3, (1,) * 3)])
def test_normalised_images_are_drawn_with_their_mean_and_std(numbers, dtype, style):
    mean, std = numbers
    drawn = render(normalize(make_bytes(), *numbers).to(dtype), make_plan(), style, mean=mean, std=std)
    expected = pixels(render(make_bytes(), make_plan(), style))
    assert abs(pixels(drawn) - expected).max() <= (0 if dtype.itemsize > 2 else 2)


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (NORMALIZED, {"mean": IMAGENET_MEAN}, "mean and std go together"),
        (NORMALIZED, {"mean": (0, 0), "std": (1, 1)}, "must have a number a channel: got 2 for 3 channels"),
        (
            NORMALIZED,
            {"mean": (5,) * 3, "std": (1,) * 3},
            r"found 2\.\d+ to 7\.\d+ with mean and std undone: check these",
        ),
        (make_bytes(), {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}, "is uint8, and mean and std undo .* leave them"),
        (Image.new("RGB", (72, 48)), {"mean": (0,) * 3, "std": (1,) * 3}, "a PIL image has bytes, .* leave them out"),
    ],
)
def test_a_mean_and_std_that_do_not_fit_are_refused(image, options, sentence):
    with pytest.raises(InputError, match=sentence):
        render(image, make_plan(), **options)


def test_floats_are_rounded_to_the_nearest_level():
    image = torch.tensor([99.6, 100.4]).view(1, 1, 2).expand(3, 1, 2) / 255
    assert pixels(to_picture(image))[0, :, 0].tolist() == [100, 100]


def test_a_gray_pillow_image_is_drawn(style):
    gray = make_bytes(1)
    picture = render(Image.fromarray(gray[0].numpy()), make_plan(), style)
    assert np.array_equal(pixels(picture), pixels(render(gray, make_plan(), style)))


def test_the_image_and_its_plan_may_lie_on_the_device(style, device):
    drawn = render(make_bytes().to(device), make_plan().to(device), style)
    assert np.array_equal(pixels(drawn), pixels(render(make_bytes(), make_plan(), style)))


def test_what_was_given_is_not_drawn_upon(style):
    image = Image.fromarray(make_bytes().permute(1, 2, 0).numpy())
    before = pixels(image)
    render(image, make_plan(), style, line_width=3)
    assert np.array_equal(pixels(image), before)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (make_bytes().transpose(1, 2), "the image is 72×48, the plan's is 48×72"),
        (Image.new("RGB", (72, 40)), "the image is 40×72, the plan's is 48×72"),
        (make_bytes()[0], r"must be \[C, H, W\] or \[1, C, H, W\], got \[48, 72\]"),
        (make_bytes().expand(2, -1, -1, -1), r"got \[2, 3, 48, 72\]"),
        (make_bytes()[:0], r"got \[0, 48, 72\]"),
        (make_bytes().int(), "must be uint8 or floats in 0…1, got torch.int32"),
        (make_bytes() > 100, "must be uint8 or floats in 0…1, got torch.bool"),
        (make_bytes() * 1j, "must be uint8 or floats in 0…1, got torch.complex64"),
        (make_bytes().to("meta"), "must be uint8 or floats in 0…1, got torch.uint8 on meta"),
        (make_bytes().numpy(), "must be a tensor or a PIL image, got ndarray"),
        (make_bytes()[:, :0], r"got \[3, 0, 72\]"),
        (Image.new("I;16", (72, 48)), "a PIL image to draw must have 8 bits, got mode I;16: scale it to 0…255 first"),
        (Image.new("F", (72, 48)), "a PIL image to draw must have 8 bits, got mode F"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(image, sentence):
    with pytest.raises(InputError, match=sentence):
        render(image, make_plan())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"style": "sketch"}, f"no style 'sketch': choose one of {', '.join(STYLES)}"),
        ({"line_color": "reddish"}, "'reddish' is no colour: use a name, #RRGGBB or #RRGGBBAA"),
        ({"line_color": "#12"}, "'#12' is no colour"),
        ({"enlarge": 0}, "enlarge 0 is no number of pixels: use 1 or more"),
        ({"line_width": -1}, "line_width -1 is negative: use 0 for no lines"),
    ],
)
def test_an_option_that_is_not_there_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        render(make_bytes(), make_plan(), **options)


def test_a_plan_for_many_images_is_refused_with_the_way_to_one():
    with pytest.raises(InputError, match=r"render draws one image, the plan is for 2: pass plan\[i\]"):
        render(make_bytes(), make_plan(batch=2))


class TestTokens:
    """render_tokens: pictures from nothing but the tokens."""

    @pytest.mark.parametrize("style", sorted(STYLES))
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_a_full_grid_looks_like_the_image(self, style, channels):
        images = torch.randint(256, (1, channels, 64, 96), dtype=torch.uint8)
        tokens = tokenize(images, Spec(64, 96, 8, 32, 96), "blur")
        expected = render(images, tokens.plan, style)
        assert ImageChops.difference(render_tokens(tokens, style), expected).getbbox() is None

    def test_minis_are_the_tokens_own_pixels(self):
        images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
        tokens = tokenize(images, Spec(64, 64, 8, 32, 19), "blur")
        drawn = to_tensor(render_tokens(tokens, "mini", line_width=0))
        for token in range(19):
            left, top, size = (int(field[0, token]) for field in (tokens.plan.left, tokens.plan.top, tokens.plan.size))
            margin = (size - 8) // 2
            shown = drawn[:, top + margin : top + margin + 8, left + margin : left + margin + 8]
            assert torch.equal(shown, tokens.patches[0, token].round().byte())

    def test_a_layout_alone_is_gray(self):
        plan = Plan.uniform(Spec(64, 64, 8, 32, 4), 2)
        drawn = render_tokens(Tokens(plan, None), line_width=0)
        assert drawn.getcolors() == [(64 * 64, (0xDD, 0xDD, 0xDD))]

    def test_normalised_tokens_are_drawn_with_their_mean_and_std(self):
        images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
        tokens = tokenize(images, Spec(64, 64, 8, 32, 19), "blur")
        normalized = Tokens(tokens.plan, tokens.normalized())
        drawn = render_tokens(normalized, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        assert abs(pixels(drawn) - pixels(render_tokens(tokens))).max() <= 1  # halves round up or down
        way_out = "give the mean= and std= of the normalisation, or bring the values to 0…255"
        with pytest.raises(InputError, match=rf"the pixels of tokens to draw must lie in 0…255, found -.*: {way_out}"):
            render_tokens(normalized)

    def test_pixels_of_another_type_are_refused_and_bytes_are_drawn(self):
        plan = Plan.uniform(Spec(64, 64, 8, 32, 4), 2)
        gray = torch.full((1, 4, 3, 8, 8), 7)
        with pytest.raises(InputError, match="must be uint8 or floats in 0…255, got torch.int64"):
            render_tokens(Tokens(plan, gray))
        assert render_tokens(Tokens(plan, gray.byte()), line_width=0).getcolors() == [(64 * 64, (7, 7, 7))]

    def test_a_batch_is_refused(self):
        with pytest.raises(InputError, match="the plan is for 2: pass plan"):
            render_tokens(Tokens(Plan.uniform(Spec(64, 64, 8, 32, 4), 2, batch=2), None))


@pytest.mark.parametrize("style", sorted(STYLES))
def test_enlarging_repeats_pixels(style):
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    plan = Plan.uniform(Spec(64, 64, 8, 32, 4), 2)
    small, large = (render(image, plan, style, line_width=0, enlarge=factor) for factor in (1, 3))
    assert large.size == (192, 192)
    assert ImageChops.difference(large.resize((64, 64), Image.Resampling.NEAREST), small).getbbox() is None


def to_tensor(picture):
    return (
        torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*picture.size[::-1], 3).permute(2, 0, 1)
    )
