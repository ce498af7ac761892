"""`quadtok visualize`: pictures of token files, or of images that are tokenized first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli.flags import (
    FLAGS,
    OUTPUT,
    QUADTREE,
    Device,
    Grid,
    Inputs,
    MapScorerFlags,
    Output,
    PreprocessFlags,
    Reporting,
    Running,
)
from quadtok.cli.given import check_ending, given, is_given, refuse_stdout, refuse_together
from quadtok.cli.grouped import Group, grouped
from quadtok.cli.running import execute, finish, say_refused
from quadtok.colors import check_color
from quadtok.errors import InputError
from quadtok.geometry import Geometry
from quadtok.jobs.sinks.naming import Naming, plan_outputs
from quadtok.jobs.sources import Source
from quadtok.jobs.wanted import Wanted
from quadtok.marks import head_of, image_format
from quadtok.names import (
    ANIMATION_SUFFIXES,
    DEFAULT_LINE_COLOR,
    DEFAULT_STYLE,
    IMAGE_SUFFIXES,
    PAGE_SUFFIXES,
    PICTURE_SUFFIXES,
    TOKEN_SUFFIXES,
    StyleName,
)

if TYPE_CHECKING:
    from quadtok.pictures.views import Form, Pen

_PICTURE = "Picture"
# What else decides the plan of a photograph; a token file holds its plan already.
_OF_PHOTOGRAPHS = ("scorer_option", "weights", "maps", "seed", "impl")
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
    line_width: Annotated[int, typer.Option(min=0, rich_help_panel=_PICTURE, help="In pixels; 0 for none.")] = 1
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


@dataclass(frozen=True)
class Budgets(Grid):
    """As in `tokenize`, but for several budgets."""

    tokens: Annotated[
        str,
        typer.Option(
            "--tokens", "-n", metavar="N|P%,...", rich_help_panel=QUADTREE, help="As in tokenize; several are columns."
        ),
    ] = Grid.tokens

    def _listed(self) -> tuple[list[str], list[str]]:
        return [self.image_size], self.tokens.split(",")


@dataclass(frozen=True)
class ComparedScorers(MapScorerFlags):
    """As in `tokenize`, but several may be compared."""

    compare: Annotated[
        str | None,
        typer.Option(
            metavar="SCORER,...", rich_help_panel=_PICTURE,
            help="A sheet with one row per scorer; with several --tokens, one column per budget.",
        ),
    ] = None  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scorers that are compared, or of the one."""
        return tuple(self.compare.split(",")) if self.compare else super().names

    def check(self, context: typer.Context) -> None:
        """As above; and one list of scorers."""
        refuse_together(context, "compare", ["scorer"], "--compare lists the scorers: leave --scorer out")
        super().check(context)


@grouped
def visualize(
    context: typer.Context,
    inputs: DrawnInputs,
    picture: Picture,
    grid: Budgets,
    scorers: ComparedScorers,
    preprocess: PreprocessFlags,
    output: PictureOutput,
    device: Device,
    running: Running,
    say: Reporting,
) -> int:
    """Draw the quadtree of token files or images."""
    geometries = grid.geometries(preprocess.fit)
    form = _form(context, picture, output.output, sheet=bool(scorers.compare) or len(geometries) > 1)
    if form == "sheet" and len(geometries) == 1:
        refuse_together(context, "style", ["sheet", "compare"], "with one budget a sheet has styles of its own")
    found = inputs.find(IMAGE_SUFFIXES | TOKEN_SUFFIXES)
    if not _has_photographs(found.sources):
        _refuse_flags_of_photographs(context, preprocess)
    naming = _naming(picture, output, form)
    also_read = [*scorers.also_read, *([picture.image] if picture.image is not None else [])]
    planned, ours = plan_outputs(found.sources, naming, look_at_all=scorers.maps is not None, also_read=also_read)
    sources = [outputs.source for outputs in planned]
    if _has_photographs(sources):
        scorers.check_maps()
    if picture.image is not None and len(planned) != 1:
        raise InputError(f"--image is the photograph of one token file and there are {len(planned)} inputs")
    report = say.report(len(planned) + len(ours) + len(found.refused))
    report.pass_over([str(source.path) for source in ours])
    if not say_refused(found.refused, report, running.fail_fast):
        return finish(report)

    with report.progress("visualize"):
        from quadtok.jobs.draw import DrawJob
        from quadtok.jobs.sinks.folder import FolderSink

        place = device.resolve()
        names = scorers.names if any(map(_is_photograph, sources)) else ()
        job = DrawJob(
            suffix=naming.suffixes[0],
            form=form,
            pen=picture.pen(),
            scorings={name: scorers.scoring(name, sources, place, report.tell) for name in names},
            preprocess=tuple(preprocess.value(geometry) for geometry in geometries),
            quadtree=scorers.impl,
            device=place,
            image=picture.image,
            wanted=_wanted(context, geometries, scorers.names),
            words=FLAGS,
        )
        stop = execute(job, FolderSink(planned, job.makes, output.policy, FLAGS), running.engine(), report)
    return finish(report, stop)


