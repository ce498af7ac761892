"""Image files that are broken, hostile or odd: each function writes one into a folder and returns its path.

Every byte is a function of the code below, so a failure can be made again.
"""

import os
import stat
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

TOO_LARGE = "pixels exceed max_pixels 89 478 485"
UNSUPPORTED = "unsupported format (allowed: JPEG, PNG, WEBP, BMP, GIF, PPM, TIFF, AVIF, JPEG2000)"


TO_UNSIGNED = "is not supported: convert it to 8 or 16 bits, unsigned"


def photo(width=64, height=48, seed=0):
    """An RGB image that no codec squeezes to nothing, and that differs under every flip and turn."""
    rows, cols = np.mgrid[:height, :width]
    smooth = np.stack([rows * 255 // max(height - 1, 1), cols * 255 // max(width - 1, 1), (rows + cols) % 256], axis=-1)
    noise = np.random.default_rng(seed).integers(-20, 21, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def encode(image, image_format, **options):
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height, depth=8, color=2):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def _write(folder, name, data):
    path = Path(folder, name)
    path.write_bytes(data)
    return path


def _flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


# Broken.


def jpeg_cut_in_half(folder):
    data = encode(photo(), "JPEG")
    return _write(folder, "half.jpg", data[: len(data) // 2])


def jpeg_without_its_last_two_bytes(folder):
    return _write(folder, "last_two.jpg", encode(photo(), "JPEG")[:-2])


def png_cut_in_half(folder):
    data = encode(photo(), "PNG")
    return _write(folder, "half.png", data[: len(data) // 2])


def webp_cut_in_half(folder):
    data = encode(photo(), "WEBP", lossless=True)
    return _write(folder, "half.webp", data[: len(data) // 2])


def gif_cut_in_half(folder):
    data = encode(photo(), "GIF")
    return _write(folder, "half.gif", data[: len(data) // 2])


def tiff_cut_in_half(folder):
    data = encode(photo(), "TIFF", compression="tiff_lzw")
    return _write(folder, "half.tif", data[: len(data) // 2])


def avif_without_its_last_byte(folder):
    return _write(folder, "last.avif", encode(photo(), "AVIF")[:-1])


def jpeg2000_cut_in_half(folder):
    data = encode(photo(), "JPEG2000")
    return _write(folder, "half.jp2", data[: len(data) // 2])


def png_with_a_flipped_byte(folder):
    data = encode(photo(), "PNG")
    return _write(folder, "flipped.png", _flip(data, len(data) // 2))


def tiff_with_damaged_lzw(folder):
    """libtiff complains about each strip, straight to file descriptor 2."""
    data = bytearray(encode(photo(), "TIFF", compression="tiff_lzw", strip_size=512))
    data[200:-400] = bytes(byte ^ 0x5A for byte in data[200:-400])
    return _write(folder, "lzw.tif", bytes(data))


def tiff_with_too_many_samples(folder):
    """Pillow logs this one before it gives up."""
    data = encode(photo(), "TIFF")
    entry = data.index(struct.pack("<HHI", 277, 3, 1))  # SamplesPerPixel
    return _write(folder, "samples.tif", data[: entry + 8] + struct.pack("<H", 2048) + data[entry + 10 :])


def avif_with_damaged_pixels(folder):
    data = encode(photo(), "AVIF")
    begin = data.index(b"mdat") + 4
    return _write(folder, "damaged.avif", data[:begin] + bytes(16) + data[begin + 16 :])


def empty(folder):
    return _write(folder, "empty.jpg", b"")


def text_named_jpg(folder):
    return _write(folder, "notes.jpg", b"Dear diary, this is no picture.\n")


def png_without_rows(folder):
    return _write(folder, "rows.png", png_header(10, 0) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND"))


def tiff_without_rows(folder):
    """In planes, which Pillow does not read."""
    three = 134  # where the lists of three numbers stand: bits, offsets and lengths of the planes
    one = [(256, 16), (257, 0), (259, 1), (262, 2), (277, 3), (278, 16), (284, 2)]
    lists = [(258, three), (273, three + 12), (279, three + 24)]
    entries = sorted([(tag, 1, value) for tag, value in one] + [(tag, 3, at) for tag, at in lists])
    packed = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in entries)
    directory = struct.pack("<H", len(entries)) + packed + bytes(4)
    numbers = struct.pack("<9I", *[8] * 3, *[8] * 3, *[64] * 3)
    return _write(folder, "rows.tif", b"II*\0" + struct.pack("<I", 8) + directory + numbers + bytes(100))


# Other formats.


def svg(folder):
    return _write(folder, "drawing.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>\n')


def eps(folder):
    return _write(folder, "figure.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n%%EOF\n")


def psd(folder):
    return _write(folder, "layers.psd", b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(200))


def pdf(folder):
    return _write(folder, "paper.pdf", b"%PDF-1.7\n%%EOF\n")


def fits(folder):
    cards = (
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "END",
    )
    return _write(folder, "sky.fits", "".join(card.ljust(80) for card in cards).ljust(2880).encode())


def heic(folder):
    return _write(folder, "phone.heic", struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(50))


# Bombs: a few bytes that announce more pixels than anybody has memory for.


def png_of_ten_gigapixels(folder):
    data = png_header(100_000, 100_000) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND")
    return _write(folder, "bomb.png", data)


def png_of_108_megapixels(folder):
    """Pillow itself only warns here."""
    data = png_header(12_000, 9_000) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND")
    return _write(folder, "large.png", data)


def jpeg_of_four_gigapixels(folder):
    data = encode(photo(), "JPEG")
    size = data.index(b"\xff\xc0") + 5
    return _write(folder, "bomb.jpg", data[:size] + b"\xff\xdc\xff\xdc" + data[size + 4 :])


def gif_of_four_gigapixels(folder):
    data = encode(photo(), "GIF")
    return _write(folder, "bomb.gif", data[:6] + b"\xff\xff\xff\xff" + data[10:])


def ppm_of_ten_gigapixels(folder):
    return _write(folder, "bomb.ppm", b"P6 100000 100000 255\n")


def bmp_of_ten_gigapixels(folder):
    data = encode(photo(), "BMP")
    return _write(folder, "bomb.bmp", data[:18] + struct.pack("<ii", 100_000, 100_000) + data[26:])


def webp_of_268_megapixels(folder):
    frames = encode(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)])
    return _write(folder, "bomb.webp", frames[:24] + b"\xff\x3f\x00\xff\x3f\x00" + frames[30:])


def png_with_a_text_bomb(folder):
    text = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(50_000_000), 1))
    data = encode(photo(), "PNG")
    return _write(folder, "text.png", data[:33] + text + data[33:])


# Pixels of 16 and 32 bits.

GRAY16 = np.array([[0, 257, 65535, 32768], [1, 128, 129, 65278]], dtype=np.uint16)


def gray16_png(folder):
    return _write(folder, "gray16.png", encode(Image.fromarray(GRAY16), "PNG"))


def gray16_tiff(folder):
    return _write(folder, "gray16.tif", encode(Image.fromarray(GRAY16), "TIFF"))


def gray16_tiff_turned(folder):
    """Pillow turns it by itself, and fails."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ExifTags.Base.Orientation] = 6
    return _write(folder, "gray16turned.tif", encode(Image.fromarray(GRAY16), "TIFF", tiffinfo=tags))


def gray16_big_endian_tiff(folder):
    entries = [(256, 3, 4), (257, 3, 2), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 2), (279, 4, 16)]
    packed = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    directory = struct.pack(">H", len(entries)) + packed + bytes(4)
    return _write(
        folder, "gray16be.tif", b"MM\x00*" + struct.pack(">I", 24) + GRAY16.astype(">u2").tobytes() + directory
    )


def gray16_pgm(folder):
    return _write(folder, "gray16.pgm", b"P5 4 2 65535\n" + GRAY16.astype(">u2").tobytes())


def float_tiff(folder):
    return _write(folder, "float.tif", encode(Image.fromarray(GRAY16.astype(np.float32)), "TIFF"))


def int32_tiff(folder):
    return _write(folder, "int32.tif", encode(Image.fromarray(GRAY16.astype(np.int32)), "TIFF"))


# Odd, and welcome.


def png_without_its_end(folder):
    return _write(folder, "no_iend.png", encode(photo(), "PNG")[:-12])


def png_named_jpg(folder):
    return _write(folder, "really_png.jpg", encode(photo(), "PNG"))


def cmyk_jpeg(folder):
    return _write(folder, "cmyk.jpg", encode(photo().convert("CMYK"), "JPEG", quality=95))


# Two pixels, (200, 100, 50) and the same with an alpha of nothing, in every way to say so.


def rgba_png(folder):
    image = Image.new("RGBA", (2, 1), (200, 100, 50, 255))
    image.putpixel((1, 0), (200, 100, 50, 0))
    return _write(folder, "rgba.png", encode(image, "PNG"))


def la_png(folder):
    image = Image.new("LA", (2, 1), (120, 255))
    image.putpixel((1, 0), (120, 0))
    return _write(folder, "la.png", encode(image, "PNG"))


def palette_png_with_transparency(folder):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([200, 100, 50, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return _write(folder, "palette.png", encode(image, "PNG", transparency=bytes([255, 0])))


def rgb_png_with_a_transparent_color(folder):
    image = Image.new("RGB", (2, 1), (200, 100, 50))
    image.putpixel((1, 0), (1, 2, 3))
    return _write(folder, "trns.png", encode(image, "PNG", transparency=(1, 2, 3)))


def gray16_png_with_a_transparent_level(folder):
    data = encode(Image.fromarray(np.array([[120 * 257, 7]], dtype=np.uint16)), "PNG")
    return _write(folder, "trns16.png", data[:33] + png_chunk(b"tRNS", struct.pack(">H", 7)) + data[33:])


def with_orientation(folder, orientation, image_format="JPEG"):
    """A photograph whose EXIF block says that it lies on its side, or more."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return _write(folder, f"turned{orientation}.{image_format.lower()}", encode(photo(), image_format, exif=exif))


def jpeg_with_corrupt_exif(folder):
    return _write(folder, "bad_exif.jpg", encode(photo(), "JPEG", exif=b"Exif\x00\x00nothing that a parser knows"))


def jpeg_with_cut_exif(folder):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return _write(folder, "cut_exif.jpg", encode(photo(), "JPEG", exif=exif.tobytes()[:17]))


def animated(folder, image_format):
    """Three frames; the second and third are other pictures."""
    more = [photo(seed=1).transpose(Image.Transpose.ROTATE_180), photo(seed=2)]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(photo(), image_format, save_all=True, append_images=more, **options)
    return _write(folder, f"frames.{image_format.lower()}", data)


def one_pixel(folder):
    return _write(folder, "pixel.png", encode(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG"))


def one_by_96(folder):
    return _write(folder, "sliver.png", encode(photo(1, 96), "PNG"))


def strip_of_20000(folder):
    return _write(folder, "strip.png", encode(photo(20_000, 1), "PNG"))


# No files at all.


def folder_named_jpg(folder):
    path = Path(folder, "folder.jpg")
    path.mkdir()
    return path


def named_pipe(folder):
    path = Path(folder, "pipe.jpg")
    os.mkfifo(path)
    return path


def socket(folder):
    path = Path(folder, "socket.jpg")
    os.mknod(path, stat.S_IFSOCK | 0o600)
    return path


def device(folder):
    path = Path(folder, "null.jpg")
    path.symlink_to("/dev/null")
    return path


def dangling_link(folder):
    path = Path(folder, "dangling.jpg")
    path.symlink_to("nowhere.jpg")
    return path


def link_to_itself(folder):
    path = Path(folder, "loop.jpg")
    path.symlink_to("loop.jpg")
    return path


BOMBS = {
    png_of_ten_gigapixels: f"10 000 000 000 {TOO_LARGE}",
    png_of_108_megapixels: f"108 000 000 {TOO_LARGE}",
    jpeg_of_four_gigapixels: f"4 290 250 000 {TOO_LARGE}",
    gif_of_four_gigapixels: f"4 294 836 225 {TOO_LARGE}",
    ppm_of_ten_gigapixels: f"10 000 000 000 {TOO_LARGE}",
    bmp_of_ten_gigapixels: f"10 000 000 000 {TOO_LARGE}",
    webp_of_268_megapixels: f"268 435 456 {TOO_LARGE}",
}

# What `read_image` says of each, behind the path.
REFUSED = {
    jpeg_cut_in_half: "truncated image",
    jpeg_without_its_last_two_bytes: "truncated image",
    png_cut_in_half: "truncated image",
    gif_cut_in_half: "truncated image",
    avif_without_its_last_byte: "truncated image",
    jpeg2000_cut_in_half: "truncated image",
    # These decoders do not tell a cut from other damage.
    **dict.fromkeys((webp_cut_in_half, tiff_cut_in_half), "broken image data"),
    png_with_a_flipped_byte: "broken image data",
    tiff_with_damaged_lzw: "broken image data",
    tiff_with_too_many_samples: "a TIFF of 2048 samples a pixel as 8-bit RGB is not supported: convert it to 8-bit RGB",
    avif_with_damaged_pixels: "broken image data",
    empty: "empty file",
    text_named_jpg: "not a supported image",
    png_without_rows: "broken image data",
    tiff_without_rows: "broken image data: 16 × 0 pixels",
    **dict.fromkeys((svg, eps, psd, pdf, fits, heic), UNSUPPORTED),
    **BOMBS,
    float_tiff: f"a TIFF of 32-bit floating-point numbers {TO_UNSIGNED}",
    int32_tiff: f"a TIFF of 32-bit signed integers {TO_UNSIGNED}",
    folder_named_jpg: "is a folder",
    **dict.fromkeys((named_pipe, socket, device), "not a regular file"),
    dangling_link: "no such file",
    link_to_itself: "Too many levels of symbolic links",
}
