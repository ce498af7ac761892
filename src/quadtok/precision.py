"""float32 that is float32, whatever the program around a scorer has asked of torch.

Autocast belongs to a thread, and is off for a block. How exactly float32 numbers are multiplied does not: torch keeps
one setting a kind of operation for the whole process. TF32, cuDNN's default, keeps 10 of 23 bits and moves boxes, and
training scripts ask for as much of matrix products (`torch.set_float32_matmul_precision`). So the settings are changed
while any block of a scorer with a net runs, and set back when the last one is left. Another thread multiplies exactly
meanwhile: that costs it time and no digit.

What is recorded (`torch.compile`, `torch.export`) is not run here, and takes the settings that it finds when it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch

from quadtok.tracing import is_recording


class Setting(Protocol):
    """How exactly an operation of a backend multiplies: `"ieee"`, `"tf32"`, `"bf16"`, or `"none"` as above it."""

    fp32_precision: str


class ExactProducts:
    """Settings that are `"ieee"` while any block wants them so; not a setting more or less than these."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._blocks = 0
        self._before: list[str] = []

    @contextmanager
    def block(self) -> Iterator[None]:
        """Exact from the first to enter until the last has left."""
        with self._lock:
            if not self._blocks:
                self._before = [setting.fp32_precision for setting in self._settings]
                self._set(["ieee"] * len(self._settings))
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._set(self._before)

    def _set(self, values: Sequence[str]) -> None:
        for setting, value in zip(self._settings, values, strict=True):
            if setting.fp32_precision != value:
                setting.fp32_precision = value


# One a process, as torch's settings are: whoever leaves last must know of all others. torch does not annotate them.
_OF_DEVICES = {
    "cpu": ExactProducts((torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)),  # type: ignore[attr-defined]
    "cuda": ExactProducts((torch.backends.cudnn.conv, torch.backends.cuda.matmul)),  # type: ignore[attr-defined]
}


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast off for a block, whatever the caller has on."""
    # Not everywhere is there any, on "meta" for one; and torch 2.10 cannot be asked by its own compiler.
    available = device.type in ("cpu", "cuda") or torch.amp.is_autocast_available(device.type)
    return torch.autocast(device_type=device.type, enabled=False) if available else nullcontext()


def exact_products(device: torch.device) -> AbstractContextManager[None]:
    """Multiply float32 numbers as such for a block, in convolutions and matrix products."""
    known = None if is_recording() else _OF_DEVICES.get(device.type)
    return nullcontext() if known is None else known.block()
