"""Tensors in files that a user gives: importance maps, and features."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from quadtok.errors import InputError, about, described
from quadtok.files import load_plain, load_safely, read_regular
from quadtok.images.quiet import pixel_limit
from quadtok.names import MAX_PIXELS
from quadtok.quiet import without_warnings

SAME = 1e-4  # of maps from 0 to 1
_NUMPY = b"\x93NUMPY"
LARGEST_VIEW = 1 << 30  # bytes that a tensor may take and not bring along: expanded, or sparse


def load_tensors(path: Path, what: str) -> Tensor | list[Tensor]:
    """A tensor, or a list of them, as plain tensors on the CPU, whatever kind was saved.

    Args:
        path: of a file that `torch.save` wrote.
        what: the path as sentences should call it, such as `map cat.pt`.

    Returns:
        Dense tensors without gradients in the saved dtype; quantised ones as floats.

    Raises:
        InputError: where there is no such file, or it holds something else, or nothing that has numbers.
    """
    with about(what):
        found = load_safely(
            path, InputError, "not a tensor that can be loaded safely; write it with torch.save(tensor, path)"
        )
        if isinstance(found, list | tuple) and not isinstance(found, torch.Size):
            return [_plain(entry, f"holds a {type(found).__name__} with", "tensors alone") for entry in found]
        return _plain(found, "holds", "a tensor; expected a tensor, written with torch.save(tensor, path)")


def load_map(path: Path, what: str) -> Tensor | list[Tensor]:
    """An importance map in any of the formats that `quadtok oracle` writes; see `load_tensors`.

    Raises:
        InputError: likewise.
    """
    loader = {".npy": _from_numpy, ".png": _from_png}.get(path.suffix.lower())
    if loader is None:
        return load_tensors(path, what)
    with about(what):
        data = read_regular(path, InputError)
        try:
            return loader(data)
        except InputError:
            raise
        except Exception as problem:  # numpy and Pillow raise a dozen types
            raise InputError(f"cannot be read as {path.suffix[1:]} ({described(problem)})") from problem


def same_map(found: bytes, made: bytes) -> bool:
    """Whether a file, of which nothing is known, holds the map of another, that was made just now: `.pt` or `.npy`.

    A network sums up in another order where an image is in another batch.
    """
    loader = _from_numpy if made.startswith(_NUMPY) else _from_torch
    try:
        ours, theirs = loader(made), loader(found)
    except Exception:  # whatever it is, it is no map
        return False
    return ours.shape == theirs.shape and bool((ours - theirs).abs().amax() <= SAME)


def is_map(found: bytes) -> bool:
    """Whether a file holds a map `[h, w]` of numbers from 0 to 1, as those of `quadtok oracle` do."""
    try:
        values = (_from_numpy if found.startswith(_NUMPY) else _from_torch)(found)
        return values.ndim == 2 and bool(((values >= 0) & (values <= 1)).all())
    except Exception:  # likewise
        return False


def _from_torch(data: bytes) -> Tensor:
    found = load_plain(BytesIO(data))
    return _plain(found, "holds", "a tensor").float()


def _from_numpy(data: bytes) -> Tensor:
    array = np.load(BytesIO(data), allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError("holds no array of real numbers")
    return torch.from_numpy(array.astype(np.float32))


def _from_png(data: bytes) -> Tensor:
    """Gray from 0 to 1."""
    with pixel_limit(MAX_PIXELS), Image.open(BytesIO(data), formats=["PNG"]) as image:
        if image.mode not in ("L", "I;16", "I"):
            raise InputError(f"is no gray picture but of mode {image.mode}: save the map as gray, or as a tensor")
        most = 255 if image.mode == "L" else 65535
        return torch.from_numpy(np.asarray(image).astype(np.float32) / most)


def _plain(found: object, holds: str, expected: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise InputError(f"{holds} a {type(found).__name__}, not {expected}")
    if found.is_nested:
        raise InputError(f"{holds} a nested tensor, whose parts differ in size: give each its own file")
    if found.is_meta:
        raise InputError(f"{holds} a tensor without numbers (saved on the device meta)")
    size = found.numel() * found.element_size()
    if size > LARGEST_VIEW and (found.layout is not torch.strided or found.untyped_storage().nbytes() < size):
        raise InputError(f"{holds} a tensor {list(found.shape)} that would take {size} bytes, and does not bring them")
    try:
        with without_warnings():
            tensor = found.detach()
            if tensor.is_quantized:
                tensor = tensor.dequantize()
            if tensor.layout is not torch.strided:
                tensor = tensor.to_dense()
            return tensor.resolve_conj().resolve_neg()
    except Exception as problem:
        raise InputError(f"{holds} a tensor of a kind that cannot be used ({described(problem)})") from problem
