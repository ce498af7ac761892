"""`quadtok tokenize`: image files to token files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from quadtok.cli.flags import (
    FLAGS,
    OUTPUT,
    RUN,
    Batches,
    Inputs,
    MapScorerFlags,
    Output,
    PreprocessFlags,
    Reporting,
    Running,
    ThresholdGrid,
)
from quadtok.cli.given import refuse_image_ending
from quadtok.cli.grouped import grouped
from quadtok.cli.running import begin, execute, finish, load
from quadtok.cli.terminal import Report, passed_over, printable, write_data
from quadtok.jobs.sinks.naming import Naming, Outputs, plan_outputs
from quadtok.names import DEFAULT_PIXEL_DTYPE, IMAGE_SUFFIXES, OVERLAY_SUFFIX, TOKEN_SUFFIX, PixelDtypeName


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

    @property
    def names(self) -> Naming:
        """What the files of an input are called."""
        return self.naming(TOKEN_SUFFIX, *([OVERLAY_SUFFIX] if self.overlay else []))


@grouped
def tokenize(
    context: typer.Context,
    inputs: Inputs,
    grid: ThresholdGrid,
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
    scorer.check_read()
    found = inputs.find(IMAGE_SUFFIXES)
    # A file of maps has a row for each input that is tokenized: so which are must be known first.
    look_at_all = dry_run or scorer.maps is not None
    planned, ours = plan_outputs(found.sources, output.names, look_at_all=look_at_all, also_read=scorer.also_read)
    report, goes_on = begin(say, running, found, planned, ours)
    if dry_run:
        _show_plan(planned, report)
        return 1 if report.counts["failed"] else 0
    if not goes_on:
        return finish(report)

    load("jobs.tokenize", "jobs.engines.threads")
    with report.progress("tokenize"):
        from quadtok.jobs.sinks.folder import FolderSink
        from quadtok.jobs.tokenize import TokenizeJob

        device, sources = batches.resolve(), [outputs.source for outputs in planned]
        scoring = scorer.scoring(scorer.names[0], sources, device, report.tell)
        steps = preprocess.value(geometry)
        job = TokenizeJob(steps, scoring, scorer.impl, output.dtype, device, output.overlay, grid.threshold)
        # Images of native sizes may be large, and seldom make batches.
        engine = running.engine(batches.batch_size, ahead=batches.batch_size if geometry.size else 0)
        stop = execute(job, FolderSink(planned, job.makes, output.policy, FLAGS, scoring.name), engine, report)
    return finish(report, stop, settings=job.describe())


def _show_plan(planned: list[Outputs], report: Report) -> None:
    if report.counts["passed over"]:
        report.tell(passed_over(report.counts["passed over"]))
    for outputs in planned:
        source, result = str(outputs.source.path), str(outputs.result)
        if outputs.refused:
            report.file("failed", source, output=result, error=outputs.refused)
            continue
        facts: dict[str, Any] = {"output": result, "exists": os.path.lexists(result)}
        if overlay := outputs.files.get(OVERLAY_SUFFIX):
            facts |= {"overlay": str(overlay), "overlay_exists": os.path.lexists(overlay)}
        report.file("planned", source, **facts)
        if not report.as_json:
            shown = [printable(str(path)) + " (exists)" * os.path.lexists(path) for path in outputs.files.values()]
            write_data(f"{printable(source)} -> {', '.join(shown)}")
