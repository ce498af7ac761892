"""Ways to damage a file: at random, and where its format keeps what a decoder believes.

Every function takes the bytes and a `random.Random`, and gives new bytes; one that does not fit gives the same.
"""

import contextlib
import json
import pickle
import struct
import zipfile
import zlib
from io import BytesIO

TIMES = [1, 1, 1, 2, 3]  # how often one file is damaged
INTERESTING = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 64, 127, 128, 255, 256, 257, 1000, 4095, 4096, 32767, 32768, 65535]
HUGE = [65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x40000000, 1 << 24]


# Anywhere.


def flip_bits(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def set_bytes(data, rng):
    begin, length = rng.randrange(len(data)), rng.choice([1, 1, 2, 4, 16])
    new = rng.choice([bytes(length), b"\xff" * length, b"\x7f" * length, b"\x80" * length, rng.randbytes(length)])
    return data[:begin] + new + data[begin + length :]


def set_number(data, rng):
    size = rng.choice([2, 4, 8])
    begin = rng.randrange(len(data))
    return data[:begin] + _number(rng, size).to_bytes(size, rng.choice(["big", "little"])) + data[begin + size :]


def cut(data, rng):
    return data[: rng.randrange(1, len(data))] if len(data) > 1 else data


def remove(data, rng):
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.choice([1, 2, 4, 50, 500]) :] or data


def repeat(data, rng):
    begin = rng.randrange(len(data))
    piece = data[begin : begin + rng.choice([1, 4, 30, 300])]
    return data[:begin] + piece * rng.choice([2, 3, 50]) + data[begin + len(piece) :]


def insert(data, rng):
    begin = rng.randrange(len(data) + 1)
    return data[:begin] + rng.randbytes(rng.choice([1, 2, 4, 100])) + data[begin:]


def copy_elsewhere(data, rng):
    source, target, length = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice([1, 4, 30, 300])
    return data[:target] + data[source : source + length] + data[target + length :]


ANYWHERE = [flip_bits, set_bytes, set_number, cut, remove, repeat, insert, copy_elsewhere]


def splice(data, other, rng):
    """The head of one file and the tail of another, or one behind the other."""
    if rng.random() < 0.2:
        return data + other
    return data[: rng.randrange(1, len(data) + 1)] + other[rng.randrange(len(other)) :]


def _number(rng, size):
    value = rng.choice([*INTERESTING, *HUGE, rng.getrandbits(8 * size)])
    return value % (1 << 8 * size)


# PNG: chunks, whose checksum is put right again.


def png_chunks(data, rng):
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return data
    return data[:8] + b"".join(_png_chunk(*chunk) for chunk in _shuffled(chunks, rng, _png_content))


def _png_chunk(kind, content, length=None):
    length = len(content) if length is None else length
    return struct.pack(">I", length % (1 << 32)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_content(chunk, rng):
    kind, content = chunk
    if kind == b"IDAT" and rng.random() < 0.5:
        try:
            return kind, zlib.compress(_damaged(zlib.decompress(content), rng))
        except zlib.error:
            return chunk
    if rng.random() < 0.1:
        new = rng.choice([b"iTXt", b"zTXt", b"iCCP", b"eXIf", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"PLTE", b"abcd"])
        return new, content
    return kind, _damaged(content, rng)


# JPEG: segments.


def jpeg_segments(data, rng):
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
    if not segments:
        return data
    if rng.random() < 0.2:  # a length that lies
        number = rng.randrange(len(segments))
        lie = struct.pack(">H", _number(rng, 2))
        parts = [_jpeg_segment(*segment) for segment in segments]
        parts[number] = parts[number][:2] + lie + parts[number][4:]
        return data[:2] + b"".join(parts) + data[at:]
    new = _shuffled(segments, rng, lambda segment, rng: (segment[0], _damaged(segment[1], rng)))
    return data[:2] + b"".join(_jpeg_segment(*segment) for segment in new) + data[at:]


def _jpeg_segment(marker, content):
    return marker + struct.pack(">H", (len(content) + 2) % 65536) + content


# TIFF: entries of the first directory.


def tiff_entries(data, rng):
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return data
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    if first + 2 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, first)
    if not count or first + 2 + 12 * count > len(data):
        return data
    at = first + 2 + 12 * rng.randrange(count)
    tag, kind, number, value = struct.unpack_from(f"{order}HHI4s", data, at)
    match rng.randrange(5):
        case 0:
            tag = rng.choice(
                [254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 279, 284, 317, 322, 323, 338, 339, 34665]
            )
        case 1:
            kind = rng.choice([*range(1, 18), 129])
        case 2:
            number = _number(rng, 4)
        case _:
            size = {1: 1, 3: 2}.get(kind, 4)
            value = _number(rng, size).to_bytes(size, "little" if order == "<" else "big") + value[size:]
    return data[:at] + struct.pack(f"{order}HHI4s", tag, kind, number, value) + data[at + 12 :]


# JPEG 2000, AVIF: boxes inside boxes. WebP: RIFF chunks.

