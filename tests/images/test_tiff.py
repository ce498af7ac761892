"""Every layout of samples that quadtok reads from a TIFF, and the reasons for the rest.

Uncompressed files are written by `image_writers`, compressed ones by tifffile and imagecodecs (extra `test-all`).
"""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from image_scenes import GRAY, HEIGHT, PALETTE, RGB, WIDTH, off, scene
from image_writers import packed, tiff, tiff_file
from quadtok.errors import ImageError
from quadtok.images import LAYOUTS, Layout, decode_image

PHOTOMETRIC = {"white": 0, "gray": 1, "rgb": 2, "palette": 3, "cmyk": 5, "ycbcr": 6, "lab": 8}
EXTRA = {"none": (), "unsaid": (), "ignored": (0,), "premultiplied": (1,), "straight": (2,)}
ORANGE = (255, 128, 0)
CONVERT = "is not supported: convert it to 8-bit RGB"
UNCOMPRESSED = sorted(layout for layout in LAYOUTS["TIFF"] if layout.color not in ("ycbcr", "lab"))
PLANAR = [
    layout
    for layout in UNCOMPRESSED
    if layout.bits in (8, 16) and layout.alpha != "unsaid" and layout.color != "palette"
]


def tags_of(layout, colors=257):
    if layout.color != "palette":
        return {}
    return {320: (PALETTE[np.arange(2**layout.bits) % 256].T.reshape(-1) * colors).tolist()}


def written(layout, order="<", **options):
    samples, pixels = scene(layout, ORANGE)
    tags = tags_of(layout) | options.pop("tags", {})
    photometric, extra = PHOTOMETRIC[layout.color], options.pop("extra", EXTRA[layout.alpha])
    return tiff(samples, layout.bits, photometric, order, extra=extra, tags=tags, **options), pixels


def shown(data, **options):
    return decode_image(data, "x.tif", background="#ff8000", **options).image


def refusal(data):
    with pytest.raises(ImageError, match=r"^x\.tif: ") as caught:
        decode_image(data, "x.tif")
    return str(caught.value).removeprefix("x.tif: ")


ARRANGED = {
    "strip": {},
    "strips": {"tags": {278: [5]}},
    "tiles": {"tile": 16},
    "one tile": {"tile": 32},
    "big": {"big": True},
    "in one plane": {"tags": {284: [1]}},
}


def in_strips(layout, order):
    """`tiff` writes one strip: here 5 rows a strip."""
    samples, _ = scene(layout, ORANGE)
    blocks = [samples[top : top + 5] for top in range(0, HEIGHT, 5)]
    raw = [
        block.astype(f"{order}u2").tobytes() if layout.bits == 16 else b"".join(packed(block, layout.bits))
        for block in blocks
    ]
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [layout.bits] * samples.shape[2], 259: [1], 278: [5]}
    entries |= {262: [PHOTOMETRIC[layout.color]], 277: [samples.shape[2]]} | tags_of(layout)
    return tiff_file([(entries | ({338: list(EXTRA[layout.alpha])} if EXTRA[layout.alpha] else {}), raw)], order)


@pytest.mark.parametrize("arranged", ARRANGED)
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("layout", UNCOMPRESSED, ids=str)
def test_every_layout_is_read_uncompressed(layout, order, arranged):
    data, pixels = written(layout, order, **ARRANGED[arranged])
    if arranged == "strips":
        data = in_strips(layout, order)
    if arranged == "big" and order == ">" and layout not in PLANAR:
        assert refusal(data) == f"TIFF: {layout} (none compression), big-endian BigTIFF, {CONVERT}"
        return
    if layout.bits == 12 and order == ">":
        assert refusal(data) == f"TIFF: 12-bit gray (none compression), big-endian, {CONVERT}"
        return
    assert off(shown(data), pixels) <= 1


