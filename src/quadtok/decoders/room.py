"""Room for so many pixels at once, given in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """What is too large for all of it gets all of it, alone.

    Whoever waits is next, so that a large image is not passed by small ones for ever; whoever has room asks for no
    more, so that none waits for itself.

    Args:
        pixels: how many.
    """

    def __init__(self, pixels: int) -> None:
        self._free = self._all = pixels
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Have room for so many while the block runs."""
        wanted, place = min(pixels, self._all), object()
        with self._changed:
            self._waiting.append(place)
            self._changed.wait_for(lambda: self._waiting[0] is place and wanted <= self._free)
            self._waiting.popleft()
            self._free -= wanted
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
