"""GIF: a first frame that covers a part of the canvas. Around it nothing is drawn, as browsers show it."""

from __future__ import annotations

import numpy as np
from PIL import Image

PixelBox = tuple[int, int, int, int]


def covered(opened: Image.Image) -> PixelBox | None:
    """(left, top, right, bottom) of the frame that is about to be loaded, where it leaves some of the canvas bare."""
    tiles = getattr(opened, "tile", [])
    box: PixelBox | None = tiles[0][1] if tiles else None
    return box if box and tuple(box) != (0, 0, *opened.size) else None


def uncovered_is_clear(image: Image.Image, box: PixelBox) -> Image.Image:
    """The image with an alpha of nothing outside of the box; Pillow has painted there in the first colour."""
    shown = image.convert("RGBA")
    alpha = np.zeros((image.height, image.width), np.uint8)
    left, top, right, bottom = box
    alpha[top:bottom, left:right] = np.asarray(shown)[top:bottom, left:right, 3]
    shown.putalpha(Image.fromarray(alpha))
    return shown
