"""Pictures as bytes, in the format that a file name asks for, with the mark of who made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from quadtok.errors import InputError
from quadtok.marks import Mark
from quadtok.names import PICTURE_SUFFIXES

FRAME_MS, LAST_FRAME_MS = 120, 2500
PLAN_PICTURE = Mark("picture of a plan")
_LARGEST_SIDE = {"jpeg": 65500, "gif": 65535, "webp": 16383}
_FORMATS = {".jpg": "jpeg", ".tif": "tiff"}
_DESCRIPTION = 270  # the tag of TIFF and EXIF
_TIFF, _JPEG = {"compression": "tiff_deflate"}, {"quality": 95, "subsampling": 0}
_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"optimize": True},
    ".webp": {"lossless": True},
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".gif": {},
}


def encode_picture(picture: Image.Image, suffix: str = ".png", mark: Mark = PLAN_PICTURE) -> bytes:
    """A picture in the format of a file name's ending, and marked; the same picture gives the same bytes.

    Args:
        picture: RGB; of what loses nothing, also gray of 8 or 16 bits.
        suffix: one of `PICTURE_SUFFIXES`. JPEG and GIF change pixels a little, the others keep them.
        mark: says who made it.

    Raises:
        InputError: for another ending, or a picture that is too large for the format.
    """
    if suffix not in PICTURE_SUFFIXES:
        raise InputError(f"no picture is written as {suffix!r}: use one of {', '.join(PICTURE_SUFFIXES)}")
    return _encode([picture], suffix, _OPTIONS[suffix], mark)


def encode_animation(frames: Sequence[Image.Image], suffix: str, mark: Mark = PLAN_PICTURE) -> bytes:
    """Frames as a looping `.gif` or `.webp`, marked; the last one stays longer."""
    timing = {"save_all": True, "duration": [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS], "loop": 0}
    options = {"lossless": True} if suffix == ".webp" else {"optimize": True}
    return _encode(frames, suffix, {**options, **timing, "append_images": frames[1:]}, mark)


def _encode(frames: Sequence[Image.Image], suffix: str, options: Mapping[str, Any], mark: Mark) -> bytes:
    image_format = _FORMATS.get(suffix, suffix[1:])
    width, height = frames[0].size
    side = _LARGEST_SIDE.get(image_format, max(width, height))
    if max(width, height) > side:
        raise InputError(f"{height}×{width} pixels are more than {suffix} holds ({side} a side): use .png")
    buffer = BytesIO()
    frames[0].save(buffer, image_format, **options, **_remark(image_format, str(mark)))
    return buffer.getvalue()


def _remark(image_format: str, text: str) -> dict[str, Any]:
    """The text in the place that the format has for remarks, as an option of Pillow's `save`."""
    if image_format == "png":
        info = PngInfo()
        info.add_text("Comment", text)
        return {"pnginfo": info}
    if image_format == "webp":
        exif = Image.Exif()
        exif[_DESCRIPTION] = text
        return {"exif": exif}
    return {"tiffinfo": {_DESCRIPTION: text}} if image_format == "tiff" else {"comment": text}
