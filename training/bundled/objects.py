"""Things to look at, each `[h, w, 4]` float32 in 0 … 1: colour, and opacity last.

`drawn` makes them up: a body of several parts, with limbs, a head with eyes, patterns, outlines. `cut_out` takes one of
the drawings among the materials. Either is then lit, turned and given a surface by `dressed`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from backgrounds import colour, field, ramp, real
from materials import Materials

SIDE = 200


def thing(rng: Generator, materials: Materials, drawn_share: float) -> np.ndarray:
    """One object of either kind, dressed."""
    made = drawn(rng, materials) if not materials.cutouts or rng.random() < drawn_share else cut_out(rng, materials)
    return dressed(rng, materials, made)


def cut_out(rng: Generator, materials: Materials) -> np.ndarray:
    """One of the materials' drawings, sometimes in other colours."""
    picture = materials.cutouts[rng.integers(len(materials.cutouts))].astype(np.float32) / 255
    rgb = picture[..., :3]
    change = rng.random()
    if change < 0.15:
        grey = rgb.mean(axis=2, keepdims=True)
        rgb = colour(rng) * (0.4 + grey)
    elif change < 0.3:
        rgb = rgb[..., rng.permutation(3)]
    mean = rgb.mean(axis=2, keepdims=True)
    rgb = mean + (rgb - mean) * rng.uniform(0.3, 1.0)  # drawings are more colourful than photographs
    low, high = rng.uniform(0, 0.2), rng.uniform(0.75, 1)
    return np.concatenate([low + np.clip(rgb, 0, 1) * (high - low), picture[..., 3:]], axis=2)


def drawn(rng: Generator, materials: Materials) -> np.ndarray:
    """A made-up creature or device: limbs behind a body, a head with eyes in front, patterns on each."""
    side = SIDE
    palette = [colour(rng) for _ in range(rng.integers(2, 5))]
    canvas = np.zeros((side, side, 4), np.float32)
    middle = side * rng.uniform(0.4, 0.6, 2)
    size = side * rng.uniform(0.14, 0.3)
    stretch = np.exp(rng.normal(0, 0.35))
    outline = rng.random() < 0.4
    for _ in range(rng.integers(0, 7)):
        _put(rng, materials, canvas, _limb(rng, middle, size), palette, outline)
    for _ in range(rng.integers(1, 4)):
        centre = middle + rng.normal(0, 0.35, 2) * size
        _put(rng, materials, canvas, _blob(rng, centre, size * rng.uniform(0.5, 1.1), stretch), palette, outline)
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        head = middle + np.array([np.cos(angle), np.sin(angle)]) * size * 1.1
        radius = size * rng.uniform(0.35, 0.7)
        _put(rng, materials, canvas, _blob(rng, head, radius, 1.0), palette, outline)
        _put_face(rng, canvas, head, radius)
    return canvas


def dressed(rng: Generator, materials: Materials, picture: np.ndarray) -> np.ndarray:
    """The same thing lit from a side, with a surface, turned a little."""
    height, width = picture.shape[:2]
    side = max(height, width)
    rgb, opacity = picture[..., :3], picture[..., 3:]
    light = 1 + rng.uniform(0, 0.4) * ramp(rng, side)[:height, :width, None]
    if rng.random() < 0.6:
        light = light + _relief(rng, opacity[..., 0])[..., None]
    if rng.random() < 0.6:
        light = light + rng.uniform(0.02, 0.25) * field(rng, materials, side, rng.uniform(1, 3))[:height, :width, None]
    if rng.random() < 0.25:
        surface = real(rng, materials, side)[:height, :width]
        light = light + rng.uniform(0.2, 1.0) * (surface - surface.mean()).mean(axis=2, keepdims=True)
    return turned(rng, np.concatenate([np.clip(rgb * light, 0, 1), opacity], axis=2))


def turned(rng: Generator, picture: np.ndarray) -> np.ndarray:
    """Mirrored half of the time, turned by up to 30 degrees most of the time, now and then stretched."""
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8), "RGBA")
    stretch = np.exp(rng.normal(0, 0.15))
    image = image.resize((max(8, int(image.width * stretch)), image.height), Image.Resampling.BILINEAR)
    angle = rng.uniform(-30, 30) if rng.random() < 0.8 else rng.uniform(-180, 180)
    image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    box = image.getchannel("A").getbbox()
    return np.asarray(image.crop(box) if box else image, dtype=np.float32) / 255


def _relief(rng: Generator, opacity: np.ndarray) -> np.ndarray:
    """`[h, w]`: light and shade as if the shape bulged out towards the camera."""
    mask = Image.fromarray((opacity * 255).astype(np.uint8))
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(rng.uniform(4, 20))), dtype=np.float32) / 255
    down, right = np.gradient(soft)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * right + np.sin(angle) * down
    return slope / (np.abs(slope).max() + 1e-6) * rng.uniform(0.1, 0.6)


