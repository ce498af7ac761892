"""Pictures of several plans: captioned sheets, comparisons, and the growing tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from quadtok.errors import InputError
from quadtok.marks import Mark
from quadtok.names import PICTURE_SUFFIXES, StyleName
from quadtok.plan import Plan
from quadtok.quadtrees.base import plan_from_splits
from quadtok.quadtrees.order import split_order
from quadtok.rendering import BLACK_THIRD, render
from quadtok.spec import Spec

INK, GRAY_INK, PAPER = "#1a1a1a", "#555555", "white"
TEXT_SIZE, MARGIN = 14, 10
_LINE = TEXT_SIZE + 5
FRAME_MS, LAST_FRAME_MS = 120, 2500
MAX_FRAMES = 120
PLAN_PICTURE = Mark("picture of a plan")
_LARGEST_SIDE = {"jpeg": 65500, "gif": 65535, "webp": 16383}
_FORMATS = {".jpg": "jpeg", ".tif": "tiff"}
_DESCRIPTION = 270  # the tag of TIFF and EXIF
_TIFF, _JPEG = {"compression": "tiff_deflate"}, {"quality": 95, "subsampling": 0}
_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"optimize": True},
    ".webp": {"lossless": True},
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".gif": {},
}


@dataclass(frozen=True)
class Panel:
    """A picture and the two lines above it."""

    picture: Image.Image
    heading: str
    detail: str = ""


def sheet(rows: Sequence[Sequence[Panel]], title: str = "") -> Image.Image:
    """Lay out rows of panels, all of one picture size, each with its lines above it, under a title line."""
    width, height = rows[0][0].picture.size
    columns = max(len(row) for row in rows)
    below_title = MARGIN + (_LINE + MARGIN if title else 0)
    row_height = 2 * _LINE + height + MARGIN
    page = Image.new("RGB", (MARGIN + columns * (width + MARGIN), below_title + len(rows) * row_height), PAPER)
    _write(page, MARGIN, MARGIN, title, page.width - 2 * MARGIN)
    for row_number, row in enumerate(rows):
        top = below_title + row_number * row_height
        for column, panel in enumerate(row):
            left = MARGIN + column * (width + MARGIN)
            _write(page, left, top, panel.heading, width)
            _write(page, left, top + _LINE, panel.detail, width, GRAY_INK)
            page.paste(panel.picture, (left, top + 2 * _LINE))
    return page


def describe_scales(plan: Plan) -> str:
    """`52 of 16 px, 47 of 32 px, 1 of 64 px`, for the plan of one image."""
    counts = Counter(plan.size[0].tolist())
    return ", ".join(f"{counts[size]} of {size} px" for size in sorted(counts))


def growing_tree(
    image: Image.Image,
    saliency: Sequence[Tensor],
    spec: Spec,
    style: StyleName = "overlay",
    *,
    line_color: str = BLACK_THIRD,
    line_width: int = 1,
    enlarge: int = 1,
) -> Iterator[Image.Image]:
    """The pictures of the tree as it is split, from the roots to `spec.num_tokens`.

    Args:
        image: RGB, of the spec's size.
        saliency: of this one image, `[1, H/P, W/P]` a splittable scale.
        spec: the last picture's.
        style: as in `render`.
        line_color: as in `render`.
        line_width: as in `render`.
        enlarge: as in `render`.

    Yields:
        One picture a split; where that is more than 120, as many splits a picture as it takes.
    """
    if spec.num_scales == 1:
        yield render(image, Plan.uniform(spec, 0), style, line_color=line_color, line_width=line_width, enlarge=enlarge)
        return
    order = split_order(saliency, spec)
    for splits in _steps(spec.num_splits):
        grown = replace(spec, num_tokens=spec.num_roots + 3 * splits)
        plan = plan_from_splits(order[:, :splits], grown)
        yield render(image, plan, style, line_color=line_color, line_width=line_width, enlarge=enlarge)


def encode_picture(picture: Image.Image, suffix: str = ".png", mark: Mark = PLAN_PICTURE) -> bytes:
    """A picture in the format of a file name's ending, and marked; the same picture gives the same bytes.

    Args:
        picture: RGB.
        suffix: one of `PICTURE_SUFFIXES`. JPEG and GIF change pixels a little, the others keep them.
        mark: says who made it.

    Raises:
        InputError: for another ending, or a picture that is too large for the format.
    """
    if suffix not in PICTURE_SUFFIXES:
        raise InputError(f"no picture is written as {suffix!r}: use one of {', '.join(PICTURE_SUFFIXES)}")
    return _encode([picture], suffix, _OPTIONS[suffix], mark)


def encode_animation(frames: Sequence[Image.Image], suffix: str) -> bytes:
    """Frames as a looping `.gif` or `.webp`, marked; the last one stays longer."""
    timing = {"save_all": True, "duration": [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS], "loop": 0}
    options = {"lossless": True} if suffix == ".webp" else {"optimize": True}
    return _encode(frames, suffix, {**options, **timing, "append_images": frames[1:]}, PLAN_PICTURE)


def _encode(frames: Sequence[Image.Image], suffix: str, options: Mapping[str, Any], mark: Mark) -> bytes:
    image_format = _FORMATS.get(suffix, suffix[1:])
    width, height = frames[0].size
    side = _LARGEST_SIDE.get(image_format, max(width, height))
    if max(width, height) > side:
        raise InputError(f"{height}×{width} pixels are more than {suffix} holds ({side} a side): use .png")
    buffer = BytesIO()
    frames[0].save(buffer, image_format, **options, **_remark(image_format, str(mark)))
    return buffer.getvalue()


def _remark(image_format: str, text: str) -> dict[str, Any]:
    """The text in the place that the format has for remarks, as an option of Pillow's `save`."""
    if image_format == "png":
        info = PngInfo()
        info.add_text("Comment", text)
        return {"pnginfo": info}
    if image_format == "webp":
        exif = Image.Exif()
        exif[_DESCRIPTION] = text
        return {"exif": exif}
    return {"tiffinfo": {_DESCRIPTION: text}} if image_format == "tiff" else {"comment": text}


def _steps(num_splits: int) -> list[int]:
    """From 0 to `num_splits`, evenly, at most `MAX_FRAMES + 1` numbers."""
    stride = max(1, -(-num_splits // MAX_FRAMES))
    return [*range(0, num_splits, stride), num_splits]


def _write(page: Image.Image, left: int, top: int, text: str, width: int, ink: str = INK) -> None:
    """One line of text in the font inside Pillow, cut with an ellipsis where it is wider than `width` pixels."""
    font = ImageFont.load_default(TEXT_SIZE)
    shown = text
    while shown and font.getlength(shown) > width:
        shown = shown.removesuffix("…")[:-1] + "…"
        if shown == "…":
            break
    ImageDraw.Draw(page).text((left, top), shown, fill=ink, font=font)
