"""What was asked for on the command line, where a token file holds its plan already: it agrees, or is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quadtok.errors import InputError
from quadtok.geometry import Budget
from quadtok.spec import Spec


@dataclass(frozen=True)
class Asked:
    """Flags that were typed; None for those that were not.

    Attributes:
        budgets: `--tokens`.
        size: `--image-size` as (height, width), or the word native.
        min_patch: `--min-patch`.
        max_patch: `--max-patch`.
        scorers: `--scorer`, or `--compare`.
    """

    budgets: tuple[Budget, ...] | None = None
    size: tuple[int, int] | str | None = None
    min_patch: int | None = None
    max_patch: int | None = None
    scorers: tuple[str, ...] | None = None

    def check(self, path: Path, spec: Spec, scorer: str, size: object) -> None:
        """Refuse a token file that is not what was asked for.

        Args:
            path: of the file.
            spec: of its plan.
            scorer: that it records; empty where it records none.
            size: the `--image-size` that it records, None where it records none.

        Raises:
            InputError: naming the flag, what it asks for and what the file holds.
        """
        if max(len(self.budgets or ()), len(self.scorers or ())) > 1:
            raise InputError(f"{path}: a token file holds one plan; to compare, give the photograph")
        pairs = {
            "--min-patch": (self.min_patch, spec.min_patch),
            "--max-patch": (self.max_patch, spec.max_patch),
            "--image-size": (_shown(self.size), "native" if size == "native" else _shown((spec.height, spec.width))),
            "--scorer": (self.scorers and self.scorers[0], scorer or "none that it records"),
            "--tokens": (self.budgets and _tokens(self.budgets[0], spec), spec.num_tokens),
        }
        for flag, (asked, held) in pairs.items():
            if asked is not None and asked != held:
                raise InputError(
                    f"{path}: {flag} asks for {asked}, the token file holds {held}: give the photograph, "
                    f"or leave {flag} out"
                )


def _shown(size: tuple[int, int] | str | None) -> str | None:
    return f"{size[0]}x{size[1]}" if isinstance(size, tuple) else size


def _tokens(budget: Budget, spec: Spec) -> int | None:
    if budget.share is None:
        return budget.count
    sides = (spec.height, spec.width, spec.min_patch, spec.max_patch)
    return Spec.at_most(*sides, max(1, int(budget.share * spec.num_cells))).num_tokens
