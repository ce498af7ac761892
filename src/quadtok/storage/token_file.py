"""The token file: what one image became, in a form that can be trusted.

A `torch.save` archive that `torch.load(path, weights_only=True)` reads:

    {"format": "quadtok", "version": 1,
     "layout":   int32 [N, 3],           (y, x, scale): first cell of each token, in forest z-order
     "patches":  [N, C, p, p],           pixels on the scale 0…255; absent: layout only
     "saliency": [float32 [H/P, W/P]],   one map a splittable scale: what the plan was chosen by
     "meta":     str,                    JSON: geometry, scorer, normalisation, source
     "crc32":    int}                    over everything above

Under a name that ends in `.safetensors` it holds the same in that format (safetensors_file.py).
What stands in it is that of content.py; nothing depends on the clock or on the file's own name, so the same input
gives the same bytes.

A file is data from elsewhere. Loading runs nothing in it, and believes nothing in it before it was checked: that the
archive is not compressed (a bomb), that its pickle asks for nothing but tensors and builtin values (`weights_only`
alone grants it a bytearray of any size), that each tensor is exactly as large as its storage (a kilobyte can declare a
terabyte), the checksum, and that the tokens tile the image, which takes nothing of the image's size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from quadtok.errors import OutputError, TokenFileError, about
from quadtok.files import destination, reading, write_atomically
from quadtok.marks import describe_content, head_of, image_format
from quadtok.names import DEFAULT_PIXEL_DTYPE, SAFETENSORS_SUFFIX, TOKEN_SUFFIX, PixelDtypeName
from quadtok.storage.archive import FORMAT, unpickle
from quadtok.storage.content import checksum, content_of, has_right_types, tokens_in
from quadtok.storage.safetensors_file import decode_safetensors, encode_safetensors, is_safetensors
from quadtok.tokens import Tokens

VERSION = 1
MAX_FILE_BYTES = 4 << 30


class NewerVersionError(TokenFileError):
    """A token file in a format version that this quadtok does not know."""


def save_tokens(
    path: str | Path,
    tokens: Tokens,
    *,
    dtype: PixelDtypeName = DEFAULT_PIXEL_DTYPE,
    normalized_with: tuple[Sequence[float], Sequence[float]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the tokens of one image; the file appears whole or not at all.

    Args:
        path: where to; missing folders are made. `.safetensors` is that format (an extra), any other name a torch file.
        tokens: of one image (`tokens[i]`).
        dtype: of the stored pixels: `"float16"` keeps means of bytes exactly, `"uint8"` rounds them to the nearest
            byte, `"float32"` keeps anything, `"none"` stores the layout alone.
        normalized_with: (mean, std) on the scale 0…1 that the patches were normalised with, undone here. None: they are
            on the scale 0…255 already, as those of uint8 images are.
        metadata: JSON values to record beside the geometry, which keeps its own names: scorer, normalize, preprocess,
            source, …

    Raises:
        InputError: for several images, unknown dtypes, pixels that the dtype cannot hold, or metadata that JSON cannot.
        OutputError: where the file cannot be written, or is an image.
    """
    _refuse_image(Path(path))
    suffix = Path(path).suffix.lower()
    write_atomically(Path(path), encode_tokens(tokens, dtype, normalized_with, metadata, suffix))


def _refuse_image(path: Path) -> None:
    """A slip of the pen (`save_tokens("cat.jpg", …)`) must not cost the photograph."""
    head = head_of(path) if destination(path).exists() else b""
    if image_format(head):
        raise OutputError(f"{path}: is {describe_content(head)}, not a quadtok token file; it is kept")


def encode_tokens(
    tokens: Tokens,
    dtype: PixelDtypeName = DEFAULT_PIXEL_DTYPE,
    normalized_with: tuple[Sequence[float], Sequence[float]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    suffix: str = TOKEN_SUFFIX,
) -> bytes:
    """The bytes that `save_tokens` writes under a name of this ending."""
    content = {"format": FORMAT, "version": VERSION, **content_of(tokens, dtype, normalized_with, metadata)}
    content["crc32"] = checksum(content)
    if suffix == SAFETENSORS_SUFFIX:
        return encode_safetensors(content)
    buffer = BytesIO()  # a file object of ours: torch would write the file's name into the archive
    torch.save(content, buffer)
    return buffer.getvalue()


def load_tokens(path: str | Path) -> Tokens:
    """Read a token file and check all of it.

    Args:
        path: of a file that `save_tokens` wrote.

    Returns:
        The tokens of one image (a batch of 1) on the CPU. `.patches` are float32 on the scale 0…255 whatever the stored
        type, `.normalized()` is what a model wants; None for a layout-only file. `.metadata` is the recorded JSON.

    Raises:
        TokenFileError: one sentence that begins with the path.
    """
    with about(path):
        return decode_tokens(read_token_file(Path(path)))


def is_token_data(data: bytes) -> bool:
    """Whether bytes begin as a token file does, and no image."""
    return data.startswith(b"PK") or is_safetensors(data)


def decode_tokens(data: bytes) -> Tokens:
    """The tokens in the bytes of a token file; see `load_tokens`."""
    content = decode_safetensors(data) if is_safetensors(data) else unpickle(data)
    version = content.get("version")
    if content.get("format") != FORMAT or type(version) is not int:
        raise TokenFileError("not a quadtok token file")
    if version != VERSION:
        raise NewerVersionError(f"format version {version}, this quadtok reads {VERSION}; upgrade it")
    if not isinstance(content.get("crc32"), int) or not has_right_types(content):
        raise TokenFileError("not a quadtok token file (its entries have other types)")
    if content["crc32"] != checksum(content):
        raise TokenFileError("checksum mismatch: the file was damaged after it was written")
    return tokens_in(content)


def read_token_file(path: Path) -> bytes:
    """The bytes of a file that may be a token file.

    Raises:
        TokenFileError: where it is no regular file, or too large for one.
    """
    with reading(path, TokenFileError) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise TokenFileError(f"{size} bytes are more than a token file has")
        return stream.read()
