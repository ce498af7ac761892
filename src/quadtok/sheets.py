"""Pictures of several plans: captioned sheets, comparisons, and the growing tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from quadtok.names import StyleName
from quadtok.plan import Plan
from quadtok.quadtrees.base import plan_from_splits
from quadtok.quadtrees.parallel import split_order
from quadtok.rendering import BLACK_THIRD, render
from quadtok.spec import Spec

INK, GRAY_INK, PAPER = "#1a1a1a", "#555555", "white"
TEXT_SIZE, MARGIN = 14, 10
_LINE = TEXT_SIZE + 5
FRAME_MS, LAST_FRAME_MS = 120, 2500
MAX_FRAMES = 120


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


def encode_png(picture: Image.Image) -> bytes:
    """A picture as PNG; the same picture gives the same bytes."""
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_animation(frames: Sequence[Image.Image], suffix: str) -> bytes:
    """Frames as a looping `.gif` or `.webp`; the last one stays longer."""
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    buffer = BytesIO()
    options = {"lossless": True} if suffix == ".webp" else {"optimize": True}
    frames[0].save(
        buffer,
        format=suffix.removeprefix("."),
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        **options,
    )
    return buffer.getvalue()


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
