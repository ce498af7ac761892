"""JPEG: inks that may be inverted, and images decoded at a fraction of their size by libjpeg."""

from __future__ import annotations

from PIL import Image

from quadtok.images.base import DRAFT_DIVISORS, Draft, DraftRule, Prepared, unsupported


def prepare(data: bytes) -> Prepared:
    """Nothing is read ahead: a JPEG of one or three channels cannot be misunderstood."""
    return Prepared(data, finish=_finish)


def _finish(image: Image.Image) -> Image.Image:
    """Adobe stores inks inverted, and marks its files; Pillow inverts them all."""
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise unsupported("a CMYK JPEG that does not say whether its inks are inverted (no Adobe marker)")
    return image


def take_draft(opened: Image.Image, orientation: int, rule: DraftRule) -> Draft | None:
    """Ask libjpeg for the fraction that the rule names, before the image is loaded."""
    turned = orientation >= 5  # the stored width is the upright height
    stored = opened.size
    size = (stored[1], stored[0]) if turned else stored
    wanted = rule(size[1], size[0])
    if wanted not in DRAFT_DIVISORS:
        return None
    granted = opened.draft(None, (max(1, stored[0] // wanted), max(1, stored[1] // wanted)))
    if granted is None or opened.size == stored:
        return None
    divisor = round(stored[0] / granted[1][2])
    width, height = (opened.size[1], opened.size[0]) if turned else opened.size
    full_width, full_height = size[0] / divisor, size[1] / divisor
    left = width - full_width if orientation in (2, 3, 6, 7) else 0.0  # what is cut ends up on the left
    top = height - full_height if orientation in (3, 4, 7, 8) else 0.0
    return Draft(divisor, size, (left, top, left + full_width, top + full_height))
