"""Images to saliency. A new scorer is one file, one line here, and its name in `names.py`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from quadtok.errors import InputError
from quadtok.scorers.base import Scorer, ScorerFunction
from quadtok.scorers.blur import BlurScorer
from quadtok.scorers.duplicate import DuplicateScorer
from quadtok.scorers.entropy import EntropyScorer
from quadtok.scorers.feature import FeatureScorer
from quadtok.scorers.nets import NetScorer
from quadtok.scorers.object import ObjectScorer
from quadtok.scorers.point import PointScorer
from quadtok.scorers.precomputed import PrecomputedScorer
from quadtok.scorers.random import RandomScorer

SCORERS: dict[str, Callable[..., Scorer]] = {
    "object": ObjectScorer,
    "feature": FeatureScorer,
    "blur": BlurScorer,
    "entropy": EntropyScorer,
    "duplicate": DuplicateScorer,
    "point": PointScorer,
    "precomputed": PrecomputedScorer,
    "random": RandomScorer,
}


def get_scorer(name: str, **options: Any) -> Scorer:
    """The scorer of this name: a callable (images, spec) → saliency; see `Scorer` for what it promises.

    Args:
        name: `"object"` (the default of whoever takes a scorer), `"feature"` (the paper's), `"blur"`, `"entropy"`
            (APT's), `"duplicate"`, `"point"`, `"precomputed"` or `"random"`.
        **options: object: `weights`, `views`, `precision`; feature: `weights`, `net`, `stride`, `error`,
            `high_res_fraction`, `precision`; entropy: `thresholds`; point: `points`, `boxes`; precomputed: `maps`;
            random: `seed`; blur and duplicate have none.

    Raises:
        InputError: for another name or option.
        WeightsError: where the weights of `"object"` or `"feature"` cannot be had.
    """
    if name not in tuple(SCORERS):  # also what cannot be hashed
        raise InputError(f"there is no scorer {name!r}: choose one of {', '.join(SCORERS)}")
    signature = inspect.signature(SCORERS[name])
    try:
        signature.bind(**options)
    except TypeError as problem:
        raise InputError(
            f"the {name} scorer was given options it does not have, or lacks one: {problem}; "
            f"it has {', '.join(signature.parameters) or 'none'}"
        ) from None
    return SCORERS[name](**options)


def on_device(scorer: ScorerFunction, device: torch.device) -> ScorerFunction:
    """The scorer for images on this device. Those with a net have a place; any other is handed back as it is."""
    return scorer.to(device) if isinstance(scorer, NetScorer) else scorer


__all__ = ["SCORERS", "Scorer", "ScorerFunction", "get_scorer", "on_device"]