def _form(context: typer.Context, picture: Picture, output: Path | None, sheet: bool) -> Form:
    """What is drawn: what a flag says, or else what the name of the output asks for.

    Raises:
        InputError: for two kinds at once, a name that is none's, and flags that would be ignored.
    """
    sheet = sheet or picture.sheet
    ending = output.suffix.lower() if output is not None else ""
    if sheet and (picture.animate is not None or picture.html is not None):
        raise InputError(_DIFFERENT)
    if picture.html is not None or (ending in PAGE_SUFFIXES and not sheet):
        for flag in ("html", "output"):
            refuse_together(
                context, flag, ["style", "line_color", "line_width", "scale"], "the page has controls of its own"
            )
        return "page"
    if output is not None:
        check_ending("--output", output, PICTURE_SUFFIXES, "a picture")
    if sheet:
        return "sheet"
    # What ends in .gif is meant to move; .webp and .tif are formats of pictures, too.
    return "animation" if picture.animate is not None or ending == ".gif" else "picture"


def _naming(picture: Picture, output: Output, form: Form) -> Naming:
    """How the pictures are called. One that is of one input alone has no folder as its way out."""
    for flag, file in (("--animate", picture.animate), ("--html", picture.html)):
        if file is not None:
            return Naming((file.suffix,), file=file, words=replace(FLAGS, output=flag, output_dir=""))
    if output.output is None:
        return output.naming(".sheet.png" if form == "sheet" else f".{picture.style}.png")
    naming = output.naming(output.output.suffix)
    if form in ("page", "animation"):
        return replace(naming, words=replace(FLAGS, output=f"--output {output.output}", output_dir=""))
    return naming


def _has_photographs(sources: Sequence[Source]) -> bool:
    return any(source.path.suffix.lower() not in TOKEN_SUFFIXES for source in sources)


def _is_photograph(source: Source) -> bool:
    """Going by the name, or by the content where that is an image under the name of a token file."""
    return source.path.suffix.lower() not in TOKEN_SUFFIXES or image_format(head_of(source.path)) is not None


def _refuse_flags_of_photographs(context: typer.Context, preprocess: PreprocessFlags) -> None:
    """Refuse what is about photographs where there are none.

    Raises:
        InputError: with all such flags.
    """
    ignored = given(context, _OF_PHOTOGRAPHS) + preprocess.given(context)
    if ignored:
        raise InputError(f"{', '.join(ignored)}: the inputs are token files, which hold their plan: give photographs")


def _wanted(context: typer.Context, geometries: Sequence[Geometry], scorers: tuple[str, ...]) -> Wanted:
    """What was typed of the plan: token files must agree with it."""
    first = geometries[0]
    return Wanted(
        budgets=tuple(geometry.budget for geometry in geometries) if is_given(context, "tokens") else None,
        size=(first.size or "native") if is_given(context, "image_size") else None,
        min_patch=first.min_patch if is_given(context, "min_patch") else None,
        max_patch=first.max_patch if is_given(context, "max_patch") else None,
        scorers=scorers if given(context, ["scorer", "compare"]) else None,
        words=FLAGS,
    )