@pytest.mark.parametrize("tile", [0, 16], ids=["strips", "tiles"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("layout", PLANAR, ids=str)
def test_every_layout_is_read_in_planes(layout, order, tile):
    data, pixels = written(layout, order, planar=True, tile=tile)
    assert off(shown(data), pixels) <= 1


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("layout", "planar"),
    [*((layout, False) for layout in UNCOMPRESSED), *((layout, True) for layout in PLANAR)],
    ids=lambda value: {True: "in planes", False: ""}.get(value, str(value)),
)
def test_every_layout_is_turned_upright(layout, planar, orientation, exif):
    data, stored = written(layout, planar=planar, tags={274: [orientation]})
    read = decode_image(data, "x", background="#ff8000", exif=exif)
    assert off(read.image, upright(stored, orientation) if exif else stored) <= 1
    assert (read.orientation, read.notes) == (orientation if exif else 1, [])


def upright(pixels, orientation):
    """By the words of the EXIF standard: where the first row and the first column of what is stored belong."""
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    rows_from_below, columns_from_right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return turned[:: -1 if rows_from_below else 1, :: -1 if columns_from_right else 1]


@pytest.mark.parametrize("kind", [1, 4, 5], ids=["BYTE", "LONG", "RATIONAL"])
@pytest.mark.parametrize("value", [0, 6, 9, 70_000])
def test_an_odd_orientation_is_a_number_or_upright(value, kind):
    data, stored = written(Layout("gray", 16), tags={274: [7777]})
    at = data.index(struct.pack("<HHI", 274, 3, 1))
    data = data[:at] + struct.pack("<HHII", 274, kind, 1, value) + data[at + 12 :]
    turned = value == 6 and kind != 5
    assert off(shown(data), upright(stored, 6) if turned else stored) <= 1


# Compressed, by another's hand.

COMPRESSIONS = ["lzw", "adobe_deflate", "deflate", "packbits", "zstd", "lzma"]


def by_tifffile(layout, **options):
    tifffile = pytest.importorskip("tifffile", reason="tifffile writes the compressed TIFFs")
    pytest.importorskip("imagecodecs", reason="imagecodecs compresses for tifffile")
    samples, pixels = scene(layout, ORANGE)
    array = samples.astype(f"u{layout.bits // 8}")
    array = array[..., 0] if array.shape[2] == 1 else array
    names = {"white": "miniswhite", "gray": "minisblack", "cmyk": "separated"}
    extra = {"none": None, "ignored": ["unspecified"], "premultiplied": ["assocalpha"], "straight": ["unassalpha"]}
    if layout.color == "palette":
        options["colormap"] = (PALETTE.T * 257).astype(np.uint16)
    if options.get("planarconfig") == "separate":
        array = np.moveaxis(array, -1, 0)
    buffer = io.BytesIO()
    photometric = options.pop("photometric", names.get(layout.color, layout.color))
    tifffile.imwrite(buffer, array, photometric=photometric, extrasamples=extra[layout.alpha], metadata=None, **options)
    return buffer.getvalue(), pixels


def arrangements(compression):
    predictors = [None, 2] if compression not in ("packbits", "none") else [None]
    for byteorder in "<>":
        for predictor in predictors:
            yield {"byteorder": byteorder, "predictor": predictor, "rowsperstrip": 5}
            yield {"byteorder": byteorder, "predictor": predictor, "tile": (16, 16)}


ONE_PLANE = {Layout(color, bits) for color in ("gray", "white", "palette") for bits in (8, 16)}
BYTES = [*PLANAR, Layout("palette", 8)]
# What Pillow cannot take apart, and our own reader does not decompress.
NEITHER = {
    *(Layout("gray", bits, alpha) for bits in (8, 16) for alpha in ("ignored", "premultiplied")),
    Layout("gray", 16, "straight"),
    *(Layout("white", bits, alpha) for bits in (8, 16) for alpha in ("ignored", "straight")),
    *(Layout("cmyk", bits, "straight") for bits in (8, 16)),
    Layout("cmyk", 16, "ignored"),
}
NEITHER_IN_PLANES = {*NEITHER, Layout("gray", 8, "straight")}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(
    ("layout", "planar"),
    [
        *((layout, "contig") for layout in BYTES),
        *((layout, "separate") for layout in PLANAR if layout not in ONE_PLANE),
    ],
    ids=str,
)
def test_every_layout_of_whole_bytes_is_read_compressed_or_refused_by_name(layout, planar, compression):
    refused = "deflate" not in compression and layout in (NEITHER_IN_PLANES if planar == "separate" else NEITHER)
    for options in arrangements(compression):
        if layout not in ONE_PLANE:
            options["planarconfig"] = planar
        data, pixels = by_tifffile(layout, compression=compression, **options)
        if refused:
            assert str(layout) in refusal(data)
            assert "compression) is not supported: convert it to 8-bit RGB" in refusal(data)
        else:
            assert off(shown(data), pixels) <= 1, options


@pytest.mark.parametrize("layout", [Layout("gray", 8), Layout("rgb", 8), Layout("rgb", 8, "straight")], ids=str)
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
def test_compressed_images_are_turned_upright_once(compression, orientation, layout):
    extratags = [(274, "H", 1, orientation, True)]
    data, stored = by_tifffile(layout, compression=compression, extratags=extratags)
    assert off(shown(data), upright(stored, orientation)) <= 1
    assert off(shown(data, exif=False), stored) <= 1


FLAT = np.kron(RGB[::6, ::7], np.ones((16, 16, 1), int)).astype(np.uint8)  # one colour in each block of the JPEG


@pytest.mark.parametrize(
    ("array", "photometric", "stored"),
    [(FLAT, "rgb", "RGB"), (FLAT, "rgb", "YCBCR"), (FLAT[..., 0], "minisblack", None)],
    ids=["RGB", "YCbCr", "gray"],
)
def test_jpeg_inside_is_read(array, photometric, stored):
    tifffile = pytest.importorskip("tifffile", reason="tifffile writes the compressed TIFFs")
    pytest.importorskip("imagecodecs", reason="imagecodecs compresses for tifffile")
    buffer, options = io.BytesIO(), {"level": 99} | ({"outcolorspace": stored} if stored else {})
    tifffile.imwrite(buffer, array, photometric=photometric, compression="jpeg", compressionargs=options, tile=(16, 16))
    pixels = np.repeat(array[..., None], 3, -1) if array.ndim == 2 else array
    assert off(shown(buffer.getvalue()), pixels.astype(float)) <= 1


def test_cielab_is_read():
    samples = np.array([[[255, 0, 0], [0, 0, 0], [138, 208, 196], [138, 81, 70]]])  # a* and b* are signed bytes
    seen = np.asarray(shown(tiff(samples, 8, 8))).astype(int)
    # (L*, a*, b*) = (100, 0, 0), (0, 0, 0), (54.1, -48, -60), (54.1, 81, 70) for a white of D50
    assert np.abs(seen - [[[255, 255, 255], [0, 0, 0], [0, 158, 235], [255, 0, 0]]]).max() <= 24


def test_a_palette_of_bytes_is_read():
    samples, pixels = scene(Layout("palette", 8))
    data = tiff(samples, 8, 3, tags=tags_of(Layout("palette", 8), colors=1))
    assert off(shown(data), pixels) == 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_bits_may_be_stored_from_the_right(photometric, order):
    layout = Layout("white" if photometric == 0 else "gray", 1)
    samples, pixels = scene(layout)
    rows = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in row) for row in packed(samples, 1)]
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [1], 259: [1], 262: [photometric], 266: [2], 277: [1], 278: [HEIGHT]}
    assert off(shown(tiff_file([(entries, [b"".join(rows)])], order)), pixels) == 0


