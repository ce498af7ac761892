"""JPEG, WebP and AVIF, written by imagecodecs: the formats of which Pillow says how the samples are to be read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from image_scenes import GRAY, RGB, off
from quadtok.errors import ImageError
from quadtok.images import decode_image

imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs writes the files")

FLAT = np.kron(RGB[::6, ::7], np.ones((16, 16, 1), int)).astype(np.uint8)  # one colour in each block
FLAT_GRAY = FLAT[..., 0]
ALPHA = np.kron(np.array([[255, 51, 0], [0, 255, 51], [51, 0, 255]]), np.ones((16, 16), int)).astype(np.uint8)


def shown(data, **options):
    return decode_image(data, "x", **options).image


def in_gray(values):
    return np.repeat(values[..., None], 3, axis=-1).astype(float)


def jpeg(array, **options):
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(array), level=100, **options))


@pytest.mark.parametrize("stored", ["RGB", "YCBCR"])
@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_a_jpeg_in_rgb_or_ycbcr_is_read(stored, subsampling):
    data = jpeg(FLAT, colorspace="RGB", outcolorspace=stored, subsampling=subsampling)
    assert np.abs(np.asarray(shown(data)).astype(int) - FLAT).mean() < (1 if subsampling == "444" else 4)


@pytest.mark.parametrize("stored", ["CMYK", "YCCK"])
def test_a_jpeg_of_inks_is_read_as_adobe_writes_it(stored):
    ink = np.dstack([255 - FLAT, np.full_like(FLAT_GRAY, 40)])
    data = jpeg(255 - ink, colorspace="CMYK", outcolorspace=stored)  # Adobe's are inverted
    pixels = FLAT * (215 / 255)
    if stored == "CMYK":
        assert off(shown(data), pixels) <= 1
    else:  # with subsampled colours
        assert np.abs(np.asarray(shown(data)) - pixels).mean() < 4


def test_a_jpeg_of_inks_without_adobes_mark_could_be_either():
    data = jpeg(np.dstack([FLAT, FLAT_GRAY]), colorspace="CMYK", outcolorspace="CMYK")
    mark = data.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", data, mark + 2)
    with pytest.raises(ImageError, match=r"a CMYK JPEG that does not say whether its inks are inverted .* not supp"):
        shown(data[:mark] + data[mark + 2 + length :])


def test_a_gray_jpeg_is_read():
    assert off(shown(jpeg(FLAT_GRAY)), in_gray(FLAT_GRAY)) <= 1


@pytest.mark.parametrize("array", [RGB.astype(np.uint8), GRAY[..., 0].astype(np.uint8)], ids=["RGB", "gray"])
def test_a_lossless_jpeg_is_read_or_refused_by_name(array):
    try:
        image = shown(jpeg(array, lossless=True))
    except ImageError as problem:  # depends on Pillow's libjpeg
        assert str(problem) == "x: lossless JPEG is not supported: convert it to 8-bit RGB"
    else:
        assert off(image, array.astype(float) if array.ndim == 3 else in_gray(array)) <= 1


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_of_more_than_8_bits_is_refused_by_name(bits):
    deep = GRAY[..., 0].astype(np.uint16) * 16
    data = imagecodecs.jpeg_encode(deep, bitspersample=12) if bits == 12 else imagecodecs.ljpeg_encode(deep)
    with pytest.raises(ImageError, match=rf"^x: JPEG of {bits} bits is not supported: convert it to 8-bit RGB$"):
        shown(bytes(data))


def webp(array, **options):
    return bytes(imagecodecs.webp_encode(np.ascontiguousarray(array), **options))


def test_webp_is_read():
    assert off(shown(webp(FLAT, lossless=True)), FLAT.astype(float)) == 0
    clear = np.dstack([FLAT, ALPHA])
    assert off(shown(webp(clear, lossless=True), background="black"), FLAT * (ALPHA / 255)[..., None]) <= 1


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("alpha", [False, True], ids=["", "alpha"])
def test_avif_of_every_depth_is_read(bits, alpha):
    most = 2**bits - 1
    array = np.dstack([FLAT, ALPHA]) if alpha else FLAT
    deep = np.round(array / 255 * most).astype(np.uint8 if bits == 8 else np.uint16)
    data = bytes(imagecodecs.avif_encode(deep, level=100, bitspersample=bits, pixelformat="444"))
    pixels = FLAT * (ALPHA / 255)[..., None] if alpha else FLAT.astype(float)
    assert off(shown(data, background="black"), pixels) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once(orientation):
    """Pillow writes the orientation twice: as a property of the image, and as EXIF."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(FLAT).save(buffer, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    turned = FLAT.swapaxes(0, 1) if orientation >= 5 else FLAT
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    assert off(shown(buffer.getvalue()), turned[:: -1 if rows else 1, :: -1 if columns else 1].astype(float)) <= 2


def with_crop(data, width, height):
    """An AVIF of which only a part is to be shown: a box more among the properties, and all sizes around it grown."""
    crop = struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    changed = bytearray(data)
    for kind in (b"meta", b"iprp", b"ipco"):
        at = data.index(kind) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", data, at)[0] + len(crop))
    pixels = struct.pack(">I", data.index(b"mdat") + 4)  # as the item's location names them
    place = data.index(pixels, data.index(b"iloc"))
    struct.pack_into(">I", changed, place, data.index(b"mdat") + 4 + len(crop))
    properties = data.index(b"ipco") - 4
    end = properties + struct.unpack_from(">I", data, properties)[0]
    return bytes(changed[:end]) + crop + bytes(changed[end:])


def test_avif_that_shows_a_part_of_what_it_stores_is_refused_by_name():
    data = bytes(imagecodecs.avif_encode(FLAT, level=100, pixelformat="444"))
    assert off(shown(with_crop(data, *FLAT.shape[1::-1])), FLAT.astype(float)) <= 1
    with pytest.raises(ImageError, match=r"^x: AVIF that shows a part of what it stores \(property clap\) is not supp"):
        shown(with_crop(data, 32, 16))


def test_of_an_mpo_the_first_picture_is_taken_and_the_others_are_counted():
    buffer = io.BytesIO()
    later = [Image.fromarray(255 - FLAT)] * 2
    Image.fromarray(FLAT).save(buffer, "MPO", save_all=True, append_images=later, quality=100)
    read = decode_image(buffer.getvalue(), "x")
    assert np.abs(np.asarray(read.image).astype(int) - FLAT).mean() < 4
    assert (read.format, read.left_out) == ("MPO", 2)
