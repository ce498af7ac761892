"""A sample of a shard: what is stored of one image as members, bytes by their endings (container.py says in what).

    KEY.patches.npy  the pixels, flat: uint8, or another of `--dtype`; absent: layout only
    KEY.layout.npy   int32, flat: (y, x, scale) of each token, in forest z-order
    KEY.json         shapes of both, the image's name, the geometry, and what a token file records
or
    KEY.plan.npy     the order of all splits, flat (plan_stream.py)
    KEY.minima.npy   what thresholds need, where it is kept
    KEY.json         the image's name, size and sha256, and what all plans have in common

Arrays are flat, because some readers turn others into nested lists. A key is the image's name with all but letters,
digits, `/`, `_` and `-` written as `%` and two digits: readers part key and ending at the first dot. In the JSON, bytes
of a name that are no UTF-8 are escaped: to readers that use Arrow one such text is the end of all samples. What is read
is checked as a token file is: nothing is unpickled, no array is larger than its bytes, and a checksum covers all of a
sample.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import torch

from quadtok.errors import TokenFileError
from quadtok.names import PixelDtypeName
from quadtok.storage.container import Members
from quadtok.storage.content import DTYPES, checksum, content_of, has_right_types, tokens_in
from quadtok.storage.npy import decode_npy, encode_npy
from quadtok.storage.plan_format import Entry, Header, as_bytes
from quadtok.storage.plan_stream import stream_of_bytes
from quadtok.tokens import Tokens

FORMAT, VERSION = "quadtok sample", 1
SAMPLE = "sample"  # what an image becomes, whatever members it has
PATCHES, LAYOUT, PLAN, MINIMA, JSON = "patches.npy", "layout.npy", "plan.npy", "minima.npy", "json"
MAX_KEY = 180  # characters: what a tar's header holds beside an ending


def key_of(name: str) -> str:
    """The key of an image of this name: without dots, and another one for each name."""
    key = quote(as_bytes(name), safe="/").replace(".", "%2E").replace("~", "%7E")
    if len(key) <= MAX_KEY:
        return key
    begin = re.sub("%.?$", "", key[: MAX_KEY - 33])  # an escape stays whole, or goes
    return f"{begin}-{hashlib.sha256(as_bytes(name)).hexdigest()[:32]}"


def token_members(
    tokens: Tokens, name: str, dtype: PixelDtypeName, metadata: Mapping[str, Any], fingerprint: str = ""
) -> dict[str, bytes]:
    """What the tokens of one image are in a shard, by the endings. Their saliency is left out."""
    content = content_of(Tokens(tokens.plan, tokens.patches), dtype, metadata=_readable(metadata))
    arrays = {PATCHES: content.get("patches"), LAYOUT: content["layout"]}
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "name": _readable(name),
        "fingerprint": fingerprint,
        "shapes": {ending[:-4]: list(array.shape) for ending, array in arrays.items() if array is not None},
        "meta": json.loads(content["meta"]),
    }
    members = {ending: encode_npy(array.numpy()) for ending, array in arrays.items() if array is not None}
    return {**members, JSON: _json({**facts, "crc32": _checksum(facts, checksum(content))})}


def tokens_of(members: Members) -> Tokens:
    """The tokens in a sample, checked.

    Raises:
        TokenFileError: where it holds none, or is damaged.
    """
    facts = facts_of(members)
    content: dict[str, Any] = {"saliency": [], "meta": json.dumps(facts.get("meta"), sort_keys=True)}
    for ending, dtypes in ((LAYOUT, (torch.int32,)), (PATCHES, tuple(DTYPES.values()))):
        if ending in members:
            array = torch.from_numpy(decode_npy(members[ending]).copy())
            if array.dtype not in dtypes:
                raise TokenFileError(f"its {ending} holds {array.dtype}")
            content[ending[:-4]] = _shaped(array, facts, ending[:-4])
    if not has_right_types(content):
        raise TokenFileError("not a sample of tokens (its members have other types)")
    _check(facts, checksum(content))
    return tokens_in(content)


def plan_members(entry: Entry, header: Header, fingerprint: str = "") -> dict[str, bytes]:
    """What the plans of one image are in a shard, by the endings."""
    stream, minima = entry.stream, entry.stream.minima
    facts = {
        **json.loads(header.encode()),
        "format": FORMAT,
        "name": _readable(entry.name),
        "fingerprint": fingerprint,
        "image_size": [stream.spec.height, stream.spec.width],
        "sha256": entry.sha256,
    }
    more = {} if minima is None else {MINIMA: encode_npy(minima)}
    whole = {**facts, "crc32": _checksum(facts, zlib.crc32(stream.to_bytes()))}
    return {PLAN: encode_npy(stream.order), **more, JSON: _json(whole)}


def entry_of(members: Members) -> Entry:
    """The plans in a sample, checked.

    Raises:
        TokenFileError: where it holds none, or is damaged.
    """
    facts = facts_of(members)
    data = b"".join(decode_npy(members[ending]).tobytes() for ending in (PLAN, MINIMA) if ending in members)
    _check(facts, zlib.crc32(data))
    try:
        header = Header(facts["min_patch"], facts["max_patch"], facts["minima"], {})
        height, width = facts["image_size"]
        stream = stream_of_bytes(data, header.spec(height, width), header.minima)
        return Entry(str(facts["name"]), str(facts["sha256"]), stream)
    except (KeyError, ValueError, TypeError) as problem:
        raise TokenFileError("the plans of a sample cannot be read") from problem


def metadata_of(members: Members) -> dict[str, Any]:
    """What is recorded of the making of a sample, which is checked as a whole.

    Raises:
        TokenFileError: where it is damaged, or no sample of quadtok.
    """
    if PLAN in members:
        entry_of(members)
        return facts_of(members)
    return dict(tokens_of(members).metadata)


def facts_of(members: Members) -> dict[str, Any]:
    """What the JSON of a sample says.

    Raises:
        TokenFileError: where it is no sample of quadtok.
    """
    try:
        facts = json.loads(members[JSON])
        if facts["format"] != FORMAT:
            raise TokenFileError("not a sample of quadtok")
        if facts["version"] != VERSION:
            raise TokenFileError(f"format version {facts['version']}, this quadtok reads {VERSION}; upgrade it")
    except TokenFileError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as problem:
        raise TokenFileError("not a sample of quadtok") from problem
    return dict(facts)


def image_of(key: str, members: Members) -> str:
    """The name of the image of a sample.

    Raises:
        TokenFileError: where it does not say, or is no sample of quadtok.
    """
    name = facts_of(members).get("name")
    if not isinstance(name, str):
        raise TokenFileError(f"the sample {key} does not say the name of its image")
    return name


def _checksum(facts: Mapping[str, Any], of_arrays: int) -> int:
    """Of all that a sample holds: the arrays, then what is told of them."""
    return zlib.crc32(_json({name: fact for name, fact in facts.items() if name != "crc32"}), of_arrays)


def _check(facts: Mapping[str, Any], of_arrays: int) -> None:
    try:
        is_right = facts.get("crc32") == _checksum(facts, of_arrays)
    except (ValueError, RecursionError):  # no facts that quadtok writes
        is_right = False
    if not is_right:
        raise TokenFileError("checksum mismatch: the sample was damaged after it was written")


def _shaped(array: torch.Tensor, facts: Mapping[str, Any], name: str) -> torch.Tensor:
    try:
        return array.view([int(side) for side in facts["shapes"][name]])
    except (KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise TokenFileError(f"the shape of its {name} does not fit") from problem


def _readable(value: Any) -> Any:
    """The same with every text as UTF-8 can hold it."""
    if isinstance(value, Mapping):
        return {_readable(key): _readable(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(held) for held in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, allow_nan=False).encode()
