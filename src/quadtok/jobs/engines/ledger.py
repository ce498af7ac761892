"""Which work is begun and not done, and over which inputs processes died, as told by those who may die over it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

DEATHS_ALONE = 2  # of processes, before an input that was done by itself is given up


@dataclass(frozen=True)
class Attempt:
    """How a chunk is to be done.

    Attributes:
        alone: whether its inputs are done one by one.
        given_up: places of those that are not tried any more.
    """

    alone: bool
    given_up: frozenset[int]


class Ledger:
    """Which chunks are begun and not done, and over which inputs processes died. Asked by several processes."""

    def __init__(self) -> None:
        self._last = -1
        self._is_over = False
        self._at: dict[int, int | None] = {}
        self._alone: set[int] = set()
        self._deaths: dict[int, Counter[int]] = {}
        self._loading = 0

    def load(self) -> int:
        """Somebody loads the job; how many did since one had loaded it, this one included."""
        self._loading += 1
        return self._loading

    def begin(self, chunk: int) -> Attempt | None:
        """Somebody will do a chunk; None where the run is over. One that was begun already killed who did it."""
        self._loading = 0
        if self._is_over:
            return None
        if chunk in self._at:
            self._alone.add(chunk)
            place = self._at[chunk]
            if place is not None:
                self._deaths.setdefault(chunk, Counter())[place] += 1
        self._last = max(self._last, chunk)
        self._at[chunk] = None
        deaths = self._deaths.get(chunk, Counter[int]())
        return Attempt(chunk in self._alone, frozenset(place for place in deaths if deaths[place] >= DEATHS_ALONE))

    def at(self, chunk: int, place: int) -> None:
        """Whoever does this chunk now begins with this input."""
        self._at[chunk] = place

    def end(self, chunk: int) -> None:
        """All of a chunk is done."""
        self._at.pop(chunk, None)

    def close(self) -> int:
        """No chunk is begun any more; the last one that was, or -1."""
        self._is_over = True
        return self._last


class LedgerClient(Protocol):
    """A `Ledger` as another process has it."""

    def begin(self, chunk: int) -> Attempt | None:
        """See `Ledger`."""

    def at(self, chunk: int, place: int) -> None:
        """See `Ledger`."""

    def end(self, chunk: int) -> None:
        """See `Ledger`."""
