"""The mark in pictures that quadtok made, by which a later run tells them from photographs; and what other files are.

A mark is one line of text, kept where each format keeps remarks: a PNG text chunk, a comment in JPEG and GIF, the image
description in TIFF and in WebP's EXIF block, the metadata of a page and of SVG. It is read without decoding, without
Pillow, and without believing the file: a bounded number of small reads, and what is damaged has no mark.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from quadtok.files import open_regular

MarkKind = Literal["picture of a plan", "drawing of a plan", "plot", "importance map", "restored image"]
HEAD_BYTES = 512  # of a file, that say what it is

# All of a remark: between its ends, the NULs that bound it in a block, or the signs around a text of a page.
_MARK = re.compile(
    rb"""(?:\A|[\0">])made by quadtok: (picture of a plan|drawing of a plan|plot|importance map|restored image)"""
    rb"""(?:, fingerprint ([0-9a-f]{64}))?(?:[\0"<]|\Z)"""
)
_MAX_STEPS = 10_000  # chunks before we give up; an animation of ours has 130
_MAX_TEXT = 4096
_CHUNK = 1 << 20
_MAX_BLANK = 4 << 30  # a larger file is not looked through for a byte that is not 0
_PNG = b"\x89PNG\r\n\x1a\n"
_DESCRIPTION = 270  # the TIFF tag

_IMAGES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\x00|MM\0[*+]",
    "BMP": rb"BM....\x00\x00\x00\x00|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00",
    "AVIF or HEIF": rb"....ftyp(?:avi[fos]|hei[cmsx]|hev[cmsx]|mif[12]|msf1)",
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\x00\x00\x00\x0cJXL |\xff\x0a",
    "PNM": rb"P[1-7FfyY]\s+[\d#WT]",
    "Photoshop": rb"8BPS\x00[\x01\x02]",
    "QOI": rb"qoif",
    "OpenEXR": rb"v/1\x01",
    "Radiance": rb"#\?R(?:ADIANCE|GBE)",
    "icon": rb"\x00\x00[\x01\x02]\x00[\x01-\xff]\x00.{3}\x00|icns",
    "raw camera": rb"FUJIFILMCCD-RAW|II(?:R[OS]|U\x00|\x1a\x00\x00\x00HEAP)|MMOR|FOVb|\x00MRM|....ftypcrx ",
    "SVG": rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*"
    rb"(?:<!DOCTYPE svg[^>\[]*(?:\[.*?\]\s*)?>\s*)?<(?:\w+:)?svg[\s>]",
    "JPEG XR": rb"II\xbc[\x00\x01]",
    "GIMP": rb"gimp xcf ",
    "Paint Shop Pro": rb"Paint Shop Pro Image File",
    "FITS": rb"SIMPLE  =",
    "DICOM": rb".{128}DICM",
    "DPX": rb"SDPX|XPDS",
    "Cineon": rb"\x80\x2a\x5f\xd7",
    "SGI": rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]",
    "raster (Sun)": rb"\x59\xa6\x6a\x95",
    "XPM": rb"/\* XPM \*/",
    "PostScript": rb"%!PS-Adobe-|\xc5\xd0\xd3\xc6",
    "DjVu": rb"AT&TFORM",
    "BPG": rb"BPG\xfb",
    "FLIF": rb"FLIF[1-D]",
    "MNG": rb"\x8aMNG\r\n\x1a\n|\x8bJNG\r\n\x1a\n",
    "KTX": rb"\xabKTX [12][01]\xbb",
    "farbfeld": rb"farbfeld",
    "metafile": rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00.{36} EMF",
    "DDS": rb"DDS ",
    "PCX": rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]",
}
_PAGE = rb"(?i:\s*<!doctype html|\s*<html)"
_OTHERS = {"zip archive": rb"PK\x03\x04|PK\x05\x06", "PDF": rb"%PDF-", "HTML page": _PAGE}


@dataclass(frozen=True)
class Mark:
    """What quadtok says of a picture that it made.

    Attributes:
        kind: `"picture of a plan"` (drawn beside a token file), `"drawing of a plan"`, `"plot"` or `"importance map"`,
            which folders and globs skip when they are searched for images; or `"restored image"`, which is a picture as
            others are.
        fingerprint: of all that the picture depends on; empty where there is none.
    """

    kind: MarkKind
    fingerprint: str = ""

    def __str__(self) -> str:
        """The line that stands in the file."""
        return f"made by quadtok: {self.kind}" + (f", fingerprint {self.fingerprint}" if self.fingerprint else "")


def read_mark(data: bytes) -> Mark | None:
    """The mark in the bytes of a picture; None for any other file."""
    return _read_mark(BytesIO(data))


def mark_of_file(path: Path) -> Mark | None:
    """The mark of a picture file, of which little more than its header is read; None for what cannot be read."""
    try:
        with open_regular(path) as stream:
            return _read_mark(stream)
    except OSError:
        return None


