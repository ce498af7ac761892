"""How images become grids: a size, patch sizes, and a token budget. Loads no torch: flags are checked with it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from quadtok.names import FitName
from quadtok.spec import Spec


@dataclass(frozen=True)
class Budget:
    """Tokens of an image: a count, or a share of its full grid."""

    count: int | None = None
    share: Fraction | None = None

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
