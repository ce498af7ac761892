"""What another thread iterates over, so that the calling one can look up while nothing comes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_AHEAD = 64  # items
_LOOK = 0.2  # seconds


class Pump(Generic[T]):
    """Items that a thread takes from an iterator while the block runs; then it closes the iterator.

    Args:
        make: the iterator, made by that thread.
        patience: seconds that the end of the block waits for the thread; not where something went wrong in it.
    """

    def __init__(self, make: Callable[[], Generator[T, None, None]], patience: float = 30) -> None:
        self._make, self._patience = make, patience
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(_AHEAD)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quadtok-pump", daemon=True)

    def __enter__(self) -> Pump[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_over.set()
        if kind is None:
            self._thread.join(self._patience)

    def items(self) -> Iterator[T | None]:
        """Each item; None now and then, while there is none.

        Raises:
            Exception: what the iterator raised.
        """
        while True:
            try:
                what, item = self._queue.get(timeout=_LOOK)
            except queue.Empty:
                yield None
                continue
            if what == "raised":
                raise item
            if what == "end":
                return
            yield item

    def _run(self) -> None:
        try:
            with contextlib.closing(self._make()) as made:
                for item in made:
                    self._put("item", item)
                    if self._is_over.is_set():
                        return
            self._put("end", None)
        except Exception as problem:
            self._put("raised", problem)

    def _put(self, what: str, item: Any) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put((what, item), timeout=_LOOK)
                return
