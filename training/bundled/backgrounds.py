"""What stands behind the objects: all of it detail, or the lack of it, that is not an object.

Each entry of BACKGROUNDS is `(rng, materials, side) → [side, side, 3]` float32 in 0 … 1. A new kind is a function and
its name in the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from materials import Materials

Background = Callable[[Generator, Materials, int], np.ndarray]


def colour(rng: Generator) -> np.ndarray:
    """`[3]` in 0 … 1: any hue, mostly of low saturation, as things outdoors and indoors are."""
    grey = rng.uniform(0.03, 0.97)
    tint = rng.normal(0, 1, 3)
    tint -= tint.mean()
    return np.clip(grey + tint * rng.choice([0.03, 0.1, 0.25], p=[0.35, 0.4, 0.25]), 0, 1).astype(np.float32)


def field(rng: Generator, materials: Materials, side: int, zoom: float | None = None) -> np.ndarray:
    """`[side, side]`: a crop of a noise field, turned, magnified by `zoom` (1 to 4 by default)."""
    source = materials.fields[rng.integers(len(materials.fields))]
    zoom = zoom or float(np.exp(rng.uniform(0, np.log(4))))
    taken = max(8, int(side / zoom))
    top, left = rng.integers(0, source.shape[0], 2)
    rows, cols = (np.arange(start, start + taken) % source.shape[0] for start in (top, left))
    crop = np.rot90(source[rows][:, cols], rng.integers(4))
    if taken == side:
        return crop
    return np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((side, side), Image.Resampling.BICUBIC))


def ramp(rng: Generator, side: int) -> np.ndarray:
    """`[side, side]` rising from about -1 to 1 in some direction."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.cos(angle) * line + np.sin(angle) * line[:, None]


