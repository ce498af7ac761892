"""Peak memory: how far the bytes of live tensors rise during one batch, in an extra run that is not timed. Images,
weights and whatever else was there before do not count; the tokens that come out do. On CUDA the caching allocator
tells. On a CPU it is the tensors that operations return, which leaves out what a kernel takes for itself while it
runs, Python's own objects (the `dict` quadtree's heap), numpy's arrays (a few MB at most while patches are read), and
compiled code, which allocates behind our back.
"""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], object]) -> int:
    """How far the bytes of live CPU tensors rise while `run` runs, its result included; see the top of this file."""
    with _Allocations() as allocations:
        run()
    return allocations.peak


def peak_of_all(run: Callable[[], object]) -> int:
    """As `peak_bytes`, and Python's own memory beside it, which numpy's arrays are part of; `run` runs twice."""
    peak_bytes(run)  # what is made on first use does not count
    tracemalloc.start()
    try:
        return peak_bytes(run) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Follows the bytes of the storages that operations return while they live; storages they are given are free."""

    only_watches = True  # so that what is counted is what runs otherwise

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.peak = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count what is new in its result."""
        for storage in _storages((args, kwargs)):
            self._count(storage, 0)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._count(storage, storage.nbytes())
        self.peak = max(self.peak, self._alive)
        return result

    def _count(self, storage: UntypedStorage, size: int) -> None:
        address = storage._cdata
        if address not in self._known:
            self._known.add(address)
            self._alive += size
            weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._alive -= size


def _storages(values: Any) -> list[UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
