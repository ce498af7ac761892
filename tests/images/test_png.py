import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from image_scenes import PALETTE, RGB, off, scene
from image_writers import png, png_chunk
from quadtok.errors import ImageError
from quadtok.images import LAYOUTS, Layout, decode_image

COLOR_TYPES = {
    ("gray", False): 0,
    ("rgb", False): 2,
    ("palette", False): 3,
    ("gray", True): 4,
    ("rgb", True): 6,
}
ORANGE = (255, 128, 0)


def written(layout, *chunks, **options):
    samples, pixels = scene(layout, ORANGE)
    extra = list(chunks)
    if layout.color == "palette":
        extra.append(png_chunk(b"PLTE", PALETTE[: 2**layout.bits].astype(np.uint8).tobytes()))
    if layout.alpha == "key":
        chunk, pixels = transparent(layout, samples, pixels)
        extra.append(chunk)
    color_type = COLOR_TYPES[layout.color, layout.alpha == "straight"]
    return png(samples, layout.bits, color_type, *extra, **options), pixels


def transparent(layout, samples, pixels):
    key = samples[6, 10]
    if layout.color == "palette":
        alpha = bytes(255 if entry != key[0] else 51 for entry in range(key[0] + 1))
        _, pixels = scene(layout._replace(alpha="none"))
        mixed = np.where(samples == key, pixels * 0.2 + np.array(ORANGE) * 0.8, pixels)
        return png_chunk(b"tRNS", alpha), mixed
    return png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)), pixels


def shown(data, **options):
    return decode_image(data, "x.png", background="#ff8000", **options).image


@pytest.mark.parametrize("interlaced", [False, True], ids=["rows", "Adam7"])
@pytest.mark.parametrize("layout", sorted(LAYOUTS["PNG"]), ids=str)
def test_every_layout_is_read(layout, interlaced):
    data, pixels = written(layout, filters=(0, 1, 2, 3, 4), interlaced=interlaced)
    assert off(shown(data), pixels) <= 1


@pytest.mark.parametrize(("color", "bits"), [("gray", 1), ("gray", 2), ("gray", 4), ("gray", 8), ("rgb", 8)])
def test_bits_above_the_depth_do_not_belong_to_the_transparent_colour(color, bits):
    samples, pixels = scene(Layout(color, bits, "key"), ORANGE)
    key = [int(value) | 0xFF00 if bits == 8 else int(value) | (0xFFFF << bits) & 0xFFFF for value in samples[6, 10]]
    chunk = png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    assert off(shown(png(samples, bits, COLOR_TYPES[color, False], chunk)), pixels) <= 1


def test_a_transparent_colour_of_16_bits_is_compared_in_full():
    samples = np.array([[[1000, 2000, 3000], [1000, 2000, 3001], [1001, 2000, 3000]]])
    chunk = png_chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000))
    near = [[1000 / 257, 2000 / 257, 3000 / 257]]
    assert off(shown(png(samples, 16, 2, chunk)), np.array([[list(ORANGE), *near, *near]], float)) <= 1


# Metadata: not needed, and not in the way.

XMP = b"XML:com.adobe.xmp\0"


def itxt(text, keyword=XMP, compressed=True):
    return png_chunk(
        b"iTXt", keyword + bytes([compressed, 0]) + b"\0\0" + (zlib.compress(text) if compressed else text)
    )


def noise(length):
    return np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()


LARGE = {
    "compressed XMP": itxt(b"<x/>" + b" " * 3_000_000),
    "plain XMP": itxt(b"<x/>" + b" " * 3_000_000, compressed=False),
    "text": png_chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "compressed text": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)),
    "text that does not shrink": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(noise(3_000_000))),
    "profile": png_chunk(b"iCCP", b"p\0\0" + zlib.compress(noise(3_000_000))),
    "broken profile": png_chunk(b"iCCP", b"p\0\0" + noise(100)),
    "EXIF": png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0" + bytes(3_000_000)),
    "old EXIF": png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  9\n" + b"00" * 3_000_000)),
    "unknown": png_chunk(b"prVt", noise(3_000_000)),
    "many texts": b"".join(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) for _ in range(200)),
}


