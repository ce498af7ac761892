"""`quadtok tokenize`: image files to token files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from quadtok.cli.flags import (
    OUTPUT,
    RUN,
    Batches,
    Grid,
    Inputs,
    MapScorerFlags,
    Output,
    PreprocessFlags,
    Reporting,
    Running,
)
from quadtok.cli.given import refuse_image_ending
from quadtok.cli.grouped import grouped
from quadtok.cli.running import StopRequest, finish, say_refused
from quadtok.cli.terminal import Report, passed_over, printable, write_data
from quadtok.jobs.sinks.naming import Naming, Task, plan_outputs, tended
from quadtok.names import DEFAULT_PIXEL_DTYPE, IMAGE_SUFFIXES, PixelDtypeName


@dataclass(frozen=True)
class TokenFiles(Output):
    """Where token files go, and what is in them."""

    dtype: Annotated[
        PixelDtypeName,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="Stored pixels: float16 is exact, uint8 half as large and within half a step, none the layout alone.",
        ),
    ] = DEFAULT_PIXEL_DTYPE
    overlay: Annotated[
        bool,
        typer.Option("--overlay", rich_help_panel=OUTPUT, help="Also draw each image's patches: NAME.overlay.png."),
    ] = False

    def check(self, context: typer.Context) -> None:
        """As above; and no name of an image."""
        super().check(context)
        if self.output is not None:
            refuse_image_ending("--output", self.output, "a token file", ".pt")

    def naming(self, suffix: str) -> Naming:
        """As above; and the pictures beside them."""
        return replace(super().naming(suffix), overlay=self.overlay)


@grouped
def tokenize(
    context: typer.Context,
    inputs: Inputs,
    grid: Grid,
    scorer: MapScorerFlags,
    preprocess: PreprocessFlags,
    output: TokenFiles,
    batches: Batches,
    running: Running,
    say: Reporting,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=RUN, help="Show what would be written; write nothing.")
    ] = False,
) -> int:
    """Write one quadtree token file per image."""
    geometry = grid.geometry(preprocess.fit)
    scorer.check_maps()
    found = inputs.find(IMAGE_SUFFIXES)
    # A file of maps has a row for each input that is tokenized: so which are must be known first.
    look_at_all = dry_run or scorer.maps is not None
    tasks, ours = plan_outputs(found.sources, output.naming(".pt"), look_at_all=look_at_all, also_read=scorer.also_read)
    report = say.report(len(tasks) + len(ours) + len(found.refused))
    report.pass_over([str(source.path) for source in ours])
    goes_on = say_refused(found.refused, report, running.fail_fast)
    if dry_run:
        _show_plan(tasks, report)
        return 1 if report.counts["failed"] else 0
    if not goes_on:
        return finish(report, StopRequest())

    with report.progress("tokenize"):
        # From here on torch is needed, which takes seconds to load: everything above has failed already if it could.
        from quadtok.cli.pipeline import Pipeline, Settings

        settings = Settings(
            reading=preprocess.reading(geometry),
            quadtree=scorer.impl,
            dtype=output.dtype,
            device=batches.resolve(),
            batch_size=batches.batch_size,
            workers=running.threads,
            if_exists=output.policy,
            fail_fast=running.fail_fast,
        )
        scoring = scorer.scoring(scorer.scorer, [task.source for task in tasks], report.tell)
        with tended(tasks):
            stop = Pipeline(settings, scoring, report).run(tasks)
    return finish(report, stop, settings=settings.describe())


def _show_plan(tasks: list[Task], report: Report) -> None:
    if report.counts["passed over"]:
        report.tell(passed_over(report.counts["passed over"]))
    for task in tasks:
        source, outputs = str(task.source.path), [str(path) for path in task.outputs]
        if task.refused:
            report.file("failed", source, output=outputs[0], error=task.refused)
            continue
        facts: dict[str, Any] = {"output": outputs[0], "exists": os.path.lexists(outputs[0])}
        if task.overlay is not None:
            facts |= {"overlay": outputs[1], "overlay_exists": os.path.lexists(outputs[1])}
        report.file("planned", source, **facts)
        if not report.as_json:
            shown = [printable(path) + " (exists)" * os.path.lexists(path) for path in outputs]
            write_data(f"{printable(source)} -> {', '.join(shown)}")
