"""What images become: a size, patch sizes, and a number of tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from quadtok.cli.flags.base import FLAGS, QUADTREE
from quadtok.cli.grouped import Group
from quadtok.geometry import Geometry, make_geometry, parse_budget, parse_size, parse_threshold, usual_budget
from quadtok.names import (
    DEFAULT_IMAGE_SIZE,
    DEFAULT_MAX_PATCH,
    DEFAULT_MIN_PATCH,
    DEFAULT_NUM_TOKENS,
    FitName,
)

USUAL_TOKENS = f"{DEFAULT_NUM_TOKENS}; with --threshold 100%"


ImageSize = Annotated[
    str,
    typer.Option(
        "--image-size", "-s", metavar="N|HxW|native", rich_help_panel=QUADTREE,
        help="Size after preprocessing, in multiples of --max-patch; native: each image's own, rounded to those.",
    ),
]  # fmt: skip
MinPatch = Annotated[
    int, typer.Option(min=1, rich_help_panel=QUADTREE, help="Side of the finest patch: the resolution of a token.")
]
MaxPatch = Annotated[
    int, typer.Option(min=1, rich_help_panel=QUADTREE, help="Side of the coarsest patch: min-patch × a power of two.")
]


@dataclass(frozen=True)
class Sizes(Group):
    """Size and patch sizes, where the number of tokens plays no part."""

    image_size: ImageSize = str(DEFAULT_IMAGE_SIZE)
    min_patch: MinPatch = DEFAULT_MIN_PATCH
    max_patch: MaxPatch = DEFAULT_MAX_PATCH

    def geometry(self, fit: FitName | None) -> Geometry:
        """With the tokens of the full grid.

        Raises:
            InputError: for text that is no size.
            SpecError: for a fixed size that does not work.
        """
        size = parse_size(self.image_size, FLAGS.image_size)
        return make_geometry(size, parse_budget("100%", FLAGS.num_tokens), fit, self.min_patch, self.max_patch)


@dataclass(frozen=True)
class Grid(Group):
    """Size, patch sizes and number of tokens; with the fit they are a geometry."""

    tokens: Annotated[
        str,
        typer.Option(
            "--tokens", "-n", metavar="N|P%", rich_help_panel=QUADTREE,
            help="Tokens per image: roots + 3 × splits, or a percentage of the full grid, rounded down.",
        ),
    ] = str(DEFAULT_NUM_TOKENS)  # fmt: skip
    image_size: ImageSize = str(DEFAULT_IMAGE_SIZE)
    min_patch: MinPatch = DEFAULT_MIN_PATCH
    max_patch: MaxPatch = DEFAULT_MAX_PATCH

    def geometries(self, fit: FitName | None) -> list[Geometry]:
        """One for each size and budget that is listed, a fixed size checked at once.

        Raises:
            InputError: for text that is no size or budget.
            SpecError: for a fixed size that does not work.
        """
        sizes, budgets = self._listed()
        return [self._geometry(size, budget, fit) for size in sizes for budget in budgets]

    def geometry(self, fit: FitName | None) -> Geometry:
        """The only one; see `geometries`."""
        return self.geometries(fit)[0]

    def _listed(self) -> tuple[list[str], list[str]]:
        """The sizes and the budgets, as typed. Here one of each; a command may take several."""
        return [self.image_size], [self.tokens]

    def _geometry(self, image_size: str, tokens: str, fit: FitName | None) -> Geometry:
        size, budget = parse_size(image_size, FLAGS.image_size), parse_budget(tokens, FLAGS.num_tokens)
        return make_geometry(size, budget, fit, self.min_patch, self.max_patch)


@dataclass(frozen=True)
class ThresholdGrid(Grid):
    """As above, where a threshold may decide how many tokens an image has."""

    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens", "-n", metavar="N|P%", rich_help_panel=QUADTREE,
            show_default=USUAL_TOKENS,
            help="Tokens per image: roots + 3 × splits, or a percentage of the full grid, rounded down; "
            "with --threshold the most.",
        ),
    ] = None  # type: ignore[assignment]  # what stands for it depends on the other flag  # fmt: skip
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T", rich_help_panel=QUADTREE,
            help="Split only what has more saliency than this: as many tokens as an image needs (quadtok calibrate).",
        ),
    ] = None  # fmt: skip

    def check(self, context: typer.Context) -> None:
        """A threshold that saliency may be above."""
        parse_threshold(self.threshold, FLAGS.threshold)

    def without_budget(self, fit: FitName | None) -> Geometry:
        """The geometry with the tokens of the full grid, for what does not depend on their number."""
        return replace(self, tokens="100%").geometry(fit)

    def _listed(self) -> tuple[list[str], list[str]]:
        return [self.image_size], [self.tokens or usual_budget(self.threshold)]
