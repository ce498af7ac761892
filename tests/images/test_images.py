import bz2
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

import bad_images
from bad_images import encode, photo
from helpers import SAMPLE_IMAGES
from quadtok.errors import ImageError, InputError
from quadtok.images import (
    FORMATS,
    MAX_PIXELS,
    check_color,
    decode_image,
    fit_image,
    read_image,
)

PHOTOS = sorted(SAMPLE_IMAGES.glob("*.jpg"))
FITS = ["crop", "pad", "squash"]


def name(function):
    return getattr(function, "__name__", None)


def same(image, other):
    return image.size == other.size and np.array_equal(np.asarray(image), np.asarray(other))


def values(image):
    """The pixels as a list of (red, green, blue)."""
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def refusal(path, **options):
    """What `read_image` says of a file. In a thread, because a pipe that was opened would hold it for ever."""
    said = []

    def read():
        try:
            read_image(path, **options)
        except ImageError as problem:
            said.append(str(problem))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert said, f"{path.name} was read" if not thread.is_alive() else f"{path.name} is still being read"
    return said[0]


# Refused.


@pytest.mark.parametrize(("make", "reason"), bad_images.REFUSED.items(), ids=name)
def test_a_bad_file_is_refused_in_one_line_that_begins_with_its_path(make, reason, tmp_path):
    path = make(tmp_path)
    assert refusal(path) == f"{path}: {reason}"


def test_bombs_cost_neither_memory_nor_time_and_nothing_is_printed(tmp_path):
    noisy = (bad_images.tiff_with_too_many_samples, bad_images.tiff_with_damaged_lzw)
    files = [str(make(tmp_path)) for make in (*bad_images.BOMBS, *noisy)]
    script = """
import resource, sys, time
from quadtok.images import read_image
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
for path in sys.argv[1:]:
    try:
        read_image(path)
    except ValueError:
        continue
    raise SystemExit(path)
print(peak() - before, time.perf_counter() - start)
"""
    command = [sys.executable, "-c", script, *files]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    megabytes, seconds = map(float, ran.stdout.split())
    assert ran.stderr == ""
    assert megabytes < 50
    assert seconds < 3


def test_ghostscript_is_never_started(tmp_path):
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    assert "EPS" not in FORMATS
    code = "import sys; from quadtok.images import read_image; read_image(sys.argv[1])"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"  # in a process of its own: Pillow looks for it once
    command = [sys.executable, "-c", code, str(bad_images.eps(tmp_path))]
    ended = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
    assert "unsupported format" in ended.stderr
    assert not (tmp_path / "started").exists()


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    # The permission bits alone would not do: tests may run as root, who reads everything.
    def denied(path, flags):
        raise PermissionError(13, "Permission denied")

    path = bad_images.one_pixel(tmp_path)
    monkeypatch.setattr(os, "open", denied)
    assert refusal(path) == f"{path}: permission denied"


def test_a_file_that_vanishes_after_it_was_found_is_refused(tmp_path, monkeypatch):
    really_open = os.open

    def vanishing(path, flags):
        os.unlink(path)
        return really_open(path, flags)

    path = bad_images.one_pixel(tmp_path)
    monkeypatch.setattr(os, "open", vanishing)
    assert refusal(path) == f"{path}: no such file"


def test_a_truncated_image_is_never_filled_up_with_grey(tmp_path):
    data = encode(photo(), "JPEG")
    for length in range(len(data) - 1, 0, -37):
        with pytest.raises(ImageError, match=r"^x\.jpg: (truncated|broken|not a supported) image"):
            decode_image(data[:length], "x.jpg")


@pytest.mark.parametrize(
    "foreign", [SystemError("tile cannot\nextend"), AssertionError(), KeyError("x"), MemoryError()]
)
def test_whatever_a_decoder_raises_becomes_an_image_error(foreign, monkeypatch):
    def broken_load(image):
        raise foreign

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", broken_load)
    with pytest.raises(ImageError, match=r"^x\.png: [^\n]+$") as caught:
        decode_image(encode(photo(), "PNG"), "x.png")
    assert caught.value.__cause__ is foreign
    if isinstance(foreign, SystemError):
        assert str(caught.value) == "x.png: cannot be decoded (SystemError: tile cannot extend)"


def test_a_file_of_one_frame_leaves_nothing_out():
    assert decode_image(encode(photo(), "PNG"), "x").left_out == 0


