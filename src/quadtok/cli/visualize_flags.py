"""The flags of `quadtok visualize`: what is drawn of what, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli.flags import FLAGS, OUTPUT, QUADTREE, Inputs, MapScorerFlags, Output, ThresholdGrid
from quadtok.cli.flags.grid import USUAL_TOKENS
from quadtok.cli.given import check_ending, is_given, refuse_stdout, refuse_together
from quadtok.cli.grouped import Group
from quadtok.colors import check_color
from quadtok.errors import InputError
from quadtok.geometry import usual_budget
from quadtok.jobs.sinks.naming import Naming
from quadtok.names import (
    ANIMATION_SUFFIXES,
    DEFAULT_LINE_COLOR,
    DEFAULT_LINE_WIDTH,
    DEFAULT_STYLE,
    PAGE_SUFFIXES,
    PICTURE_SUFFIXES,
    StyleName,
)

if TYPE_CHECKING:
    from quadtok.pictures.views import Form, Pen

_PICTURE = "Picture"
_DIFFERENT = "--sheet (or --compare, or several --tokens), --animate and --html are different pictures: give one"


@dataclass(frozen=True)
class DrawnInputs(Inputs):
    """Token files and images."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUTS...", help="Token files (which need nothing else) or images (tokenized first)."),
    ]


