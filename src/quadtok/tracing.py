"""Whether anyone writes down the operations: a compiler, an exporter, a tracer, a mode, a transform.

A recording is played back with other values and another batch. So where one is made, nothing may look at a value, nor
count in Python how often something is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils import _python_dispatch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def without_gradients(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `torch.no_grad()`, but it says nothing where gradients are off already.

    One `no_grad` right inside another records an empty block between the two. Programs with one are saved, and cannot
    be loaded again.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        if not torch.is_grad_enabled():
            return function(*arguments, **options)
        with torch.no_grad():
            return function(*arguments, **options)

    return wrapped


def is_recording() -> bool:
    """Whether `torch.compile`, `torch.export` or `torch.jit.trace` follows this call."""
    # torch.jit is on its way out: once its question is gone, nothing is left that would be traced.
    is_traced = getattr(torch.jit, "is_tracing", None)
    return torch.compiler.is_compiling() or (is_traced is not None and bool(is_traced()))


def in_parts(images: Tensor, size: int) -> tuple[Tensor, ...]:
    """The images `[B, …]`, `size` at a time; all at once in a recording, which would fix the number of parts."""
    return (images,) if is_recording() else torch.split(images, size)


def may_be_looked_at(tensors: Sequence[Tensor], watched: bool = False) -> bool:
    """Whether these are numbers in the CPU's memory, and no compiler, tracer, mode or transform follows them.

    Args:
        tensors: what is to be looked at.
        watched: a mode that changes nothing and only watches (it has a true `only_watches`) does not count.
    """
    return all(tensor.device.type == "cpu" for tensor in tensors) and not is_followed(tensors, watched)


def is_followed(tensors: Sequence[Tensor], watched: bool = False) -> bool:
    """Whether a compiler, tracer, mode or transform follows these tensors, on whatever device they lie.

    Then only what such a one knows may be done to them: operations that have a rule of their own, and whose results
    have a size that no value decides. `watched` as in `may_be_looked_at`.
    """
    return is_recording() or _in_a_mode(watched) or not all(map(_is_plain, tensors))


def wants_derivatives(tensor: Tensor) -> bool:
    """Whether what is done to the tensor is to be differentiated, backward or forward."""
    # A dual number looks like any other tensor: it neither requires gradients nor is it wrapped.
    backward = tensor.requires_grad and torch.is_grad_enabled()
    dual = torch.autograd.forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
    return backward or dual.tangent is not None


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) is Tensor and torch.func.debug_unwrap(tensor, recurse=False) is tensor


def _in_a_mode(watched: bool) -> bool:
    """Whether a mode sees all operations of torch. Where this release of torch cannot tell, one may."""
    # There is no public question for it.
    current_mode = getattr(_python_dispatch, "_get_current_dispatch_mode", None)
    if current_mode is None:
        return True
    mode = current_mode()
    return mode is not None and not (watched and getattr(mode, "only_watches", False))