@pytest.mark.parametrize("image_format", FORMATS)
def test_random_damage_gives_an_image_error_or_an_image(image_format, capfd):
    options = {"compression": "tiff_lzw"} if image_format == "TIFF" else {}
    data = encode(photo(40, 30), image_format, **options)
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        damaged = bytearray(data)
        for at in generator.integers(0, len(data), generator.integers(1, 9)):
            damaged[at] = generator.integers(0, 256)
        damaged = damaged[: generator.integers(1, len(data))] if generator.random() < 0.3 else damaged
        try:
            read = decode_image(bytes(damaged), "x", max_pixels=100_000)
            outcomes.add((read.image.mode, read.image.width * read.image.height <= 100_000))
        except ImageError as problem:
            assert str(problem).startswith("x: ")
            assert "\n" not in str(problem)
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"refused", ("RGB", True)}
    assert capfd.readouterr().err == ""


# The limit on pixels.


@pytest.mark.parametrize("image_format", FORMATS)
def test_max_pixels_is_honoured_to_the_pixel(image_format):
    data = encode(photo(64, 48), image_format)
    assert decode_image(data, "x", max_pixels=3072).image.size == (64, 48)
    with pytest.raises(ImageError, match=r"^x: 3 072 pixels exceed max_pixels 3 071$"):
        decode_image(data, "x", max_pixels=3071)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("limit", [100, None])
