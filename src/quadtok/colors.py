"""Colours as a user writes them. Loads no torch: flags are checked with it."""

from __future__ import annotations

from quadtok.errors import InputError


def check_color(color: str) -> str:
    """The colour itself, if Pillow can read it.

    Raises:
        InputError: otherwise.
    """
    from PIL import ImageColor  # not at import: `--help` needs no Pillow

    try:
        ImageColor.getrgb(color)
    except (ValueError, TypeError, AttributeError):  # the latter two of what is no text
        raise InputError(f"{color!r} is no colour: use a name such as white, or #RRGGBB") from None
    return color
