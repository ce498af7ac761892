"""`quadtok oracle`: image files to importance maps of a classifier."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli.flags import (
    Batches,
    DryRun,
    Engines,
    PartedInputs,
    PreprocessFlags,
    RememberedOutput,
    Reporting,
    Sizes,
)
from quadtok.cli.given import check_ending, is_given
from quadtok.cli.grouped import Group, grouped
from quadtok.cli.running import begin, execute_in_folder, finish, load, show_plan
from quadtok.errors import InputError
from quadtok.jobs.sinks.naming import plan_outputs
from quadtok.names import IMAGE_SUFFIXES, MAP_SUFFIXES, MapFormatName

if TYPE_CHECKING:
    from quadtok.oracle.classifiers import Classifier

_MODEL = "Classifier"


@dataclass(frozen=True)
class ModelFlags(Group):
    """Who looks at the images, and what for."""

    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|lite0|MODULE:NAME", rich_help_panel=_MODEL,
            help="A classifier of timm or torchvision; lite0: EfficientNet-Lite0 with ImageNet weights (an extra); or "
            "a torch.nn.Module of your own.",
        ),
    ] = "lite0"  # fmt: skip
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|imagenet", rich_help_panel=_MODEL,
            help="Of a model by its name: a file with a state dict, or what its library has (may download).",
        ),
    ] = None  # fmt: skip
    target: Annotated[
        str,
        typer.Option(
            metavar="CLASS|top1|FILE", rich_help_panel=_MODEL,
            help="The class that is looked for: its number, the likeliest of each image, or a file that names one for "
            'each: CSV lines NAME,CLASS, or JSON {"NAME": CLASS}.',
        ),
    ] = "top1"  # fmt: skip
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_MODEL, show_default="the last one that says where",
            help="The layer that is asked.",
        ),
    ] = None  # fmt: skip

    @property
    def also_read(self) -> list[Path]:
        """Files that are read besides the images."""
        return [Path(given) for given in (self.weights, self.target) if given and os.path.isfile(given)]

    def classifier(self, device: str) -> Classifier:
        """The model, on its device. Loads torch.

        Raises:
            InputError: where there is none of this name, or no such layer.
        """
        from dataclasses import replace

        from quadtok.oracle import default_layer
        from quadtok.oracle.classifiers import load_classifier
        from quadtok.oracle.layers import named_layer

        found = load_classifier(self.model, self.weights)
        _ = default_layer(found.model) if self.layer is None else named_layer(found.model, self.layer)
        return replace(found, model=found.model.to(device))


@dataclass(frozen=True)
class MapFiles(RememberedOutput):
    """Where maps go."""

    format: Annotated[
        MapFormatName,
        typer.Option("--format", help="pt: a tensor. npy: for numpy. png: 16 bits of gray.", rich_help_panel="Output"),
    ] = "pt"

    def check(self, context: typer.Context) -> None:
        """As above; a name of an image only where one is written; the folder, since names are those of token files."""
        super().check(context)
        if self.output is not None:
            endings = (f".{self.format}",) if is_given(context, "format") else MAP_SUFFIXES
            check_ending("--output", self.output, endings, "an importance map")
        elif self.output_dir is None:
            raise InputError("maps have names that token files have: give a folder of their own, --output-dir DIR")

    @property
    def suffix(self) -> str:
        """Of a map."""
        return self.output.suffix.lower() if self.output is not None else f".{self.format}"


@grouped
def oracle(
    context: typer.Context,
    inputs: PartedInputs,
    sizes: Sizes,
    model: ModelFlags,
    preprocess: PreprocessFlags,
    output: MapFiles,
    batches: Batches,
    running: Engines,
    say: Reporting,
    dry_run: DryRun = False,
) -> int:
    """Write where a classifier sees a class (Grad-CAM), one importance map per image, for --scorer precomputed."""
    geometry = sizes.geometry(preprocess.fit)
    found = inputs.find(IMAGE_SUFFIXES)
    naming = output.naming(output.suffix)
    planned, ours = plan_outputs(found.sources, naming, look_at_all=dry_run, also_read=model.also_read)
    report, goes_on = begin(say, running, found, planned, ours)
    if dry_run:
        return show_plan(planned, report)
    if not goes_on:
        return finish(report)
    load("jobs.oracle", running.module)
    with report.progress("oracle"):
        from quadtok.jobs.classes import Classes
        from quadtok.jobs.oracle import OracleJob

        classes, device = Classes.of(model.target), batches.resolve()
        classifier = model.classifier(device)
        job = OracleJob(preprocess.value(geometry), classifier, classes, model.layer, output.suffix, device)
        engine = running.on(device, batches.batch_size, same_size=geometry.size is not None)
        stop = execute_in_folder(job, planned, output, engine, report)
    return finish(report, stop, settings=classifier.describe())
