"""Photographs that never were: objects before a background, through a camera, with the truth about where they are.

A scene is a function of (recipe, seed, number): the same three give the same pixels. Recipes differ in what they draw
from, so that a net can be measured on scenes whose parameters, and not only whose seed, it has never seen.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from backgrounds import BACKGROUNDS, field, ramp
from materials import Materials
from objects import thing

SIDE, CELL = 256, 16


@dataclass(frozen=True)
class Recipe:
    """What scenes are drawn from.

    Attributes:
        backgrounds: names of BACKGROUNDS, each as likely as it is often named.
        num_objects: the least and the most.
        object_side: the longer side of an object, in shares of the image's, the least and the most.
        drawn_share: how many of the objects are made up, where the materials hold cut-outs too.
        noise: the largest standard deviation of the sensor's noise, 1 being the range of the pixels.
        jpeg: the least and the best quality.
        focus: how often only the objects are in focus.
    """

    backgrounds: tuple[str, ...]
    num_objects: tuple[int, int] = (1, 4)
    object_side: tuple[float, float] = (0.25, 1.3)
    drawn_share: float = 0.3
    noise: float = 0.06
    jpeg: tuple[int, int] = (35, 96)
    focus: float = 0.4


COMMON = ("plain", "cloudy", "real", "strokes", "pieces", "boards", "landscape", "rooms", "crowd")
TRAINING = Recipe((*COMMON, "landscape", "landscape", "landscape", "real", "strokes", "pieces", "crowd"))
# Kept out of training: two kinds of background that no training scene has. Objects are within training's range.
HELD_OUT = Recipe(("ripples", "cells"), num_objects=(1, 2), object_side=(0.3, 0.55), noise=0.03, focus=0.1)


def scene(recipe: Recipe, materials: Materials, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """One photograph and where its objects are.

    Returns:
        The pixels `[256, 256, 3]` uint8, and the share of object in every cell of 16 pixels, `[16, 16]` uint8, 255 = 1.
    """
    rng = np.random.default_rng([seed, number])
    behind = np.clip(BACKGROUNDS[rng.choice(recipe.backgrounds)](rng, materials, SIDE), 0, 1).astype(np.float32)
    focused = rng.random() < recipe.focus
    if focused:
        behind = _blurred(behind, rng.uniform(1, 9))
    covered = np.zeros((SIDE, SIDE, 1), np.float32)
    picture = behind
    for _ in range(_how_many(rng, recipe)):
        layer = _placed(rng, thing(rng, materials, recipe.drawn_share), recipe)
        picture = _shadowed(rng, picture, layer[..., 3:])
        picture = picture + (layer[..., :3] - picture) * layer[..., 3:]
        covered = np.maximum(covered, layer[..., 3:])
    cells = covered.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean(axis=(1, 3))
    return _photographed(rng, picture, materials, recipe), np.round(cells * 255).astype(np.uint8)


def _how_many(rng: Generator, recipe: Recipe) -> int:
    least, most = recipe.num_objects
    return int(min(most, least + rng.geometric(0.55) - 1))


def _placed(rng: Generator, picture: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The object somewhere in a transparent image of the scene's size; part of it may lie outside."""
    low, high = np.log(recipe.object_side)
    longer = SIDE * np.exp(rng.uniform(low, high))
    scale = longer / max(picture.shape[:2])
    width, height = (max(6, int(length * scale)) for length in (picture.shape[1], picture.shape[0]))
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8), "RGBA").resize(
        (width, height), Image.Resampling.BILINEAR
    )
    outside = 0.25
    left = int(rng.uniform(-outside * width, SIDE - (1 - outside) * width))
    top = int(rng.uniform(-outside * height, SIDE - (1 - outside) * height))
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(image, (left, top))
    layer = np.asarray(canvas, dtype=np.float32) / 255
    return _blurred(layer, rng.uniform(0.3, 1.2))


def _shadowed(rng: Generator, picture: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    if rng.random() < 0.5:
        return picture
    shift = tuple(rng.integers(-12, 25, 2))
    soft = _blurred(np.roll(opacity, shift, axis=(0, 1)), rng.uniform(2, 12))
    return picture * (1 - soft * rng.uniform(0.1, 0.6))


def _photographed(rng: Generator, picture: np.ndarray, materials: Materials, recipe: Recipe) -> np.ndarray:
    """Light, exposure, colour cast, lens, sensor and file."""
    light = 1 + rng.uniform(0, 0.25) * ramp(rng, SIDE)[..., None]
    if rng.random() < 0.3:
        light = light + rng.uniform(0, 0.25) * field(rng, materials, SIDE, 8)[..., None]
    picture = np.clip(picture * light, 0, 1) ** np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.1:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    contrast, offset = rng.uniform(0.7, 1.3), rng.normal(0, 0.06)
    picture = (picture - 0.5) * contrast + 0.5 + offset + rng.normal(0, 0.03, 3)
    if rng.random() < 0.3:
        picture = _blurred(np.clip(picture, 0, 1), rng.uniform(0.3, 1.0))
    noise = rng.normal(0, 1, picture.shape).astype(np.float32)
    picture = picture + noise * recipe.noise * rng.random() ** 4
    pixels = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return _as_jpeg(pixels, int(rng.integers(*recipe.jpeg))) if rng.random() < 0.7 else pixels


def _as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Any of 1, 3, 4 channels; a transparent ground does not bleed into the colour of what stands on it."""
    mode = {1: "L", 3: "RGB", 4: "RGBa"}[picture.shape[2]]
    pixels = (picture * 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels, "RGBA" if mode == "RGBa" else mode)
    soft = (image.convert("RGBa") if mode == "RGBa" else image).filter(ImageFilter.GaussianBlur(sigma))
    soft = soft.convert("RGBA") if mode == "RGBa" else soft
    return np.asarray(soft, dtype=np.float32).reshape(picture.shape) / 255
