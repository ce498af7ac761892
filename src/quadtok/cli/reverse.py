"""`quadtok reverse`: token files back to images, or features of tokens to dense maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from quadtok.cli import options
from quadtok.cli.given import check_ending, check_flags, refuse_image_ending
from quadtok.cli.running import Outcome, StopRequest, finish, for_each, say_refused
from quadtok.cli.terminal import Report, printable, write_data
from quadtok.errors import InputError
from quadtok.jobs.sinks.naming import Naming, Task, plan_outputs, tended
from quadtok.jobs.sources import find_sources
from quadtok.names import LOSSLESS_SUFFIXES, TOKEN_SUFFIXES, IfExistsName

_TO = "Result"
SUFFIXES = {"image": ".reversed.png", "features": ".features.pth"}


def reverse(
    context: typer.Context,
    tokens: Annotated[
        list[str], typer.Argument(metavar="TOKENS...", help="Token files, folders or globs; - reads a list from stdin.")
    ],
    null: options.Null = False,
    relative_to: options.RelativeTo = None,
    to: Annotated[
        Literal["image", "features"],
        typer.Option(
            rich_help_panel=_TO,
            help="image: from the stored pixels, each token spread over its box. "
            "features: a tensor \\[D, H/p, W/p] from --features.",
        ),
    ] = "image",
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_TO, help="A tensor \\[N, D] or \\[B, N, D] in token order."),
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", rich_help_panel=_TO, help="Interpolate bilinearly inside each box.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", rich_help_panel=_TO, help="Print the PSNR against the photograph, of one input."),
    ] = None,
    output_dir: options.OutputDir = None,
    output: options.OutputFile = None,
    keep_ext: options.KeepExt = False,
    if_exists: options.IfExists = "resume",
    overwrite: options.Overwrite = False,
    fail_fast: options.FailFast = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> int:
    """Rebuild the image, or a dense feature map, from tokens."""
    check_flags(context)
    if (to == "features") != (features is not None):
        raise InputError("--to features and --features FILE go together: give both")
    if to == "features" and (smooth or against):
        raise InputError("--smooth and --against go with --to image")
    if output is not None and to == "features":
        refuse_image_ending("--output", output, "a tensor", ".pth")
    elif output is not None:
        check_ending("--output", output, LOSSLESS_SUFFIXES, "a restored image, which is kept without loss,")
    found = find_sources(tokens, TOKEN_SUFFIXES, null, relative_to)
    naming = Naming(SUFFIXES[to], folder=output_dir, file=output, keep_ext=keep_ext)
    tasks, _ = plan_outputs(found.sources, naming, also_read=[path for path in (against, features) if path is not None])
    if against is not None and len(tasks) != 1:
        raise InputError(f"--against is the photograph of one token file and there are {len(tasks)} inputs")
    report = Report(len(tasks) + len(found.refused), as_json=as_json, quiet=quiet, verbose=verbose)
    if not say_refused(found.refused, report, fail_fast):
        return finish(report, StopRequest())

    with report.progress("reverse"):
        from quadtok.cli.reversing import FeatureReverser, ImageReverser

        policy: IfExistsName = "overwrite" if overwrite else if_exists
        do = FeatureReverser(features, found.sources, policy) if features else ImageReverser(smooth, against, policy)

        def do_and_say(task: Task) -> Outcome:
            outcome = do(task)
            if "psnr" in outcome.facts and not as_json:
                write_data(f"{printable(str(task.source.path))}: PSNR {outcome.facts['psnr']} dB")
            return outcome

        with tended(tasks):
            stop = for_each(tasks, report, fail_fast, do_and_say)
    return finish(report, stop)
