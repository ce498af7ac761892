"""A small picture of tokens in their boxes, as a notebook shows it. Arrays in, bytes out: the plan itself calls it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

# Colour-blind safe (Okabe and Ito), the finest patches first; further scales begin again.
SCALE_COLORS = ("#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#0072B2", "#E69F00")
LONG_SIDE = 384  # pixels of one image at most, or a little fewer: whole pixels a cell, or whole cells a pixel
MAX_CELL, GAP = 24, 8  # pixels of the picture: of a cell at most, and between two images
LINE_FROM = 4  # pixels of a cell below which lines would hide what they divide

Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]


def scale_tiles(scale: Integers) -> Pixels:
    """`[B, N]` scales → `[B, N, 1, 1, 3]`: one colour a patch size."""
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in SCALE_COLORS], dtype=np.uint8)
    return colors[scale % len(colors)][:, :, None, None]


def mosaic_png(token: Integers, row: Integers, col: Integers, scale: Integers, tiles: Pixels) -> bytes:
    """A PNG of images side by side, each of their tokens' tiles enlarged to its box.

    Args:
        token: `[B, rows, cols]`: which token covers a cell.
        row: `[B, N]`: of a token's first cell.
        col: `[B, N]`, likewise.
        scale: `[B, N]`: a token is `2**scale` cells wide.
        tiles: `[B, N, t, t, 3]`: what to show of it.
    """
    from PIL import Image

    images = [_mosaic(*image) for image in zip(token, row, col, scale, tiles, strict=True)]
    gap = np.full((images[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    strip = np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)
    buffer = BytesIO()
    Image.fromarray(strip).save(buffer, "PNG")
    return buffer.getvalue()


def _mosaic(token: Integers, row: Integers, col: Integers, scale: Integers, tiles: Pixels) -> Pixels:
    """`[h, w, 3]` of one image."""
    cells = max(token.shape)
    cell, step = max(1, min(MAX_CELL, LONG_SIDE // cells)), -(-cells // LONG_SIDE)  # one of the two is 1
    shown = token[::step, ::step].repeat(cell, axis=0).repeat(cell, axis=1)  # the token that each pixel shows
    y, x = (step * places for places in np.ogrid[: shown.shape[0], : shown.shape[1]])
    side, tile = cell << scale[shown], tiles.shape[1]
    pixels = tiles[shown, (y - cell * row[shown]) * tile // side, (x - cell * col[shown]) * tile // side]
    return pixels if cell < LINE_FROM else _with_lines(pixels, shown)


def _with_lines(pixels: Pixels, shown: Integers) -> Pixels:
    """Lines between tokens: dark on what is light, light on what is dark."""
    lines = np.zeros(shown.shape, dtype=np.bool_)
    lines[:, :-1] |= shown[:, 1:] != shown[:, :-1]
    lines[:-1] |= shown[1:] != shown[:-1]
    lines[-1] = lines[:, -1] = lines[0] = lines[:, 0] = True
    is_light = pixels.mean(axis=2, keepdims=True) >= 128
    drawn = np.where(is_light, pixels // 2, 128 + pixels // 2).astype(np.uint8)
    return np.where(lines[..., None], drawn, pixels)
