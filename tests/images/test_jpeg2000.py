"""JPEG 2000 codestreams of imagecodecs, in boxes that are written here."""

import struct
import sys

import numpy as np
import pytest

from image_scenes import GRAY, HEIGHT, PALETTE, RGB, WIDTH, off, scene
from image_writers import box, channel_definitions, jp2
from quadtok.errors import ImageError
from quadtok.images import LAYOUTS, Layout, decode_image

imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs writes the codestreams")

SPACES = {"cmyk": 12, "rgb": 16, "gray": 17, "ycbcr": 18, "palette": 16}
OPACITY = {"straight": 1, "premultiplied": 2}
ORANGE = (255, 128, 0)
ROUGH = {"ycbcr": 4}


def codestream(samples, bits, **options):
    array = np.ascontiguousarray(samples.astype(np.uint8 if bits <= 8 else np.uint16))
    array = array[..., 0] if array.shape[2] == 1 else array
    return bytes(imagecodecs.jpeg2k_encode(array, level=0, bitspersample=bits, codecformat="j2k", **options))


def written(layout, *boxes):
    samples, pixels = scene(layout, ORANGE)
    channels = samples.shape[2]
    inside = list(boxes)
    if layout.alpha in OPACITY:
        roles = [(channel, 0, channel + 1) for channel in range(channels - 1)]
        inside.append(channel_definitions(*roles, (channels - 1, OPACITY[layout.alpha], 0)))
    if layout.color == "palette":
        inside += palette_boxes()
    data = codestream(samples, layout.bits)
    return jp2(data, WIDTH, HEIGHT, channels, layout.bits, SPACES[layout.color], *inside), pixels


def palette_boxes(depth=8, columns=3):
    entries = struct.pack(">HB", 256, columns) + bytes([depth - 1] * columns)
    colors = np.dstack([PALETTE[None], PALETTE[None]])[0, :, :columns].astype(np.uint8 if depth == 8 else ">u2")
    mapping = b"".join(struct.pack(">HBB", 0, 1, column) for column in range(columns))
    return [box(b"pclr", entries + colors.tobytes()), box(b"cmap", mapping)]


def shown(data):
    return decode_image(data, "x.jp2", background="#ff8000").image


def refusal(data):
    with pytest.raises(ImageError, match=r"^x\.jp2: ") as caught:
        decode_image(data, "x.jp2")
    return str(caught.value).removeprefix("x.jp2: ")


@pytest.mark.parametrize("layout", sorted(LAYOUTS["JPEG2000"]), ids=str)
def test_every_layout_is_read(layout):
    data, pixels = written(layout)
    assert off(shown(data), pixels) <= ROUGH.get(layout.color, 1)


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_a_bare_codestream_is_read(color, bits):
    samples, pixels = scene(Layout(color, bits))
    assert off(shown(codestream(samples, bits)), pixels) <= 1


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_black_and_white_stay_so_whatever_the_depth(bits):
    samples = np.zeros((16, 16, 3), int)
    samples[8:] = 2**bits - 1
    assert off(shown(codestream(samples, bits)), samples / (2**bits - 1) * 255) == 0


def test_without_the_extra_deep_colours_are_refused_and_the_sentence_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    said = refusal(written(Layout("rgb", 12))[0])
    hint = "convert it to 8 bits, or pip install 'quadtok[formats]', which reads it"
    assert said == f"JPEG 2000: 12-bit RGB is not supported: {hint}"
    assert off(shown(written(Layout("gray", 12))[0]), scene(Layout("gray", 12))[1]) <= 1


def with_component(data, number, depth=None, step=None):
    """The codestream's header changed: (bits − 1, or 0x80 more for signed) or the step of a component."""
    at = data.index(b"\xff\x4f\xff\x51") + 42 + 3 * number
    changed = bytearray(data)
    if depth is not None:
        changed[at] = depth
    if step is not None:
        changed[at + 1 : at + 3] = bytes(step)
    return bytes(changed)


def of_rgb(*boxes, space=16):
    return jp2(codestream(RGB, 8), WIDTH, HEIGHT, 3, 8, space, *boxes)


FOUR = np.dstack([RGB, GRAY])
PROFILE = struct.pack(">BBB", 2, 0, 0) + bytes(16) + b"Lab XYZ " + bytes(104)
REFUSED = {
    "JPEG 2000 with signed samples": with_component(of_rgb(), 0, depth=0x87),
    "JPEG 2000 with channels of 8, 5, 8 bits": with_component(of_rgb(), 1, depth=4),
    "JPEG 2000 with subsampled channels": with_component(of_rgb(), 2, step=(2, 2)),
    "JPEG 2000 in colour space 14": of_rgb(space=14),
    "JPEG 2000 in the colour space of its profile": of_rgb(space=box(b"colr", PROFILE)),
    "JPEG 2000 with channels in another order": of_rgb(channel_definitions((0, 0, 3), (1, 0, 2), (2, 0, 1))),
    "JPEG 2000 that does not say what its last channel is": codestream(FOUR, 8),
    "JPEG 2000 with 5 channels": codestream(np.dstack([FOUR, GRAY]), 8),
    "JPEG 2000 with 4 channels as 8-bit gray": jp2(codestream(FOUR, 8), WIDTH, HEIGHT, 4, 8, 17),
    "JPEG 2000: 12-bit CMYK": jp2(codestream(FOUR, 12), WIDTH, HEIGHT, 4, 12, 12),
    "JPEG 2000 with a palette other than of 8-bit RGB": jp2(
        codestream(GRAY, 8), WIDTH, HEIGHT, 1, 8, 16, *palette_boxes(columns=4)
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_read_is_refused_with_the_reason(reason):
    assert refusal(REFUSED[reason]).startswith(f"{reason} is not supported: ")


def test_a_header_that_contradicts_the_codestream_is_refused():
    assert refusal(jp2(codestream(RGB, 8), WIDTH, HEIGHT, 1, 8, 17)) == "broken image data"


def test_a_palette_in_another_order_is_refused():
    table, _ = palette_boxes()
    mapping = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, column) for column in (2, 1, 0)))
    said = refusal(jp2(codestream(GRAY, 8), WIDTH, HEIGHT, 1, 8, 16, table, mapping))
    assert said.startswith("JPEG 2000 with a palette other than of 8-bit RGB is not supported")


@pytest.mark.parametrize("layout", [Layout("rgb", 8), Layout("rgb", 12), Layout("gray", 16)], ids=str)
def test_a_file_cut_anywhere_is_refused(layout):
    for data in (written(layout)[0], codestream(scene(layout)[0], layout.bits)):
        for length in range(1, len(data)):
            with pytest.raises(ImageError, match=r"^x: (truncated|broken|not a supported) image"):
                decode_image(data[:length], "x")


@pytest.mark.parametrize("layout", [Layout("rgb", 8, "straight"), Layout("rgb", 12), Layout("gray", 16)], ids=str)
def test_damage_is_an_image_error_or_an_image(layout):
    data, _ = written(layout)
    generator = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for at in generator.integers(0, len(data), 2):
            damaged[at] = generator.integers(256)
        try:
            assert decode_image(bytes(damaged), "x", max_pixels=100_000).image.mode == "RGB"
        except ImageError as problem:
            assert str(problem).startswith("x: ")
