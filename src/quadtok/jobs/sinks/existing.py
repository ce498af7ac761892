"""Files that are there already: whether one is what a run would write, and what is never replaced.

Without the policy `overwrite` nothing is replaced but what quadtok wrote itself, or left empty or torn. With it, any
regular file may be, but an input of the run, and an image that quadtok did not make. Never a device, pipe or folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

from quadtok.errors import ImageError, OutputError, TokenFileError
from quadtok.files import destination, open_regular
from quadtok.images import read_image
from quadtok.jobs.base import FileKind
from quadtok.jobs.tensors import is_map, same_map
from quadtok.jobs.words import Words
from quadtok.marks import (
    HEAD_BYTES,
    Mark,
    MarkKind,
    describe_content,
    head_of,
    holds_nothing,
    image_format,
    mark_of_file,
)
from quadtok.names import DEFAULT_SCORER, IfExistsName, ScorerName
from quadtok.storage.archive import looks_like_ours
from quadtok.storage.record import Record
from quadtok.storage.token_file import NewerVersionError, decode_tokens, read_token_file

# The marks of pictures, by what they are; and who draws those.
MARKS: dict[FileKind, MarkKind] = {
    "overlay": "picture of a plan",
    "drawing": "drawing of a plan",
    "restored image": "restored image",
    "picture of a map": "importance map",
}
_DRAWN_BY: dict[MarkKind, str] = {"picture of a plan": "tokenize", "drawing of a plan": "visualize"}
_ENDS = {"PNG": b"\0\0\0\0IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "page": b"</html>"}
_BLANK = {"page": b" \t\r\n"}
_END_BYTES = 64
_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C
_MOST_PIXELS = 1 << 28
_LARGEST_MAP = 1 << 24  # bytes


def check_place(path: Path, policy: IfExistsName, words: Words) -> None:
    """Refuse a place that cannot be written to under a policy, whatever would be written there.

    Raises:
        OutputError: where it is no regular file, or something is there that the policy keeps.
    """
    destination(path)
    if os.path.exists(path):
        check_replaced(path, path, policy, words)


def check_replaced(file: Path, name: Path, policy: IfExistsName, words: Words) -> None:
    """Refuse to replace a file that a policy keeps.

    Args:
        file: that file, or a copy of it.
        name: what sentences call it.
        policy: what happens to files that are there.
        words: what sentences call things.

    Raises:
        OutputError: where it is kept.
    """
    if policy == "error":
        raise OutputError(f"{name} exists; use {words.overwrite}")
    if policy == "overwrite" and image_format(head_of(file)) and not holds_nothing(file) and mark_of_file(file) is None:
        raise OutputError(f"{name} {_not_ours(file, 'made by quadtok', words)}")


def is_made(path: Path, kind: FileKind, fingerprint: str, words: Words, scorer: str = "") -> bool:
    """Whether a file that is there is whole and of this fingerprint.

    False where it is torn, or does not say: a tensor cannot, and of a picture the mark may be what was torn off.
    Then `holds` tells, once the bytes are known that would be written.

    Args:
        path: of the file.
        kind: what it should be.
        fingerprint: that it should have.
        words: what sentences call things.
        scorer: of the run: where another one made a token file, that is what is said.

    Raises:
        OutputError: with the end of the sentence, where it is something else.
        OSError: where it cannot be read.
    """
    if kind in ("tensor", "map") or holds_nothing(path):
        return False
    if kind == "token file":
        return _is_token_file(path, fingerprint, words, scorer)
    return _is_picture(path, Mark(MARKS[kind], fingerprint), words)


def holds(path: Path, kind: FileKind, data: bytes, words: Words) -> bool:
    """Whether a file that is there, and for which `is_made` said no, holds these bytes, or this map.

    False where it is torn.

    Raises:
        OutputError: with the end of the sentence, where it is something else.
        OSError: where it cannot be read.
    """
    if holds_nothing(path):
        return False
    if kind == "token file":
        _check_ours(path, words)  # it may have come since; a whole one of ours is as new as this
        return False
    if path.stat().st_size <= len(data):
        with open_regular(path) as stream:
            found = stream.read(len(data) + 1)
        if found == data:
            return True
        if kind == "map" and same_map(found, data):
            return True
        if data.startswith(found.rstrip(b"\0")):  # cut short, or its end never reached the disk
            return False
    if kind == "map" and _is_a_map(path):
        raise OutputError(
            f"holds another map, of other settings, or of another image of this name; use {words.overwrite}"
        )
    if mark_of_file(path) is None:
        raise OutputError(_not_ours(path, "made by quadtok", words))
    return False


def _is_a_map(path: Path) -> bool:
    if path.stat().st_size > _LARGEST_MAP:  # and is not read
        return False
    with open_regular(path) as stream:
        return is_map(stream.read(_LARGEST_MAP))


def _is_token_file(path: Path, fingerprint: str, words: Words, scorer: str) -> bool:
    _check_ours(path, words)
    try:
        found = Record.of(decode_tokens(read_token_file(path)).metadata)
    except NewerVersionError as problem:
        raise OutputError(f"has {problem}, or use {words.overwrite}") from problem
    except TokenFileError:
        return False
    if found.fingerprint == fingerprint:
        return True
    if found.scorer != scorer and {found.scorer, scorer} <= set(get_args(ScorerName)):
        raise OutputError(_by_another_scorer(found, scorer, words))
    raise OutputError(f"exists with other settings, or of another image of this name; use {words.overwrite}")


def _by_another_scorer(found: Record, scorer: str, words: Words) -> str:
    """The end of the sentence about a token file of ours: its scorer, and what to do."""
    weights = found.scorer_options.get("weights")
    its = f" (weights {weights})" if isinstance(weights, str) else ""
    default = ", the default" if scorer == DEFAULT_SCORER else ""
    return (
        f"was made by the scorer {found.scorer}{its}, and this run's is {scorer}{default}: give {words.scorer} "
        f"{found.scorer} to go on, or another output folder, or use {words.overwrite}"
    )


def _check_ours(path: Path, words: Words) -> None:
    if not looks_like_ours(head_of(path)):  # and is not read: it may be large
        raise OutputError(_not_ours(path, "a quadtok token file", words))


def _is_picture(path: Path, wanted: Mark, words: Words) -> bool:
    mark = mark_of_file(path)
    if mark is None or not _is_whole(path):
        return False
    if mark == wanted:
        return True
    if mark.kind != wanted.kind and mark.kind in _DRAWN_BY:
        drawn_by = _DRAWN_BY[mark.kind]
        raise OutputError(f"was drawn by quadtok {drawn_by}; use {words.overwrite}, or another output folder")
    if not mark.fingerprint:
        raise OutputError(f"was made by an older quadtok, which did not record its settings; use {words.overwrite}")
    raise OutputError(f"exists with other settings, or of another image of this name; use {words.overwrite}")


def _not_ours(path: Path, wanted: str, words: Words) -> str:
    """The end of the sentence about a file that quadtok did not write."""
    head = head_of(path)
    way_out = "it is kept: choose another name or folder" if image_format(head) else f"use {words.overwrite}"
    return f"is {describe_content(head)}, not {wanted}; {way_out}"


def _is_whole(path: Path) -> bool:
    """Whether all of a marked file is there: it has the end of its format, or decodes where that has none."""
    with open_regular(path) as stream:
        found = image_format(stream.read(HEAD_BYTES)) or "page"
        stream.seek(0 if found == "GIF" else max(0, path.stat().st_size - _END_BYTES))
        end = stream.read()
    if found == "GIF":
        return _gif_is_whole(end)
    if found in _ENDS:
        return end.rstrip(_BLANK.get(found, b"")).endswith(_ENDS[found])
    try:
        read_image(path, max_pixels=_MOST_PIXELS)
    except ImageError:
        return False
    return True


def _gif_is_whole(data: bytes) -> bool:
    """Whether the blocks of a GIF lead to its last byte. Its end is one byte, as which many places within it look."""
    try:
        place = 13 + _gif_colors(data[10])
        while data[place] in (_GIF_EXTENSION, _GIF_IMAGE):
            place += 2 if data[place] == _GIF_EXTENSION else 11 + _gif_colors(data[place + 9])
            while length := data[place]:
                place += 1 + length
            place += 1
    except IndexError:
        return False
    return data[place:] == b";"


def _gif_colors(flags: int) -> int:
    """The bytes of a table of colours, of which these flags say whether it is there."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0
