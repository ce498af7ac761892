"""What is stored of the tokens of one image, whatever it is stored in: tensors and a line of JSON.

    "layout":   int32 [N, 3],           (y, x, scale): first cell of each token, in forest z-order
    "patches":  [N, C, p, p],           pixels on the scale 0…255; absent: layout only
    "saliency": [float32 [H/P, W/P]],   one map a splittable scale: what the plan was chosen by; may be empty
    "meta":     str,                    JSON: geometry, scorer, normalisation, source

float16 holds the mean of four bytes without loss: 8 bits before the point and 2 behind it, and it has 11. Nothing of it
depends on the clock, so the same input gives the same bytes. What is read is believed once it was checked: that the
tokens tile the image takes nothing of the image's size.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from quadtok import __version__
from quadtok.errors import InputError, QuadtokError, TokenFileError
from quadtok.names import PixelDtypeName
from quadtok.pixels import denormalize
from quadtok.plan import Plan
from quadtok.spec import Spec
from quadtok.storage.archive import is_plain
from quadtok.tokens import Tokens

MAX_PIXELS = 1 << 28  # of the image that was cut up: whoever reads the file may make something of its size
DTYPES = {"float16": torch.float16, "uint8": torch.uint8, "float32": torch.float32}


def check_dtype(dtype: str) -> None:
    """Refuse what pixels cannot be stored as, by an `InputError` that says what they can."""
    if dtype not in get_args(PixelDtypeName):
        raise InputError(f"there is no stored dtype {dtype!r}: choose one of {', '.join(get_args(PixelDtypeName))}")


def check_size(spec: Spec) -> None:
    """Refuse a larger image than a token file may be of, by an `InputError`."""
    if spec.height * spec.width > MAX_PIXELS:
        raise InputError(f"a token file is for at most {MAX_PIXELS} pixels, the image has {spec.height}×{spec.width}")


def content_of(
    tokens: Tokens,
    dtype: PixelDtypeName,
    normalized_with: tuple[Sequence[float], Sequence[float]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is stored of the tokens of one image; see `save_tokens`."""
    if len(tokens) != 1:
        raise InputError(f"a token file holds one image, these are {len(tokens)}: save tokens[i]")
    check_dtype(dtype)
    tokens = tokens.unpadded(0)
    plan = tokens.plan
    check_size(plan.spec)
    cells = [field[0] // plan.spec.min_patch for field in (plan.top, plan.left)]
    content: dict[str, Any] = {
        "layout": torch.stack([*cells, plan.scale[0]], dim=1).to("cpu", torch.int32),
        "saliency": [_own_memory(scores[0], torch.float32) for scores in tokens.saliency or []],
        "meta": _meta({**(metadata or {}), **_geometry(plan.spec), "dtype": dtype}),
    }
    if dtype != "none":
        content["patches"] = _stored_pixels(tokens, dtype, normalized_with)
    return content


def tokens_in(content: Mapping[str, Any]) -> Tokens:
    """The tokens that were stored, checked; the entries have their types already.

    Raises:
        TokenFileError: where they cannot be.
    """
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


def pixel_dtype(tokens: Tokens) -> PixelDtypeName:
    """The dtype that pixels which were read were stored in, or one that loses nothing."""
    if tokens.patches is None:
        return "none"
    names: tuple[PixelDtypeName, ...] = get_args(PixelDtypeName)
    return next((name for name in names if name in DTYPES and name == tokens.metadata.get("dtype")), "float32")


def has_right_types(content: Mapping[str, Any]) -> bool:
    """Whether the entries are plain tensors and text, of the kinds that are stored."""
    saliency = content.get("saliency")
    rules = [
        isinstance(content.get("meta"), str),
        isinstance(saliency, list),
        is_plain(content.get("layout"), (torch.int32,), 2),
        "patches" not in content or is_plain(content["patches"], tuple(DTYPES.values()), 4),
        isinstance(saliency, list) and all(is_plain(scores, (torch.float32,), 2) for scores in saliency),
    ]
    return all(rules)


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
    stored = _own_memory(pixels, DTYPES[dtype])
    if stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
        raise InputError(f"pixels hold NaN or infinity as {dtype}")
    return stored


def checksum(content: Mapping[str, Any]) -> int:
    """crc32 over the metadata and over type, shape and bytes of each tensor, in a fixed order."""
    crc = zlib.crc32(content["meta"].encode("utf-8", "surrogatepass"))
    patches = [content["patches"]] if "patches" in content else []
    for tensor in [content["layout"], *patches, *content["saliency"]]:
        crc = zlib.crc32(f"{tensor.dtype} {list(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    return crc


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
