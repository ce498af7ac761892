"""Pictures of a plan: patches as they are, as their tokens keep them, at token size (docs/reference.md section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageColor
from torch import Tensor

from quadtok.errors import InputError
from quadtok.names import DEFAULT_LINE_COLOR, DEFAULT_LINE_WIDTH, DEFAULT_STYLE, StyleName
from quadtok.pixels import DTYPES, check_dense, denormalize, mean_and_std
from quadtok.plan import Plan
from quadtok.thumbnail import SCALE_COLORS
from quadtok.tokens import Tokens

LAYOUT_GRAY = "#dddddd"  # what tokens without pixels show
# How many levels of 255 floats may lie outside their range and be cut off: what resizing and half precision add. On the
# scale 0…255 it is less, for there normalised numbers lie only two or three below.
TOLERANCE, TOLERANCE_OF_LEVELS = 4, 0.5
Box = tuple[int, int, int]  # left, top, size, in pixels
_BILINEAR = Image.Resampling.BILINEAR


def render(
    image: Tensor | Image.Image,
    plan: Plan,
    style: StyleName = DEFAULT_STYLE,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    line_color: str = DEFAULT_LINE_COLOR,
    line_width: int = DEFAULT_LINE_WIDTH,
    enlarge: int = 1,
) -> Image.Image:
    """Draw the plan of one image.

    Args:
        image: `[C, H, W]` or `[1, C, H, W]`, uint8 or floats in 0…1, or normalised ones with their `mean` and `std`;
            or a PIL image of 8 bits; of the plan's size. One and two channels are drawn as gray (and alpha dropped); of
            more than three, the first three as RGB.
        plan: of this one image.
        style: `"overlay"`, the image with the borders of the patches; `"blur"`, each patch at the resolution that its
            token keeps; `"mini"`, each patch at token size, centred in its box, on white; `"levels"`, the image in
            gray, tinted by patch size.
        mean: that the floats were normalised with, undone here: one number a channel, on the scale 0…1.
        std: likewise; both or neither.
        line_color: a colour as Pillow reads it: a name, `#RRGGBB`, `#RRGGBBAA`.
        line_width: of the borders, in pixels of the picture; 0 for none.
        enlarge: how many pixels of the picture, on each axis, one of the image becomes.

    Returns:
        An RGB picture of the image's size times `enlarge`.

    Raises:
        InputError: where image and plan do not fit together, for floats outside 0…1 (and a little more: they are cut
            off), for an unknown style or colour, or a negative line width.
    """
    picture, spec = to_picture(image, mean, std), plan.spec
    boxes = _boxes(plan)
    if picture.size != (spec.width, spec.height):
        raise InputError(f"the image is {picture.height}×{picture.width}, the plan's is {spec.height}×{spec.width}")

    def shrunk(number: int) -> Image.Image:
        # Antialiased, as the reference draws it: nicer to look at than what a token holds.
        left, top, size = boxes[number]
        return picture.crop((left, top, left + size, top + size)).resize((spec.min_patch,) * 2, _BILINEAR)

    return _draw(_Scene(picture, boxes, spec.min_patch, shrunk), style, line_color, line_width, enlarge)


def render_tokens(
    tokens: Tokens,
    style: StyleName = DEFAULT_STYLE,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    line_color: str = DEFAULT_LINE_COLOR,
    line_width: int = DEFAULT_LINE_WIDTH,
    enlarge: int = 1,
) -> Image.Image:
    """Draw the tokens of one image from nothing but themselves; otherwise as `render`.

    Args:
        tokens: of one image, any number of channels, pixels on the scale 0…255 as those of uint8 images and of token
            files, or normalised ones with their `mean` and `std`. Where they hold the layout alone, the patches are
            gray.
        style: as in `render`; `"overlay"` and `"levels"` show the tokens' pixels enlarged to their boxes.
        mean: as in `render`.
        std: as in `render`.
        line_color: as in `render`.
        line_width: as in `render`.
        enlarge: as in `render`.

    Raises:
        InputError: as `render`, and for pixels outside 0…255.
    """
    boxes, spec = _boxes(tokens.plan), tokens.plan.spec
    if tokens.patches is None:
        blank = Image.new("RGB", (spec.min_patch,) * 2, LAYOUT_GRAY)
        minis = [blank] * spec.num_tokens
    else:
        drawn = _drawn_bytes(tokens.patches[0], mean, std, 255, "the pixels of tokens to draw")
        minis = [_as_rgb(patch) for patch in drawn]
    scene = _Scene(Image.new("RGB", (spec.width, spec.height)), boxes, spec.min_patch, minis.__getitem__)
    shown = _Scene(_blurred(scene), boxes, spec.min_patch, minis.__getitem__)
    return _draw(shown, style, line_color, line_width, enlarge)


def to_picture(
    image: Tensor | Image.Image, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Image.Image:
    """Any image that quadtok handles as an RGB picture; see `render`."""
    if isinstance(image, Image.Image):
        if mean is not None or std is not None:
            raise InputError("a PIL image has bytes, and mean and std undo the normalisation of floats: leave them out")
        return _eight_bits(image)
    if not isinstance(image, Tensor):
        raise InputError(f"an image to draw must be a tensor or a PIL image, got {type(image).__name__}")
    check_dense(image, "pixels")
    pixels = image.squeeze(0) if image.ndim == 4 and image.shape[0] == 1 else image
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise InputError(f"an image to draw must be [C, H, W] or [1, C, H, W], got {list(image.shape)}")
    return _as_rgb(_drawn_bytes(pixels, mean, std, 1, "an image to draw"))


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # Pillow would cut off what is above 255
        raise InputError(f"a PIL image to draw must have 8 bits, got mode {picture.mode}: scale it to 0…255 first")
    return picture.convert("RGB")


def _as_rgb(pixels: Tensor) -> Image.Image:
    """`[C, h, w]` uint8 as a picture."""
    channels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    return Image.fromarray(channels.permute(1, 2, 0).contiguous().cpu().numpy())


def _drawn_bytes(
    pixels: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None, white: int, what: str
) -> Tensor:
    """`[..., C, h, w]` as bytes.

    Args:
        pixels: uint8, floats in 0…white, or normalised ones with their `mean` and `std`.
        mean: see `render`.
        std: see `render`.
        white: what stands for 255 in floats that were not normalised.
        what: the pixels' name, for the error.
    """
    normalized_with = mean_and_std(mean, std, pixels.shape[-3])
    if pixels.dtype not in DTYPES or pixels.is_meta:
        raise InputError(f"{what} must be uint8 or floats in 0…{white}, got {pixels.dtype} on {pixels.device}")
    if pixels.dtype == torch.uint8:
        if normalized_with:
            raise InputError(f"{what} is uint8, and mean and std undo the normalisation of floats: leave them out")
        return pixels
    values = pixels.detach().float()
    values = denormalize(values, *normalized_with) if normalized_with else values * (255 / white)
    least, largest = map(float, values.aminmax())
    tolerance = TOLERANCE if normalized_with or white == 1 else TOLERANCE_OF_LEVELS
    if not (least >= -tolerance and largest <= 255 + tolerance):  # so that NaN is refused too
        found = f"{what} must lie in 0…{white}, found {least * white / 255:.4g} to {largest * white / 255:.4g}"
        if normalized_with:
            raise InputError(f"{found} with mean and std undone: check these, or clamp the values")
        raise InputError(f"{found}: give the mean= and std= of the normalisation, or bring the values to 0…{white}")
    return values.round().clamp(0, 255).to(torch.uint8)


def draw_lines(picture: Image.Image, boxes: list[Box], color: str = DEFAULT_LINE_COLOR, width: int = 1) -> Image.Image:
    """Each border between patches once, on the last rows and columns of the patch before it; then the outer frame.

    The frame is painted over them, so a translucent border is a shade darker where it meets the top or left edge, as
    in the reference's pictures.
    """
    try:
        red, green, blue, *alpha = ImageColor.getcolor(color, "RGBA")  # type: ignore[misc]  # "RGBA" gives four
    except ValueError:
        raise InputError(f"{color!r} is no colour: use a name, #RRGGBB or #RRGGBBAA") from None
    borders, frame = Image.new("L", picture.size), Image.new("L", picture.size)
    for left, top, size in boxes:
        line = min(width, size)
        borders.paste(alpha[0], (left, top + size - line, left + size, top + size))
        borders.paste(alpha[0], (left + size - line, top, left + size, top + size))
    frame.paste(alpha[0], (0, 0, picture.width, min(width, picture.height)))
    frame.paste(alpha[0], (0, 0, min(width, picture.width), picture.height))
    drawn = picture.copy()
    drawn.paste((red, green, blue), mask=borders)
    drawn.paste((red, green, blue), mask=frame)
    return drawn


@dataclass(frozen=True)
class _Scene:
    """What a style draws from: a picture, the boxes on it, the side of a token, and each token as a picture."""

    picture: Image.Image
    boxes: list[Box]
    token_size: int
    token: Callable[[int], Image.Image]


def _boxes(plan: Plan) -> list[Box]:
    if len(plan) != 1:
        raise InputError(f"render draws one image, the plan is for {len(plan)}: pass plan[i]")
    alone = plan.unpadded(0)
    return list(zip(*(field[0].tolist() for field in (alone.left, alone.top, alone.size)), strict=True))


def _draw(scene: _Scene, style: str, line_color: str, line_width: int, enlarge: int) -> Image.Image:
    if style not in STYLES:
        raise InputError(f"there is no style {style!r}: choose one of {', '.join(STYLES)}")
    if line_width < 0:
        raise InputError(f"line_width {line_width} is negative: use 0 for no lines")
    if enlarge < 1:
        raise InputError(f"enlarge {enlarge} is no number of pixels: use 1 or more")
    drawn = STYLES[style](scene)
    if enlarge != 1:
        drawn = drawn.resize((drawn.width * enlarge, drawn.height * enlarge), Image.Resampling.NEAREST)
    if line_width == 0:
        return drawn
    boxes = [(left * enlarge, top * enlarge, size * enlarge) for left, top, size in scene.boxes]
    return draw_lines(drawn, boxes, line_color, line_width)


def _as_it_is(scene: _Scene) -> Image.Image:
    return scene.picture


def _blurred(scene: _Scene) -> Image.Image:
    drawn = scene.picture.copy()
    for number, (left, top, size) in enumerate(scene.boxes):
        drawn.paste(scene.token(number).resize((size, size), _BILINEAR), (left, top))
    return drawn


def _mini(scene: _Scene) -> Image.Image:
    drawn = Image.new("RGB", scene.picture.size, "white")
    for number, (left, top, size) in enumerate(scene.boxes):
        margin = (size - scene.token_size) // 2
        drawn.paste(scene.token(number), (left + margin, top + margin))
    return drawn


def _tinted(scene: _Scene) -> Image.Image:
    tint = Image.new("RGB", scene.picture.size)
    for left, top, size in scene.boxes:
        scale = (size // scene.token_size).bit_length() - 1
        tint.paste(SCALE_COLORS[scale % len(SCALE_COLORS)], (left, top, left + size, top + size))
    return Image.blend(scene.picture.convert("L").convert("RGB"), tint, 0.45)


STYLES: dict[str, Callable[[_Scene], Image.Image]] = {
    "overlay": _as_it_is,
    "blur": _blurred,
    "mini": _mini,
    "levels": _tinted,
}
