"""The samples of a TIFF whose strips or tiles are stored as they are, or deflated."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
from numpy.typing import NDArray

from quadtok.errors import ImageError
from quadtok.images.base import to_eight_bits
from quadtok.images.tiff.base import File, Tag, Tags

_LARGE_TILE = 1 << 24  # pixels


def read_samples(file: File, tags: Tags, bits: int) -> NDArray[np.uint8]:
    """The samples of an uncompressed or deflated page as bytes, `[height, width, samples]`."""
    width, height, samples = tags.values[Tag.WIDTH][0], tags.values[Tag.HEIGHT][0], tags.one(Tag.SAMPLES, 1)
    tiled = Tag.TILE_OFFSETS in tags.values
    across = tags.one(Tag.TILE_WIDTH, 0) if tiled else width
    down = tags.one(Tag.TILE_HEIGHT, 0) if tiled else min(tags.one(Tag.ROWS, height), height)
    if across < 1 or down < 1 or across * down > max(_LARGE_TILE, 4 * width * height):
        raise ImageError("broken image data")
    planes = samples if tags.one(Tag.PLANAR, 1) == 2 else 1
    channels = samples // planes
    offsets = tags.values.get(Tag.TILE_OFFSETS if tiled else Tag.OFFSETS, ())
    counts = tags.values.get(Tag.TILE_COUNTS if tiled else Tag.COUNTS, ())
    tops, lefts = range(0, height, down), range(0, width, across)
    if min(len(offsets), len(counts)) < planes * len(tops) * len(lefts):
        raise ImageError("truncated image")
    pixels = np.empty((height, width, samples), np.uint8)
    blocks = itertools.product(range(planes), tops, lefts)
    for (plane, top, left), offset, count in zip(blocks, offsets, counts, strict=False):
        rows = down if tiled else min(down, height - top)
        needed = rows * across * channels * bits // 8
        raw = _inflated(file.data[offset : offset + count], needed, tags)
        block = np.frombuffer(raw, f"{file.order}u{bits // 8}", rows * across * channels).reshape(
            rows, across, channels
        )
        if tags.one(Tag.PREDICTOR, 1) == 2 and tags.one(Tag.COMPRESSION, 1) != 1:
            block = np.cumsum(block, axis=1, dtype=f"u{bits // 8}")
        target = pixels[top : top + rows, left : left + across, plane : plane + channels]
        target[:] = to_eight_bits(block[: target.shape[0], : target.shape[1]], 2**bits - 1)
    return pixels


def _inflated(raw: bytes, needed: int, tags: Tags) -> bytes:
    if tags.one(Tag.COMPRESSION, 1) != 1:
        raw = zlib.decompressobj().decompress(raw, needed)
    if len(raw) < needed:
        raise ImageError("truncated image")
    return raw[:needed]
