"""`quadtok visualize`: pictures of token files, or of images that are tokenized first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from quadtok.cli.flags import FLAGS, Decoding, Device, PreprocessFlags, Reporting
from quadtok.cli.given import given, is_given
from quadtok.cli.grouped import grouped
from quadtok.cli.running import begin, execute, finish, load
from quadtok.cli.terminal import Report
from quadtok.cli.visualize_flags import Budgets, ComparedScorers, DrawnInputs, Picture, PictureOutput
from quadtok.errors import InputError
from quadtok.geometry import Geometry
from quadtok.jobs.asked_for import AskedFor
from quadtok.jobs.sinks.naming import Naming, Outputs, plan_outputs
from quadtok.jobs.sources import Source
from quadtok.marks import head_of, image_format
from quadtok.names import IMAGE_SUFFIXES, TOKEN_SUFFIXES

if TYPE_CHECKING:
    from quadtok.jobs.scoring import Scoring

# What else decides the plan of a photograph; a token file holds its plan already.
_OF_PHOTOGRAPHS = ("scorer_option", "weights", "maps", "points", "seed", "impl")


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
    running: Decoding,
    say: Reporting,
) -> int:
    """Draw the quadtree of token files or images."""
    geometries = grid.geometries(preprocess.fit)
    form = picture.form(context, output.output, compared=scorers.compare is not None, budgets=len(geometries))
    found = inputs.find(IMAGE_SUFFIXES | TOKEN_SUFFIXES)
    _refuse_flags_of_photographs(context, preprocess, found.sources)
    naming = picture.naming(output, form)
    planned, ours = _plan(found.sources, picture, scorers, naming)
    report, goes_on = begin(say, running, found, planned, ours)
    if not goes_on:
        return finish(report)
    load("jobs.draw", "jobs.engines.threads")
    with report.progress("visualize"):
        from quadtok.jobs.draw import DrawJob
        from quadtok.jobs.sinks.folder import FolderSink

        pen = picture.pen()
        job = DrawJob(
            naming.suffixes[0], form, pen,
            device=(place := device.resolve()),
            scorings=_scorings(scorers, [outputs.source for outputs in planned], place, report),
            preprocess=tuple(preprocess.value(geometry) for geometry in geometries),
            quadtree=scorers.impl,
            image=picture.image,
            threshold=grid.threshold,
            asked_for=_asked_for(context, geometries, grid.threshold, scorers.names),
            words=FLAGS,
        )  # fmt: skip
        stop = execute(job, FolderSink(planned, job.makes, output.policy, FLAGS), running.engine(), report)
    return finish(report, stop)


def _plan(
    sources: Sequence[Source], picture: Picture, scorers: ComparedScorers, naming: Naming
) -> tuple[list[Outputs], list[Source]]:
    """See `plan_outputs`; flags that ask for other inputs are refused."""
    also_read = [*scorers.also_read, *picture.also_read]
    planned, ours = plan_outputs(sources, naming, look_at_all=scorers.maps is not None, also_read=also_read)
    if _has_photographs([outputs.source for outputs in planned]):
        scorers.check_read()
    if picture.image is not None and len(planned) != 1:
        raise InputError(f"--image is the photograph of one token file and there are {len(planned)} inputs")
    return planned, ours


def _scorings(scorers: ComparedScorers, sources: Sequence[Source], device: str, report: Report) -> dict[str, Scoring]:
    """A scoring for each name; none where no photograph is to be scored."""
    rows = scorers.rows if any(map(_is_photograph, sources)) else []
    return {row: scorers.scoring(name, sources, device, report.tell) for row, name in rows}


def _has_photographs(sources: Sequence[Source]) -> bool:
    return any(source.path.suffix.lower() not in TOKEN_SUFFIXES for source in sources)


def _is_photograph(source: Source) -> bool:
    """Going by the name, or by the content where that is an image under the name of a token file."""
    if source.path.suffix.lower() not in TOKEN_SUFFIXES:
        return True
    return source.inside is None and image_format(head_of(source.path)) is not None


def _refuse_flags_of_photographs(
    context: typer.Context, preprocess: PreprocessFlags, sources: Sequence[Source]
) -> None:
    """Refuse what is about photographs where there are none.

    Raises:
        InputError: with all such flags.
    """
    ignored = given(context, _OF_PHOTOGRAPHS) + preprocess.given(context)
    if ignored and not _has_photographs(sources):
        raise InputError(f"{', '.join(ignored)}: the inputs are token files, which hold their plan: give photographs")


def _asked_for(
    context: typer.Context, geometries: Sequence[Geometry], threshold: float | None, scorers: tuple[str, ...]
) -> AskedFor:
    """What was typed of the plan: token files must agree with it."""
    first = geometries[0]
    return AskedFor(
        budgets=tuple(geometry.budget for geometry in geometries) if is_given(context, "tokens") else None,
        threshold=threshold,
        size=(first.size or "native") if is_given(context, "image_size") else None,
        min_patch=first.min_patch if is_given(context, "min_patch") else None,
        max_patch=first.max_patch if is_given(context, "max_patch") else None,
        scorers=scorers if given(context, ["scorer", "compare"]) else None,
        words=FLAGS,
    )
