"""What the flags mean: sizes and budgets as values, checked before torch is loaded."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, get_args

from quadtok.errors import InputError
from quadtok.geometry import Budget, Geometry
from quadtok.names import FitName, ScorerName
from quadtok.spec import Spec


def parse_geometry(image_size: str, fit: FitName | None, min_patch: int, max_patch: int, tokens: str) -> Geometry:
    """The geometry that the flags describe; a fixed size is checked at once.

    Raises:
        InputError: for text that is no size or budget.
        SpecError: for a fixed size that does not work.
    """
    size = parse_size(image_size)
    geometry = Geometry(size, fit or ("crop" if size else "pad"), min_patch, max_patch, parse_budget(tokens))
    # Native sizes are whole roots by construction; one root shows whether the patch sizes fit each other.
    if size:
        geometry.spec(*size)
    else:
        Spec.full(max_patch, max_patch, min_patch, max_patch)
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


def check_scorers(names: list[str], weights: str | None) -> None:
    """Refuse a name that is neither a scorer's nor of the form module:attribute, and weights that nobody takes."""
    for name in names:
        if name not in get_args(ScorerName) and ":" not in name:
            known = ", ".join(get_args(ScorerName))
            raise InputError(f"there is no scorer {name!r}: choose one of {known}, or module:attribute")
    if weights is not None and "feature" not in names:
        raise InputError(f"--weights belongs to --scorer feature, not to {', '.join(names)}")


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """`key=value` texts to scorer options; numbers become numbers."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--scorer-option {pair!r} is not of the form key=value")
        options[key] = _number(value)
    return options


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
