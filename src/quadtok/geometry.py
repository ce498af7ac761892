"""How images become grids: a size, patch sizes, and a token budget. Loads no torch: flags are checked with it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, get_args

from quadtok.errors import InputError
from quadtok.names import DEFAULT_FIT, DEFAULT_NATIVE_FIT, DEFAULT_NUM_TOKENS, FitName
from quadtok.spec import Spec


@dataclass(frozen=True)
class Budget:
    """Tokens of an image: a count, or a share of its full grid."""

    count: int | None = None
    share: Fraction | None = None

    def of(self, spec: Spec) -> float:
        """The number of tokens that it means for an image of this geometry, whether a tree can have as many or not."""
        return float(self.count) if self.count is not None else float((self.share or 0) * spec.num_cells)

    def __str__(self) -> str:
        """As it was typed."""
        return str(self.count) if self.share is None else f"{float(self.share * 100):g}%"


@dataclass(frozen=True)
class Geometry:
    """How images become grids.

    Attributes:
        size: (height, width) that every image is brought to, or None: each keeps its own, rounded to whole root
            patches.
        fit: how; None is `crop` for a fixed size and `pad` (which keeps every pixel) for native sizes.
        min_patch: see `Spec`.
        max_patch: see `Spec`.
        budget: see `Budget`.
    """

    size: tuple[int, int] | None
    fit: FitName
    min_patch: int
    max_patch: int
    budget: Budget

    @property
    def num_scales(self) -> int:
        """As `Spec.num_scales`: it depends on the patch sizes alone."""
        return (self.max_patch // self.min_patch).bit_length()

    def spec(self, height: int, width: int) -> Spec:
        """The spec for an image of this size. A share, and any count with native sizes, is rounded down.

        Raises:
            SpecError: with the nearest values that work.
        """
        sides = (height, width, self.min_patch, self.max_patch)
        if self.budget.share is not None:
            wanted = int(self.budget.share * Spec.full(*sides).num_cells)
            return Spec.at_most(*sides, max(1, wanted))
        assert self.budget.count is not None  # a budget is one or the other
        return Spec(*sides, self.budget.count) if self.size else Spec.at_most(*sides, self.budget.count)

    def describe(self) -> dict[str, Any]:
        """As JSON values, for the fingerprint and the metadata."""
        return {
            "image_size": list(self.size) if self.size else "native",
            "fit": self.fit,
            "min_patch": self.min_patch,
            "max_patch": self.max_patch,
            "tokens": str(self.budget),
        }


def make_geometry(
    size: tuple[int, int] | None, budget: Budget, fit: FitName | None, min_patch: int, max_patch: int
) -> Geometry:
    """The geometry of these, with the fit that is usual for the size; a fixed size is checked at once.

    Raises:
        InputError: for a fit that there is not.
        SpecError: for what does not work.
    """
    if fit is not None and fit not in get_args(FitName):
        raise InputError(f"there is no fit {fit!r}: choose one of {', '.join(get_args(FitName))}")
    geometry = Geometry(size, fit or (DEFAULT_FIT if size else DEFAULT_NATIVE_FIT), min_patch, max_patch, budget)
    # Native sizes are whole roots by construction; one root shows whether the patch sizes fit each other.
    if size:
        geometry.spec(*size)
    else:
        Spec.full(max_patch, max_patch, min_patch, max_patch)
    return geometry


def parse_size(text: str, what: str = "image_size") -> tuple[int, int] | None:
    """`256` or `384x512` (height × width) to (height, width); `native` to None. Errors call it `what`."""
    if text == "native":
        return None
    match = re.fullmatch(r"(\d{1,99})(?:[x×](\d{1,99}))?", text)
    if match is None:
        raise InputError(f"{what} {text!r} is none of N, HxW and native")
    height = int(match[1])
    return height, int(match[2] or height)


def parse_threshold(value: object, what: str = "threshold") -> float | None:
    """A finite number, or None for None; files record it, and JSON knows no others. Errors call it `what`."""
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)  # type: ignore[arg-type]  # tried
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{what} {value!r} is no finite number: give one that saliency may be above")
    return number


def usual_budget(threshold: float | None) -> str:
    """What a budget is where none is given: as a threshold's upper bound none is needed."""
    return str(DEFAULT_NUM_TOKENS) if threshold is None else "100%"


def parse_budget(text: str, what: str = "num_tokens") -> Budget:
    """`100` to a count, `40%` to a share. Errors call it `what`."""
    match = re.fullmatch(r"(\d{1,99}(?:\.\d{1,99})?)(%?)", text)
    if match is None or (not match[2] and "." in match[1]):
        raise InputError(f"{what} {text!r} is neither a number nor a percentage such as 40%")
    if not match[2]:
        return Budget(count=int(match[1]))
    share = Fraction(match[1]) / 100
    if not 0 < share <= 1:
        raise InputError(f"{what} {text} is outside 0% to 100% of the full grid")
    return Budget(share=share)
