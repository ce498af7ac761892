"""Pictures of several plans on one captioned sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from quadtok.plan import Plan

INK, GRAY_INK, PAPER = "#1a1a1a", "#555555", "white"
TEXT_SIZE, MARGIN = 14, 10
_LINE = TEXT_SIZE + 5


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
    counts = enumerate(plan.counts[0].tolist())
    return ", ".join(f"{count} of {plan.spec.patch_size(scale)} px" for scale, count in counts if count)


def _write(page: Image.Image, left: int, top: int, text: str, width: int, ink: str = INK) -> None:
    """One line of text in the font inside Pillow, cut with an ellipsis where it is wider than `width` pixels."""
    font = ImageFont.load_default(TEXT_SIZE)
    shown = text
    while shown and font.getlength(shown) > width:
        shown = shown.removesuffix("…")[:-1] + "…"
        if shown == "…":
            break
    ImageDraw.Draw(page).text((left, top), shown, fill=ink, font=font)