def test_max_pixels_may_be_larger_than_pillows_own_limit_which_stays_as_it_was(image_format, limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert decode_image(encode(photo(64, 48), image_format), "x").image.size == (64, 48)
    with pytest.raises(ImageError, match="1 500 pixels exceed max_pixels 700"):
        decode_image(encode(photo(50, 30), image_format), "x", max_pixels=700)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_large_legal_image_is_accepted():
    data = encode(Image.new("1", (5000, 4000), 1), "PNG")
    assert len(data) < 20_000
    assert decode_image(data, "x").image.size == (5000, 4000)
    assert MAX_PIXELS == 89_478_485


# Kinds of pixels.


@pytest.mark.parametrize("make", [bad_images.png_without_its_end, bad_images.png_named_jpg], ids=name)
def test_pixels_that_are_complete_are_accepted_whatever_the_name_and_the_end(make, tmp_path):
    read = read_image(make(tmp_path))
    assert read.format == "PNG"
    assert same(read.image, photo())


def test_cmyk_is_converted(tmp_path):
    read = read_image(bad_images.cmyk_jpeg(tmp_path))
    assert (read.mode, read.image.mode) == ("CMYK", "RGB")
    difference = np.abs(np.asarray(read.image).astype(int) - np.asarray(photo()).astype(int))
    assert difference.mean() < 6  # JPEG at quality 95, with subsampled colours


@pytest.mark.parametrize(
    "make",
    [bad_images.gray16_png, bad_images.gray16_tiff, bad_images.gray16_big_endian_tiff, bad_images.gray16_pgm],
    ids=name,
)
def test_sixteen_bit_gray_is_scaled_and_not_clipped(make, tmp_path):
    read = read_image(make(tmp_path))
    assert read.mode.startswith("I")
    gray = [0, 1, 255, 128, 0, 0, 1, 254]  # of 0, 257, 65535, 32768, 1, 128, 129, 65278
    assert values(read.image) == [(level,) * 3 for level in gray]


@pytest.mark.parametrize(("background", "color"), [("white", (255,) * 3), ("#010A64", (1, 10, 100))])
@pytest.mark.parametrize(
    ("make", "opaque"),
    [
        (bad_images.rgba_png, (200, 100, 50)),
        (bad_images.la_png, (120, 120, 120)),
        (bad_images.palette_png_with_transparency, (200, 100, 50)),
        (bad_images.rgb_png_with_a_transparent_color, (200, 100, 50)),
        (bad_images.gray16_png_with_a_transparent_level, (120, 120, 120)),
    ],
    ids=name,
)
def test_transparency_is_composited_over_the_background(make, opaque, background, color, tmp_path):
    assert values(read_image(make(tmp_path), background=background).image) == [opaque, color]


def test_half_transparency_mixes():
    data = encode(Image.new("RGBA", (1, 1), (200, 100, 0, 51)), "PNG")  # an alpha of one fifth
    assert values(decode_image(data, "x", background="black").image) == [(40, 20, 0)]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_and_recorded(orientation, image_format, tmp_path):
    path = bad_images.with_orientation(tmp_path, orientation, image_format)
    upright, stored = read_image(path), read_image(path, exif=False)
    with Image.open(path) as opened:
        assert same(upright.image, ImageOps.exif_transpose(opened).convert("RGB"))
    assert (upright.orientation, stored.orientation) == (orientation, 1)
    assert upright.describe()["exif_orientation"] == orientation
    assert stored.image.size == photo().size
    assert same(stored.image, upright.image) == (orientation == 1)
    assert upright.notes == []


def test_an_orientation_that_is_no_integer_is_recorded_as_one():
    # One entry of type RATIONAL: 6/1.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\0\x1a\0\0\0\0\0\0\0\x06\0\0\0\x01"
    read = decode_image(encode(photo(), "JPEG", exif=exif), "x")
    assert json.loads(json.dumps(read.describe()))["exif_orientation"] == 6


@pytest.mark.parametrize("make", [bad_images.jpeg_with_corrupt_exif, bad_images.jpeg_with_cut_exif], ids=name)
def test_a_corrupt_exif_block_means_upright_with_a_note(make, tmp_path):
    read = read_image(make(tmp_path))
    assert (read.image.size, read.orientation) == (photo().size, 1)
    assert read.notes == ["unreadable EXIF block, taken as upright"]


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_is_taken_and_the_number_of_frames_recorded(image_format, tmp_path):
    read = read_image(bad_images.animated(tmp_path, image_format))
    assert (read.format, read.frames, read.describe()["frames"]) == (image_format, 3, 3)
    assert read.notes == ["first of 3 frames"]
    assert read.left_out == 2
    difference = np.abs(np.asarray(read.image).astype(int) - np.asarray(photo()).astype(int))
    assert difference.mean() < 15  # a GIF has 256 colours; the other frames differ by 60 and more


def test_a_file_is_described_in_json_values():
    path = PHOTOS[0]
    read = read_image(path)
    described = json.loads(json.dumps(read.describe()))
    assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["size"] == list(read.image.size)
    assert (described["format"], described["mode"], described["frames"]) == ("JPEG", "RGB", 1)


# Drafts: JPEGs decoded at a fraction of their size.


def jpeg_of(path, width, height, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        return encode(image.resize((width, height), Image.Resampling.BICUBIC), "JPEG", quality=90, exif=exif)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_draft_has_the_geometry_of_the_whole_and_nearly_its_pixels(orientation, fit):
    data = jpeg_of(PHOTOS[2], 1203, 807, orientation)  # neither side is a multiple of a divisor
    asked = []
    exact = decode_image(data, "x")
    drafted = decode_image(data, "x", draft=lambda *size: asked.append(size) or 4)
    assert exact.draft is None
    assert drafted.draft.divisor == 4
    assert asked == [exact.image.size[::-1]]
    assert sorted(drafted.image.size) == [202, 301]
    assert drafted.size == exact.size
    assert drafted.describe() == exact.describe()
    whole = fit_image(exact.image, 48, 72, fit)
    part = fit_image(drafted.image, 48, 72, fit, drafted.draft)
    assert part.crop_box == whole.crop_box
    difference = (part.pixels.int() - whole.pixels.int()).abs()
    assert difference.float().mean() < 0.5
    assert difference.max() <= 16
    # The box of the whole matters: the draft's last pixels stand for less than the others.
    stretched = fit_image(drafted.image, 48, 72, fit).pixels
    assert (stretched.int() - whole.pixels.int()).abs().float().mean() > difference.float().mean()


@pytest.mark.parametrize("image_format", FORMATS)
def test_only_a_jpeg_is_drafted(image_format):
    read = decode_image(encode(photo(333, 211), image_format), "x", draft=lambda height, width: 2)
    assert (read.draft is not None) == (image_format == "JPEG")
    assert read.size == (333, 211)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_are_drafted_too(mode):
    read = decode_image(encode(photo(333, 211).convert(mode), "JPEG"), "x", draft=lambda height, width: 8)
    assert (read.draft.divisor, read.mode, read.image.mode, read.image.size) == (8, mode, "RGB", (42, 27))


def test_the_pixel_limit_is_about_the_whole():
    data = encode(photo(64, 48), "JPEG")
    with pytest.raises(ImageError, match="3 072 pixels exceed max_pixels 3 071"):
        decode_image(data, "x", max_pixels=3071, draft=lambda height, width: 8)


# Colours.


@pytest.mark.parametrize("color", ["white", "#0aF", "#102030", "rgb(1, 2, 3)", "hsl(0, 100%, 50%)"])
def test_a_colour_is_handed_back(color):
    assert check_color(color) == color


@pytest.mark.parametrize("color", ["whitish", "#12", ""])
def test_what_is_no_colour_is_refused(color, tmp_path):
    with pytest.raises(InputError, match=f"^'{color}' is no colour: use a name such as white, or #RRGGBB$"):
        check_color(color)
    with pytest.raises(InputError, match="is no colour"):
        read_image(bad_images.one_pixel(tmp_path), background=color)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_archive_is_called_one(tmp_path, compress):
    (tmp_path / "photos.tar.gz").write_bytes(compress(bytes(10240)))
    with pytest.raises(
        ImageError, match=r"photos\.tar\.gz: a compressed file or archive, and no image: unpack it first"
    ):
        read_image(tmp_path / "photos.tar.gz")
