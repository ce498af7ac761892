"""The token file: what one image became, in a form that can be trusted.

A `torch.save` archive that `torch.load(path, weights_only=True)` reads:

    {"format": "quadtok", "version": 1,
     "layout":   int32 [N, 3],           (y, x, scale): first cell of each token, in forest z-order
     "patches":  [N, C, p, p],           pixels on the scale 0…255; absent: layout only
     "saliency": [float32 [H/P, W/P]],   one map a splittable scale: what the plan was chosen by
     "meta":     str,                    JSON: geometry, scorer, normalisation, source
     "crc32":    int}                    over everything above

float16 holds the mean of four bytes without loss: 8 bits before the point and 2 behind it, and it has 11. Nothing in
the file depends on the clock or on its own name, so the same input gives the same bytes.

A file is data from elsewhere. Loading runs nothing in it, and believes nothing in it before it was checked: that the
archive is not compressed (a bomb), that its pickle asks for nothing but tensors and builtin values (`weights_only`
alone grants it a bytearray of any size), that each tensor is exactly as large as its storage (a kilobyte can declare a
terabyte), the checksum, and that the tokens tile the image, which takes nothing of the image's size.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from quadtok import __version__
from quadtok.errors import InputError, OutputError, QuadtokError, TokenFileError, about
from quadtok.files import destination, reading, write_atomically
from quadtok.marks import describe_content, head_of, image_format
from quadtok.names import DEFAULT_PIXEL_DTYPE, PixelDtypeName
from quadtok.pixels import denormalize
from quadtok.plan import Plan
from quadtok.spec import Spec
from quadtok.storage.archive import FORMAT, is_plain, unpickle
from quadtok.tokens import Tokens

VERSION = 1
MAX_FILE_BYTES = 4 << 30
MAX_PIXELS = 1 << 28  # of the image that was cut up: whoever reads the file may make something of its size
_DTYPES = {"float16": torch.float16, "uint8": torch.uint8, "float32": torch.float32}


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
        path: where to; missing folders are made.
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
    write_atomically(Path(path), encode_tokens(tokens, dtype, normalized_with, metadata))


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
) -> bytes:
    """The bytes that `save_tokens` writes."""
    if len(tokens) != 1:
        raise InputError(f"a token file holds one image, these are {len(tokens)}: save tokens[i]")
    check_dtype(dtype)
    tokens = tokens.unpadded(0)
    plan = tokens.plan
    check_size(plan.spec)
    cells = [field[0] // plan.spec.min_patch for field in (plan.top, plan.left)]
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "layout": torch.stack([*cells, plan.scale[0]], dim=1).to("cpu", torch.int32),
        "saliency": [_own_memory(scores[0], torch.float32) for scores in tokens.saliency or []],
        "meta": _meta({**(metadata or {}), **_geometry(plan.spec), "dtype": dtype}),
    }
    if dtype != "none":
        content["patches"] = _stored_pixels(tokens, dtype, normalized_with)
    content["crc32"] = _checksum(content)
    buffer = BytesIO()  # a file object of ours: torch would write the file's name into the archive
    torch.save(content, buffer)
    return buffer.getvalue()


def check_dtype(dtype: str) -> None:
    """Refuse what pixels cannot be stored as, by an `InputError` that says what they can."""
    if dtype not in get_args(PixelDtypeName):
        raise InputError(f"there is no stored dtype {dtype!r}: choose one of {', '.join(get_args(PixelDtypeName))}")


def check_size(spec: Spec) -> None:
    """Refuse a larger image than a token file may be of, by an `InputError`."""
    if spec.height * spec.width > MAX_PIXELS:
        raise InputError(f"a token file is for at most {MAX_PIXELS} pixels, the image has {spec.height}×{spec.width}")


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


def decode_tokens(data: bytes) -> Tokens:
    """The tokens in the bytes of a token file; see `load_tokens`."""
    content = unpickle(data)
    version = content.get("version")
    if content.get("format") != FORMAT or type(version) is not int:
        raise TokenFileError("not a quadtok token file")
    if version != VERSION:
        raise NewerVersionError(f"format version {version}, this quadtok reads {VERSION}; upgrade it")
    _check_types(content)
    if content["crc32"] != _checksum(content):
        raise TokenFileError("checksum mismatch: the file was damaged after it was written")
    meta, spec = _parse_meta(content["meta"])
    plan = _plan(content["layout"], spec)
    saliency = [scores[None] for scores in content["saliency"]] or None
    _check_maps(saliency, spec)
    patches = content.get("patches")
    if patches is not None:
        if patches.shape[0] != spec.num_tokens or patches.shape[2:] != (spec.min_patch, spec.min_patch):
            raise TokenFileError(f"patches have shape {list(patches.shape)}, which does not fit the layout")
        if not bool(torch.isfinite(patches).all()):
            raise TokenFileError("its pixels hold NaN or infinity")
        patches = patches.float()[None]
    return Tokens(plan, patches, saliency, meta)


def describe_tokens(tokens: Tokens) -> dict[str, Any]:
    """What tokens of one image are made of, as JSON values: the geometry, how many of each patch size, the metadata."""
    plan = tokens.plan.unpadded(0)
    counts, spec, geometry = plan.counts[0].tolist(), plan.spec, _geometry(plan.spec)
    return {
        **geometry,
        **tokens.metadata,  # of which only the versions may say something else than the plan does
        **{name: value for name, value in geometry.items() if name not in ("quadtok", "torch")},
        "scales": [
            {"scale": scale, "patch_size": spec.patch_size(scale), "tokens": count}
            for scale, count in enumerate(counts)
        ],
        "channels": None if tokens.patches is None else tokens.patches.shape[2],
    }


def _geometry(spec: Spec) -> dict[str, Any]:
    return {
        "quadtok": __version__,
        "torch": torch.__version__,
        "image_size": [spec.height, spec.width],
        "grid": list(spec.grid(0)),
        "min_patch": spec.min_patch,
        "max_patch": spec.max_patch,
        "num_tokens": spec.num_tokens,
        "token_order": "forest-z",
    }


def _meta(values: dict[str, Any]) -> str:
    try:
        return json.dumps(values, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise InputError(f"metadata must be JSON values: {problem}") from problem


def _own_memory(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A dense copy on the CPU: of a view, torch would save the whole batch that it belongs to."""
    return tensor.detach().to("cpu", dtype, copy=True).contiguous()


