"""Sound files to damage: small images of every format and layout, and token files of every dtype.

Each is a function of the code below. Guests (tifffile, imagecodecs) add more where they are installed.
"""

import importlib.util
import struct
import tempfile
import zlib
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, features

import bad_images
from bad_images import encode, photo, png_chunk, png_header

SIDE = (19, 14)  # width, height of every seed, before it is turned
LARGEST = 20_000  # bytes: larger seeds cost time and hit the interesting fields more rarely


def image_seeds():
    """{name: bytes}, the same in every process."""
    seeds = {**_pillow(), **_png(), **_ppm(), **_guests(), **_odd()}
    return {name: data for name, data in seeds.items() if len(data) <= LARGEST}


def _modes():
    rgb = photo(*SIDE)
    alpha = Image.radial_gradient("L").resize(SIDE)
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    sixteen = Image.fromarray(np.arange(SIDE[0] * SIDE[1], dtype=np.uint16).reshape(SIDE[::-1]) * 200)
    return {
        "1": rgb.convert("1"),
        "L": rgb.convert("L"),
        "LA": rgba.convert("LA"),
        "P": rgb.quantize(12),
        "PA": rgba.quantize(12),
        "RGB": rgb,
        "RGBA": rgba,
        "CMYK": rgb.convert("CMYK"),
        "YCbCr": rgb.convert("YCbCr"),
        "LAB": Image.merge("LAB", rgb.split()),
        "I;16": sixteen,
        "F": rgb.convert("F"),
    }


def _pillow():
    """What Pillow writes: each mode that a format takes, and the options that change the bytes' order."""
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    tiff = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]
    two = {"save_all": True, "append_images": [photo(*SIDE, seed=1)]}
    ways = {
        "JPEG": [{}, {"progressive": True, "subsampling": 0}, {"exif": turned}, {"restart_marker_blocks": 1}],
        "PNG": [{}, {"exif": turned}, {"transparency": 3}, two],
        "TIFF": [*({"compression": name} for name in tiff), {"exif": turned}, two],
        "WEBP": [{}, {"lossless": True}, {"exif": turned}, two],
        "GIF": [{}, {"transparency": 1}, two],
        "BMP": [{}],
        "PPM": [{}],
        "JPEG2000": [{}, {"no_jp2": True}, {"irreversible": True}, {"tile_size": (8, 8)}],
        "AVIF": [{}, {"exif": turned}, two] if features.check("avif") else [],
        "MPO": [two],
    }
    modes, seeds = _modes(), {}
    for image_format, options in ways.items():
        for number, option in enumerate(options):
            for mode in modes if number == 0 or image_format == "TIFF" else ("RGB", "P"):
                try:
                    seeds[f"{image_format}-{mode}-{number}"] = encode(modes[mode].copy(), image_format, **option)
                except Exception:  # not in this format, which encoders say in many ways
                    continue
    # libtiff complains on stderr where these do not fit.
    seeds["TIFF-group4"] = encode(modes["1"], "TIFF", compression="group4")
    for mode in ("L", "RGB", "CMYK"):
        seeds[f"TIFF-jpeg-{mode}"] = encode(modes[mode], "TIFF", compression="jpeg")
    return seeds


