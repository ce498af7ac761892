"""A picture as the samples of any layout, and the RGB pixels that a reader of it must show."""

import numpy as np

HEIGHT, WIDTH = 13, 21
ROWS, COLS = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([COLS * 255 // (WIDTH - 1), ROWS * 255 // (HEIGHT - 1), (COLS * 29 + ROWS * 53) % 256], axis=-1)
GRAY = ((COLS * 12 + ROWS * 5) % 256)[..., None]
INK = ((COLS + 2 * ROWS) % 4 * 40)[..., None]
ALPHA = np.choose((COLS + ROWS) % 3, [255, 102, 0])[..., None]
PALETTE = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) * 7 % 256], axis=-1)


def scene(layout, background=(255, 255, 255)):
    """(samples `[H, W, channels]`, pixels `[H, W, 3]` as floats) of a layout (color, bits, alpha)."""
    most = 2**layout.bits - 1
    color, shown = COLORS[layout.color](most)
    alpha = quantized(ALPHA, most)
    if layout.alpha == "key":
        clear = (color == key_of(layout)).all(axis=-1, keepdims=True)
        return color, np.where(clear, background, shown)
    if layout.alpha == "none":
        return color, shown
    if layout.alpha in ("ignored", "unsaid"):
        return np.dstack([color, alpha if layout.alpha == "ignored" else np.full_like(alpha, most)]), shown
    opaque = alpha / most
    if layout.alpha == "premultiplied":
        color = np.round(color * opaque).astype(int)
        return np.dstack([color, alpha]), color / most * 255 + np.array(background) * (1 - opaque)
    return np.dstack([color, alpha]), shown * opaque + np.array(background) * (1 - opaque)


def key_of(layout):
    """The transparent colour of a scene: that of a pixel in its middle."""
    return COLORS[layout.color](2**layout.bits - 1)[0][6, 10]


def quantized(values, most):
    return np.round(values / 255 * most).astype(int)


def gray(most):
    stored = quantized(GRAY, most)
    return stored, np.repeat(stored / most * 255, 3, axis=-1)


def white(most):
    stored, shown = gray(most)
    return most - stored, shown


def rgb(most):
    stored = quantized(RGB, most)
    return stored, stored / most * 255


def palette(most):
    stored = (COLS * 5 + ROWS)[..., None] % (most + 1)
    return stored, PALETTE[stored[..., 0] % 256].astype(float)


def cmyk(most):
    stored = quantized(np.dstack([255 - RGB, INK]), most)
    ink = stored / most
    return stored, 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


def ycbcr(most):
    stored = quantized(np.clip(RGB @ TO_YCBCR.T + [0, 128, 128], 0, 255), most)
    return stored, np.clip((stored - [0, 128, 128]) @ np.linalg.inv(TO_YCBCR).T, 0, 255)


TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
COLORS = {function.__name__: function for function in (gray, white, rgb, palette, cmyk, ycbcr)}


def off(image, pixels):
    """How far the furthest sample of an image is from the pixels that it should show."""
    found = np.asarray(image).astype(float)
    assert found.shape == pixels.shape, f"{found.shape}, expected {pixels.shape}"
    return float(np.abs(found - pixels).max())
