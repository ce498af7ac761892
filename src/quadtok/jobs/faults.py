"""What goes wrong where an image is scored: the scorer's fault, in one sentence, and that image's alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from quadtok.errors import QuadtokError, ScorerError, described


@contextmanager
def scorers_fault() -> Iterator[None]:
    """Whatever goes wrong in the block is the scorer's.

    Raises:
        ScorerError: in one sentence.
    """
    try:
        yield
    except Exception as problem:
        raise ScorerError(str(problem) if isinstance(problem, QuadtokError) else described(problem)) from problem


def is_out_of_memory(problem: BaseException | None) -> bool:
    """Whether memory ran out, a GPU's or this machine's, whoever put a sentence of their own around it."""
    while problem is not None and not isinstance(problem, (torch.OutOfMemoryError, MemoryError)):
        problem = problem.__cause__
    return problem is not None


def refuse_nan(saliency: Sequence[Tensor]) -> None:
    """Refuse saliency that says nothing of a patch; waits for the device.

    Raises:
        ScorerError: where there is NaN.
    """
    if any(bool(scores.isnan().any()) for scores in saliency):
        raise ScorerError("its saliency holds NaN")