RUNS = {  # CCITT codes of white and black runs, from the standard's tables
    "white": {2: "0111", 3: "1000", 4: "1011", 8: "10011", 16: "101010"},
    "black": {2: "11", 3: "10", 4: "011", 8: "000101", 16: "0000010111"},
}


def of_bits(bits):
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


END_OF_LINE, HORIZONTAL, SAME = "000000000001", "001", "1"


def ccitt(rows, compression):
    """Rows of 16 pixels as runs of white and black; for group 4 the rows must be the same."""
    runs = ["".join(RUNS["black" if at % 2 else "white"][run] for at, run in enumerate(row)) for row in rows]
    if compression == 2:
        return b"".join(of_bits(row) for row in runs)
    if compression == 3:
        return of_bits("".join(END_OF_LINE + row for row in runs) + 6 * END_OF_LINE)
    first = "".join(
        HORIZONTAL + RUNS["white"][white] + RUNS["black"][black]
        for white, black in zip(rows[0][::2], rows[0][1::2], strict=True)
    )
    return of_bits(first + "".join(SAME * (len(row)) for row in rows[1:]) + 2 * END_OF_LINE)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("compression", [2, 3, 4])
def test_ccitt_is_read(compression, photometric):
    rows = [[8, 4, 2, 2]] * 3 if compression == 4 else [[8, 4, 2, 2], [2, 2, 4, 8], [4, 8, 2, 2]]
    entries = {256: [16], 257: [3], 258: [1], 259: [compression], 262: [photometric], 277: [1], 278: [3]}
    ink = np.array([np.repeat([0, 1, 0, 1], row) for row in rows])
    pixels = np.repeat((255 * (1 - ink if photometric == 0 else ink))[..., None], 3, -1)
    assert off(shown(tiff_file([(entries, [ccitt(rows, compression)])])), pixels.astype(float)) == 0


