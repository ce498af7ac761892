"""What a grid of views (scorers × budgets) of one image becomes: a picture, a sheet, an animation, or a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from quadtok.errors import InputError
from quadtok.marks import Mark
from quadtok.names import DEFAULT_LINE_COLOR, DEFAULT_LINE_WIDTH, DEFAULT_STYLE, StyleName
from quadtok.pictures.encode import encode_animation, encode_picture
from quadtok.pictures.explorer import explorer_page
from quadtok.pictures.growing import growing_tree
from quadtok.pictures.render import render, render_tokens
from quadtok.pictures.sheet import Panel, describe_scales, sheet
from quadtok.tokens import Tokens

VERSION = 1  # of how views are drawn: raised where the same view becomes another picture, so that it is drawn anew
Form = Literal["picture", "sheet", "animation", "page"]


@dataclass(frozen=True)
class Pen:
    """How a view is drawn; see `render`."""

    style: StyleName = DEFAULT_STYLE
    line_color: str = DEFAULT_LINE_COLOR
    line_width: int = DEFAULT_LINE_WIDTH
    enlarge: int = 1

    def draw(self, view: View, style: StyleName | None = None, line_width: int | None = None) -> Image.Image:
        """The picture of a view, in this pen's style and lines unless told otherwise."""
        options: dict[str, Any] = {
            "line_color": self.line_color,
            "line_width": self.line_width if line_width is None else line_width,
            "enlarge": self.enlarge,
        }
        if view.image is None:
            return render_tokens(view.tokens, style or self.style, **options)
        return render(view.image, view.tokens.plan, style or self.style, **options)


@dataclass(frozen=True)
class View:
    """One plan of one image.

    Attributes:
        image: the picture it lies on; None: the tokens have to do.
        tokens: the plan and what it shows.
        scorer: who scored.
    """

    image: Image.Image | None
    tokens: Tokens
    scorer: str


ViewGrid = list[list[View]]


def draw_picture(grid: ViewGrid, pen: Pen, name: str, suffix: str, mark: Mark) -> bytes:
    """The first view, in the pen's style."""
    return encode_picture(pen.draw(grid[0][0]), suffix, mark)


def draw_sheet(grid: ViewGrid, pen: Pen, name: str, suffix: str, mark: Mark) -> bytes:
    """A row a scorer. With one budget: original, blurred and mini; with several: a column each, in the pen's style."""
    rows = [_triptych(row[0], pen) if len(row) == 1 else [_panel(view, pen) for view in row] for row in grid]
    return encode_picture(sheet(rows, name), suffix, mark)


def draw_animation(grid: ViewGrid, pen: Pen, name: str, suffix: str, mark: Mark) -> bytes:
    """The tree of the first view, growing."""
    view = grid[0][0]
    frames = growing_tree(
        _ground(view),
        _saliency(view),
        view.tokens.plan.spec,
        pen.style,
        line_color=pen.line_color,
        line_width=pen.line_width,
        enlarge=pen.enlarge,
    )
    return encode_animation(list(frames), suffix, mark)


def draw_page(grid: ViewGrid, pen: Pen, name: str, suffix: str, mark: Mark) -> bytes:
    """The explorer of the first view."""
    view = grid[0][0]
    note = f"scorer {view.scorer}" if view.scorer else ""
    if view.image is None:
        note += ", pixels as the tokens keep them"
    page = explorer_page(_ground(view), _saliency(view), view.tokens.plan.spec, name, note, mark)
    return page.encode(errors="replace")  # names of files may hold what is no text


# A form that shows the name of its input stands in `NAMED`, too: pictures of one file under two names differ.
FORMS: dict[Form, Callable[[ViewGrid, Pen, str, str, Mark], bytes]] = {
    "picture": draw_picture,
    "sheet": draw_sheet,
    "animation": draw_animation,
    "page": draw_page,
}
NAMED: frozenset[Form] = frozenset(("sheet", "page"))


def _triptych(view: View, pen: Pen) -> list[Panel]:
    return [
        Panel(pen.draw(view, "overlay", line_width=0), "original" if view.image else "enlarged tokens"),
        _panel(view, pen, "blur"),
        Panel(pen.draw(view, "mini"), "tokens at their size"),
    ]


def _panel(view: View, pen: Pen, style: StyleName | None = None) -> Panel:
    plan = view.tokens.plan
    heading = f"{plan.unpadded(0).spec.num_tokens} tokens" + (f", {view.scorer}" if view.scorer else "")
    return Panel(pen.draw(view, style), heading, describe_scales(plan))


def _ground(view: View) -> Image.Image:
    return view.image or render_tokens(view.tokens, "overlay", line_width=0)


def _saliency(view: View) -> list[Any]:
    """What the tree grows by; a token file holds it unless somebody left it out."""
    if view.tokens.saliency is None and view.tokens.plan.spec.num_scales > 1:
        raise InputError("holds no saliency to grow the tree by; give the photograph")
    return view.tokens.saliency or []
