"""Who decodes image files: the thread that asks, or a process that may die of it; never more pixels at once than fit.

A job's `Preprocess` decodes wherever it is called. `decoded_by` gives the same steps done by a `Decoder`, of which an
engine opens one for a run (`opened`): so a job knows nothing of processes, and an engine nothing of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from quadtok.decoders.processes import Processes
from quadtok.decoders.room import Room
from quadtok.preprocess import Photo, Preprocess

# Of all images that are being decoded and fitted: each takes some 30 bytes a pixel meanwhile, 2 GB in all.
PIXELS_DECODED = 1 << 26


class Decoder(Protocol):
    """Does the steps of a `Preprocess`, for several threads at once."""

    def decode(self, preprocess: Preprocess, data: bytes, path: Path) -> Photo:
        """See `Preprocess.decode`."""


class InThread:
    """The thread that asks decodes, once there is room.

    Args:
        room: for pixels.
    """

    def __init__(self, room: Room) -> None:
        self._room = room

    def decode(self, preprocess: Preprocess, data: bytes, path: Path) -> Photo:
        """See `Decoder`."""
        with self._room.of(preprocess.pixels(data)):
            return preprocess.decode(data, path)


@dataclass(frozen=True)
class _Elsewhere(Preprocess):
    """Steps that a decoder does."""

    decoder: Decoder | None = None

    def decode(self, data: bytes, path: Path) -> Photo:
        """See `Preprocess`."""
        assert self.decoder is not None
        steps = Preprocess(**{field.name: getattr(self, field.name) for field in fields(Preprocess)})
        return self.decoder.decode(steps, data, path)


def decoded_by(preprocess: Preprocess, decoder: Decoder) -> Preprocess:
    """The same steps, done by a decoder."""
    return _Elsewhere(**{field.name: getattr(preprocess, field.name) for field in fields(Preprocess)}, decoder=decoder)


@contextmanager
def opened(processes: int, pixels: int = PIXELS_DECODED) -> Iterator[Decoder]:
    """A decoder while the block runs.

    Args:
        processes: how many; 0: the threads that ask do it.
        pixels: of all images that are decoded at once; a larger one has it to itself.
    """
    room = Room(pixels)
    if not processes:
        yield InThread(room)
        return
    with Processes(processes, room) as decoder:
        yield decoder
