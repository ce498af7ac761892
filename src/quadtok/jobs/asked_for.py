"""What was asked for, where a token file holds its plan already: it agrees, or is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quadtok.errors import InputError
from quadtok.geometry import Budget
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.spec import Spec


@dataclass(frozen=True)
class AskedFor:
    """What was asked for; None for what was not.

    Attributes:
        budgets: tokens of an image.
        threshold: that decided how many.
        size: (height, width), or the word native.
        min_patch: see `Spec`.
        max_patch: see `Spec`.
        scorers: their names.
        words: what sentences call these.
    """

    budgets: tuple[Budget, ...] | None = None
    threshold: float | None = None
    size: tuple[int, int] | str | None = None
    min_patch: int | None = None
    max_patch: int | None = None
    scorers: tuple[str, ...] | None = None
    words: Words = ARGUMENTS

    @property
    def anything(self) -> bool:
        """Whether anything was asked for."""
        return self != AskedFor(words=self.words)

    def check(
        self, path: Path, spec: Spec, scorer: str, size: object, threshold: float | None = None, most: str = ""
    ) -> None:
        """Refuse a token file that is not what was asked for.

        Args:
            path: of the file.
            spec: of its plan.
            scorer: that it records; empty where it records none.
            size: native, where it records that.
            threshold: that it records; the budget was then the most.
            most: that budget, as it was typed.

        Raises:
            InputError: naming what was asked for and what the file holds.
        """
        if max(len(self.budgets or ()), len(self.scorers or ())) > 1:
            raise InputError(f"{path}: a token file holds one plan; to compare, give the photograph")
        words = self.words
        pairs = {
            words.min_patch: (self.min_patch, spec.min_patch),
            words.max_patch: (self.max_patch, spec.max_patch),
            words.image_size: (_shown(self.size), "native" if size == "native" else _shown((spec.height, spec.width))),
            words.scorer: (self.scorers and self.scorers[0], scorer or "none that it records"),
            words.threshold: (self.threshold, "none that it records" if threshold is None else threshold),
            words.num_tokens: (
                (self.budgets and _tokens(self.budgets[0], spec), spec.num_tokens)
                if threshold is None
                else (self.budgets and str(self.budgets[0]), most)
            ),
        }
        for name, (wanted, held) in pairs.items():
            if wanted is not None and wanted != held:
                raise InputError(
                    f"{path}: {name} asks for {wanted}, the token file holds {held}: give the photograph, "
                    f"or leave {name} out"
                )


def _shown(size: tuple[int, int] | str | None) -> str | None:
    return f"{size[0]}x{size[1]}" if isinstance(size, tuple) else size


def _tokens(budget: Budget, spec: Spec) -> int | None:
    if budget.share is None:
        return budget.count
    sides = (spec.height, spec.width, spec.min_patch, spec.max_patch)
    return Spec.at_most(*sides, max(1, int(budget.share * spec.num_cells))).num_tokens