def _png():
    """By hand: the depths, colour keys and the interlacing that Pillow does not write."""
    width, height = SIDE
    seeds = {}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    keys = {0: bytes(2), 2: bytes(6), 3: bytes([0, 128])}
    for color, of_color in depths.items():
        for depth in of_color:
            row = bytes(value % 251 for value in range(-(-width * channels[color] * depth // 8)))
            palette = png_chunk(b"PLTE", bytes(range(3 << depth & 255)) or bytes(768)) if color == 3 else b""
            key = png_chunk(b"tRNS", keys[color]) if color in keys else b""
            pixels = png_chunk(b"IDAT", zlib.compress((b"\x01" + row) * height))
            head = png_header(width, height, depth, color)
            seeds[f"PNG-{color}-{depth}"] = head + palette + key + pixels + png_chunk(b"IEND")
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 300) + png_chunk(b"tEXt", b"Comment\0hello")
    data = seeds["PNG-2-8"]
    seeds["PNG-text"] = data[:33] + text + data[33:]
    adam7 = _adam7(*SIDE)
    seeds["PNG-interlaced"] = adam7
    return seeds


def _adam7(width, height):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, right, down in passes:
        columns, lines = len(range(left, width, right)), len(range(top, height, down))
        rows += (b"\0" + bytes(range(columns))) * lines if columns else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")
    )


def _ppm():
    width, height = SIDE
    size, count = b"%d %d" % SIDE, width * height
    return {
        "PPM-P1": b"P1\n" + size + b"\n" + b"0 1 " * (count // 2),
        "PPM-P2": b"P2\n" + size + b"\n15\n" + b"7 " * count,
        "PPM-P3": b"P3\n# so\n" + size + b"\n255\n" + b"9 200 " * (count * 3 // 2),
        "PPM-P5": b"P5\n" + size + b"\n1023\n" + b"\1\2" * count,
        "PPM-P6": b"P6\n" + size + b"\n100\n" + bytes(range(3)) * count,
        "PPM-PAM": b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" % SIDE
        + bytes(count * 4),
        "PPM-PFM": b"Pf\n" + size + b"\n-1.0\n" + bytes(count * 4),
    }


def _guests():
    """What other encoders write: planar and tiled TIFFs of any depth, deep JPEG 2000."""
    seeds = {}
    values = (np.arange(SIDE[0] * SIDE[1] * 4, dtype=np.uint32) * 977).reshape(SIDE[1], SIDE[0], 4)
    if importlib.util.find_spec("tifffile"):
        import tifffile

        for depth, order, planar in [(8, "<", 1), (16, ">", 1), (8, ">", 2), (16, "<", 2), (32, "<", 1)]:
            for count, color in [(1, "minisblack"), (1, "miniswhite"), (3, "rgb"), (4, "rgb"), (4, "separated")]:
                for extra in ({}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": True}):
                    data = values[..., :count].astype(f"{order}u{depth // 8}")
                    name = f"tifffile-{depth}{order}-{planar}-{color}{count}-{len(extra)}{next(iter(extra), '')}"
                    seeds[name] = _tifffile(tifffile, data, color, planar, {**extra, "byteorder": order})
    if importlib.util.find_spec("imagecodecs"):
        import imagecodecs

        for depth in (8, 12, 16):
            for count in (1, 3, 4):
                samples = (values[..., :count] % (1 << depth)).astype(np.uint8 if depth == 8 else np.uint16).squeeze()
                for codec in ("j2k", "jp2"):
                    encoded = imagecodecs.jpeg2k_encode(
                        samples, bitspersample=depth, codecformat=codec, reversible=True
                    )
                    seeds[f"imagecodecs-{codec}-{depth}-{count}"] = bytes(encoded)
    return {name: data for name, data in seeds.items() if data}


def _tifffile(tifffile, data, color, planar, options):
    from io import BytesIO

    buffer = BytesIO()
    if planar == 2 and data.shape[2] > 1:
        data, options = np.moveaxis(data, 2, 0), {**options, "planarconfig": "separate"}
    try:
        tifffile.imwrite(buffer, data.squeeze(), photometric=color, metadata=None, **options)
    except (ValueError, RuntimeError, ImportError):  # no such combination, or it needs more guests
        return b""
    return buffer.getvalue()


def _odd():
    """The files of `bad_images`: what is refused must stay refused, or be right, when it is damaged further."""
    makers = [maker for name, maker in vars(bad_images).items() if _is_maker(name, maker)]
    seeds = {}
    with tempfile.TemporaryDirectory() as folder:
        for maker in makers:
            path = maker(folder)
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                seeds[f"odd-{maker.__name__}"] = path.read_bytes()
    return seeds


def _is_maker(name, maker):
    code = getattr(maker, "__code__", None)
    return code is not None and not name.startswith("_") and code.co_varnames[: code.co_argcount] == ("folder",)


@cache
def token_seeds():
    """{name: bytes}: every dtype, with and without maps, on a square and an oblong, with metadata of all sorts."""
    import torch

    from quadtok import Spec, get_quadtree, get_scorer, tokenize
    from quadtok.storage.token_file import encode_tokens
    from quadtok.tokens import Tokens

    metadata = [
        {},
        {"scorer": {"name": "random", "seed": 1}, "source": {"path": "a.jpg"}},
        {"note": "\N{SNOWMAN}" * 20},
    ]
    generator = torch.Generator().manual_seed(0)
    seeds = {}
    for spec in (Spec(16, 16, 2, 8, 25), Spec(8, 24, 4, 8, 6), Spec(12, 12, 12, 12, 1), Spec(32, 32, 2, 32, 40)):
        images = torch.randint(0, 256, (1, 3, spec.height, spec.width), dtype=torch.uint8, generator=generator)
        tokens = tokenize(images, spec, get_scorer("random", seed=5), quadtree="parallel")
        bare = Tokens(get_quadtree("dict")(tokens.saliency, spec), tokens.patches, None, {})
        for number, dtype in enumerate(("float16", "uint8", "float32", "none")):
            encoded = partial(encode_tokens, dtype=dtype, metadata=metadata[number % 3])
            seeds[f"{spec.height}x{spec.width}-{dtype}"] = encoded(tokens)
            seeds[f"{spec.height}x{spec.width}-{dtype}-bare"] = encoded(bare)
    return seeds


def write_seeds(folder):
    """For looking at them: `python -c "import fuzz_seeds; fuzz_seeds.write_seeds('seeds')"` in tests/."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, data in {**image_seeds(), **token_seeds()}.items():
        Path(folder, name.replace("/", "_")).write_bytes(data)