def pack_bits(raw):
    """PackBits without runs: at most 128 bytes as they are."""
    pieces = [raw[at : at + 128] for at in range(0, len(raw), 128)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


@pytest.mark.parametrize(("compression", "squeeze"), [(8, zlib.compress), (32946, zlib.compress), (32773, pack_bits)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [layout for layout in UNCOMPRESSED if layout.bits in (1, 2, 4, 12)], ids=str)
def test_layouts_of_parts_of_bytes_are_read_compressed(layout, order, compression, squeeze):
    samples, pixels = scene(layout)
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [layout.bits], 259: [compression], 277: [1], 278: [HEIGHT]}
    rows = [squeeze(row) if compression == 32773 else row for row in packed(samples, layout.bits)]
    block = b"".join(rows) if compression == 32773 else squeeze(b"".join(rows))
    data = tiff_file([(entries | {262: [PHOTOMETRIC[layout.color]]} | tags_of(layout), [block])], order)
    if layout.bits == 12 and order == ">":
        assert "big-endian" in refusal(data)
    else:
        assert off(shown(data), pixels) <= 1


# Refused, with the reason.


def plain(**changes):
    """8-bit RGB with other tags: `t258=[16, 16, 16]`."""
    tags = {int(name[1:]): values for name, values in changes.items()}
    return tiff(RGB, 8, 2, tags=tags)


def of_kind(letters, kind, photometric=1):
    raw = np.zeros((HEIGHT, WIDTH), letters)
    entries = {
        256: [WIDTH],
        257: [HEIGHT],
        258: [raw.itemsize * 8],
        259: [1],
        262: [photometric],
        277: [1],
        339: [kind],
    }
    return tiff_file([(entries, [raw.tobytes()])])


REFUSED = {
    "a TIFF of 8-bit signed integers": of_kind("i1", 2),
    "a TIFF of 16-bit signed integers": of_kind("i2", 2),
    "a TIFF of 32-bit signed integers": of_kind("i4", 2),
    "a TIFF of 16-bit floating-point numbers": of_kind("f2", 3),
    "a TIFF of 32-bit floating-point numbers": of_kind("f4", 3),
    "a TIFF of 64-bit floating-point numbers": of_kind("f8", 3, photometric=0),
    "a TIFF of 64-bit complex numbers": of_kind("c8", 6),
    "a TIFF of 8-bit samples of no said kind": of_kind("u1", 4),
    "TIFF: 32-bit gray (none compression)": of_kind("u4", 1),
    "TIFF: 3-bit gray (none compression)": tiff(GRAY // 32, 3, 1),
    "TIFF: 4-bit RGB (none compression)": tiff(RGB // 16, 4, 2),
    "TIFF: 16-bit palette (none compression)": tiff(GRAY, 16, 3, tags={320: [0] * 3}),
    "a TIFF with samples of 5, 6, 5 bits": plain(t258=[5, 6, 5]),
    "a TIFF with samples of 8, 9, 8, 8, 8, 8, 8, 8, … bits": plain(t258=[8, 9] + [8] * 998, t277=[1000]),
    "a TIFF of inks other than CMYK": tiff(np.dstack([RGB, GRAY]), 8, 5, tags={332: [2]}),
    "a TIFF of ICC Lab": plain(t262=[9]),
    "a TIFF of a camera's raw mosaic": plain(t262=[32803]),
    "a TIFF of photometric interpretation 77": plain(t262=[77]),
    "TIFF compression old-style JPEG": plain(t259=[6]),
    "TIFF compression JPEG 2000": plain(t259=[34712]),
    "TIFF compression WebP": plain(t259=[50001]),
    "TIFF compression 4711": plain(t259=[4711]),
    "TIFF: 8-bit YCbCr (none compression)": tiff(RGB, 8, 6, tags={530: [1, 1]}),
    "TIFF: 8-bit gray (none compression) with the bits of each byte reversed (FillOrder 2)": tiff(
        GRAY, 8, 1, tags={266: [2]}
    ),
    "TIFF: 12-bit gray (JPEG compression)": tiff(GRAY, 12, 1, tags={259: [7]}),
    "TIFF: 8-bit gray (CCITT group 4 compression)": tiff(GRAY, 8, 1, tags={259: [4]}),
    "TIFF: 8-bit RGB (LZW compression) with predictor 3": plain(t259=[5], t317=[3]),
    "a TIFF with predictor 2 (none compression)": plain(t317=[2]),
    "a TIFF with predictor 2 (PackBits compression)": plain(t259=[32773], t317=[2]),
    "TIFF: 8-bit gray (0 is white) with premultiplied alpha (none compression)": tiff(
        np.dstack([GRAY, GRAY]), 8, 0, extra=[1]
    ),
    "a TIFF that does not say what its fourth sample is (tag ExtraSamples)": tiff(np.dstack([RGB, GRAY]), 8, 2),
    "a TIFF of 0 extra samples that describes 1 (tag ExtraSamples)": tiff(RGB, 8, 2, extra=[2]),
    "a TIFF of 9 samples a pixel as 8-bit RGB": tiff(np.dstack([RGB] * 3), 8, 2),
    "a TIFF of 1 samples a pixel as 8-bit RGB": tiff(GRAY, 8, 2),
    "a camera's raw file": plain(t50706=[1, 4, 0, 0]),
    "a TIFF whose first page is a reduced preview": plain(t254=[1]),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_read_is_refused_with_the_reason(reason):
    said = refusal(REFUSED[reason])
    assert said.startswith(f"{reason} is not supported: ")
    assert "broken" not in said


def test_a_tiff_that_does_not_say_what_0_means_is_refused():
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [8], 259: [1], 277: [1], 278: [HEIGHT]}
    said = refusal(tiff_file([(entries, [GRAY.astype(np.uint8).tobytes()])]))
    assert said.startswith("a TIFF that does not say whether 0 is black (tag PhotometricInterpretation) is not")


# Several pages, previews, and pages below pages.


def page(samples):
    height, width, channels = samples.shape
    entries = {256: [width], 257: [height], 258: [8] * channels, 259: [1], 262: [2], 277: [channels], 278: [height]}
    return entries, [samples.astype(np.uint8).tobytes()]


@pytest.mark.parametrize("planar", [False, True])
def test_the_first_page_is_taken_and_the_others_are_counted(planar):
    data = tiff(RGB, 8, 2, planar=planar, more=[page(255 - RGB), page(255 - RGB)])
    read = decode_image(data, "x")
    assert off(read.image, RGB.astype(float)) == 0
    assert (read.frames, read.left_out, read.notes) == (3, 2, ["first of 3 frames"])


def below(samples):
    """A file whose second page hangs below the first (SubIFDs) and not behind it."""
    data = bytearray(tiff(RGB, 8, 2, tags={330: [1]}, more=[page(samples)]))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    link = first + 2 + 12 * count
    entry = data.index(struct.pack("<HHI", 330, 4, 1))
    data[entry + 8 : entry + 12] = data[link : link + 4]
    data[link : link + 4] = bytes(4)
    return bytes(data)


def test_smaller_images_below_the_first_page_are_counted():
    read = decode_image(below(RGB[::2, ::2]), "x")
    assert off(read.image, RGB.astype(float)) == 0
    assert (read.frames, read.left_out, read.notes) == (1, 1, ["previews or pages below the first left out: 1"])


def test_a_preview_is_never_taken_for_the_image_below_it():
    said = refusal(below(np.kron(RGB, np.ones((2, 2, 1), int))))
    assert said == "a TIFF whose first page is smaller than the image below it is not supported: export the image"


def test_a_raw_file_of_canon_is_refused():
    data = bytearray(tiff(RGB, 8, 2))
    data[8:12] = b"CR\x02\x00"
    assert refusal(bytes(data)).startswith("a camera's raw file is not supported: ")


# Limits.


@pytest.mark.parametrize("layout", [Layout("gray", 16, "straight"), Layout("rgb", 8), Layout("white", 16)], ids=str)
@pytest.mark.parametrize("planar", [False, True])
def test_the_limit_on_pixels_is_honoured_to_the_pixel(layout, planar):
    data, pixels = written(layout, planar=planar, tags={274: [6]})
    assert off(shown(data, max_pixels=HEIGHT * WIDTH), upright(pixels, 6)) <= 1
    with pytest.raises(ImageError, match=r"^x\.tif: 273 pixels exceed max_pixels 272$"):
        shown(data, max_pixels=HEIGHT * WIDTH - 1)


def test_a_deflated_bomb_is_not_inflated():
    bomb = zlib.compress(bytes(200_000_000))
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [16, 16], 259: [8], 262: [1], 277: [2], 338: [2], 278: [HEIGHT]}
    tiled = {
        256: [WIDTH],
        257: [HEIGHT],
        258: [16, 16],
        259: [8],
        262: [1],
        277: [2],
        338: [2],
        322: [65520],
        323: [65520],
    }
    tracemalloc.start()
    shown(tiff_file([(entries, [bomb])]))
    assert refusal(tiff_file([(tiled, [bomb])])) == "broken image data"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_tiles_that_the_file_does_not_hold_are_not_listed():
    entries = {256: [3000], 257: [3000], 258: [8, 8], 259: [1], 262: [0], 277: [2], 284: [2], 338: [2]}
    tracemalloc.start()
    assert refusal(tiff_file([(entries | {322: [1], 323: [1]}, [b"x"])])) == "truncated image"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


# Damage.


@pytest.mark.parametrize("layout", [Layout("gray", 16, "straight"), Layout("rgb", 16), Layout("white", 16)], ids=str)
@pytest.mark.parametrize("deflated", [False, True])
def test_a_file_cut_anywhere_is_refused_or_lacks_nothing(layout, deflated):
    samples, pixels = scene(layout, ORANGE)
    raw = samples.astype("<u2").tobytes()
    entries = {256: [WIDTH], 257: [HEIGHT], 258: [16] * samples.shape[2], 259: [8 if deflated else 1]}
    entries |= {262: [PHOTOMETRIC[layout.color]], 277: [samples.shape[2]], 278: [HEIGHT]}
    entries |= {338: list(EXTRA[layout.alpha])} if EXTRA[layout.alpha] else {}
    data = tiff_file([(entries, [zlib.compress(raw) if deflated else raw])])
    for length in range(1, len(data)):
        try:
            read = decode_image(data[:length], "x", background="#ff8000")
        except ImageError:
            continue
        assert off(read.image, pixels) <= 1, length


def test_pixels_that_are_cut_short_are_refused():
    data = tiff(RGB, 16, 2, planar=True)
    entry = (
        data.index(struct.pack("<HHI", 279, 4, 3))
        if struct.pack("<HHI", 279, 4, 3) in data
        else data.index(struct.pack("<HHI", 279, 3, 3))
    )
    (at,) = struct.unpack_from("<I", data, entry + 8)
    short = data[:at] + struct.pack("<H", 10) + data[at + 2 :]
    assert refusal(short) == "truncated image"


@pytest.mark.parametrize("layout", UNCOMPRESSED, ids=str)
def test_damage_is_an_image_error_or_an_image(layout):
    data, _ = written(layout, planar=layout in PLANAR)
    generator = np.random.default_rng(0)
    start = struct.unpack_from("<I", data, 4)[0]
    for _ in range(60):
        damaged = bytearray(data)
        for at in generator.integers(start, len(data), 2):
            damaged[at] = generator.integers(256)
        try:
            assert decode_image(bytes(damaged), "x", max_pixels=100_000).image.mode == "RGB"
        except ImageError as problem:
            assert str(problem).startswith("x: ")
