"""Pictures of a plan: patches as they are, as their tokens keep them, at token size (docs/reference.md section 7)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image, ImageColor
from torch import Tensor

from quadtok.errors import InputError
from quadtok.names import StyleName
from quadtok.plan import Plan

BLACK_THIRD = "#00000055"  # the reference's lines: black at alpha 85
Box = tuple[int, int, int]  # left, top, size, in pixels


def render(
    image: Tensor | Image.Image,
    plan: Plan,
    style: StyleName = "overlay",
    *,
    line_color: str = BLACK_THIRD,
    line_width: int = 1,
) -> Image.Image:
    """Draw the plan of one image.

    Args:
        image: `[C, H, W]` or `[1, C, H, W]`, uint8 or floats in 0…1, or a PIL image, of the plan's size. One and two
            channels are drawn as gray (and alpha dropped); of more than three, the first three as RGB.
        plan: of this one image.
        style: `"overlay"`, the image with the borders of the patches; `"blur"`, each patch at the resolution that its
            token keeps; `"mini"`, each patch at token size, centred in its box, on white; `"levels"`, the image in
            gray, tinted by patch size.
        line_color: a colour as Pillow reads it: a name, `#RRGGBB`, `#RRGGBBAA`.
        line_width: of the borders, in pixels; 0 for none.

    Returns:
        An RGB picture of the image's size.

    Raises:
        InputError: where image and plan do not fit together, or for an unknown style or colour, or a negative line
            width.
    """
    if style not in STYLES:
        raise InputError(f"there is no style {style!r}: choose one of {', '.join(STYLES)}")
    if line_width < 0:
        raise InputError(f"line_width {line_width} is negative: use 0 for no lines")
    picture = to_picture(image)
    spec = plan.spec
    if len(plan) != 1:
        raise InputError(f"render draws one image, the plan is for {len(plan)}: pass plan[i]")
    if picture.size != (spec.width, spec.height):
        raise InputError(f"the image is {picture.height}×{picture.width}, the plan's is {spec.height}×{spec.width}")
    boxes = list(zip(*(field[0].tolist() for field in (plan.left, plan.top, plan.size)), strict=True))
    drawn = STYLES[style](picture, boxes, spec.min_patch)
    return draw_lines(drawn, boxes, line_color, line_width) if line_width else drawn


def to_picture(image: Tensor | Image.Image) -> Image.Image:
    """Any image that quadtok handles as an RGB picture; see `render`."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = image.squeeze(0) if image.ndim == 4 and image.shape[0] == 1 else image
    if pixels.ndim != 3 or pixels.shape[0] < 1:
        raise InputError(f"an image to draw must be [C, H, W] or [1, C, H, W], got {list(image.shape)}")
    if pixels.is_floating_point():
        pixels = (pixels.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    elif pixels.dtype != torch.uint8:
        raise InputError(f"an image to draw must be uint8 or floats in 0…1, got {pixels.dtype}")
    channels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    return Image.fromarray(channels.permute(1, 2, 0).contiguous().cpu().numpy())


def draw_lines(picture: Image.Image, boxes: list[Box], color: str = BLACK_THIRD, width: int = 1) -> Image.Image:
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


def _as_they_are(picture: Image.Image, boxes: list[Box], token: int) -> Image.Image:
    return picture


def _blurred(picture: Image.Image, boxes: list[Box], token: int) -> Image.Image:
    drawn = picture.copy()
    for left, top, size in boxes:
        drawn.paste(_shrunk(picture, (left, top, size), token).resize((size, size), _BILINEAR), (left, top))
    return drawn


def _mini(picture: Image.Image, boxes: list[Box], token: int) -> Image.Image:
    drawn = Image.new("RGB", picture.size, "white")
    for left, top, size in boxes:
        margin = (size - token) // 2
        drawn.paste(_shrunk(picture, (left, top, size), token), (left + margin, top + margin))
    return drawn


def _shrunk(picture: Image.Image, box: Box, token: int) -> Image.Image:
    """One patch at token size, antialiased, as the reference draws it: nicer to look at than what a token holds."""
    left, top, size = box
    return picture.crop((left, top, left + size, top + size)).resize((token, token), _BILINEAR)


_BILINEAR = Image.Resampling.BILINEAR
# Colour-blind safe (Okabe and Ito), the finest patches first; further scales begin again.
SCALE_COLORS = ("#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#0072B2", "#E69F00")


def _tinted(picture: Image.Image, boxes: list[Box], token: int) -> Image.Image:
    tint = Image.new("RGB", picture.size)
    for left, top, size in boxes:
        scale = (size // token).bit_length() - 1
        tint.paste(SCALE_COLORS[scale % len(SCALE_COLORS)], (left, top, left + size, top + size))
    return Image.blend(picture.convert("L").convert("RGB"), tint, 0.45)


STYLES: dict[str, Callable[[Image.Image, list[Box], int], Image.Image]] = {
    "overlay": _as_they_are,
    "blur": _blurred,
    "mini": _mini,
    "levels": _tinted,
}
