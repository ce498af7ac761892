"""`quadtok calibrate`: the threshold that gives a mean number of tokens on one's own images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quadtok.cli.flags import (
    FLAGS,
    QUADTREE,
    Batches,
    Decoding,
    Grid,
    Inputs,
    MapScorerFlags,
    PreprocessFlags,
    Reporting,
)
from quadtok.cli.grouped import grouped
from quadtok.cli.running import begin, execute, finish, load
from quadtok.cli.terminal import write_data, write_json
from quadtok.errors import InputError
from quadtok.geometry import Budget, Geometry, parse_budget
from quadtok.names import DEFAULT_NUM_TOKENS, IMAGE_SUFFIXES, FitName

if TYPE_CHECKING:
    from quadtok.calibration import Calibration

_BAR = 40  # characters of the histogram's longest


@dataclass(frozen=True)
class Goal(Grid):
    """The mean that is wanted, and the most that an image may have."""

    tokens: Annotated[
        str,
        typer.Option("--tokens", "-n", metavar="N|P%", rich_help_panel=QUADTREE, help="Tokens of an image on average."),
    ] = str(DEFAULT_NUM_TOKENS)
    at_most: Annotated[
        str,
        typer.Option(
            metavar="N|P%", rich_help_panel=QUADTREE, help="Tokens of an image at most: --tokens of the run to come."
        ),
    ] = "100%"

    @property
    def wanted(self) -> Budget:
        """Of an image, on average."""
        return parse_budget(self.tokens, FLAGS.num_tokens)

    def check(self, context: typer.Context) -> None:
        """A mean is not above the most."""
        wanted, most = self.wanted, parse_budget(self.at_most, "--at-most")
        for ours, theirs in ((wanted.count, most.count), (wanted.share, most.share)):
            if ours is not None and theirs is not None and ours > theirs:
                raise InputError(f"--tokens {self.tokens} is more than --at-most {self.at_most}: no mean can be")

    def geometries(self, fit: FitName | None) -> list[Geometry]:
        """As above; of a fixed size it is known before anything is scored which means there can be.

        Raises:
            InputError: also for a mean that no threshold gives.
        """
        geometries = super().geometries(fit)
        for geometry in geometries:
            if geometry.size:
                spec = geometry.spec(*geometry.size)
                if not spec.num_roots <= self.wanted.of(spec) <= spec.num_tokens:
                    raise InputError(
                        f"a mean of {self.wanted.of(spec):g} tokens cannot be had: these images have "
                        f"{spec.num_roots} (their roots) to {spec.num_tokens} tokens; ask for a number between"
                    )
        return geometries

    def _listed(self) -> tuple[list[str], list[str]]:
        return [self.image_size], [self.at_most]


@grouped
def calibrate(
    context: typer.Context,
    inputs: Inputs,
    grid: Goal,
    scorer: MapScorerFlags,
    preprocess: PreprocessFlags,
    batches: Batches,
    running: Decoding,
    say: Reporting,
) -> int:
    """Find the threshold that gives a mean number of tokens on your images; write nothing."""
    geometry = grid.geometry(preprocess.fit)
    scorer.check_read()
    found = inputs.find(IMAGE_SUFFIXES)
    report, goes_on = begin(say, running, found, found.sources)
    report.worked, report.keeps = "scored", False
    if not goes_on:
        return finish(report)
    load("jobs.calibrate", "jobs.engines.threads")
    with report.progress("calibrate"):
        from quadtok.jobs.calibrate import CalibrateJob, calibration_of
        from quadtok.jobs.sinks.memory import MemorySink

        device = batches.resolve()
        scoring = scorer.scoring(scorer.names[0], found.sources, device, report.tell)
        job = CalibrateJob(preprocess.value(geometry), scoring, grid.wanted, device)
        sink = MemorySink(found.sources, [*job.makes])
        engine = running.engine(batches.batch_size, ahead=batches.batch_size if geometry.size else 0)
        stop = execute(job, sink, engine, report)
    if not stop.asked and sink.results:
        _say(calibration_of(sink.results.values()), grid.at_most, as_json=say.as_json)
    return finish(report, stop, settings=job.preprocess.describe())


def _say(found: Calibration, at_most: str, as_json: bool) -> None:
    """The threshold, and what it gives, on stdout."""
    if as_json:
        write_json({"type": "calibration", **_facts(found), "at_most": at_most})
        return
    images = f"{len(found.tokens)} image{'s' * (len(found.tokens) != 1)}"
    quartiles = ", ".join(f"{found.quantile(share):g}" for share in (0.25, 0.5, 0.75))
    write_data(f"threshold  {found.threshold!r}")
    write_data(f"tokens     {found.mean:.2f} on average of {images}; standard error {found.standard_error:.1f}")
    write_data(f"           {min(found.tokens)} to {max(found.tokens)}, quartiles {quartiles}")
    write_data(f"           {found.share_at_most:.0%} of the images have the most that they may, {at_most}")
    rows = found.histogram()
    longest = max(count for _, _, count in rows)
    for first, last, count in rows:
        write_data(f"{first:>6} to {last:<4} {'#' * round(_BAR * count / longest)} {count}".rstrip())
    write_data(f"use it as  --threshold {found.threshold!r} --tokens {at_most}")


def _facts(found: Calibration) -> dict[str, Any]:
    error = found.standard_error
    return {
        "threshold": found.threshold,
        "wanted": found.wanted,
        "mean": found.mean,
        "images": len(found.tokens),
        "standard_deviation": found.deviation,
        "standard_error": error if math.isfinite(error) else None,
        "least": min(found.tokens),
        "quartiles": [found.quantile(share) for share in (0.25, 0.5, 0.75)],
        "largest": max(found.tokens),
        "share_at_most": found.share_at_most,
        "histogram": [{"first": first, "last": last, "images": count} for first, last, count in found.histogram()],
    }
