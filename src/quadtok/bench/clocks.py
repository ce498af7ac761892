"""Seconds between marks: of the wall, and of a CUDA stream."""

from __future__ import annotations

import time

import torch


class CpuClock:
    """Wall-clock seconds between marks, the first of which is its birth."""

    def __init__(self) -> None:
        self._marks = [time.perf_counter()]

    def mark(self) -> None:
        """A stage ends here."""
        self._marks.append(time.perf_counter())

    def intervals(self) -> tuple[float, ...]:
        """Seconds between the marks."""
        return tuple(end - start for start, end in zip(self._marks, self._marks[1:], strict=False))


class CudaClock:
    """The same by events on the device's current stream, which is idle at first. Waits only when it is read."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        torch.cuda.synchronize(device)
        self._marks: list[torch.cuda.Event] = []
        self.mark()

    def mark(self) -> None:
        """A stage ends here."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch does not annotate it
        event.record(self._stream)
        self._marks.append(event)

    def intervals(self) -> tuple[float, ...]:
        """Seconds between the marks."""
        self._marks[-1].synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return tuple(start.elapsed_time(end) / 1000 for start, end in pairs)


def clock_of(device: torch.device) -> CpuClock | CudaClock:
    """A clock that starts now, for work on this device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
