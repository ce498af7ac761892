"""No loop over splits: the first S nodes in the order of records are the nodes that are split (see order.py).

**Cost.** One sort of the n nodes for the ranks, L² / 2 elementwise passes for the numbers, one top-k, one sort of
the chosen tokens. Nothing grows with S but that last one. No value ever travels to the host. Measured in
docs/performance.md.

**On a CPU** numpy does it, in `parallel_numpy.py`, where the values may be looked at; torch does it for every other
device, and for whatever records operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quadtok.plan import Plan
from quadtok.quadtrees.base import Threshold, checked, is_above, plan_from_splits
from quadtok.quadtrees.order import first_splits
from quadtok.quadtrees.parallel_numpy import parallel_numpy
from quadtok.spec import Spec
from quadtok.tracing import may_be_looked_at


@checked
def parallel(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
    """The first `num_splits` nodes in the order of their records, for all images at once.

    Of them those above the threshold, where there is one: both are beginnings of the same order.
    """
    watched = [*saliency, threshold] if isinstance(threshold, Tensor) else saliency
    way = parallel_numpy if may_be_looked_at(watched) else parallel_torch
    return way(saliency, spec, threshold)


def parallel_torch(saliency: Sequence[Tensor], spec: Spec, threshold: Threshold | None = None) -> Plan:
    """For every device, and for whatever records operations: nothing depends on a value."""
    splits = first_splits(saliency, spec)
    return plan_from_splits(splits, spec, None if threshold is None else is_above(saliency, spec, threshold))
