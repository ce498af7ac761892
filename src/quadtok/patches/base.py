"""The types that every way of gathering agrees on."""

from __future__ import annotations

import torch


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of patches of images of this type: their own, float32 for bytes."""
    return torch.float32 if dtype == torch.uint8 else dtype


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Four half-precision pixels are added in float32, as torch's own resize does."""
    return torch.float64 if dtype == torch.float64 else torch.float32
