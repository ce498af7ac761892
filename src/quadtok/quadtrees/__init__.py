"""Saliency to plan. A new quadtree is one file, one line here, and its name in `names.py`."""

from __future__ import annotations

from quadtok.errors import InputError
from quadtok.names import DEFAULT_QUADTREE
from quadtok.quadtrees.base import Quadtree
from quadtok.quadtrees.dict_lookup import dict_lookup
from quadtok.quadtrees.parallel import parallel
from quadtok.quadtrees.tensor_lookup import tensor_lookup
from quadtok.quadtrees.z_curve import z_curve

QUADTREES: dict[str, Quadtree] = {
    "dict": dict_lookup,
    "tensor": tensor_lookup,
    "zcurve": z_curve,
    "parallel": parallel,
}


def get_quadtree(name: str = DEFAULT_QUADTREE) -> Quadtree:
    """The quadtree of this name: a function (saliency, spec) → plan; see `Quadtree` for what it promises.

    Args:
        name: `"dict"` (a heap an image, to read), `"tensor"` (a batched loop over an index table), `"zcurve"` (a
            batched loop over Morton codes, as the paper), or `"parallel"` (no loop over splits; the fastest).

    Raises:
        InputError: for any other name.
    """
    if name not in tuple(QUADTREES):  # also what cannot be hashed
        raise InputError(f"there is no quadtree {name!r}: choose one of {', '.join(QUADTREES)}")
    return QUADTREES[name]


__all__ = ["QUADTREES", "Quadtree", "get_quadtree"]
