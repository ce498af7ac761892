"""A user's own scorer: found by its name, and asked to describe itself, whatever it may raise, print or return."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from quadtok.errors import InputError
from quadtok.own_code import found_by_name, ours_only
from quadtok.scorers import ScorerFunction


def imported(name: str, options: dict[str, Any]) -> ScorerFunction:
    """A user's scorer: a function (images, spec) → saliency, or a class that makes one from the options."""

    def made(found: Any) -> ScorerFunction:
        scorer: ScorerFunction = found(**options) if isinstance(found, type) or options else found
        return scorer

    scorer = found_by_name(name, "scorer", made)
    if not callable(scorer):
        raise InputError(f"scorer {name} is no function of (images, spec)")
    return scorer


def description_of(scorer: ScorerFunction, name: str) -> dict[str, Any]:
    """What a scorer says of itself, or its name."""
    describe: Callable[[], dict[str, Any]] | None = getattr(scorer, "describe", None)
    if describe is None:
        return {"name": name}
    with ours_only(f"scorer {name} cannot describe itself"):
        found = describe()
        json.dumps(found, allow_nan=False)
    if not isinstance(found, dict):
        raise InputError(f"scorer {name} describes itself with a {type(found).__name__}: it must be a dict")
    return {"name": name, **found}