@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
@pytest.mark.parametrize("chunk", LARGE.values(), ids=list(LARGE))
def test_large_metadata_does_not_matter(chunk, place):
    layout = Layout("rgb", 8)
    data, pixels = written(layout, chunk) if place == "before the pixels" else written(layout, after=[chunk])
    assert off(shown(data), pixels) == 0


def exif(orientation):
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


TURNED = {
    "EXIF": png_chunk(b"eXIf", exif(6)),
    "EXIF among much": png_chunk(b"eXIf", exif(6) + bytes(3_000_000)),
    "XMP": itxt(b'<x tiff:Orientation="6"/>'),
    "plain XMP": itxt(b'<x tiff:Orientation="6"/>', compressed=False),
    "large XMP": itxt(b" " * 3_000_000 + b"<tiff:Orientation>6</tiff:Orientation>"),
    "XMP cut by a piece": itxt(b" " * (65_536 - 5) + b'tiff:Orientation="6"'),
    "old EXIF": png_chunk(
        b"zTXt",
        b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n  40\n{(b'Exif' + bytes(2) + exif(6)).hex()}".encode()),
    ),
    "EXIF and another XMP": png_chunk(b"eXIf", exif(6)) + itxt(b'<x tiff:Orientation="3"/>'),
}


@pytest.mark.parametrize("chunk", TURNED.values(), ids=list(TURNED))
def test_the_orientation_is_found_wherever_it_is(chunk):
    data, pixels = written(Layout("rgb", 8), chunk)
    read = decode_image(data, "x")
    assert (read.orientation, read.notes) == (6, [])
    assert off(read.image, np.rot90(pixels, -1)) == 0
    assert off(shown(data, exif=False), pixels) == 0


def test_another_text_does_not_turn_the_image():
    data, _ = written(Layout("rgb", 8), itxt(b'tiff:Orientation="6"', keyword=b"Comment\0"))
    assert decode_image(data, "x").orientation == 1


def test_a_metadata_bomb_is_not_inflated():
    inflated = zlib.compress(bytes(200_000_000))
    bombs = [itxt(bytes(200_000_000)), png_chunk(b"zTXt", b"Raw profile type exif\0\0" + inflated)]
    data, _ = written(Layout("rgb", 8), *bombs, png_chunk(b"iCCP", b"p\0\0" + inflated))
    tracemalloc.start()
    decode_image(data, "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def animation(default_is_a_frame):
    """Two frames of one colour, and in front of them a picture that is the first frame, or none."""
    height, width, _ = RGB.shape
    control = [struct.pack(">IIIIIHHBB", at, width, height, 0, 0, 1, 1, 0, 0) for at in (0, 1, 3)]
    flat = zlib.compress((b"\0" + bytes(3 * width)) * height)
    later = [png_chunk(b"fcTL", control[1]), png_chunk(b"fdAT", struct.pack(">I", 2) + flat)]
    if default_is_a_frame:
        before = [png_chunk(b"acTL", struct.pack(">II", 2, 0)), png_chunk(b"fcTL", control[0])]
    else:
        before = [png_chunk(b"acTL", struct.pack(">II", 1, 0))]
        later = [png_chunk(b"fcTL", control[0]), png_chunk(b"fdAT", struct.pack(">I", 1) + flat)]
    return png(RGB, 8, 2, *before, after=later)


@pytest.mark.parametrize("default_is_a_frame", [True, False])
def test_of_an_animation_the_picture_that_every_viewer_shows_is_taken(default_is_a_frame):
    read = decode_image(animation(default_is_a_frame), "x")
    assert off(read.image, RGB) == 0
    assert read.left_out == 1


def test_a_file_cut_anywhere_is_refused():
    data, pixels = written(Layout("rgb", 8), TURNED["XMP"])
    for length in range(len(data)):
        try:
            read = decode_image(data[:length], "x")
        except ImageError:
            continue
        assert length > data.index(b"IDAT")
        assert off(read.image, np.rot90(pixels, -1)) == 0
