"""A plan stream: the order in which the patches of one image split, which holds its plan at every budget.

Each split adds three tokens, and the order of the splits does not depend on where they end (quadtrees/order.py). So
the first S of them are the plan of roots + 3 · S tokens: at 256 × 256 in patches of 16 to 64 pixels 80 numbers below
80, a byte each. Which of them are above a threshold is told by their *minima*: a patch is split at a threshold below
the smallest saliency on its path from a root, and these never rise along the order. So a threshold is a place in
it, too.

What is done to an image along its root patches is done to its stream: a mirrored image splits the mirrored patches in
the same order, and a crop those that it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quadtok.errors import InputError, TokenFileError
from quadtok.geometry import parse_threshold
from quadtok.names import MinimaName
from quadtok.plan import Plan
from quadtok.quadtrees.base import check_saliency, path_minimum
from quadtok.quadtrees.order import split_order
from quadtok.quadtrees.parallel_numpy import plan_of_split
from quadtok.spec import Spec
from quadtok.zorder import HALF, LOW_HALF, places

_MINIMA: dict[MinimaName, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


@dataclass(frozen=True, eq=False)
class PlanStream:
    """The order of all splits of one image.

    Attributes:
        spec: of the image; `num_tokens` is that of the full grid.
        order: `[n]` unsigned integers, the numbers of all splittable patches (coarser scales first, forest z-order
            inside a scale), first to last.
        minima: `[n]` float16 or float32: the smallest saliency on the path to each of them from its root, in the same
            order; None where no threshold is to be asked for.
    """

    spec: Spec
    order: NDArray[Any]
    minima: NDArray[Any] | None = None

    def plan(self, num_tokens: int | None = None, threshold: float | None = None) -> Plan:
        """The plan of one image, as a quadtree would have chosen it from the saliency.

        Args:
            num_tokens: how many tokens; with a threshold at most so many, and by default all that there may be.
            threshold: split only what is above it.

        Returns:
            A plan of as many tokens as the image has, without padding.

        Raises:
            InputError: where neither is given, or a threshold and the stream has no minima.
            SpecError: for a number of tokens that the image cannot have.
        """
        if num_tokens is None and threshold is None:
            raise InputError("a plan has a number of tokens: give num_tokens, or a threshold")
        spec = self.spec if num_tokens is None else replace(self.spec, num_tokens=num_tokens)
        if threshold is not None:
            splits = min(spec.num_splits, self._above(threshold))
            spec = replace(spec, num_tokens=spec.num_roots + 3 * splits)
        split = np.zeros((1, len(self.order)), dtype=np.bool_)
        split[0, self.order[: spec.num_splits]] = True
        return plan_of_split(split, places(spec)[0], spec)

    def mirrored(self) -> PlanStream:
        """The stream of the image with left and right exchanged.

        Its plans are the mirrored ones. Where saliencies are equal a new scoring might split another patch first.
        """
        return replace(self, order=_mirrored_nodes(self.spec)[self.order].astype(self.order.dtype))

    def cropped(self, top: int, left: int, height: int, width: int) -> PlanStream:
        """The stream of a part of the image that consists of whole root patches; all numbers in pixels.

        Raises:
            InputError: where the part is not of whole root patches, or not in the image.
        """
        spec = self._crop_spec(top, left, height, width)
        nodes = _kept_nodes(self.spec, spec, top // spec.max_patch, left // spec.max_patch)
        numbers = np.full(len(self.order), len(nodes), dtype=np.int64)
        numbers[nodes] = np.arange(len(nodes))
        order = numbers[self.order]
        kept = order < len(nodes)
        minima = None if self.minima is None else self.minima[kept]
        return PlanStream(spec, order[kept].astype(order_dtype(spec)), minima)

    def to_bytes(self) -> bytes:
        """The order, then the minima: little-endian, in as few bytes as a number takes."""
        return self.order.tobytes() + (b"" if self.minima is None else self.minima.tobytes())

    def _above(self, threshold: float) -> int:
        """How many splits a threshold is below; compared as float64, as quadtrees do."""
        if self.minima is None:
            raise InputError("a threshold was asked for, and the stream was stored without minima: store it with them")
        return int(np.count_nonzero(self.minima.astype(np.float64) > (parse_threshold(threshold) or 0.0)))

    def _crop_spec(self, top: int, left: int, height: int, width: int) -> Spec:
        spec, root = self.spec, self.spec.max_patch
        box = {"top": top, "left": left, "height": height, "width": width}
        if any(not isinstance(value, Integral) or value % root for value in box.values()) or min(height, width) < root:
            raise InputError(f"a plan is cropped along its root patches: {box} must be multiples of {root} pixels")
        if min(top, left) < 0 or top + height > spec.height or left + width > spec.width:
            raise InputError(f"the crop {box} is not inside the image of {spec.height}×{spec.width} pixels")
        return Spec.full(height, width, spec.min_patch, root)


def plan_streams(saliency: Sequence[Tensor], spec: Spec, minima: MinimaName = "none") -> list[PlanStream]:
    """The stream of each image of a batch.

    Args:
        saliency: as a scorer gives it, see `Quadtree`.
        spec: of the batch; `num_tokens` plays no part.
        minima: whether thresholds are to be asked for, and as what they are compared. `"float32"` is exact where the
            saliency is of 32 bits or fewer; with `"float16"` what is nearer to a threshold than it resolves may differ.

    Raises:
        InputError: where the saliency does not have the spec's shapes.
    """
    check_saliency(saliency, spec)
    full = Spec.full(spec.height, spec.width, spec.min_patch, spec.max_patch)
    order = split_order(saliency, spec).numpy(force=True)
    smallest = _minima(saliency, spec, order, minima)
    orders = order.astype(order_dtype(full))
    return [PlanStream(full, one, None if smallest is None else smallest[row]) for row, one in enumerate(orders)]


def stream_of_bytes(data: bytes, spec: Spec, minima: MinimaName) -> PlanStream:
    """What `to_bytes` wrote, checked as data from elsewhere.

    Raises:
        TokenFileError: where it is no order in which the patches of an image of this spec can split.
    """
    full = Spec.full(spec.height, spec.width, spec.min_patch, spec.max_patch)
    count, dtype = (full.num_cells - full.num_roots) // 3, order_dtype(full)
    if len(data) != stream_size(full, minima):
        raise TokenFileError(f"a plan stream of {len(data)} bytes, expected {stream_size(full, minima)}")
    order = np.frombuffer(data, dtype, count)
    smallest = None
    if minima != "none":
        smallest = np.frombuffer(data, _MINIMA[minima], count, offset=count * dtype.itemsize)
        if np.isnan(smallest).any() or (smallest[1:] > smallest[:-1]).any():
            raise TokenFileError("the minima of a plan stream rise, or are NaN")
    if not _is_order(order, full):
        raise TokenFileError("a plan stream is no order in which patches can split")
    return PlanStream(full, order, smallest)


def stream_size(spec: Spec, minima: MinimaName) -> int:
    """How many bytes the stream of an image takes."""
    a_split = order_dtype(spec).itemsize + (0 if minima == "none" else _MINIMA[minima].itemsize)
    return (spec.num_cells - spec.num_roots) // 3 * a_split


def order_dtype(spec: Spec) -> np.dtype[Any]:
    """The smallest that holds the number of every splittable patch."""
    largest = max(0, (spec.num_cells - spec.num_roots) // 3 - 1)
    return np.min_scalar_type(largest).newbyteorder("<")


def _minima(saliency: Sequence[Tensor], spec: Spec, order: NDArray[np.int64], name: MinimaName) -> NDArray[Any] | None:
    if name == "none":
        return None
    if not saliency:
        return np.zeros((len(order), 0), _MINIMA[name])
    values = path_minimum(saliency, spec).numpy(force=True)
    with np.errstate(over="ignore"):  # beyond the largest number of 16 bits there is infinity
        return np.take_along_axis(values, order, axis=1).astype(_MINIMA[name])


def _depths(spec: Spec) -> list[tuple[int, int]]:
    """Where the nodes of each depth begin and end in tie order, roots first."""
    ends = np.cumsum([0, *(spec.num_roots * 4**depth for depth in range(spec.num_scales - 1))]).tolist()
    return list(pairwise(ends))


def _is_order(order: NDArray[Any], spec: Spec) -> bool:
    """Whether each node is there once, behind the one that it lies in."""
    count = len(order)
    place = np.full(count, count, dtype=np.int64)
    if count and int(order.max()) >= count:
        return False
    place[order] = np.arange(count)
    if count and int(place.max()) == count:
        return False
    return all(
        bool((place[begin:end].reshape(-1, 4) > place[above:begin, None]).all())
        for (above, _), (begin, end) in pairwise(_depths(spec))
    )


def _mirrored_nodes(spec: Spec) -> NDArray[np.int64]:
    """`[n]`: the node on the other side of each."""
    numbers = []
    for (begin, _), scale in zip(_depths(spec), range(spec.num_scales - 1, 0, -1), strict=True):
        cols = spec.grid(scale)[1]
        row, col = _rows_and_columns(spec, scale)
        at = np.empty(len(row), dtype=np.int64)
        at[row * cols + col] = np.arange(len(row))
        numbers.append(begin + at[row * cols + cols - 1 - col])
    return np.concatenate(numbers) if numbers else np.empty(0, np.int64)


def _kept_nodes(spec: Spec, part: Spec, top: int, left: int) -> NDArray[np.int64]:
    """The nodes of an image that lie in a part of it, in the part's tie order; `top` and `left` in roots."""
    numbers = []
    rows, cols = part.grid(part.num_scales - 1)
    roots = ((top + np.arange(rows))[:, None] * spec.grid(spec.num_scales - 1)[1] + left + np.arange(cols)).ravel()
    for depth, (begin, _) in enumerate(_depths(spec)):
        numbers.append((begin + roots[:, None] * 4**depth + np.arange(4**depth)).ravel())
    return np.concatenate(numbers) if numbers else np.empty(0, np.int64)


def _rows_and_columns(spec: Spec, scale: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    place = places(spec)[scale]
    return place >> HALF, place & LOW_HALF
