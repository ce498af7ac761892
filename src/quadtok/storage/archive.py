"""How far an archive from elsewhere is trusted: `torch.load` sees it once it is known to hold plain tensors alone."""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import TokenFileError
from quadtok.files import load_plain
from quadtok.quiet import without_warnings
from quadtok.storage import safetensors_file

FORMAT = "quadtok"
_PROTOCOL = 2  # of torch.save's pickles
# All that the pickle of a token file refers to.
_GLOBALS = {
    *("torch._utils _rebuild_tensor_v2", "collections OrderedDict"),
    *("torch IntStorage", "torch HalfStorage", "torch ByteStorage", "torch FloatStorage"),
}


def unpickle(data: bytes) -> dict[str, Any]:
    """The dictionary in the bytes of an archive, loaded without running anything in it.

    Raises:
        TokenFileError: where it is none that can be trusted.
    """
    try:
        with without_warnings():  # of what damage made of a pickle: an unknown escape in a text
            content = load_plain(_trustworthy(data))
    except TokenFileError:
        raise
    except Exception as problem:  # zipfile, pickletools and torch.load raise a dozen types, torch's in paragraphs
        damaged = "damaged or cut short" if looks_like_ours(data) else "not a quadtok token file"
        raise TokenFileError(damaged) from problem
    if type(content) is not dict:
        raise TokenFileError("not a quadtok token file")
    return content


def _trustworthy(data: bytes) -> BytesIO:
    """The archive written anew, once it is known to be uncompressed and to hold nothing but tensors and builtin values.

    Anew, because Python's reader and torch's may see two different things in one odd archive.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > len(data):
        raise TokenFileError("not a quadtok token file (a compressed archive)")
    # Cut out by hand: zipfile would insist on its own checksums, and torch.save can be told to leave them out.
    records = {}
    for entry in entries:
        begin = entry.header_offset + 30 + sum(struct.unpack_from("<HH", data, entry.header_offset + 26))
        records[entry.filename.lower()] = data[begin : begin + entry.file_size]  # torch ignores case
    if len(records) != len(entries):
        raise TokenFileError("not a quadtok token file (two records of one name)")
    (pickled,) = [record for name, record in records.items() if name.endswith(".pkl")]
    arguments: dict[str, set[Any]] = {"GLOBAL": set(), "PROTO": set()}
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in arguments:
            arguments[opcode.name].add(argument)
    # torch would warn of another protocol than its own, on stderr.
    if not arguments["GLOBAL"] <= _GLOBALS or arguments["PROTO"] != {_PROTOCOL}:
        raise TokenFileError("not a quadtok token file (it holds more than plain tensors)")
    anew = BytesIO()
    with zipfile.ZipFile(anew, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    anew.seek(0)
    return anew


def looks_like_ours(data: bytes) -> bool:
    """Whether bytes that do not load are a damaged token file rather than somebody else's."""
    head = data[:4096]
    if safetensors_file.looks_like_ours(head):
        return True
    if b"\x06\x00\x00\x00format" in head and FORMAT.encode() in head:
        return head.startswith(b"PK")
    # Cut before it says so, it holds nothing yet.
    begun = head.rstrip(b"\0")
    return len(begun) < 128 and begun.startswith(b"PK\3\4") and b"archive/data.pkl".startswith(begun[30:46])


def is_plain(tensor: object, dtypes: tuple[torch.dtype, ...], ndim: int) -> bool:
    """A tensor that fills its storage exactly; kinds other than dense ones on the CPU are not among `_GLOBALS`."""
    if not isinstance(tensor, Tensor):
        return False
    # The size in Python's integers: a declared shape may overflow 64 bits.
    size = math.prod(tensor.shape) * tensor.element_size()
    fills = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == size
    as_it_seems = not tensor.requires_grad and not tensor.is_neg()
    return bool(fills) and as_it_seems and tensor.dtype in dtypes and tensor.ndim == ndim