def is_passed_over(mark: Mark | None) -> bool:
    """Whether a folder that is searched for images passes over a picture with this mark."""
    return mark is not None and mark.kind != "restored image"


def head_of(path: Path) -> bytes:
    """The first bytes of a file, that say what it is; none of what cannot be read."""
    try:
        with open_regular(path) as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return b""


def holds_nothing(path: Path) -> bool:
    """Whether a file is empty, or all NUL, or a PNG before its first pixel: what a power cut may leave of a new one."""
    if path.stat().st_size > _MAX_BLANK:
        return False
    with open_regular(path) as stream:
        head = stream.read(HEAD_BYTES)
        if image_format(head) == "PNG":
            return len(head) < HEAD_BYTES and b"IDAT" not in head
        stream.seek(0)
        return not any(chunk.strip(b"\0") for chunk in iter(lambda: stream.read(_CHUNK), b""))


def image_format(head: bytes) -> str | None:
    """The name of the image format that a file of these first bytes has, None for what is no image. Told by content."""
    return next((name for name, pattern in _IMAGES.items() if re.match(pattern, head, re.DOTALL)), None)


def describe_content(head: bytes) -> str:
    """What a file of these first bytes is, as `a JPEG image`, `a text file`."""
    if found := image_format(head):
        return _with_article(f"{found} image")
    for name, pattern in _OTHERS.items():
        if re.match(pattern, head, re.DOTALL):
            return _with_article(name)
    return "a text file" if _is_text(head) else "a file of another kind"


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AHMOSXi' else 'a'} {name}"  # as these names are spoken


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as problem:
        text = head[: problem.start].decode() if problem.start > len(head) - 4 else "\0"  # cut inside a character
    return all(char.isprintable() or char.isspace() for char in text)


def _read_mark(stream: BinaryIO) -> Mark | None:
    head = stream.read(HEAD_BYTES)
    remarks = _REMARKS.get(image_format(head) or "")
    if remarks is None and re.match(_PAGE, head) is None:
        return None
    try:
        for remark in remarks(stream) if remarks else [head]:
            if found := _MARK.search(remark):
                return Mark(found[1].decode(), (found[2] or b"").decode())  # type: ignore[arg-type]  # one of three
    except (struct.error, OverflowError, ValueError):  # a damaged file has no mark
        return None
    return None


def _png_remarks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(len(_PNG))
    for _ in range(_MAX_STEPS):
        length, name = struct.unpack(">I4s", stream.read(8))
        if name in (b"IDAT", b"IEND"):
            return
        after = stream.tell() + length + 4
        if name == b"tEXt":
            yield stream.read(min(length, _MAX_TEXT))
        stream.seek(after)


def _jpeg_remarks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(2)
    for _ in range(_MAX_STEPS):
        marker, length = struct.unpack(">2sH", stream.read(4))
        if marker[0] != 0xFF or marker in (b"\xff\xda", b"\xff\xd9") or length < 2:  # the pixels, the end, or damage
            return
        after = stream.tell() + length - 2
        if marker == b"\xff\xfe":
            yield stream.read(min(length - 2, _MAX_TEXT))
        stream.seek(after)


def _gif_remarks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(10)
    (flags,) = struct.unpack("B", stream.read(1))
    stream.seek(13 + (3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0))
    steps = iter(range(_MAX_STEPS))
    for _ in steps:
        introducer, label = struct.unpack("2B", stream.read(2))
        if introducer != 0x21:  # an image, or the end
            return
        body = b""
        for _ in steps:
            (length,) = struct.unpack("B", stream.read(1))
            if not length:
                break
            body = (body + stream.read(length))[:_MAX_TEXT]
        if label == 0xFE:
            yield body


def _webp_remarks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(12)
    for _ in range(_MAX_STEPS):
        name, length = struct.unpack("<4sI", stream.read(8))
        after = stream.tell() + length + length % 2
        if name == b"EXIF":
            yield stream.read(min(length, _MAX_TEXT))
        stream.seek(after)


def _tiff_remarks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(0)
    order = "<" if stream.read(2) == b"II" else ">"
    version, directory = struct.unpack(f"{order}HI", stream.read(6))
    if version != 42:
        return
    stream.seek(directory)
    (count,) = struct.unpack(f"{order}H", stream.read(2))
    for number in range(min(count, _MAX_STEPS)):
        stream.seek(directory + 2 + 12 * number)
        tag, _, length, offset = struct.unpack(f"{order}HHII", stream.read(12))
        if tag == _DESCRIPTION:
            stream.seek(offset)
            yield stream.read(min(length, _MAX_TEXT))


def _svg_remarks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(0)
    yield stream.read(_MAX_TEXT)


_REMARKS = {
    "PNG": _png_remarks,
    "JPEG": _jpeg_remarks,
    "GIF": _gif_remarks,
    "WebP": _webp_remarks,
    "TIFF": _tiff_remarks,
    "SVG": _svg_remarks,
}
