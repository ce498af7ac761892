import struct

import numpy as np
import pytest

from image_scenes import GRAY, HEIGHT, RGB, WIDTH, off
from image_writers import packed
from quadtok.errors import ImageError
from quadtok.images import decode_image

MAXIMA = [1, 2, 3, 15, 100, 254, 255, 256, 1000, 4095, 65534, 65535]


def shown(data):
    return decode_image(data, "x.ppm").image


@pytest.mark.parametrize("plain", [False, True], ids=["binary", "plain"])
@pytest.mark.parametrize("most", MAXIMA)
@pytest.mark.parametrize("samples", [GRAY, RGB], ids=["PGM", "PPM"])
def test_every_maximum_is_read(samples, most, plain):
    stored = np.round(samples / 255 * most).astype(int)
    kind = {(1, False): 5, (1, True): 2, (3, False): 6, (3, True): 3}[samples.shape[2], plain]
    head = f"P{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{most}\n".encode()
    binary = stored.astype(">u2" if most > 255 else np.uint8).tobytes()
    text = "\n".join(" ".join(map(str, row.reshape(-1))) for row in stored).encode()
    pixels = np.broadcast_to(stored / most * 255, RGB.shape)
    assert off(shown(head + (text if plain else binary)), pixels) <= 1


@pytest.mark.parametrize("plain", [False, True], ids=["binary", "plain"])
def test_bits_are_read(plain):
    ink = GRAY % 2
    head = f"P{1 if plain else 4} {WIDTH} {HEIGHT}\n".encode()
    text = "\n".join("".join(map(str, row.reshape(-1))) for row in ink).encode()
    pixels = np.broadcast_to(255.0 * (1 - ink), RGB.shape)
    assert off(shown(head + (text if plain else b"".join(packed(ink, 1)))), pixels) == 0


REFUSED = {
    "a PFM image (32-bit floating-point numbers)": b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0, 1),
    "P7 images": b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n\0\xff",
    "P0CMYK images": b"P0CMYK\n1 1\n255\n" + bytes(4),
    "PyRGBA images": b"PyRGBA\n1 1\n255\n" + bytes(4),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_relatives_are_refused_by_name(reason):
    with pytest.raises(ImageError) as caught:
        shown(REFUSED[reason])
    assert str(caught.value) == f"x.ppm: {reason} is not supported: convert it to 8-bit RGB"
