"""`quadtok tokenize`: image files to token files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from quadtok.cli import options
from quadtok.cli.device import check_device_name, resolve_device
from quadtok.cli.given import check_flags, check_scorer_options, refuse_image_ending
from quadtok.cli.running import StopRequest, finish, say_refused
from quadtok.cli.settings import check_scorers, parse_geometry, parse_options
from quadtok.cli.terminal import Report, passed_over, printable, write_data
from quadtok.jobs.sinks.naming import Naming, Task, plan_outputs, tended
from quadtok.jobs.sources import find_sources
from quadtok.names import IMAGE_SUFFIXES


def tokenize(
    context: typer.Context,
    inputs: options.Inputs,
    null: options.Null = False,
    relative_to: options.RelativeTo = None,
    tokens: options.Tokens = "100",
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
    draft: options.Draft = True,
    max_pixels: options.MaxPixels = 89_478_485,
    output_dir: options.OutputDir = None,
    output: options.OutputFile = None,
    keep_ext: options.KeepExt = False,
    dtype: options.Dtype = "float16",
    overlay: options.Overlay = False,
    if_exists: options.IfExists = "resume",
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    fail_fast: options.FailFast = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> int:
    """Write one quadtree token file per image."""
    check_flags(context)
    check_scorer_options(context, [scorer])
    if output is not None:
        refuse_image_ending("--output", output, "a token file", ".pt")
    geometry = parse_geometry(image_size, fit, min_patch, max_patch, tokens)
    scorer_options = parse_options(scorer_option or [])
    check_scorers([scorer], weights)
    check_device_name(device)
    found = find_sources(inputs, IMAGE_SUFFIXES, null, relative_to)
    naming = Naming(".pt", folder=output_dir, file=output, keep_ext=keep_ext, overlay=overlay)
    # A file of maps has a row for each input that is tokenized: so which are must be known first.
    also_read = [Path(path) for path in (maps, weights) if path is not None]
    tasks, ours = plan_outputs(found.sources, naming, look_at_all=dry_run or maps is not None, also_read=also_read)
    report = Report(len(tasks) + len(ours) + len(found.refused), as_json=as_json, quiet=quiet, verbose=verbose)
    report.pass_over([str(source.path) for source in ours])
    goes_on = say_refused(found.refused, report, fail_fast)
    if dry_run:
        _show_plan(tasks, report)
        return 1 if report.counts["failed"] else 0
    if not goes_on:
        return finish(report, StopRequest())

    with report.progress("tokenize"):
        # From here on torch is needed, which takes seconds to load: everything above has failed already if it could.
        from quadtok.cli.pipeline import Pipeline, Settings
        from quadtok.images import check_color
        from quadtok.jobs.preprocess import Reading
        from quadtok.jobs.scoring import make_scoring

        settings = Settings(
            reading=Reading(geometry, max_pixels, check_color(background), exif, draft),
            quadtree=impl,
            dtype=dtype,
            device=resolve_device(device),
            batch_size=batch_size,
            workers=default_workers() if workers is None else workers,
            if_exists="overwrite" if overwrite else if_exists,
            fail_fast=fail_fast,
        )
        scoring = make_scoring(
            scorer,
            weights=weights,
            maps=maps,
            seed=seed,
            options=scorer_options,
            sources=[task.source for task in tasks],
            tell=report.tell,
        )
        with tended(tasks):
            stop = Pipeline(settings, scoring, report).run(tasks)
    return finish(report, stop, settings=settings.describe())


def default_workers() -> int:
    """A thread for each core that this process may use, up to 8: then one thread that scores is the slower part."""
    may_use = getattr(os, "sched_getaffinity", None)  # Linux tells which; elsewhere all of them are
    return min(8, len(may_use(0)) if may_use else os.cpu_count() or 1)


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
