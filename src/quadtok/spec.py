"""The integers of a run, checked once. Everything behind a `Spec` runs without asking again."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields

from quadtok.errors import SpecError

MAX_SIDE = 2**31 - 1  # so that the number of any pixel fits in 64 bits

_MAX_BITS = 256  # of any number: far more than can be used, and few enough for a sentence


@dataclass(frozen=True)
class Spec:
    """The geometry and the token budget of a run (docs/reference.md section 1).

    All five numbers are integers; sizes are in pixels. Frozen and hashable.

    Attributes:
        height: image height, a multiple of `max_patch`.
        width: image width, a multiple of `max_patch`.
        min_patch: side of the finest patch, at least 1. A token keeps `min_patch × min_patch` pixels.
        max_patch: side of a root patch: `min_patch` times a power of two (which may be 1).
        num_tokens: tokens of each image: the number of roots plus 3 for each split.

    Raises:
        SpecError: for any combination that no quadtree can have, naming the nearest that works.
    """

    height: int
    width: int
    min_patch: int
    max_patch: int
    num_tokens: int

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _positive_integer(field.name, getattr(self, field.name)))
        _check_patches(self.min_patch, self.max_patch)
        _check_sides(self.height, self.width, self.min_patch, self.max_patch)
        _check_tokens(self.num_tokens, self.num_roots, self.num_cells)

    @classmethod
    def at_most(cls, height: int, width: int, min_patch: int, max_patch: int, num_tokens: int) -> Spec:
        """The spec with the largest reachable count that is at most `num_tokens`.

        Raises:
            SpecError: as `Spec`; also where even the roots alone are more than `num_tokens`.
        """
        full = cls.full(height, width, min_patch, max_patch)
        wanted = min(_positive_integer("num_tokens", num_tokens), full.num_cells)
        if wanted < full.num_roots:
            raise SpecError(_below_roots(wanted, full.num_roots, full.num_cells))
        reachable = wanted - (wanted - full.num_roots) % 3
        return cls(full.height, full.width, full.min_patch, full.max_patch, reachable)

    @classmethod
    def full(cls, height: int, width: int, min_patch: int, max_patch: int) -> Spec:
        """The spec whose tokens are the uniform grid of finest patches.

        Raises:
            SpecError: as `Spec`.
        """
        height, width = _positive_integer("height", height), _positive_integer("width", width)
        min_patch = _positive_integer("min_patch", min_patch)
        num_cells = max(1, height // min_patch) * max(1, width // min_patch)
        _check_patches(min_patch, _positive_integer("max_patch", max_patch))
        _check_sides(height, width, min_patch, max_patch)
        return cls(height, width, min_patch, max_patch, num_cells)

    @property
    def num_scales(self) -> int:
        """How many patch sizes there are: scale 0 is `min_patch`, scale `num_scales - 1` is `max_patch`."""
        return (self.max_patch // self.min_patch).bit_length()

    @property
    def num_roots(self) -> int:
        """How many patches of size `max_patch` the image holds."""
        return (self.height // self.max_patch) * (self.width // self.max_patch)

    @property
    def num_cells(self) -> int:
        """How many patches of size `min_patch` the image holds: the largest token count."""
        return (self.height // self.min_patch) * (self.width // self.min_patch)

    @property
    def num_splits(self) -> int:
        """How many patches are split to get from the roots to `num_tokens`."""
        return (self.num_tokens - self.num_roots) // 3

    def patch_size(self, scale: int) -> int:
        """Side of a patch of this scale, in pixels."""
        return self.min_patch << scale

    def grid(self, scale: int) -> tuple[int, int]:
        """(rows, columns) of the grid of patches of this scale."""
        size = self.patch_size(scale)
        return self.height // size, self.width // size


def _positive_integer(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the point is to find out
    except TypeError:
        raise SpecError(f"{name} must be an integer, got {value!r}") from None
    if number.bit_length() > _MAX_BITS:  # Python refuses to print numbers of thousands of digits
        raise SpecError(f"{name} is too large: a number of {number.bit_length()} bits, at most {_MAX_BITS} are handled")
    if number < 1:
        raise SpecError(f"{name} must be at least 1, got {number}")
    return number


def _check_patches(min_patch: int, max_patch: int) -> None:
    if max_patch < min_patch:
        raise SpecError(
            f"max_patch {max_patch} is smaller than min_patch {min_patch}: use {min_patch} or {2 * min_patch}"
        )
    ratio, rest = divmod(max_patch, min_patch)
    if rest or ratio & (ratio - 1):
        below = min_patch << (ratio.bit_length() - 1)
        raise SpecError(
            f"max_patch {max_patch} is not min_patch {min_patch} times a power of two: "
            f"use max_patch {below} or {2 * below}"
        )


def _check_sides(height: int, width: int, min_patch: int, max_patch: int) -> None:
    for name, side in (("height", height), ("width", width)):
        if side > MAX_SIDE:
            raise SpecError(f"{name} {side} is too large: a side has at most {MAX_SIDE} pixels, cut the image up")
        if side % max_patch:
            ways = _ways_out(name, side, height, width, min_patch, max_patch)
            raise SpecError(f"{name} {side} is not a multiple of max_patch {max_patch}: {ways}")


def _ways_out(name: str, side: int, height: int, width: int, min_patch: int, max_patch: int) -> str:
    """The nearest legal geometries: another max_patch, another min_patch with as many scales, another side."""
    ways = []
    ratio = max_patch // min_patch
    smaller = max_patch // 2
    while smaller >= min_patch and (height % smaller or width % smaller):
        smaller //= 2
    if smaller >= min_patch and ratio > 1:
        ways.append(f"max_patch {smaller}")
    other_min = next((p for p in _nearest_first(min_patch) if not (height % (p * ratio) or width % (p * ratio))), 0)
    if other_min > 1:
        ways.append(f"{'' if ways else 'max_patch '}{other_min * ratio} with min_patch {other_min}")
    below, above = side // max_patch * max_patch, -(-side // max_patch) * max_patch
    nearest = above if above - side <= side - below or not below else below
    return f"use {' or '.join(ways)}{', or ' if ways else ''}{name} {nearest}"


def _nearest_first(number: int) -> list[int]:
    """The integers around `number`, the nearest first; no patch anybody uses is larger than 4096 pixels."""
    return sorted(range(1, min(2 * number, 4096) + 1), key=lambda other: (abs(other - number), other))


def _check_tokens(num_tokens: int, num_roots: int, num_cells: int) -> None:
    if num_tokens < num_roots:
        raise SpecError(_below_roots(num_tokens, num_roots, num_cells))
    if num_tokens > num_cells:
        raise SpecError(
            f"num_tokens {num_tokens} is more than the {num_cells} finest patches of the image: "
            f"use {num_cells} or fewer"
        )
    surplus = (num_tokens - num_roots) % 3
    if surplus:
        below = num_tokens - surplus
        raise SpecError(
            f"num_tokens {num_tokens} cannot be reached from {num_roots} roots: each split adds 3. "
            f"Try {below} or {below + 3}."
        )


def _below_roots(num_tokens: int, num_roots: int, num_cells: int) -> str:
    after = f" or {num_roots + 3}" if num_cells > num_roots else ""
    return (
        f"num_tokens {num_tokens} is fewer than the {num_roots} roots, the patches of size max_patch: "
        f"use {num_roots}{after}, or a larger max_patch"
    )
