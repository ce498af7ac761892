import numpy as np
import pytest

from image_scenes import PALETTE, RGB, off
from image_writers import bmp, packed
from quadtok.errors import ImageError
from quadtok.images import decode_image

HEIGHT, WIDTH = 6, 10
ROWS, COLS = np.mgrid[:HEIGHT, :WIDTH]
COLOR = RGB[:HEIGHT, :WIDTH]

PALETTES = {
    "colours": lambda colors: PALETTE[:colors],
    "all grays": lambda colors: np.repeat(np.linspace(0, 255, colors).astype(int)[:, None], 3, 1),
    "dark grays": lambda colors: np.repeat(np.arange(colors)[:, None], 3, 1),  # what Pillow takes for samples
    "black and white": lambda colors: np.array([[0, 0, 0], [255, 255, 255]] * colors)[:colors],
    "white and black": lambda colors: np.array([[255, 255, 255], [0, 0, 0]] * colors)[:colors],
}


def shown(data, **options):
    return decode_image(data, "x.bmp", **options).image


@pytest.mark.parametrize("colors", ["two", "all"])
@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("header", [12, 40, 108, 124])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_every_palette_is_read(bits, header, palette, colors):
    count = 2 if colors == "two" and header != 12 else 1 << bits
    table = PALETTES[palette](count)
    stored = (COLS + 3 * ROWS)[..., None] % count
    data = bmp(packed(stored, bits)[::-1], WIDTH, HEIGHT, bits, palette=table.tolist(), header=header)
    assert off(shown(data), table[stored[..., 0]].astype(float)) == 0


@pytest.mark.parametrize("colors", [1, 2, 3, 16, 256])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_palette_may_have_any_number_of_grays(bits, colors):
    table = np.repeat(np.arange(colors)[:, None], 3, 1)
    stored = (COLS + 3 * ROWS)[..., None] % min(colors, 1 << bits)
    data = bmp(packed(stored, bits)[::-1], WIDTH, HEIGHT, bits, palette=table.tolist())
    assert off(shown(data), table[stored[..., 0]].astype(float)) == 0


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("bits", [4, 8])
def test_every_palette_is_read_where_runs_are_compressed(bits, palette):
    table = PALETTES[palette](1 << bits)
    stored = np.repeat((ROWS[:, :1] * 2 + np.arange(5)) % (1 << bits), 2, axis=1)
    rows = [b"".join(bytes([2, value * (17 if bits == 4 else 1)]) for value in row[::2]) + b"\0\0" for row in stored]
    data = bmp([*rows[::-1], b"\0\1"], WIDTH, HEIGHT, bits, palette=table.tolist(), compression=1 if bits == 8 else 2)
    assert off(shown(data), table[stored].astype(float)) == 0


def words(values, letter):
    return [np.array(row, f"<{letter}").tobytes() for row in values[::-1]]


def fields(pixels, widths, shifts):
    """Channels of some bits each, at their places in a word; and the pixels that they stand for."""
    stored = [np.round(pixels[..., at] / 255 * (2**width - 1)).astype(int) for at, width in enumerate(widths)]
    seen = np.stack([value / (2**width - 1) * 255 for value, width in zip(stored, widths, strict=True)], axis=-1)
    return sum(value << shift for value, shift in zip(stored, shifts, strict=True)), seen


def masks(widths, shifts):
    return np.array([(2**width - 1) << shift for width, shift in zip(widths, shifts, strict=True)], "<u4").tobytes()


@pytest.mark.parametrize("top_down", [False, True])
def test_24_bits_are_read_from_below_or_from_above(top_down):
    rows = packed(COLOR[..., ::-1], 8)
    data = bmp(rows if top_down else rows[::-1], WIDTH, HEIGHT, 24, top_down=top_down)
    assert off(shown(data), COLOR.astype(float)) == 0


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(("widths", "shifts"), [((5, 6, 5), (11, 5, 0)), ((5, 5, 5), (10, 5, 0))], ids=str)
def test_16_bits_are_read(widths, shifts, header):
    stored, seen = fields(COLOR, widths, shifts)
    data = bmp(words(stored, "u2"), WIDTH, HEIGHT, 16, compression=3, masks=masks(widths, shifts), header=header)
    assert off(shown(data), seen) <= 1
    if widths == (5, 5, 5):
        assert off(shown(bmp(words(stored, "u2"), WIDTH, HEIGHT, 16)), seen) <= 1


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("shifts", [(16, 8, 0), (24, 16, 8), (24, 8, 0)], ids=str)
def test_32_bits_are_read(shifts, header):
    stored, seen = fields(COLOR, (8, 8, 8), shifts)
    table = masks((8, 8, 8), shifts)
    data = bmp(words(stored, "u4"), WIDTH, HEIGHT, 32, compression=3, masks=table, header=header)
    assert off(shown(data), seen) == 0


def test_the_fourth_byte_of_plain_32_bits_is_no_alpha():
    stored, seen = fields(COLOR, (8, 8, 8), (16, 8, 0))
    assert off(shown(bmp(words(stored, "u4"), WIDTH, HEIGHT, 32)), seen) == 0


@pytest.mark.parametrize("shifts", [(16, 8, 0, 24), (0, 8, 16, 24), (24, 16, 8, 0)], ids=str)
def test_alpha_is_composited(shifts):
    alpha = np.where((ROWS + COLS) % 2, 255, 51)
    stored, seen = fields(np.dstack([COLOR, alpha]), (8, 8, 8, 8), shifts)
    table = masks((8, 8, 8, 8), shifts)
    data = bmp(words(stored, "u4"), WIDTH, HEIGHT, 32, compression=3, masks=table, header=124)
    opaque = alpha[..., None] / 255
    assert off(shown(data, background="black"), seen[..., :3] * opaque) <= 1


REFUSED = {
    "BMP of 2 bits a pixel": bmp(packed(COLS[..., None] % 4, 2), WIDTH, HEIGHT, 2, palette=PALETTE[:4].tolist()),
    "BMP of 64 bits a pixel": bmp([bytes(8 * WIDTH)] * HEIGHT, WIDTH, HEIGHT, 64),
    "BMP with JPEG compression": bmp([b"\xff\xd8\xff"], WIDTH, HEIGHT, 24, compression=4),
    "BMP with bit fields 0xf00, 0xf0, 0xf": bmp(
        [bytes(2 * WIDTH)] * HEIGHT, WIDTH, HEIGHT, 16, compression=3, masks=masks((4, 4, 4), (8, 4, 0))
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_read_is_refused_with_the_reason(reason):
    with pytest.raises(ImageError, match=rf"^x\.bmp: {reason} is not supported: convert it to 8-bit RGB$"):
        shown(REFUSED[reason])