@dataclass(frozen=True)
class PictureOutput(Output):
    """Where pictures go; the name says what one is."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            rich_help_panel=OUTPUT,
            help="Exact output name, for one input; what ends in .gif is as --animate makes it, in .html as --html.",
        ),
    ] = Output.output


@dataclass(frozen=True)
class Picture(Group):
    """What is drawn, and how."""

    style: Annotated[
        StyleName,
        typer.Option(
            rich_help_panel=_PICTURE,
            help="overlay: borders on the image. blur: what the tokens keep. mini: tokens at their size. "
            "levels: tinted by patch size.",
        ),
    ] = DEFAULT_STYLE
    line_color: Annotated[
        str, typer.Option(metavar="COLOR", rich_help_panel=_PICTURE, help="A name, #RRGGBB or #RRGGBBAA.")
    ] = DEFAULT_LINE_COLOR
    line_width: Annotated[int, typer.Option(min=0, rich_help_panel=_PICTURE, help="In pixels; 0 for none.")] = (
        DEFAULT_LINE_WIDTH
    )
    scale: Annotated[int, typer.Option(min=1, max=16, rich_help_panel=_PICTURE, help="Enlarge the picture.")] = 1
    sheet: Annotated[
        bool, typer.Option("--sheet", rich_help_panel=_PICTURE, help="Original, blurred and mini side by side.")
    ] = False
    animate: Annotated[
        Path | None,
        typer.Option(metavar="OUT.gif|OUT.webp", rich_help_panel=_PICTURE, help="The tree growing, of one input."),
    ] = None
    html: Annotated[
        Path | None,
        typer.Option(metavar="OUT.html", rich_help_panel=_PICTURE, help="A page to explore the tree, of one input."),
    ] = None
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_PICTURE, help="Draw a token file on its photograph."),
    ] = None

    def check(self, context: typer.Context) -> None:
        """One kind of picture, under a name that fits; a line only where one is drawn."""
        refuse_stdout(context, ["animate", "html"])
        whole_name = "the first is the whole name already"
        for flag in ("animate", "html"):
            refuse_together(context, flag, ["output", "output_dir", "keep_ext"], whole_name)
        if (self.animate is not None) + (self.html is not None) + self.sheet > 1:
            raise InputError(_DIFFERENT)
        if self.animate is not None:
            check_ending("--animate", self.animate, ANIMATION_SUFFIXES, "an animation")
        if self.html is not None:
            check_ending("--html", self.html, PAGE_SUFFIXES, "a page")
        if is_given(context, "line_color"):
            check_color(self.line_color)
            if self.line_width == 0:
                raise InputError("--line-color and --line-width 0: no line is drawn: leave one out")

    def pen(self) -> Pen:
        """How a plan is drawn. Loads torch."""
        from quadtok.pictures.views import Pen

        return Pen(self.style, self.line_color, self.line_width, self.scale)

    def form(self, context: typer.Context, output: Path | None, compared: bool, budgets: int) -> Form:
        """What is drawn: what a flag says, or else what the name of the output asks for.

        Args:
            context: of the command.
            output: that name.
            compared: whether scorers are.
            budgets: how many there are.

        Raises:
            InputError: for two kinds at once, a name that is none's, and flags that would be ignored.
        """
        sheet = self.sheet or compared or budgets > 1
        ending = output.suffix.lower() if output is not None else ""
        if sheet and (self.animate is not None or self.html is not None):
            raise InputError(_DIFFERENT)
        if self.html is not None or (ending in PAGE_SUFFIXES and not sheet):
            for flag in ("html", "output"):
                refuse_together(
                    context, flag, ["style", "line_color", "line_width", "scale"], "the page has controls of its own"
                )
            return "page"
        if output is not None and sheet:
            several = "a sheet (--sheet, --compare, several --tokens)"
            check_ending("--output", output, PICTURE_SUFFIXES, several)
        elif output is not None:
            check_ending("--output", output, PICTURE_SUFFIXES + PAGE_SUFFIXES, "a picture or a page")
        if sheet:
            if budgets == 1:
                refuse_together(context, "style", ["sheet", "compare"], "with one budget a sheet has styles of its own")
            return "sheet"
        # What ends in .gif is meant to move; .webp and .tif are formats of pictures, too.
        return "animation" if self.animate is not None or ending == ".gif" else "picture"

    @property
    def also_read(self) -> list[Path]:
        """What is read besides the inputs."""
        return [] if self.image is None else [self.image]

    def naming(self, output: Output, form: Form) -> Naming:
        """How the pictures are called. One that is of one input alone has no folder as its way out."""
        for flag, file in (("--animate", self.animate), ("--html", self.html)):
            if file is not None:
                return Naming((file.suffix,), file=file, words=replace(FLAGS, output=flag, output_dir=""))
        if output.output is None:
            return output.naming(".sheet.png" if form == "sheet" else f".{self.style}.png")
        naming = output.naming(output.output.suffix)
        if form in ("page", "animation"):
            return replace(naming, words=replace(FLAGS, output=f"--output {output.output}", output_dir=""))
        return naming


@dataclass(frozen=True)
class Budgets(ThresholdGrid):
    """As in `tokenize`, but for several budgets."""

    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens", "-n", metavar="N|P%,...", rich_help_panel=QUADTREE, show_default=USUAL_TOKENS,
            help="As in tokenize; several are columns.",
        ),
    ] = None  # fmt: skip

    def _listed(self) -> tuple[list[str], list[str]]:
        return [self.image_size], (self.tokens or usual_budget(self.threshold)).split(",")


@dataclass(frozen=True)
class ComparedScorers(MapScorerFlags):
    """As in `tokenize`, but several may be compared."""

    compare: Annotated[
        str | None,
        typer.Option(
            metavar="\\[ROW=]SCORER,...", rich_help_panel=_PICTURE,
            help="A sheet with one row per scorer, called by it or as you say (oracle=precomputed); with several "
            "--tokens, one column per budget.",
        ),
    ] = None  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scorers that are compared, or of the one."""
        return super().names if self.compare is None else tuple(scorer for _, scorer in self.rows)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What each row is called, and its scorer."""
        if self.compare is None:
            return [(name, name) for name in super().names]
        parts = [entry.rpartition("=") for entry in self.compare.split(",")]
        return [(row or scorer, scorer) for row, _, scorer in parts]

    def check(self, context: typer.Context) -> None:
        """As above; and one list of scorers."""
        refuse_together(context, "compare", ["scorer"], "--compare lists the scorers: leave --scorer out")
        called = [row for row, _ in self.rows]
        if twice := next((row for row in called if called.count(row) > 1), None):
            raise InputError(f"--compare {self.compare}: two rows are called {twice!r}: name one, as in other={twice}")
        super().check(context)