def _stored_pixels(
    tokens: Tokens, dtype: PixelDtypeName, normalized_with: tuple[Sequence[float], Sequence[float]] | None
) -> Tensor:
    """`[N, C, p, p]` on the scale 0…255."""
    if tokens.patches is None:
        raise InputError('these tokens hold no pixels: save them with dtype="none"')
    pixels = tokens.patches[0].detach().to("cpu", torch.float32)
    if normalized_with is not None:
        pixels = denormalize(pixels, *normalized_with)
    if dtype == "uint8":
        pixels = pixels.round()
        if not bool(((pixels >= 0) & (pixels <= 255)).all()):
            raise InputError("pixels lie outside 0…255: give normalized_with=(mean, std), or save them as float32")
    stored = _own_memory(pixels, _DTYPES[dtype])
    if stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
        raise InputError(f"pixels hold NaN or infinity as {dtype}")
    return stored


def _checksum(content: Mapping[str, Any]) -> int:
    """crc32 over the metadata and over type, shape and bytes of each tensor, in a fixed order."""
    crc = zlib.crc32(content["meta"].encode("utf-8", "surrogatepass"))
    patches = [content["patches"]] if "patches" in content else []
    for tensor in [content["layout"], *patches, *content["saliency"]]:
        crc = zlib.crc32(f"{tensor.dtype} {list(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    return crc


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


def _check_types(content: Mapping[str, Any]) -> None:
    saliency = content.get("saliency")
    rules = [
        isinstance(content.get("meta"), str),
        isinstance(content.get("crc32"), int),
        isinstance(saliency, list),
        is_plain(content.get("layout"), (torch.int32,), 2),
        "patches" not in content or is_plain(content["patches"], tuple(_DTYPES.values()), 4),
        isinstance(saliency, list) and all(is_plain(scores, (torch.float32,), 2) for scores in saliency),
    ]
    if not all(rules):
        raise TokenFileError("not a quadtok token file (its entries have other types)")


def _parse_meta(text: str) -> tuple[dict[str, Any], Spec]:
    try:
        meta = json.loads(text)
        height, width = meta["image_size"]
        spec = Spec(height, width, meta["min_patch"], meta["max_patch"], meta["num_tokens"])
        check_size(spec)
    except QuadtokError as problem:
        raise TokenFileError(f"its geometry is impossible: {problem}") from problem
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise TokenFileError("its metadata cannot be read") from problem
    return meta, spec


def _plan(layout: Tensor, spec: Spec) -> Plan:
    if layout.shape != (spec.num_tokens, 3):
        raise TokenFileError(f"layout has shape {list(layout.shape)}, expected [{spec.num_tokens}, 3]")
    rows, cols, scale = layout.long().T
    plan = Plan(cols[None] * spec.min_patch, rows[None] * spec.min_patch, scale[None], spec)
    try:
        plan.check_tiling()
    except InputError as problem:
        raise TokenFileError("tokens do not tile the image exactly once") from problem
    if not bool((plan.first_cell().diff(dim=1) > 0).all()):
        raise TokenFileError("tokens are not in forest z-order")
    return plan


def _check_maps(saliency: list[Tensor] | None, spec: Spec) -> None:
    expected = [(1, *spec.grid(scale)) for scale in range(1, spec.num_scales)]
    if saliency is not None and [tuple(scores.shape) for scores in saliency] != expected:
        raise TokenFileError("its saliency maps do not fit the geometry")
