"""What a file of weights must be, and how weights are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from quadtok.errors import WeightsError


def read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file, loaded without running anything in it.

    Raises:
        WeightsError: where there is no such file or it is no state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(
            f"weights {path}: no such file; give bundled, imagenet or the path of a state dict"
        ) from None
    except Exception as problem:  # torch.load raises half a dozen types, in paragraphs
        raise WeightsError(f"weights {path}: not a state dict that can be loaded safely") from problem
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"weights {path}: not a state dict (a mapping of names to tensors)")
    return state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, the same however the file around them was written."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], name: str, kind: str, optional: str = "\0") -> None:
    """Load weights of which every one must be there and fit.

    Args:
        net: gets the weights.
        state: the weights.
        name: the file, for the error.
        kind: what it should have been, for the error.
        optional: weights whose names begin so may be there or not, and are left out.

    Raises:
        WeightsError: where one is missing, unknown or of another shape.
    """
    wanted = {key: value for key, value in net.state_dict().items() if not key.startswith(optional)}
    given = {key: value for key, value in state.items() if not key.startswith(optional)}
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    misshapen = sorted(key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape)
    for label, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)):
        if keys:
            raise WeightsError(
                f"weights {name}: not {kind}: {len(keys)} of {len(wanted)} tensors {label}, first {keys[0]}"
            )
    net.load_state_dict(given, strict=False)
