"""Small image files written byte by byte, so that what Pillow reads was not written by Pillow.

Samples are integer arrays `[height, width, channels]`.
"""

import struct
import zlib

import numpy as np


def packed(samples, bits):
    """Rows of samples as bytes, the first sample in the highest bits, each row padded to whole bytes."""
    rows = samples.reshape(samples.shape[0], -1).astype(np.uint32)
    one_by_one = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in one_by_one]


# PNG


def png_chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bits, color, *chunks, filters=(0,), interlaced=False, after=()):
    """`color` is PNG's colour type; `chunks` go before the pixels, `after` behind them."""
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [samples[top::down, left::right] for top, left, down, right in steps] if interlaced else [samples]
    stride = max(1, bits * channels // 8)
    rows = [row for part in passes if part.size for row in filtered(packed(part, bits), stride, filters)]
    data = png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
    parts = [png_chunk(b"IHDR", header), *chunks, data, *after, png_chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def filtered(rows, stride, filters):
    above = bytes(len(rows[0]))
    for number, row in enumerate(rows):
        kind = filters[number % len(filters)]
        yield bytes([kind, *(filter_byte(kind, row, above, at, stride) for at in range(len(row)))])
        above = row


def filter_byte(kind, row, above, at, stride):
    left, up = (row[at - stride] if at >= stride else 0), above[at]
    corner = above[at - stride] if at >= stride else 0
    nearest = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
    return (row[at] - (0, left, up, (left + up) // 2, nearest)[kind]) % 256


# TIFF


def tiff(samples, bits, photometric, order="<", *, planar=False, extra=(), big=False, tags=None, tile=0, more=()):
    """One uncompressed page. `tags` are {number: values}; a tile is `tile` × `tile` pixels; `more` are pages behind."""
    height, width, channels = samples.shape
    planes = [samples[..., at : at + 1] for at in range(channels)] if planar else [samples]
    blocks = [block_bytes(block, bits, order) for plane in planes for block in cut(plane, tile)]
    entries = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric], 277: [channels]}
    entries |= {284: [2]} if planar else {}
    entries |= {338: list(extra)} if extra else {}
    entries |= {322: [tile], 323: [tile]} if tile else {278: [height]}
    return tiff_file([(entries | (tags or {}), blocks), *more], order, big)


def cut(plane, tile):
    if not tile:
        return [plane]
    height, width, _ = plane.shape
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    return [padded[top : top + tile, left : left + tile] for top, left in corners]


def block_bytes(block, bits, order):
    if bits == 16:
        return block.astype(f"{order}u2").tobytes()
    return b"".join(packed(block, bits))


def tiff_file(pages, order="<", big=False):
    """`pages`: ({tag: values}, blocks) of each. Tags 273 and 279 (324 and 325 of tiles) are set here."""
    word, count, width = ("Q", "Q", 8) if big else ("I", "H", 4)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    out = bytearray(magic + (struct.pack(order + "HH", 8, 0) if big else b"") + bytes(width))
    link = len(out) - width
    for entries, blocks in pages:
        tiled = 322 in entries
        offsets = []
        for block in blocks:
            offsets.append(len(out))
            out += block + b"\0" * (len(block) % 2)
        where = {324 if tiled else 273: offsets, 325 if tiled else 279: [len(block) for block in blocks]}
        directory = tiff_directory(out, entries | (where if blocks else {}), order, word, width)
        struct.pack_into(order + word, out, link, len(out))
        out += struct.pack(order + count, len(directory)) + b"".join(directory)
        link = len(out)
        out += bytes(width)
    return bytes(out)


def tiff_directory(out, entries, order, word, width):
    directory = []
    for tag, values in sorted(entries.items()):
        kind, letter = (3, "H") if max(values) < 65536 and tag not in (273, 324, 330) else (4, "I")
        raw = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(raw) > width:
            at = len(out)
            out += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(order + word, at)
        directory.append(struct.pack(order + "HH" + word, tag, kind, len(values)) + raw.ljust(width, b"\0"))
    return directory


# BMP


def bmp(rows, width, height, bits, *, palette=(), compression=0, masks=b"", header=40, colors=None, top_down=False):
    """`rows` as the file stores them, from its first; `palette` of (red, green, blue)."""
    size = 3 if header == 12 else 4
    table = b"".join(bytes([blue, green, red]) + b"\0" * (size - 3) for red, green, blue in palette)
    pixels = b"".join(row + b"\0" * (-len(row) % 4) for row in rows) if compression in (0, 3) else b"".join(rows)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        used = len(palette) if colors is None else colors
        tall = -height if top_down else height
        info = struct.pack("<IiiHHIIiiII", 40, width, tall, 1, bits, compression, len(pixels), 2835, 2835, used, 0)
        info = struct.pack("<I", header) + info[4:] + (masks.ljust(header - 40, b"\0") if header > 40 else b"")
    inside = masks if header == 40 else b""
    start = 14 + len(info) + len(inside) + len(table)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + inside + table + pixels


# GIF


def gif(canvas, palette, frames, background=0):
    """`canvas` is (width, height); `frames` are (indices, left, top, transparent index or None)."""
    size = 7  # 256 colours
    out = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80 | size, background, 0)
    out += bytes(palette.astype(np.uint8).reshape(-1)).ljust(768, b"\0")
    for indices, left, top, clear in frames:
        if clear is not None:
            out += b"\x21\xf9\x04\x01\0\0" + bytes([clear, 0])
        height, width = indices.shape
        out += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x08" + gif_blocks(indices.reshape(-1))
    return out + b";"


def gif_blocks(values):
    """LZW without a dictionary: codes of 9 bits, cleared before they would grow."""
    codes = [code for at in range(0, len(values), 250) for code in (256, *values[at : at + 250].tolist())] + [257]
    bits = sum(code << (9 * place) for place, code in enumerate(codes))
    data = bits.to_bytes((9 * len(codes) + 7) // 8, "little")
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


# JPEG 2000: boxes around a codestream


def box(kind, content):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jp2(codestream, width, height, channels, bits, space, *inside):
    """`space` is the number of an enumerated colour space or a whole box; `inside` are boxes for the header."""
    ihdr = box(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, bits - 1, 7, 0, 0))
    colr = space if isinstance(space, bytes) else box(b"colr", struct.pack(">BBBI", 1, 0, 0, space))
    head = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return head + box(b"jp2h", ihdr + colr + b"".join(inside)) + box(b"jp2c", codestream)


def channel_definitions(*channels):
    """Each (channel, kind, what it belongs to)."""
    return box(b"cdef", struct.pack(">H", len(channels)) + b"".join(struct.pack(">3H", *one) for one in channels))
