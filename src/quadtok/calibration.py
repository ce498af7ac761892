"""The threshold that gives a mean number of tokens: one quantile of what the images themselves say.

A node is split at a threshold where that is below its *level*, the smallest saliency on its path from a root. So the
number of splits of many images at a threshold t is the number of levels above t in all of them, and a mean number
of tokens is one place in the sorted list of all levels. An upper bound of tokens is no complication: of each image only
the largest levels count, as many as there may be splits. No search, and nothing is estimated.

Equal levels are split at once. That is no rare accident: what is in a patch has at most the level of the patch, and
just that one where it is more salient. So the mean may fall short of what was wanted, by the last such patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quadtok.errors import InputError
from quadtok.quadtrees.base import check_saliency, path_minimum
from quadtok.spec import Spec

MAX_DIGITS = 17  # of a float64, told exactly


@dataclass(frozen=True)
class Levels:
    """When the splits of one image happen.

    Attributes:
        roots: the tokens that it has in any case.
        levels: float64, falling: at a threshold below the k-th there are k splits, each adding 3 tokens. As many as the
            image may have splits.
    """

    roots: int
    levels: NDArray[np.float64]

    @property
    def most(self) -> int:
        """The tokens that it has at most."""
        return self.roots + 3 * len(self.levels)

    def tokens_above(self, threshold: float) -> int:
        """The tokens that it has at a threshold."""
        return self.roots + 3 * int(np.count_nonzero(self.levels > threshold))


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it gives for the images that it was found on.

    Attributes:
        threshold: for `threshold=` and `--threshold`.
        wanted: the mean that was asked for.
        tokens: of each image at this threshold.
        most: that each image may have.
    """

    threshold: float
    wanted: float
    tokens: tuple[int, ...]
    most: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Tokens of an image, on average; to half a split, or less than was wanted where levels are equal."""
        return float(np.mean(self.tokens))

    @property
    def deviation(self) -> float:
        """Standard deviation of the tokens of an image; 0 of a single one."""
        return float(np.std(self.tokens, ddof=1)) if len(self.tokens) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """How far the mean of all such images may well be from the mean of these; infinite for a single one."""
        return self.deviation / math.sqrt(len(self.tokens)) if len(self.tokens) > 1 else math.inf

    @property
    def share_at_most(self) -> float:
        """The share of images that have all the tokens that they may have."""
        return float(np.mean([have == may for have, may in zip(self.tokens, self.most, strict=True)]))

    def quantile(self, share: float) -> float:
        """So large a share of the images has at most so many tokens."""
        return float(np.quantile(self.tokens, share))

    def histogram(self, bins: int = 12) -> list[tuple[int, int, int]]:
        """(first, last, images): how many images have from `first` to `last` tokens; at most `bins` rows."""
        least, largest = min(self.tokens), max(self.tokens)
        step = max(3, -(-(largest - least + 1) // bins))
        begins = range(least, largest + 1, step)
        numbers = np.asarray(self.tokens)
        return [(at, at + step - 1, int(((numbers >= at) & (numbers < at + step)).sum())) for at in begins]


def levels_of(saliency: Sequence[Tensor], spec: Spec) -> list[Levels]:
    """The levels of each image of a batch.

    Args:
        saliency: as a scorer gives it, see `Quadtree`.
        spec: of the batch; `num_tokens` is the most that an image may have.

    Raises:
        InputError: where the saliency does not have the spec's shapes.
    """
    check_saliency(saliency, spec)
    if spec.num_scales == 1:
        return [Levels(spec.num_roots, np.empty(0))]
    minima = path_minimum(saliency, spec).numpy(force=True)
    largest = -np.sort(-minima, axis=1)[:, : spec.num_splits]
    return [Levels(spec.num_roots, row) for row in largest]


def calibrate(images: Sequence[Levels], num_tokens: float) -> Calibration:
    """The threshold at which these images have `num_tokens` tokens on average.

    Args:
        images: what `levels_of` gives, of as many images as there are: the mean of others will differ by a standard
            error or two.
        num_tokens: the mean that is wanted.

    Raises:
        InputError: for what is not a list of levels, where there are no images, no threshold gives such a mean, or
            infinite saliency decides.
    """
    if not isinstance(images, Sequence) or not all(isinstance(one, Levels) for one in images):
        raise InputError(
            f"a threshold is found on a list of levels, not on {type(images).__name__}: "
            "give levels_of(scorer(images, spec), spec)"
        )
    if not images:
        raise InputError("there are no images to find a threshold on: give at least one")
    least = float(np.mean([one.roots for one in images]))
    most = float(np.mean([one.tokens_above(-math.inf) for one in images]))  # at no threshold is −∞, or NaN, split
    if not least <= num_tokens <= most:
        raise InputError(
            f"a mean of {num_tokens:g} tokens cannot be had: these images have {least:g} (their roots) to {most:g} "
            "tokens at any threshold; ask for a number between"
        )
    pooled = -np.sort(-np.concatenate([one.levels for one in images]))
    pooled = pooled[pooled > -math.inf]
    threshold = _threshold(pooled, round(len(images) * (num_tokens - least) / 3))
    return Calibration(
        threshold,
        float(num_tokens),
        tuple(one.tokens_above(threshold) for one in images),
        tuple(one.most for one in images),
    )


def _threshold(pooled: NDArray[np.float64], splits: int) -> float:
    """A threshold that is below so many of the levels, which fall; or below fewer, where equal ones must not part."""
    if not len(pooled):
        return 0.0
    above = float(pooled[splits - 1]) if splits else math.inf
    below = float(pooled[splits]) if splits < len(pooled) else -math.inf
    if below == math.inf:
        raise InputError("infinite saliency asks for more splits than are wanted: no threshold parts it")
    if below == -math.inf:
        return above - max(1.0, abs(above))
    return _plain_number(below, above) if math.isfinite(above) else below


def _plain_number(below: float, above: float) -> float:
    """A number of few digits about halfway between two, so that neither depends on how the last digit was rounded."""
    middle, quarter = below / 2 + above / 2, above / 4 - below / 4
    for digits in range(1, MAX_DIGITS + 1):
        number = float(f"{middle:.{digits}g}")
        if abs(number - middle) <= quarter and below <= number < above:
            return number
    return below
