"""A token file as safetensors: for those whose rule is that nothing pickled is opened.

The tensors of token_file.py by their names, `saliency.0`, `saliency.1`, …; and everything else as one JSON text under
`quadtok` in the metadata of the header. One text, because the order of several is left to chance by the library. It is
the extra `safetensors`.
"""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor

from quadtok.errors import InputError, TokenFileError

_LENGTH = struct.Struct("<Q")  # of the header, which is JSON
_METADATA, _OURS, _SALIENCY = "__metadata__", "quadtok", "saliency"
_MISSING = "safetensors are an extra: pip install 'quadtok[safetensors]'"
_BEGIN = f'{{"{_METADATA}":{{"{_OURS}":'.encode()


def check_safetensors() -> None:
    """Refuse where the extra is missing, by an `InputError`. Nothing is loaded for it."""
    if find_spec("safetensors") is None:
        raise InputError(_MISSING)


def is_safetensors(data: bytes) -> bool:
    """Whether bytes begin as such a file does."""
    return data[_LENGTH.size : _LENGTH.size + 1] == b"{"


def looks_like_ours(data: bytes) -> bool:
    """Whether bytes begin as those of `encode_safetensors` do; cut before they say so, they hold nothing yet."""
    begun = data[_LENGTH.size : _LENGTH.size + len(_BEGIN)].rstrip(b"\0")
    return begun != b"" and _BEGIN.startswith(begun)


def encode_safetensors(content: dict[str, Any]) -> bytes:
    """The bytes of a file that holds what a token file does.

    Raises:
        InputError: where the extra is missing.
    """
    saliency = {f"{_SALIENCY}.{number}": scores for number, scores in enumerate(content["saliency"])}
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in content.items() if name not in tensors and name != _SALIENCY}
    data: bytes = _library(InputError).save({**tensors, **saliency}, {_OURS: json.dumps(others, sort_keys=True)})
    return data


def decode_safetensors(data: bytes) -> dict[str, Any]:
    """What a token file holds, not checked yet.

    Raises:
        TokenFileError: where it is something else, or the extra is missing.
    """
    if not looks_like_ours(data):
        raise TokenFileError("not a quadtok token file, but other safetensors")
    library = _library(TokenFileError)
    try:
        header = json.loads(data[_LENGTH.size : _LENGTH.size + _LENGTH.unpack_from(data)[0]])
        tensors, others = library.load(data), json.loads(header[_METADATA][_OURS])
        count = sum(name.startswith(f"{_SALIENCY}.") for name in tensors)
        saliency = [tensors.pop(f"{_SALIENCY}.{number}") for number in range(count)]
        return {**tensors, **others, _SALIENCY: saliency}
    except Exception as problem:  # the library has a type of its own for each fault, and Python for the JSON
        raise TokenFileError("damaged or cut short") from problem


def _library(error: type[InputError] | type[TokenFileError]) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as problem:
        raise error(_MISSING) from problem
    return safetensors.torch
