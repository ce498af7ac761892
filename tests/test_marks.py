"""Marks are found in what quadtok writes, in no other file, and without reading more than a little of it."""

import io
import struct

import pytest
from PIL import Image

from helpers import SAMPLE_IMAGES
from quadtok.marks import Mark, describe_content, image_format, is_passed_over, mark_of_file, read_mark
from quadtok.names import ANIMATION_SUFFIXES, PICTURE_SUFFIXES
from quadtok.pictures.encode import encode_animation, encode_picture

PICTURE = Image.effect_noise((40, 24), 80).convert("RGB")
MARKS = [
    Mark("picture of a plan"),
    Mark("picture of a plan", "0123456789abcdef" * 4),
    Mark("restored image"),
    Mark("importance map", "0123456789abcdef" * 4),
    Mark("plot"),
]
PILLOW = {".png": "PNG", ".jpg": "JPEG", ".gif": "GIF", ".webp": "WEBP", ".tif": "TIFF", ".bmp": "BMP"}


def encoded(suffix, **options):
    buffer = io.BytesIO()
    PICTURE.save(buffer, PILLOW[suffix], **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mark", MARKS, ids=str)
@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_every_format_that_is_written_holds_the_mark(suffix, mark, tmp_path):
    data = encode_picture(PICTURE, suffix, mark)
    assert read_mark(data) == mark
    (tmp_path / "x").write_bytes(data)
    assert mark_of_file(tmp_path / "x") == mark


@pytest.mark.parametrize("suffix", ANIMATION_SUFFIXES)
def test_animations_hold_the_mark(suffix):
    frames = [PICTURE, PICTURE.rotate(90), PICTURE.rotate(180)]
    assert is_passed_over(read_mark(encode_animation(frames, suffix)))


def test_restored_images_are_pictures_as_others_are():
    assert [mark.kind for mark in MARKS if not is_passed_over(mark)] == ["restored image"]
    assert not is_passed_over(None)


@pytest.mark.parametrize("suffix", PILLOW)
def test_photographs_have_no_mark(suffix):
    assert read_mark(encoded(suffix)) is None


@pytest.mark.parametrize("name", ["coffee", "rocket", "chelsea"])
def test_the_samples_have_no_mark(name):
    assert mark_of_file(SAMPLE_IMAGES / f"{name}.jpg") is None


def test_a_remark_of_somebody_else_is_no_mark():
    assert read_mark(encoded(".jpg", comment="drawn with quadtok")) is None
    assert read_mark(encoded(".gif", comment="made by quadtok")) is None


@pytest.mark.parametrize("text", ["not {}", "{} of mine", "{}, fingerprint 12", "see\n{}\nabove"])
@pytest.mark.parametrize("suffix", [".jpg", ".gif", ".tif"])
def test_a_remark_that_only_speaks_of_a_mark_is_none(suffix, text):
    said = text.format(Mark("picture of a plan"))
    remark = {"tiffinfo": {270: said}} if suffix == ".tif" else {"comment": said}
    assert read_mark(encoded(suffix, **remark)) is None


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_damage_is_no_error(suffix):
    data = encode_picture(PICTURE, suffix)
    for length in range(0, min(len(data), 600), 7):
        read_mark(data[:length])
        read_mark(data[:length] + bytes(100))
        read_mark(data[:length] + b"\xff" * 100)


def test_what_cannot_be_read_has_no_mark(tmp_path):
    assert mark_of_file(tmp_path / "gone.png") is None
    assert mark_of_file(tmp_path) is None
    (tmp_path / "empty.png").touch()
    assert mark_of_file(tmp_path / "empty.png") is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 0xFFFFFFFF, b"tEXt") + bytes(9000),
        b"\x89PNG\r\n\x1a\n" + (struct.pack(">I4s", 0, b"abCd") + bytes(4)) * 200_000,
        b"\xff\xd8\xff\xe0\0\2" + b"\xff\xe0\0\2" * 200_000,
        b"\xff\xd8" + b"\xff\xfe\0\0" * 200_000,
        b"\xff\xd8\xff\xfe\0\1" + bytes(9000) + b"made by quadtok: plot",
        b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\x01a" * 2_000_000,
        b"RIFF\0\0\0\0WEBP" + b"EXIF\0\0\0\0" * 200_000,
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + struct.pack("<HHII", 270, 2, 1 << 31, 0) * 65535,
    ],
    ids=[
        "huge chunk",
        "many chunks",
        "many segments",
        "backwards",
        "no length",
        "long comment",
        "many blocks",
        "many tags",
    ],
)
def test_endless_headers_are_given_up(data, tmp_path):
    """Some would take minutes."""
    path = tmp_path / "x"
    path.write_bytes(data)
    assert read_mark(data) is None
    assert mark_of_file(path) is None


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"RIFF\x10\x20\0\0WEBPVP8 ", "a WebP image"),
        (b"MM\0*\0\0\0\x08", "a TIFF image"),
        (b"BM\x36\0\0\0\0\0\0\0", "a BMP image"),
        (b"\0\0\0\x1cftypavif", "an AVIF or HEIF image"),
        (b"P6\n# by hand\n", "a PNM image"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "an SVG image"),
        (b"8BPS\0\1", "a Photoshop image"),
        (b"II\x1a\0\0\0HEAPCCDR", "a raw camera image"),
        (b"IIRS\x08\0", "a raw camera image"),
        (b"FOVb\0\0\2\0", "a raw camera image"),
        (b"\0MRM\0\1", "a raw camera image"),
        (b"\0\0\0\x18ftypavio", "an AVIF or HEIF image"),
        (b"BM\x46\0\0\0\1\0\2\0\x36\0\0\0\x28\0\0\0", "a BMP image"),
        (b"\0\0\1\0\x64\0\x10\x10\0\0\1\0", "an icon image"),
        (b"icns\0\0\1\0", "an icon image"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg>", "an SVG image"),
        (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'a' 'b' [\n<!ENTITY a 'b'>\n]>\n<svg>", "an SVG image"),
        (b"<svg:svg xmlns:svg='x'>", "an SVG image"),
        (b"II\xbc\x01", "a JPEG XR image"),
        (b"gimp xcf v011\0", "a GIMP image"),
        (b"SIMPLE  =                    T", "a FITS image"),
        (b"\0" * 128 + b"DICM", "a DICOM image"),
        (b"XPDS\0\0", "a DPX image"),
        (b"\x01\xda\x01\x01\0\x03", "an SGI image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript image"),
        (b"AT&TFORM", "a DjVu image"),
        (b"\x8aMNG\r\n\x1a\n", "an MNG image"),
        (b"\xabKTX 20\xbb\r\n", "a KTX image"),
        (b"\x01\0\0\0" + b"\0" * 36 + b" EMF", "a metafile image"),
        (b"\0" * 512, "a file of another kind"),
        (b"PK\3\4", "a zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page"),
        (b"precious", "a text file"),
        ("naïve".encode()[:3], "a text file"),
        (b"BM is how this note begins", "a text file"),
        (b"P5 would be a note", "a text file"),
        (b"\x7fELF\2\1\1\0", "a file of another kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_file_is_is_told_by_its_content(head, told):
    assert describe_content(head) == told
    assert (image_format(head) is not None) == told.endswith(" image")
