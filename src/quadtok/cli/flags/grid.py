"""What images become: a size, patch sizes, and a number of tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import typer

from quadtok.cli.flags.base import QUADTREE
from quadtok.cli.grouped import Group
from quadtok.errors import InputError
from quadtok.geometry import Budget, Geometry
from quadtok.names import (
    DEFAULT_FIT,
    DEFAULT_IMAGE_SIZE,
    DEFAULT_MAX_PATCH,
    DEFAULT_MIN_PATCH,
    DEFAULT_NATIVE_FIT,
    DEFAULT_NUM_TOKENS,
    FitName,
)
from quadtok.spec import Spec


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
    image_size: Annotated[
        str,
        typer.Option(
            "--image-size", "-s", metavar="N|HxW|native", rich_help_panel=QUADTREE,
            help="Size after preprocessing, in multiples of --max-patch; native: each image's own, rounded to those.",
        ),
    ] = str(DEFAULT_IMAGE_SIZE)  # fmt: skip
    min_patch: Annotated[
        int,
        typer.Option(min=1, rich_help_panel=QUADTREE, help="Side of the finest patch: the resolution of a token."),
    ] = DEFAULT_MIN_PATCH
    max_patch: Annotated[
        int,
        typer.Option(min=1, rich_help_panel=QUADTREE, help="Side of the coarsest patch: min-patch × a power of two."),
    ] = DEFAULT_MAX_PATCH

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
        size = parse_size(image_size)
        fit = fit or (DEFAULT_FIT if size else DEFAULT_NATIVE_FIT)
        geometry = Geometry(size, fit, self.min_patch, self.max_patch, parse_budget(tokens))
        # Native sizes are whole roots by construction; one root shows whether the patch sizes fit each other.
        if size:
            geometry.spec(*size)
        else:
            Spec.full(self.max_patch, self.max_patch, self.min_patch, self.max_patch)
        return geometry


def parse_size(text: str) -> tuple[int, int] | None:
    """`256` or `384x512` (height × width) to (height, width); `native` to None."""
    if text == "native":
        return None
    match = re.fullmatch(r"(\d{1,99})(?:[x×](\d{1,99}))?", text)
    if match is None:
        raise InputError(f"--image-size {text!r} is none of N, HxW and native")
    height = int(match[1])
    return height, int(match[2] or height)


def parse_budget(text: str) -> Budget:
    """`100` to a count, `40%` to a share."""
    match = re.fullmatch(r"(\d{1,99}(?:\.\d{1,99})?)(%?)", text)
    if match is None or (not match[2] and "." in match[1]):
        raise InputError(f"--tokens {text!r} is neither a number nor a percentage such as 40%")
    if not match[2]:
        return Budget(count=int(match[1]))
    share = Fraction(match[1]) / 100
    if not 0 < share <= 1:
        raise InputError(f"--tokens {text} is outside 0% to 100% of the full grid")
    return Budget(share=share)
