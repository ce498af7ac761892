"""`quadtok tokenize`: image files to token files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from quadtok.cli.collected import collect
from quadtok.cli.flags import (
    FLAGS,
    OUTPUT,
    Batches,
    DryRun,
    Engines,
    MapScorerFlags,
    PartedInputs,
    PreprocessFlags,
    RememberedOutput,
    Reporting,
    ThresholdGrid,
)
from quadtok.cli.given import check_ending, is_given, refuse_image_ending, refuse_together
from quadtok.cli.grouped import grouped
from quadtok.cli.running import begin, execute_in_folder, finish, load, show_plan
from quadtok.cli.terminal import Report
from quadtok.errors import InputError
from quadtok.geometry import Geometry
from quadtok.jobs.parts import Part
from quadtok.jobs.sinks.naming import Naming, Outputs, plan_outputs
from quadtok.jobs.targets import PlanFile, Shards, Target
from quadtok.names import (
    DEFAULT_FORMAT,
    DEFAULT_MINIMA,
    DEFAULT_PIXEL_DTYPE,
    DEFAULT_SHARD_DTYPE,
    DEFAULT_SHARD_SIZE,
    DEFAULT_STORE,
    IMAGE_SUFFIXES,
    OVERLAY_SUFFIX,
    PLANS_SUFFIX,
    SAFETENSORS_SUFFIX,
    SHARD_SUFFIXES,
    TOKEN_SUFFIX,
    FormatName,
    MinimaName,
    PixelDtypeName,
    QuadtreeName,
    StoreName,
)

MANIFEST_FLAGS = ["manifest", "no_manifest", "verify"]


@dataclass(frozen=True)
class TokenFiles(RememberedOutput):
    """Where token files go, and what is in them."""

    dtype: Annotated[
        PixelDtypeName,
        typer.Option(
            rich_help_panel=OUTPUT, show_default=f"{DEFAULT_PIXEL_DTYPE}, in shards {DEFAULT_SHARD_DTYPE}",
            help="Stored pixels: float16 is exact, uint8 half as large and within half a step, none the layout alone.",
        ),
    ] = DEFAULT_PIXEL_DTYPE  # fmt: skip
    overlay: Annotated[
        bool,
        typer.Option("--overlay", rich_help_panel=OUTPUT, help="Also draw each image's patches: NAME.overlay.png."),
    ] = False
    store: Annotated[
        StoreName,
        typer.Option(
            "--store", rich_help_panel=OUTPUT,
            help="tokens: pixels and layout. plans: no pixels, but the plans of every budget, 80 bytes an image, "
            "of all images in the file --output.",
        ),
    ] = DEFAULT_STORE  # fmt: skip
    minima: Annotated[
        MinimaName,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="With --store plans: also what thresholds need, 320 bytes as float32; as float16 they may differ "
            "near the threshold.",
        ),
    ] = DEFAULT_MINIMA  # fmt: skip
    format: Annotated[
        FormatName,
        typer.Option(
            "--format", rich_help_panel=OUTPUT,
            help="files: one for each image, of plans one for all. safetensors: likewise, in that format (an extra). "
            "shards: tar files in the layout of webdataset, in the folder --output-dir. parquet: likewise, as tables "
            "(an extra).",
        ),
    ] = DEFAULT_FORMAT  # fmt: skip
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, rich_help_panel=OUTPUT, help="Images of a shard.")
    ] = DEFAULT_SHARD_SIZE

    def check(self, context: typer.Context) -> None:
        """As above; no name of an image; of what holds many images, its place, and nothing that plays no part in it."""
        super().check(context)
        if self.store == "plans":
            self._check_plans(context)
        elif is_given(context, "minima"):
            raise InputError("--minima is about --store plans: tokens hold their saliency")
        if self.is_sharded:
            self._check_shards(context)
        elif is_given(context, "shard_size"):
            raise InputError("--shard-size is about --format shards or parquet")
        elif self.store == "plans":
            self._check_plan_file(context)
        elif self.output is not None and self.format == "safetensors":
            check_ending("--output", self.output, (SAFETENSORS_SUFFIX,), "a file of safetensors")
        elif self.output is not None:
            refuse_image_ending("--output", self.output, "a token file", self.suffix)

    def _check_plans(self, context: typer.Context) -> None:
        refuse_together(context, "store", ["tokens", "threshold"], "plans are those of every budget: leave it out")
        refuse_together(context, "store", ["dtype", "overlay"], "plans have no pixels: leave it out")
        refuse_together(context, "store", ["impl"], "the order of all splits is found in one way")
        if self.format == "safetensors":
            raise InputError("--store plans and --format safetensors: plans have a format of their own: leave it out")

    def _check_plan_file(self, context: typer.Context) -> None:
        refuse_together(context, "store", ["keep_ext", "output_dir"], "plans are one file: give --output")
        refuse_together(context, "store", MANIFEST_FLAGS, "a file of plans has an index of its own: leave it out")
        if self.output is None:
            raise InputError(f"--store plans writes one file: give --output NAME{PLANS_SUFFIX}")
        check_ending("--output", self.output, (PLANS_SUFFIX,), "a file of plans")

    def _check_shards(self, context: typer.Context) -> None:
        refuse_together(context, "format", ["output", "keep_ext"], "shards are in a folder: give --output-dir")
        refuse_together(context, "format", ["overlay"], "a shard holds no pictures: leave it out")
        refuse_together(context, "format", MANIFEST_FLAGS, "shards have indexes of their own: leave it out")
        if self.output_dir is None:
            raise InputError(f"--format {self.format} writes shards: give their folder, --output-dir DIR")

    def target(
        self, context: typer.Context, impl: QuadtreeName, threshold: float | None, part: Part | None
    ) -> Target | None:
        """Where all images go together; None where each has files of its own."""
        if self.is_sharded:
            assert self.output_dir is not None  # checked
            dtype = self.dtype if is_given(context, "dtype") else DEFAULT_SHARD_DTYPE
            suffix = SHARD_SUFFIXES[self.format]
            return Shards(
                self.output_dir, suffix, self.shard_size, self.store, dtype, self.minima, impl, threshold, self.policy,
                part, FLAGS,
            )  # fmt: skip
        if self.store == "plans":
            assert self.output is not None  # checked
            return PlanFile(self.output, self.minima, self.policy, FLAGS)
        return None

    @property
    def is_sharded(self) -> bool:
        """Whether images go together into shards."""
        return self.format in SHARD_SUFFIXES

    @property
    def suffix(self) -> str:
        """Of a token file; `--output` may ask for it by its name."""
        named = self.output is not None and self.output.suffix.lower() == SAFETENSORS_SUFFIX
        return SAFETENSORS_SUFFIX if self.format == "safetensors" or named else TOKEN_SUFFIX

    @property
    def names(self) -> Naming:
        """What the files of an input are called."""
        return self.naming(self.suffix, *([OVERLAY_SUFFIX] if self.overlay else []))


@grouped
def tokenize(
    context: typer.Context,
    inputs: PartedInputs,
    grid: ThresholdGrid,
    scorer: MapScorerFlags,
    preprocess: PreprocessFlags,
    output: TokenFiles,
    batches: Batches,
    running: Engines,
    say: Reporting,
    dry_run: DryRun = False,
) -> int:
    """Write one quadtree token file per image."""
    plans = output.store == "plans"
    geometry = grid.without_budget(preprocess.fit) if plans else grid.geometry(preprocess.fit)
    scorer.check_read()
    found = inputs.find(IMAGE_SUFFIXES)
    if target := output.target(context, scorer.impl, grid.threshold, inputs.the_part()):
        return collect(found, geometry, scorer, preprocess, target, batches, running, say, dry_run)
    # A file of maps has a row for each input that is tokenized: so which are must be known first.
    look_at_all = dry_run or scorer.maps is not None
    planned, ours = plan_outputs(found.sources, output.names, look_at_all=look_at_all, also_read=scorer.also_read)
    report, goes_on = begin(say, running, found, planned, ours)
    if dry_run:
        return show_plan(planned, report)
    if not goes_on:
        return finish(report)
    return _run(planned, geometry, grid.threshold, scorer, preprocess, output, batches, running, report)


def _run(
    planned: list[Outputs], geometry: Geometry, threshold: float | None, scorer: MapScorerFlags,
    preprocess: PreprocessFlags, output: TokenFiles, batches: Batches, running: Engines, report: Report,
) -> int:  # fmt: skip
    load("jobs.tokenize", running.module)
    with report.progress("tokenize"):
        from quadtok.jobs.tokenize import TokenizeJob

        device, sources = batches.resolve(), [outputs.source for outputs in planned]
        scoring = scorer.scoring(scorer.names[0], sources, device, report.tell)
        steps = preprocess.value(geometry)
        job = TokenizeJob(steps, scoring, scorer.impl, output.dtype, device, output.overlay, threshold, output.suffix)
        engine = running.on(device, batches.batch_size, same_size=geometry.size is not None)
        stop = execute_in_folder(job, planned, output, engine, report, scoring.name)
    return finish(report, stop, settings=job.describe())
