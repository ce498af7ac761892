"""Threads to submit work to, or none; and torch's own threads while they are at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")
S = TypeVar("S")


class InThisThread(Executor):
    """Does each piece of work when it is submitted: what remains of a pool without threads."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The finished work."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:
            future.set_exception(problem)
        return future


@contextmanager
def worker_threads(count: int) -> Iterator[Executor]:
    """A pool of `count` threads, with one of torch's each.

    Afterwards what has not begun is dropped, and nothing is waited for after an error.
    """
    if not count:
        yield InThisThread()
        return
    pool = ThreadPoolExecutor(count, "quadtok-worker", initializer=torch.set_num_threads, initargs=(1,))
    finished = False
    try:
        yield pool
        finished = True
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While the block runs, torch works with this many threads; afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ahead(pool: Executor, do: Callable[[S], T], items: Sequence[S], number: int) -> Iterator[Future[T]]:
    """The work on each item in order, while that on up to `number` items after it is begun already."""
    begun: deque[Future[T]] = deque()
    for item in items:
        begun.append(pool.submit(do, item))
        if len(begun) > number:
            yield begun.popleft()
    while begun:
        yield begun.popleft()
