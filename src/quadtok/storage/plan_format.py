"""The file of plan streams: one for many images, beside the photographs that they were made from.

    b"qtplans1"
    blocks: kind, 4 letters; length of the body, uint32; crc32 of the body, uint32; the body
        HEAD  JSON: the format's version, the scorer, how images were read, patch sizes, minima; once, first
        PLAN  an image: see `encode_entry`
        INDX  the images of all blocks before it: zeros up to a multiple of 8 bytes in the file, their number,
              a hash of each name in rising order, and where its block begins; uint64 all
        DONE  where the last INDX begins, uint64; last

All numbers are little-endian. A file only grows, and a block is written by one call: whoever reads while one process
appends (a lock keeps others out), or after it was killed, sees whole blocks and perhaps a torn one at the end, which is
passed over and cut off by the next who appends. An index is a short cut and nothing else: without one, the blocks are
read one after another. Where a name is there twice, the later one counts.

A file is data from elsewhere. Whatever is read is checked first: the checksum of its block, its name, and that its
order is one in which patches can split.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from quadtok.errors import InputError, QuadtokError, TokenFileError, about
from quadtok.names import MinimaName
from quadtok.spec import Spec
from quadtok.storage.plan_stream import PlanStream, stream_of_bytes
from quadtok.storage.torn import has_whole_block, is_all_zeros

MAGIC = b"qtplans1"
FORMAT, VERSION = "quadtok plans", 1
HEAD, PLAN, INDEX, DONE = b"HEAD", b"PLAN", b"INDX", b"DONE"
BLOCK = struct.Struct("<4sII")  # kind, length, crc32
ENTRY = struct.Struct("<II32s16sH")  # height, width, sha256 of the image file, fingerprint, length of the name
FINGERPRINT = 32  # digits that are kept of one
WORD = struct.Struct("<Q")
MAX_NAME = 2**16 - 1  # bytes


class Entry(NamedTuple):
    """An image of a store.

    Attributes:
        name: of its file, relative to the folder of all.
        sha256: of its file, 64 digits.
        stream: its plans.
        fingerprint: 32 digits that tell of all that the plans depend on; zeros where nobody asks.
    """

    name: str
    sha256: str
    stream: PlanStream
    fingerprint: str = "0" * FINGERPRINT

    def told(self) -> bytes:
        """All that it says: two are the same image with the same plans where this is the same."""
        return encode_entry(self)


@dataclass(frozen=True)
class Header:
    """What all plans of a file have in common.

    Attributes:
        min_patch, max_patch: see `Spec`.
        minima: see `plan_streams`.
        made: JSON values: the scorer, how images were read, versions.
    """

    min_patch: int
    max_patch: int
    minima: MinimaName
    made: Mapping[str, Any]

    def encode(self) -> bytes:
        """As the body of its block.

        Raises:
            InputError: where what is told are no JSON values.
        """
        own = {"format": FORMAT, "version": VERSION, "min_patch": self.min_patch, "max_patch": self.max_patch}
        try:
            text = json.dumps({**self.made, **own, "minima": self.minima}, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as problem:
            raise InputError(f"what is recorded of plans must be JSON values: {problem}") from problem
        return text.encode("utf-8", "surrogatepass")

    def spec(self, height: int, width: int) -> Spec:
        """Of an image of this size, with the tokens of the full grid."""
        return Spec.full(height, width, self.min_patch, self.max_patch)


def decode_header(body: bytes) -> Header:
    """What `Header.encode` wrote.

    Raises:
        TokenFileError: where it is something else, or newer.
    """
    try:
        content = json.loads(body.decode("utf-8", "surrogatepass"))
        version = content.pop("version")
        if content.pop("format") != FORMAT or type(version) is not int:
            raise TokenFileError("not a file of quadtok plans")
        if version != VERSION:
            raise TokenFileError(f"format version {version}, this quadtok reads {VERSION}; upgrade it")
        min_patch, max_patch, minima = (content.pop(name) for name in ("min_patch", "max_patch", "minima"))
        Spec.full(max_patch, max_patch, min_patch, max_patch)
    except TokenFileError:
        raise
    except (QuadtokError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise TokenFileError("the header of a file of plans cannot be read") from problem
    if minima not in get_args(MinimaName):
        raise TokenFileError(f"minima {minima!r} are of no kind that this quadtok knows")
    return Header(min_patch, max_patch, minima, content)


def encode_entry(entry: Entry) -> bytes:
    """The body of an image's block: height, width, sha256, fingerprint, its name's length and name, the stream.

    Raises:
        InputError: for a name of more than 65,535 bytes.
    """
    name, spec = as_bytes(entry.name), entry.stream.spec
    digests = bytes.fromhex(entry.sha256), bytes.fromhex(entry.fingerprint)
    return ENTRY.pack(spec.height, spec.width, *digests, len(name)) + name + entry.stream.to_bytes()


def decode_entry(body: bytes, header: Header) -> Entry:
    """What `encode_entry` wrote, checked.

    Raises:
        TokenFileError: where it is something else.
    """
    name = name_in(body)
    height, width, sha256, fingerprint, length = ENTRY.unpack_from(body)
    try:
        spec = header.spec(height, width)
    except QuadtokError as problem:
        raise TokenFileError(f"the geometry of {name} is impossible: {problem}") from problem
    with about(name):
        stream = stream_of_bytes(body[ENTRY.size + length :], spec, header.minima)
    return Entry(name, sha256.hex(), stream, fingerprint.hex())


def name_in(body: bytes) -> str:
    """The name in the body of an image's block."""
    if len(body) < ENTRY.size:
        raise TokenFileError("the plans of an image are cut short")
    length = ENTRY.unpack_from(body)[-1]
    name = body[ENTRY.size : ENTRY.size + length]
    if len(name) != length:
        raise TokenFileError("the plans of an image are cut short")
    return name.decode("utf-8", "surrogateescape")