def plain(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """A wall or a sky: one colour, or a gradient between two."""
    first, second = colour(rng), colour(rng)
    if rng.random() < 0.5:
        second = np.clip(first + rng.normal(0, 0.08, 3), 0, 1)
    share = (0.5 + 0.5 * ramp(rng, side))[..., None]
    return first + (second - first) * np.clip(share, 0, 1)


def cloudy(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Two or three colours mixed by noise fields: clouds, stains, water, foliage out of focus."""
    picture = np.broadcast_to(colour(rng), (side, side, 3))
    for _ in range(rng.integers(1, 3)):
        share = 1 / (1 + np.exp(-field(rng, materials, side) * rng.uniform(0.5, 4)))
        picture = picture + (colour(rng) - picture) * share[..., None]
    return picture + 0.1 * rng.random() * field(rng, materials, side, 1)[..., None]


def real(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """A crop of a real texture, recoloured, mirrored on where it ends."""
    if not materials.textures:
        return cloudy(rng, materials, side)
    source = materials.textures[rng.integers(len(materials.textures))]
    taken = int(rng.uniform(0.15, 0.6) * min(source.shape[:2]))
    top, left = (rng.integers(0, length - taken + 1) for length in source.shape[:2])
    crop = source[top : top + taken, left : left + taken]
    crop = np.rot90(crop, rng.integers(4))[:: rng.choice([-1, 1])]
    drawn = int(side * rng.uniform(0.35, 1.2))
    tile = Image.fromarray(np.ascontiguousarray(crop)).resize((drawn, drawn), Image.Resampling.BILINEAR)
    small = np.asarray(tile, dtype=np.float32) / 255
    both = np.concatenate([small, small[::-1]]) if drawn < side else small
    both = np.concatenate([both, both[:, ::-1]], axis=1) if drawn < side else both
    repeats = -(-side // both.shape[0])
    return recolour(rng, np.tile(both, (repeats, repeats, 1))[:side, :side])


def photograph(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """A square part of a real texture as it is, mirrored or not."""
    if not materials.textures:
        return cloudy(rng, materials, side)
    source = materials.textures[rng.integers(len(materials.textures))]
    taken = int(math.exp(rng.uniform(math.log(0.12), math.log(0.7))) * min(source.shape[:2]))
    top, left = (rng.integers(0, length - taken + 1) for length in source.shape[:2])
    tile = Image.fromarray(np.ascontiguousarray(source[top : top + taken, left : left + taken]))
    shown = np.asarray(tile.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return shown[:, :: rng.choice([-1, 1])]


def recolour(rng: Generator, picture: np.ndarray) -> np.ndarray:
    """Other colours, the same structure."""
    if rng.random() < 0.4:
        mean = picture.mean(axis=(0, 1))
        grey = (picture - mean).mean(axis=2, keepdims=True)
        return np.clip(colour(rng) + grey * rng.uniform(0.4, 1.6) * rng.uniform(0.7, 1.3, 3), 0, 1)
    return np.clip(picture[..., rng.permutation(3)] * rng.uniform(0.7, 1.2, 3) + rng.normal(0, 0.05, 3), 0, 1)


def strokes(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Grass, straw, twigs, needles: many thin lines of about one direction."""
    base, blade = colour(rng), colour(rng)
    canvas = _canvas(rng, materials, side, base)
    draw = ImageDraw.Draw(canvas)
    lean, spread = rng.uniform(0, np.pi), rng.uniform(0.05, 1.2)
    length = side * rng.uniform(0.03, 0.2)
    for x, y in rng.uniform(-0.1, 1.1, (int(rng.uniform(150, 700)), 2)) * side:
        angle = lean + rng.normal(0, spread)
        end = (x + np.cos(angle) * length, y + np.sin(angle) * length)
        draw.line([(x, y), end], fill=_shade(rng, blade), width=int(rng.integers(1, 4)))
    return np.asarray(canvas, dtype=np.float32) / 255


def pieces(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Leaves, pebbles, a crowd of spots: many small shapes of one family."""
    first, second = colour(rng), colour(rng)
    canvas = _canvas(rng, materials, side, first)
    draw = ImageDraw.Draw(canvas)
    width, height = side * rng.uniform(0.01, 0.07, 2)
    square = rng.random() < 0.3
    for x, y in rng.uniform(-0.1, 1.1, (int(rng.uniform(80, 500)), 2)) * side:
        grow = rng.uniform(0.5, 1.5)
        box = [x - width * grow, y - height * grow, x + width * grow, y + height * grow]
        mixed = first + (second - first) * rng.random()
        (draw.rectangle if square else draw.ellipse)(box, fill=_shade(rng, mixed))
    return np.asarray(canvas, dtype=np.float32) / 255


def boards(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Planks, tiles, fences, bricks, blinds: straight lines at regular distances."""
    first, second = colour(rng), colour(rng)
    along, across = ramp(rng, side), ramp(rng, side)
    pitch = rng.uniform(2, 14)
    line = (along * pitch) % 1 < rng.uniform(0.03, 0.5)
    if rng.random() < 0.4:
        line |= (across * rng.uniform(2, 14)) % 1 < rng.uniform(0.03, 0.2)
    shades = np.floor(along * pitch)
    board = first + 0.08 * np.sin(shades * 12.9898)[..., None]
    grain = field(rng, materials, side)[..., None] * rng.uniform(0, 0.1)
    return np.where(line[..., None], second, board) + grain


def landscape(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Sky, hills, ground: bands of other backgrounds with a ragged border between them."""
    kinds = [plain, cloudy, real, strokes, pieces, boards]
    picture = kinds[rng.choice(2)](rng, materials, side)
    height = np.linspace(0, 1, side)[:, None]
    horizon = 0.0
    for _ in range(rng.integers(1, 4)):
        horizon = rng.uniform(horizon, 1)
        ragged = horizon + field(rng, materials, side)[0] * rng.choice([0.002, 0.02, 0.06])
        band = kinds[rng.integers(len(kinds))](rng, materials, side)
        picture = np.where((height > ragged)[..., None], band, picture)
    return picture


def rooms(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Large flat areas with straight borders, and soft lights: walls, doors, windows, bokeh."""
    picture = plain(rng, materials, side)
    canvas = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(2, 9)):
        x, y = rng.uniform(-0.2, 1, 2) * side
        box = [x, y, x + rng.uniform(0.05, 0.9) * side, y + rng.uniform(0.05, 0.9) * side]
        (draw.ellipse if rng.random() < 0.25 else draw.rectangle)(box, fill=_shade(rng, colour(rng)))
    if rng.random() < 0.5:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(1, 12)))
    return np.asarray(canvas, dtype=np.float32) / 255 + rng.uniform(0, 0.05) * field(rng, materials, side)[..., None]


def crowd(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Many small things of a kind or two, none of which is what the picture is about: stalls, shrubs, spectators."""
    if not materials.cutouts:
        return pieces(rng, materials, side)
    ground = np.clip([plain, cloudy, real][rng.integers(3)](rng, materials, side), 0, 1)
    canvas = Image.fromarray((ground * 255).astype(np.uint8))
    kinds = [materials.cutouts[number] for number in rng.integers(len(materials.cutouts), size=rng.integers(1, 4))]
    typical = side * rng.uniform(0.06, 0.16)
    dull = rng.uniform(0.2, 0.9)
    shrunk = [_small(kind, typical, dull) for kind in kinds]
    for x, y in rng.uniform(-0.1, 1.05, (int(rng.uniform(30, 120)), 2)) * side:
        kind = shrunk[rng.integers(len(shrunk))]
        canvas.paste(kind, (int(x), int(y)), kind)
    soft = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5)))
    return np.asarray(soft, dtype=np.float32) / 255


def _small(picture: np.ndarray, side: float, dull: float) -> Image.Image:
    image = Image.fromarray(picture, "RGBA")
    scale = side / max(image.size)
    image = image.resize((max(2, int(image.width * scale)), max(2, int(image.height * scale))))
    grey = image.convert("LA").convert("RGBA")
    return Image.blend(image, grey, dull)


def ripples(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Sand, water, corrugated iron: waves whose crests a noise field bends."""
    first, second = colour(rng), colour(rng)
    phase = ramp(rng, side) * rng.uniform(30, 120) + field(rng, materials, side) * rng.uniform(0.5, 3)
    return first + (second - first) * (0.5 + 0.5 * np.sin(phase))[..., None]


def cells(rng: Generator, materials: Materials, side: int) -> np.ndarray:
    """Paving, dry mud, scales: every place belongs to the nearest of some hundred points."""
    first, second = colour(rng), colour(rng)
    points = rng.uniform(0, side, (int(rng.uniform(60, 250)), 2))
    down, across = np.mgrid[0:side, 0:side]
    square = (down[..., None] - points[:, 0]) ** 2 + (across[..., None] - points[:, 1]) ** 2
    share = rng.random(len(points))[square.argmin(axis=2)]
    return first + (second - first) * share[..., None] * rng.uniform(0.2, 1)


BACKGROUNDS: dict[str, Background] = {
    "plain": plain,
    "cloudy": cloudy,
    "real": real,
    "photograph": photograph,
    "strokes": strokes,
    "pieces": pieces,
    "boards": boards,
    "landscape": landscape,
    "rooms": rooms,
    "crowd": crowd,
    "ripples": ripples,
    "cells": cells,
}


def _canvas(rng: Generator, materials: Materials, side: int, base: np.ndarray) -> Image.Image:
    ground = base + rng.uniform(0, 0.12) * field(rng, materials, side)[..., None]
    return Image.fromarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))


def _shade(rng: Generator, base: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in np.clip(base * rng.uniform(0.6, 1.3) * 255, 0, 255))
