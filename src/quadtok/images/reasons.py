"""Why a file could not be decoded: broken, cut short, or sound but of a kind that is not read."""

from __future__ import annotations

import struct
import zlib

from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF", "JPEG2000")

# What decoders raise on bad data (the list of Pillow's own fuzzers). Anything else is foreign, and named by its type.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, MemoryError, ValueError, OverflowError, EOFError),
    *(struct.error, zlib.error, TypeError, IndexError, KeyError, AttributeError, RuntimeError),
    Image.DecompressionBombError,
)
_FOREIGN_MAGIC = (b"%!PS", b"%PDF", b"8BPS", b"SIMPLE  =", b"<svg", b"<?xml", b"\xc5\xd0\xd3\xc6")
_OUR_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\x00", b"MM\x00*")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c")
_SIZE_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_KINDS_OF_JPEG = {3: "lossless", 5: "hierarchical", 6: "hierarchical", 7: "hierarchical", 11: "lossless arithmetic"}
_BMP_DEPTHS = (1, 4, 8, 16, 24, 32)
_BMP_COMPRESSIONS = {4: "JPEG", 5: "PNG", 11: "CMYK", 12: "CMYK", 13: "CMYK"}


def reason(problem: Exception, data: bytes) -> str:
    """A decoder's complaint in few words."""
    text = str(problem).lower()
    if isinstance(problem, MemoryError):
        return "not enough memory to decode it"
    if not isinstance(problem, _DECODER_ERRORS):
        return f"cannot be decoded ({type(problem).__name__}: {' '.join(str(problem).split()) or 'no reason given'})"
    if kind := _unread_kind(data):
        return f"{kind} is not supported: convert it to 8-bit RGB"
    if isinstance(problem, UnidentifiedImageError):
        if data.startswith(_OUR_MAGIC) or data[4:12] == b"ftypavif":
            return "broken image data"
        foreign = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_FOREIGN_MAGIC) or data[4:8] == b"ftyp"
        if data.startswith(_COMPRESSED):
            return "a compressed file or archive, and no image: unpack it first"
        return f"unsupported format (allowed: {', '.join(FORMATS)})" if foreign else "not a supported image"
    if "truncated" in text or isinstance(problem, EOFError):
        return "truncated image"
    return "broken image data"


def _unread_kind(data: bytes) -> str:
    """What the file is, if its header says that it is of a kind that nobody reads here."""
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _unread_jpeg(data)
        if data.startswith(b"BM"):
            return _unread_bmp(data)
        return ""
    except (struct.error, IndexError):
        return ""


def _unread_jpeg(data: bytes) -> str:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SIZE_MARKERS:
            bits, channels = data[at + 4], data[at + 9]
            if bits != 8:
                return f"JPEG of {bits} bits"
            if marker - 0xC0 in _KINDS_OF_JPEG:
                return f"{_KINDS_OF_JPEG[marker - 0xC0]} JPEG"
            return f"JPEG of {channels} channels" if channels not in (1, 3, 4) else ""
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return ""


def _unread_bmp(data: bytes) -> str:
    (header,) = struct.unpack_from("<I", data, 14)
    if header not in (12, 40, 52, 56, 64, 108, 124):
        return ""
    (bits,) = struct.unpack_from("<H", data, 24 if header == 12 else 28)
    if bits not in _BMP_DEPTHS:
        return f"BMP of {bits} bits a pixel"
    compression = struct.unpack_from("<I", data, 30)[0] if header > 12 else 0
    if compression > 3:
        return f"BMP with {_BMP_COMPRESSIONS.get(compression, 'unknown')} compression"
    if compression == 3 and bits >= 16:
        masks = struct.unpack_from("<3I", data, 54)
        return "" if masks in _BMP_MASKS[bits] else f"BMP with bit fields {', '.join(f'{mask:#x}' for mask in masks)}"
    return ""


_BMP_MASKS = {
    16: [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)],
    24: [(0xFF0000, 0xFF00, 0xFF)],
    32: [
        (0xFF0000, 0xFF00, 0xFF),
        (0xFF000000, 0xFF0000, 0xFF00),
        (0xFF000000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000),
    ],
}
