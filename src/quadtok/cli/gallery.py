"""The work of `quadtok visualize`: each input becomes a grid of views (scorers × budgets), and the grid a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from quadtok.cli.asked import Asked
from quadtok.cli.running import Outcome
from quadtok.errors import InputError, TokenFileError, about, scorer_failed
from quadtok.images import read_bytes
from quadtok.jobs.preprocess import Reading, other_photograph, read_like
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sinks.existing import stays_unread, write_result
from quadtok.jobs.sinks.naming import Task
from quadtok.marks import HEAD_BYTES, describe_content, image_format, is_passed_over, read_mark
from quadtok.names import TOKEN_SUFFIXES, IfExistsName, QuadtreeName, StyleName
from quadtok.pictures.encode import encode_animation, encode_picture
from quadtok.pictures.explorer import explorer_page
from quadtok.pictures.growing import growing_tree
from quadtok.pictures.render import render, render_tokens, to_picture
from quadtok.pictures.sheet import Panel, describe_scales, sheet
from quadtok.storage.record import Record
from quadtok.storage.token_file import decode_tokens
from quadtok.tokens import Tokens, tokenize

Kind = Literal["picture", "sheet", "animation", "page"]
_ZIP = b"PK"  # what token files begin with, and no image


@dataclass(frozen=True)
class View:
    """One plan of one image.

    Attributes:
        image: the picture it lies on; None: the tokens have to do.
        tokens: the plan and what it shows.
        scorer: who scored.
        left_out: how many further frames or previews of the file are not shown.
        warning: what is doubtful of it, in a sentence.
    """

    image: Image.Image | None
    tokens: Tokens
    scorer: str
    left_out: int = 0
    warning: str = ""


@dataclass(frozen=True)
class Pen:
    """How a view is drawn."""

    style: StyleName
    line_color: str
    line_width: int
    enlarge: int

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
class Wishes:
    """What to draw of each input.

    Attributes:
        kind: what the grid becomes.
        pen: how.
        scorers: their names, one for each row.
        scoring: the scoring of that name, made when the first photograph asks for it.
        readings: one for each column: they differ in their budgets alone.
        quadtree: which one.
        device: where to score.
        image: the photograph of a token file.
        asked: what token files must agree with.
    """

    kind: Kind
    pen: Pen
    scorers: tuple[str, ...]
    scoring: Callable[[str], Scoring]
    readings: tuple[Reading, ...]
    quadtree: QuadtreeName
    device: str
    image: Path | None
    asked: Asked


class Gallery:
    """Input to picture.

    Args:
        wishes: what to draw.
        if_exists: see `--if-exists`.
        note: hears what a careful user may want to know of an image file.
    """

    def __init__(self, wishes: Wishes, if_exists: IfExistsName, note: Callable[[str], None]) -> None:
        self._wishes = wishes
        self._if_exists = if_exists
        self._note = note

    def __call__(self, task: Task) -> Outcome:
        """Write the picture of one input."""
        if stays_unread(task, self._if_exists):
            return Outcome("skipped")
        data = read_bytes(task.source.path)
        if task.source.found and is_passed_over(read_mark(data)):
            return Outcome("passed over")
        grid = self._grid(task, data)
        with about(task.source.path):
            content = DRAWERS[self._wishes.kind](grid, self._wishes.pen, task)
        written = write_result(task, content, self._if_exists)
        facts: dict[str, Any] = {"left_out": grid[0][0].left_out}
        if grid[0][0].warning:
            facts["warning"] = grid[0][0].warning
        return Outcome("written" if written else "skipped", facts)

    def _grid(self, task: Task, data: bytes) -> list[list[View]]:
        if data.startswith(_ZIP):
            return [[self._view_of_file(task, data)]]
        head, path = data[:HEAD_BYTES], task.source.path
        if path.suffix.lower() in TOKEN_SUFFIXES and image_format(head) is None:
            raise TokenFileError(f"{path}: not a quadtok token file, but {describe_content(head)}")
        return [
            [self._view_of_image(task, data, reading, name) for reading in self._wishes.readings]
            for name in self._wishes.scorers
        ]

    def _view_of_file(self, task: Task, data: bytes) -> View:
        with about(task.source.path):
            tokens = decode_tokens(data)
        record = Record.of(tokens.metadata)
        size = "native" if record.native else None
        self._wishes.asked.check(task.source.path, tokens.plan.spec, record.scorer, size)
        photograph = self._wishes.image
        if photograph is None:
            return View(None, tokens, record.scorer)
        picture = to_picture(read_like(photograph, tokens).pixels)
        return View(picture, tokens, record.scorer, warning=other_photograph(photograph, tokens))

    def _view_of_image(self, task: Task, data: bytes, reading: Reading, name: str) -> View:
        if self._wishes.image is not None:
            raise InputError(f"{task.source.path}: --image goes with a token file")
        photo = reading.decode(data, task.source.path)
        for note in photo.file.notes:
            self._note(f"{task.source.path}: {note}")
        scoring = self._wishes.scoring(name)
        extra = scoring.prepare(task.source, photo.spec.num_scales)
        try:
            tokens = tokenize(
                photo.fitted.pixels[None].to(self._wishes.device),
                photo.spec,
                lambda images, spec: scoring.saliency(images, spec, [extra]),
                self._wishes.quadtree,
            ).to("cpu")
        except Exception as problem:
            raise scorer_failed(task.source.path, problem) from problem
        return View(to_picture(photo.fitted.pixels), tokens, name, photo.file.left_out)


def draw_picture(grid: list[list[View]], pen: Pen, task: Task) -> bytes:
    """The first view, in the pen's style."""
    return encode_picture(pen.draw(grid[0][0]), task.target.suffix.lower())


