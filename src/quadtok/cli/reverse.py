"""`quadtok reverse`: token files back to images, or features of tokens to dense maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quadtok.cli.flags import FLAGS, Inputs, Output, Reporting, Running
from quadtok.cli.given import check_ending, refuse_image_ending
from quadtok.cli.grouped import Group, grouped
from quadtok.cli.running import begin, execute, finish, load
from quadtok.cli.terminal import printable, write_data
from quadtok.errors import InputError
from quadtok.jobs.base import Outcome
from quadtok.jobs.sinks.naming import plan_outputs
from quadtok.jobs.sources import Source
from quadtok.names import LOSSLESS_SUFFIXES, TOKEN_SUFFIXES

if TYPE_CHECKING:
    from quadtok.jobs.restore import RestoreFeaturesJob, RestoreImageJob

_TO = "Result"
SUFFIXES = {"image": ".reversed.png", "features": ".features.pth"}


@dataclass(frozen=True)
class TokenInputs(Inputs):
    """Token files."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOKENS...", help="Token files, folders or globs; - reads a list from stdin."),
    ]


@dataclass(frozen=True)
class Result(Group):
    """What the tokens become."""

    to: Annotated[
        Literal["image", "features"],
        typer.Option(
            rich_help_panel=_TO,
            help="image: from the stored pixels, each token spread over its box. "
            "features: a tensor \\[D, H/p, W/p] from --features.",
        ),
    ] = "image"
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_TO, help="A tensor \\[N, D] or \\[B, N, D] in token order."),
    ] = None
    smooth: Annotated[
        bool, typer.Option("--smooth", rich_help_panel=_TO, help="Interpolate bilinearly inside each box.")
    ] = False
    against: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", rich_help_panel=_TO, help="Print the PSNR against the photograph, of one input."),
    ] = None

    def check(self, context: typer.Context) -> None:
        """What belongs to the one result does not go with the other."""
        if (self.to == "features") != (self.features is not None):
            raise InputError("--to features and --features FILE go together: give both")
        if self.to == "features" and (self.smooth or self.against):
            raise InputError("--smooth and --against go with --to image")

    def check_name(self, output: Path) -> None:
        """Refuse a name that does not fit the result."""
        if self.to == "features":
            refuse_image_ending("--output", output, "a tensor", ".pth")
        else:
            check_ending("--output", output, LOSSLESS_SUFFIXES, "a restored image, which is kept without loss,")

    def job(self, suffix: str, sources: Sequence[Source]) -> RestoreImageJob | RestoreFeaturesJob:
        """What is to be done with each token file. Loads torch.

        Raises:
            InputError: where `--features` does not hold those of these files.
        """
        from quadtok.jobs.features import load_features
        from quadtok.jobs.restore import RestoreFeaturesJob, RestoreImageJob

        if self.features is not None:
            return RestoreFeaturesJob(suffix, load_features(self.features, sources, FLAGS))
        return RestoreImageJob(suffix, self.smooth, self.against, FLAGS)

    @property
    def also_read(self) -> list[Path]:
        """Files that are read besides the token files."""
        return [path for path in (self.against, self.features) if path is not None]


@grouped
def reverse(
    context: typer.Context,
    inputs: TokenInputs,
    result: Result,
    output: Output,
    running: Running,
    say: Reporting,
) -> int:
    """Rebuild the image, or a dense feature map, from tokens."""
    if output.output is not None:
        result.check_name(output.output)
    found = inputs.find(TOKEN_SUFFIXES)
    suffix = SUFFIXES[result.to] if output.output is None else output.output.suffix
    planned, _ = plan_outputs(found.sources, output.naming(suffix), also_read=result.also_read)
    if result.against is not None and len(planned) != 1:
        raise InputError(f"--against is the photograph of one token file and there are {len(planned)} inputs")
    report, goes_on = begin(say, running, found, planned)
    if not goes_on:
        return finish(report)

    load("jobs.restore", "jobs.engines.threads")
    with report.progress("reverse"):
        from quadtok.jobs.sinks.folder import FolderSink

        job = result.job(suffix, found.sources)
        sink = FolderSink(planned, job.makes, output.policy, FLAGS)
        stop = execute(job, sink, running.engine(), report, also=_say_psnr if not say.as_json else lambda outcome: None)
    return finish(report, stop)


def _say_psnr(outcome: Outcome) -> None:
    if "psnr" in outcome.facts:
        write_data(f"{printable(str(outcome.source.path))}: PSNR {outcome.facts['psnr']} dB")