def _put(
    rng: Generator,
    materials: Materials,
    canvas: np.ndarray,
    points: list[tuple[float, float]],
    palette: list[np.ndarray],
    outline: bool,
) -> None:
    """Draw one part over the canvas, in place."""
    side = canvas.shape[0]
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    share = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32)[..., None] / 255
    fill = _pattern(rng, materials, side, palette)
    if outline:
        edge = Image.new("L", (side, side))
        ImageDraw.Draw(edge).line([*points, points[0]], fill=255, width=int(rng.integers(1, 4)))
        fill = np.where(np.asarray(edge)[..., None] > 0, 0.1, fill)
    canvas[..., :3] += (fill - canvas[..., :3]) * share
    canvas[..., 3:] = np.maximum(canvas[..., 3:], share)


def _pattern(rng: Generator, materials: Materials, side: int, palette: list[np.ndarray]) -> np.ndarray:
    """`[side, side, 3]`: one colour of the palette, alone or with stripes, spots, noise or a real texture."""
    first, second = (palette[number] for number in rng.integers(len(palette), size=2))
    kind = rng.integers(5)
    if kind == 0:
        return np.broadcast_to(first, (side, side, 3))
    if kind == 1:
        second_here = (ramp(rng, side) * rng.uniform(3, 20)) % 1 < rng.uniform(0.2, 0.7)
    elif kind == 2:
        second_here = field(rng, materials, side) > rng.uniform(0, 1.5)
    elif kind == 3:
        across, down = np.meshgrid(np.arange(side), np.arange(side))
        pitch = rng.uniform(6, 30)
        second_here = np.hypot(across % pitch - pitch / 2, down % pitch - pitch / 2) < pitch * rng.uniform(0.15, 0.4)
    else:
        surface = real(rng, materials, side)
        return np.clip(first + (surface - surface.mean(axis=(0, 1))) * rng.uniform(0.5, 1.5), 0, 1)
    return np.where(second_here[..., None], second, first)


def _blob(rng: Generator, centre: np.ndarray, radius: float, stretch: float) -> list[tuple[float, float]]:
    """A round shape whose radius wavers, or a polygon with few corners."""
    corners = int(rng.choice([4, 5, 6, 48, 48, 48]))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, 2 * np.pi)
    radii = np.full(corners, radius)
    for wave in range(2, 6):
        radii *= 1 + rng.normal(0, 0.22 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    return list(
        zip(centre[0] + radii * np.cos(angles) * stretch, centre[1] + radii * np.sin(angles) / stretch, strict=True)
    )


def _limb(rng: Generator, middle: np.ndarray, size: float) -> list[tuple[float, float]]:
    """A bent bar that begins inside the body."""
    angle = rng.uniform(0, 2 * np.pi)
    length, width = size * rng.uniform(0.8, 2.0), size * rng.uniform(0.05, 0.25)
    bend = angle + rng.normal(0, 0.5)
    joint = middle + np.array([np.cos(angle), np.sin(angle)]) * length * 0.6
    end = joint + np.array([np.cos(bend), np.sin(bend)]) * length * 0.6
    side_of = np.array([-np.sin(angle), np.cos(angle)]) * width
    thin = rng.uniform(0.4, 1.0)
    return [
        tuple(p)
        for p in (
            middle + side_of,
            joint + side_of,
            end + side_of * thin,
            end - side_of * thin,
            joint - side_of,
            middle - side_of,
        )
    ]


def _put_face(rng: Generator, canvas: np.ndarray, head: np.ndarray, radius: float) -> None:
    image = Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8), "RGBA")
    draw = ImageDraw.Draw(image)
    eye = radius * rng.uniform(0.12, 0.28)
    tilt = rng.uniform(-0.5, 0.5)
    for hand in (-1, 1):
        x = head[0] + hand * radius * 0.4 * math.cos(tilt)
        y = head[1] - radius * 0.2 + hand * radius * 0.4 * math.sin(tilt)
        draw.ellipse([x - eye, y - eye, x + eye, y + eye], fill=(235, 235, 230, 255))
        draw.ellipse([x - eye / 2, y - eye / 2, x + eye / 2, y + eye / 2], fill=(20, 20, 30, 255))
    x, y = head[0], head[1] + radius * 0.4
    draw.ellipse([x - radius * 0.35, y - radius * 0.1, x + radius * 0.35, y + radius * 0.1], fill=(120, 30, 40, 255))
    canvas[...] = np.asarray(image, dtype=np.float32) / 255