def as_bytes(name: str) -> bytes:
    """A name as it is stored; what the file system had no characters for stays the bytes that it is."""
    try:
        stored = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as problem:
        raise InputError(f"{name!r} is no name of a file") from problem
    if not 0 < len(stored) <= MAX_NAME:
        raise InputError(f"a name has 1 to {MAX_NAME} bytes, this one {len(stored)}")
    return stored


def hash_of(name: str) -> int:
    """64 bits of a name, for the index."""
    return WORD.unpack(hashlib.blake2b(as_bytes(name), digest_size=WORD.size).digest())[0]


def encode_block(kind: bytes, body: bytes) -> bytes:
    """A block, as a whole."""
    return BLOCK.pack(kind, len(body), zlib.crc32(body)) + body


class Block(NamedTuple):
    """A whole block, and where it lies."""

    kind: bytes
    begin: int
    end: int


def block_at(data: mmap.mmap | bytes, begin: int) -> Block | None:
    """The block that begins here; None where it is torn: the file ends in it, or with it and it is damaged, or zeros
    follow to the end, as a power cut leaves them.

    Raises:
        TokenFileError: where it is damaged, and others follow.
    """
    if begin + BLOCK.size > len(data):
        return None
    kind, length, crc32 = BLOCK.unpack_from(data, begin)
    end = begin + BLOCK.size + length
    if end > len(data):
        if has_whole_block(data, begin + BLOCK.size, PLAN, BLOCK):
            raise TokenFileError(f"damaged at byte {begin}")
        return None
    if kind in (HEAD, PLAN, INDEX, DONE) and zlib.crc32(data[begin + BLOCK.size : end]) == crc32:
        return Block(kind, begin, end)
    if is_all_zeros(data, end):
        return None
    raise TokenFileError(f"damaged at byte {begin}")


def body_of(data: mmap.mmap | bytes, block: Block) -> bytes:
    """What stands in a block."""
    return bytes(data[block.begin + BLOCK.size : block.end])


class Index(NamedTuple):
    """Where the images of a file are: hashes of their names in rising order, and where their blocks begin."""

    hashes: NDArray[np.uint64]
    begins: NDArray[np.uint64]

    def encode(self, at: int) -> bytes:
        """As the body of a block that begins there in a file."""
        padding = -(at + BLOCK.size) % WORD.size
        return bytes(padding) + WORD.pack(len(self.hashes)) + self.hashes.tobytes() + self.begins.tobytes()

    def candidates(self, name: str) -> Iterator[int]:
        """Where a name may be: nowhere, at one place, or at several where hashes are equal."""
        wanted = np.uint64(hash_of(name))
        at = int(np.searchsorted(self.hashes, wanted))
        while at < len(self.hashes) and self.hashes[at] == wanted:
            yield int(self.begins[at])
            at += 1


def stored_index(data: mmap.mmap | bytes) -> Index | None:
    """The index at the end of a file, checked; None where the file has none, or has grown since."""
    at_end = len(data) - BLOCK.size - WORD.size
    if at_end < len(MAGIC) or data[at_end : at_end + len(DONE)] != DONE:
        return None
    done = block_at(data, at_end)
    if done is None or done.end != len(data):
        return None
    begin = WORD.unpack(body_of(data, done))[0]
    block = block_at(data, begin) if len(MAGIC) <= begin < at_end else None
    if block is None or block.kind != INDEX or block.end != at_end:
        raise TokenFileError("its last block names an index that is not there")
    first = block.begin + BLOCK.size
    first += -first % WORD.size
    count = (block.end - first) // (2 * WORD.size)
    if block.end - first != WORD.size * (1 + 2 * count) or WORD.unpack_from(data, first)[0] != count:
        raise TokenFileError("its index has another size than it says")
    words = np.frombuffer(data, "<u8", 2 * count, first + WORD.size)
    return Index(words[:count], words[count:])


def scanned_index(data: mmap.mmap | bytes, begin: int) -> tuple[Index, int]:
    """The index of all images from a block on, and where the last whole block ends."""
    latest: dict[str, int] = {}
    while (block := block_at(data, begin)) is not None:
        if block.kind == PLAN:
            latest[name_in(body_of(data, block))] = block.begin
        begin = block.end
    return index_of(latest), begin


def index_of(latest: Mapping[str, int]) -> Index:
    """The index of names and where their blocks begin."""
    hashes = np.fromiter(map(hash_of, latest), np.uint64, len(latest))
    begins = np.fromiter(latest.values(), np.uint64, len(latest))
    order = np.argsort(hashes, kind="stable")
    return Index(hashes[order], begins[order])


def read_header(data: mmap.mmap | bytes) -> tuple[Header, int]:
    """The header of a file, and where it ends.

    Raises:
        TokenFileError: where the file is something else, or ends in it.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise TokenFileError("not a file of quadtok plans")
    block = block_at(data, len(MAGIC))
    if block is None or block.kind != HEAD:
        raise TokenFileError("a file of quadtok plans that is cut short: it has no header")
    return decode_header(body_of(data, block)), block.end


def map_file(descriptor: int) -> mmap.mmap | bytes:
    """What an open file holds, read where it is asked for."""
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file
        return b""
