"""`quadtok visualize`: pictures of token files, or of images that are tokenized first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli import options
from quadtok.cli.asked import Asked
from quadtok.cli.device import check_device_name, resolve_device
from quadtok.cli.given import check_ending, check_flags, check_scorer_options, given, is_given, refuse_together
from quadtok.cli.running import StopRequest, finish, for_each, say_refused
from quadtok.cli.settings import check_scorers, parse_geometry, parse_options
from quadtok.cli.terminal import Report
from quadtok.errors import InputError
from quadtok.jobs.sinks.naming import Naming, plan_outputs, tended
from quadtok.jobs.sources import Source, find_sources
from quadtok.names import ANIMATION_SUFFIXES, IMAGE_SUFFIXES, PICTURE_SUFFIXES, TOKEN_SUFFIXES, StyleName

if TYPE_CHECKING:
    from quadtok.cli.gallery import Kind

_PICTURE = "Picture"
# What decides the plan of a photograph, and what is read of it; a token file holds its plan already.
_OF_PHOTOGRAPHS = ("scorer_option", "weights", "maps", "seed", "impl", "fit", "background", "exif", "max_pixels")


def visualize(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUTS...", help="Token files (which need nothing else) or images (tokenized first)."),
    ],
    null: options.Null = False,
    relative_to: options.RelativeTo = None,
    style: Annotated[
        StyleName,
        typer.Option(
            rich_help_panel=_PICTURE,
            help="overlay: borders on the image. blur: what the tokens keep. mini: tokens at their size. "
            "levels: tinted by patch size.",
        ),
    ] = "overlay",
    line_color: Annotated[
        str, typer.Option(metavar="COLOR", rich_help_panel=_PICTURE, help="A name, #RRGGBB or #RRGGBBAA.")
    ] = "#00000055",
    line_width: Annotated[int, typer.Option(min=0, rich_help_panel=_PICTURE, help="In pixels; 0 for none.")] = 1,
    scale: Annotated[int, typer.Option(min=1, max=16, rich_help_panel=_PICTURE, help="Enlarge the picture.")] = 1,
    sheet: Annotated[
        bool, typer.Option("--sheet", rich_help_panel=_PICTURE, help="Original, blurred and mini side by side.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="SCORER,...",
            rich_help_panel=_PICTURE,
            help="A sheet with one row per scorer; with several --tokens, one column per budget.",
        ),
    ] = None,
    animate: Annotated[
        Path | None,
        typer.Option(metavar="OUT.gif|OUT.webp", rich_help_panel=_PICTURE, help="The tree growing, of one input."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="OUT.html", rich_help_panel=_PICTURE, help="A page to explore the tree, of one input."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_PICTURE, help="Draw a token file on its photograph."),
    ] = None,
    tokens: Annotated[
        str,
        typer.Option(
            "--tokens",
            "-n",
            metavar="N|P%,...",
            rich_help_panel="Quadtree",
            help="As in tokenize; several are columns.",
        ),
    ] = "100",
    image_size: options.ImageSize = "256",
    min_patch: options.MinPatch = 16,
    max_patch: options.MaxPatch = 64,
    scorer: options.Scorer = "feature",
    scorer_option: options.ScorerOption = None,
    weights: options.Weights = None,
    maps: options.Maps = None,
    seed: options.Seed = 0,
    impl: options.Impl = "parallel",
    fit: options.Fit = None,
    background: options.Background = "white",
    exif: options.Exif = True,
    max_pixels: options.MaxPixels = 89_478_485,
    output_dir: options.OutputDir = None,
    output: options.OutputFile = None,
    keep_ext: options.KeepExt = False,
    if_exists: options.IfExists = "resume",
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    fail_fast: options.FailFast = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> int:
    """Draw the quadtree of token files or images."""
    check_flags(context)
    geometries = [parse_geometry(image_size, fit, min_patch, max_patch, text) for text in tokens.split(",")]
    scorer_options = parse_options(scorer_option or [])
    names = compare.split(",") if compare else [scorer]
    check_scorers(names, weights)
    check_device_name(device)
    kind = _kind(sheet or compare is not None or len(geometries) > 1, animate, html)
    _check_flags(context, kind, names, one_budget=len(geometries) == 1)
    if output is not None:
        check_ending("--output", output, PICTURE_SUFFIXES, "a picture")
    found = find_sources(inputs, IMAGE_SUFFIXES | TOKEN_SUFFIXES, null, relative_to)
    _check_flags_of_photographs(context, found.sources)
    naming = Naming(
        ".sheet.png" if kind == "sheet" else f".{style}.png",
        folder=output_dir,
        file=animate or html or output,
        file_flag="--animate" if animate else "--html" if html else "--output",
        keep_ext=keep_ext,
    )
    also_read = [Path(path) for path in (maps, weights, image) if path is not None]
    tasks, passed_over = plan_outputs(found.sources, naming, look_at_all=maps is not None, also_read=also_read)
    if image is not None and len(tasks) != 1:
        raise InputError(f"--image is the photograph of one token file and there are {len(tasks)} inputs")
    report = Report(len(tasks) + len(passed_over) + len(found.refused), as_json=as_json, quiet=quiet, verbose=verbose)
    report.pass_over([str(source.path) for source in passed_over])
    if not say_refused(found.refused, report, fail_fast):
        return finish(report, StopRequest())

    with report.progress("visualize"):
        from quadtok.cli.gallery import Gallery, Pen, Wishes
        from quadtok.images import check_color
        from quadtok.jobs.preprocess import Reading
        from quadtok.jobs.scoring import Scoring, make_scoring

        sources = [task.source for task in tasks]

        @cache
        def scoring(name: str) -> Scoring:
            return make_scoring(
                name,
                weights=weights if name == "feature" else None,
                maps=maps if name == "precomputed" else None,
                seed=seed,
                options=scorer_options if len(names) == 1 or name == "feature" else {},
                sources=sources,
                tell=report.tell,
            )

        if any(source.path.suffix.lower() not in TOKEN_SUFFIXES for source in sources):
            for name in names:  # a scorer that cannot be had is said before any work
                scoring(name)
        wishes = Wishes(
            kind=kind,
            pen=Pen(style, check_color(line_color), line_width, scale),
            scorers=tuple(names),
            scoring=scoring,
            readings=tuple(Reading(geometry, max_pixels, check_color(background), exif) for geometry in geometries),
            quadtree=impl,
            device=resolve_device(device),
            image=image,
            asked=Asked(
                budgets=tuple(geometry.budget for geometry in geometries) if is_given(context, "tokens") else None,
                size=(geometries[0].size or "native") if is_given(context, "image_size") else None,
                min_patch=min_patch if is_given(context, "min_patch") else None,
                max_patch=max_patch if is_given(context, "max_patch") else None,
                scorers=tuple(names) if given(context, ["scorer", "compare"]) else None,
            ),
        )
        gallery = Gallery(wishes, "overwrite" if overwrite else if_exists, report.note)
        with tended(tasks):
            stop = for_each(tasks, report, fail_fast, gallery)
    return finish(report, stop)


def _kind(sheet: bool, animate: Path | None, html: Path | None) -> Kind:
    asked: dict[Kind, bool] = {"sheet": sheet, "animation": animate is not None, "page": html is not None}
    wanted = [kind for kind, is_asked in asked.items() if is_asked]
    if len(wanted) > 1:
        raise InputError(
            "--sheet (or --compare, or several --tokens), --animate and --html are different pictures: give one"
        )
    if animate is not None:
        check_ending("--animate", animate, ANIMATION_SUFFIXES, "an animation")
    if html is not None:
        check_ending("--html", html, (".html", ".htm"), "a page")
    return wanted[0] if wanted else "picture"


def _check_flags(context: typer.Context, kind: Kind, names: list[str], one_budget: bool) -> None:
    """Refuse flags of which one would be ignored.

    Raises:
        InputError: for the first of them.
    """
    for whole in ("animate", "html"):
        refuse_together(context, whole, ["output", "output_dir", "keep_ext"], "the first is the whole name already")
    refuse_together(context, "compare", ["scorer"], "--compare lists the scorers: leave --scorer out")
    refuse_together(context, "html", ["style", "line_color", "line_width", "scale"], "the page has controls of its own")
    if kind == "sheet" and one_budget:
        refuse_together(context, "style", ["sheet", "compare"], "with one budget a sheet has styles of its own")
    if is_given(context, "line_color") and context.params["line_width"] == 0:
        raise InputError("--line-color and --line-width 0: no line is drawn: leave one out")
    check_scorer_options(context, names)
    if is_given(context, "maps") and "precomputed" not in names:
        raise InputError("--maps and --scorer precomputed go together: give both")


def _check_flags_of_photographs(context: typer.Context, sources: Sequence[Source]) -> None:
    """Refuse what is about photographs where there are none.

    Raises:
        InputError: with all such flags.
    """
    ignored = given(context, _OF_PHOTOGRAPHS)
    if ignored and all(source.path.suffix.lower() in TOKEN_SUFFIXES for source in sources):
        raise InputError(f"{', '.join(ignored)}: the inputs are token files, which hold their plan: give photographs")