def draw_sheet(grid: list[list[View]], pen: Pen, task: Task) -> bytes:
    """A row a scorer. With one budget: original, blurred and mini; with several: a column each, in the pen's style."""
    rows = [_triptych(row[0], pen) if len(row) == 1 else [_panel(view, pen) for view in row] for row in grid]
    return encode_picture(sheet(rows, task.source.path.name), task.target.suffix.lower())


def draw_animation(grid: list[list[View]], pen: Pen, task: Task) -> bytes:
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
    return encode_animation(list(frames), task.target.suffix.lower())


def draw_page(grid: list[list[View]], pen: Pen, task: Task) -> bytes:
    """The explorer of the first view."""
    view = grid[0][0]
    note = f"scorer {view.scorer}" if view.scorer else ""
    if view.image is None:
        note += ", pixels as the tokens keep them"
    page = explorer_page(_ground(view), _saliency(view), view.tokens.plan.spec, task.source.path.name, note)
    return page.encode(errors="replace")  # names of files may hold what is no text


DRAWERS: dict[Kind, Callable[[list[list[View]], Pen, Task], bytes]] = {
    "picture": draw_picture,
    "sheet": draw_sheet,
    "animation": draw_animation,
    "page": draw_page,
}


def _triptych(view: View, pen: Pen) -> list[Panel]:
    return [
        Panel(pen.draw(view, "overlay", line_width=0), "original" if view.image else "enlarged tokens"),
        _panel(view, pen, "blur"),
        Panel(pen.draw(view, "mini"), "tokens at their size"),
    ]


def _panel(view: View, pen: Pen, style: StyleName | None = None) -> Panel:
    plan = view.tokens.plan
    heading = f"{plan.spec.num_tokens} tokens" + (f", {view.scorer}" if view.scorer else "")
    return Panel(pen.draw(view, style), heading, describe_scales(plan))


def _ground(view: View) -> Image.Image:
    return view.image or render_tokens(view.tokens, "overlay", line_width=0)


def _saliency(view: View) -> list[Any]:
    """What the tree grows by; a token file holds it unless somebody left it out."""
    if view.tokens.saliency is None and view.tokens.plan.spec.num_scales > 1:
        raise InputError("holds no saliency to grow the tree by; give the photograph")
    return view.tokens.saliency or []