FOLDERS = {b"jp2h": 0, b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": 6, b"moov": 0, b"res ": 0}


def iso_boxes(data, rng):
    places = list(_boxes(data, 0, len(data)))
    if not places:
        return data
    begin, header, end = rng.choice(places)
    match rng.randrange(5):
        case 0:
            return data[:begin] + _number(rng, 4).to_bytes(4, "big") + data[begin + 4 :]
        case 1:
            return data[:begin] + data[end:]
        case 2:
            return data[:end] + data[begin:end] + data[end:]
        case _:  # of the same length, since other boxes hold offsets
            content = bytearray(data[begin + header : end])
            for _ in range(rng.choice([1, 1, 2])):
                if content:
                    content[rng.randrange(len(content))] = rng.choice([0, 1, 255, 128, rng.randrange(256)])
            return data[: begin + header] + bytes(content) + data[end:]


def _boxes(data, at, end):
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = end if length == 0 else at + length
        if length == 1 or stop > end or stop < at + 8:
            return
        yield at, 8, stop
        if kind in FOLDERS:
            yield from _boxes(data, at + 8 + FOLDERS[kind], stop)
        at = stop


def riff_chunks(data, rng):
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    if not chunks:
        return data
    new = _shuffled(chunks, rng, lambda chunk, rng: (chunk[0], _damaged(chunk[1], rng)))
    body = b"".join(
        struct.pack("<4sI", kind, len(content)) + content + bytes(len(content) % 2) for kind, content in new
    )
    return b"RIFF" + struct.pack("<I", (len(body) + 4) % (1 << 32)) + b"WEBP" + body


def header_number(data, rng):
    """A number in the first bytes, where BMP, GIF and PPM keep all that matters."""
    if data[:1] == b"P":
        words = data[:40].split()
        if len(words) > 1:
            old = rng.choice(words[1:])
            return data[:40].replace(old, str(_number(rng, 4)).encode(), 1) + data[40:]
    at, size = rng.randrange(min(64, len(data))), rng.choice([1, 2, 4])
    return data[:at] + _number(rng, size).to_bytes(size, "little") + data[at + size :]


def _shuffled(parts, rng, damage):
    parts = list(parts)
    one, two = rng.randrange(len(parts)), rng.randrange(len(parts))
    match rng.randrange(6):
        case 0:
            del parts[one]
        case 1:
            parts.insert(two, parts[one])
        case 2:
            parts[one], parts[two] = parts[two], parts[one]
        case _:
            parts[one] = damage(parts[one], rng)
    return parts


def _damaged(content, rng):
    return rng.choice(ANYWHERE)(content, rng) if content else rng.randbytes(rng.choice([1, 4, 30]))


FORMATS = [
    (lambda data: data.startswith(b"\x89PNG"), png_chunks),
    (lambda data: data.startswith(b"\xff\xd8"), jpeg_segments),
    (lambda data: data[:2] in (b"II", b"MM"), tiff_entries),
    (lambda data: data[4:8] in (b"jP  ", b"ftyp"), iso_boxes),
    (lambda data: data[8:12] == b"WEBP", riff_chunks),
]


def damaged_image(seeds, rng):
    """(how, bytes): a seed, damaged once or a few times."""
    name = rng.choice(sorted(seeds))
    data, steps = seeds[name], [name]
    for _ in range(rng.choice(TIMES)):
        aware = next((change for fits, change in FORMATS if fits(data)), header_number)
        if rng.random() < 0.06:
            other = rng.choice(sorted(seeds))
            data, step = splice(data, seeds[other], rng), f"splice {other}"
        else:
            change = aware if rng.random() < 0.6 else rng.choice(ANYWHERE)
            data, step = change(data, rng) or data, change.__name__
        steps.append(step)
    return " + ".join(steps), data


# Token files: a zip of a pickle and of tensors.


def zip_entries(data, rng):
    """Written anew, with right checksums, but for one thing."""
    entries = _entries(data)
    if not entries:
        return data
    names = list(entries)
    one, kinds = rng.choice(names), dict.fromkeys(names, zipfile.ZIP_STORED)
    extra = []
    match rng.randrange(8):
        case 0:
            del entries[one]
        case 1:
            extra.append((rng.choice(names), entries[one]))
        case 2:
            extra.append((rng.choice(["archive/data.pkl", "../x", "archive/data/9", one.upper(), "a" * 300]), b"x"))
        case 3:
            kinds[one] = zipfile.ZIP_DEFLATED
        case 4:
            entries[one] = entries[rng.choice(names)]
        case 5:
            entries = dict(sorted(entries.items(), key=lambda _: rng.random()))
        case _:
            entries[one] = _damaged(entries[one], rng)
    return _zipped([*entries.items(), *extra], kinds)


def zip_checksums(data, rng):
    """The recorded checksum of an entry, in one of the two places where it stands."""
    at = data.find(rng.choice([b"PK\3\4", b"PK\1\2"]), rng.randrange(len(data)))
    return data if at < 0 else data[: at + 14] + rng.randbytes(4) + data[at + 18 :]


def zip_directory(data, rng):
    """A field of the central directory or of its end."""
    at = data.rfind(rng.choice([b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"]))
    if at < 0:
        return data
    field, size = at + rng.randrange(4, 46), rng.choice([2, 4])
    return data[:field] + _number(rng, size).to_bytes(size, "little") + data[field + size :]


def pickle_bytes(data, rng):
    """The pickle alone: the opcodes that say what the tensors are."""
    entries = _entries(data)
    names = [name for name, content in entries.items() if name.endswith(".pkl") and content]
    if not names:
        return data
    entries[names[0]] = rng.choice([flip_bits, set_bytes, set_number, copy_elsewhere])(entries[names[0]], rng)
    return _zipped(entries.items(), {})


def _entries(data):
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:  # damaged before
        return {}


def _zipped(entries, kinds):
    import warnings

    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # a name twice is what we want
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, kinds.get(name, zipfile.ZIP_STORED))
    return buffer.getvalue()


OF_ZIPS = [zip_entries, zip_checksums, zip_directory, pickle_bytes]


def damaged_tokens(seeds, rng):
    """(how, bytes, the seeds it may still be)."""
    name = rng.choice(sorted(seeds))
    data, steps = seeds[name], [name]
    parents = [name]
    for _ in range(rng.choice(TIMES)):
        if rng.random() < 0.06:
            parents.append(rng.choice(sorted(seeds)))
            data, step = splice(data, seeds[parents[-1]], rng), f"splice {parents[-1]}"
        else:
            change = rng.choice(OF_ZIPS if rng.random() < 0.6 else ANYWHERE)
            data, step = change(data, rng) or data, change.__name__
        steps.append(step)
    return " + ".join(steps), data, parents


def forged_tokens(seeds, rng):
    """(how, bytes): somebody's own content, with a right checksum over it."""
    import torch

    name = rng.choice(sorted(seeds))
    content = torch.load(BytesIO(seeds[name]), weights_only=True)
    steps = [name]
    for _ in range(rng.randint(1, 2)):
        step = rng.choice([_forged_meta, _forged_layout, _forged_shape, _forged_entry])
        with contextlib.suppress(RuntimeError, IndexError):  # torch cannot do this to what the step before made
            step(content, rng, torch)
        steps.append(step.__name__)
    content["crc32"] = checksum(content)
    buffer = BytesIO()
    torch.save(content, buffer)
    return " + ".join(steps), buffer.getvalue()


VALUES = [None, True, -1, 0, 1, 2, 7, 2**31, 2**63, 2**70, 1e400, 0.5, "", "x", [], [1], [4, 4], [[1]], {}, {"a": {}}]


def _forged_meta(content, rng, torch):
    if not isinstance(content.get("meta"), str):
        return
    try:
        meta = json.loads(content["meta"])
    except ValueError:
        return
    if type(meta) is not dict or rng.random() < 0.1:
        content["meta"] = rng.choice(["", "{", "[1]", "null", "1" * 5000, "[" * 100_000, '{"a": NaN}', "\ud800"])
        return
    meta[rng.choice([*sorted(meta), "scorer", "source", "preprocess", "normalize"])] = rng.choice(VALUES)
    content["meta"] = json.dumps(meta)


def _forged_layout(content, rng, torch):
    layout = content.get("layout")
    if isinstance(layout, torch.Tensor) and layout.numel() and layout.dtype == torch.int32:
        layout = layout.clone()
        layout.view(-1)[rng.randrange(layout.numel())] = rng.choice([-1, 0, 1, 2, 3, 31, 32, 63, 2**31 - 1, -(2**31)])
        content["layout"] = layout


def _forged_shape(content, rng, torch):
    key = rng.choice(["layout", "patches"])
    tensor = content.get(key)
    if isinstance(tensor, torch.Tensor) and not tensor.is_complex():  # forged before: torch warns where it is cast back
        tensor = rng.choice(
            [
                lambda: tensor[:-1].clone(),
                lambda: tensor.flatten(),
                lambda: tensor.to(
                    rng.choice([torch.float64, torch.int64, torch.bfloat16, torch.bool, torch.complex64])
                ),
                lambda: tensor[:0].clone(),
                lambda: torch.full(tensor.shape, float("nan")),
                lambda: tensor.transpose(0, 1),
                lambda: tensor.expand(5, *tensor.shape),
                lambda: tensor.to_sparse(),
                lambda: tensor.to("meta"),
            ]
        )()
        content[key] = tensor


def _forged_entry(content, rng, torch):
    key = rng.choice(["format", "version", "saliency", "patches", "meta", "layout", "more"])
    content[key] = rng.choice(
        [*VALUES, torch.zeros(3), [torch.zeros(4, 4)], [torch.tensor(float("nan"))], pickle.dumps(1)]
    )


def checksum(content):
    """As docs/file-format.md says, where it can be taken at all."""
    try:
        crc = zlib.crc32(content["meta"].encode("utf-8", "surrogatepass"))
        patches = [content["patches"]] if "patches" in content else []
        for tensor in [content["layout"], *patches, *content["saliency"]]:
            crc = zlib.crc32(f"{tensor.dtype} {list(tensor.shape)}".encode(), crc)
            crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    except (AttributeError, TypeError, KeyError, RuntimeError):  # forged beyond a checksum
        return 0
    return crc
