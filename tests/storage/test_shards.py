"""Samples of shards: keys that every reader parts alike, arrays that are checked before they are believed."""

import gzip
import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import random_saliency
from quadtok import Spec, tokenize
from quadtok.errors import TokenFileError
from quadtok.storage.npy import decode_npy, encode_npy
from quadtok.storage.plan_format import Entry, Header
from quadtok.storage.plan_stream import plan_streams
from quadtok.storage.sample import MAX_KEY, entry_of, key_of, plan_members, token_members, tokens_of
from quadtok.storage.shards import places_in
from shard_kinds import KINDS

SPEC = Spec(32, 32, 8, 16, 10)
NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
TOKENS = tokenize(torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32).to(torch.uint8), SPEC, "blur")
HEADER = Header(8, 16, "float32", {"scorer": {"name": "blur"}})
ENTRY = Entry("a.jpg", "ab" * 32, plan_streams(random_saliency(SPEC, 1), SPEC, "float32")[0])


def members_of(kind):
    return token_members(TOKENS, "a.jpg", "uint8", {}) if kind == "tokens" else plan_members(ENTRY, HEADER)


def read(kind, members):
    return tokens_of(members) if kind == "tokens" else entry_of(members)


@given(name=NAME)
def test_a_key_has_no_dot_and_fits_into_a_header(name):
    key = key_of(name)
    assert re.fullmatch(r"[A-Za-z0-9/_%-]+", key)
    assert len(key) <= MAX_KEY
    assert key == key_of(name)


@given(names=st.sets(NAME, min_size=2, max_size=5))
def test_other_names_have_other_keys(names):
    assert len({key_of(name) for name in names}) == len(names)


def test_keys_of_plain_names_can_be_read():
    assert key_of("cats/1_a-b") == "cats/1_a-b"
    assert key_of("cats/1.jpg") == "cats/1%2Ejpg"


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "none"])
def test_tokens_come_back_as_they_were(dtype):
    found = tokens_of(token_members(TOKENS, "a.jpg", dtype, {"more": [1, "é"]}))
    assert found.plan == TOKENS.plan and found.metadata["more"] == [1, "é"]
    if dtype == "none":
        assert found.patches is None
    else:
        torch.testing.assert_close(found.patches.float(), TOKENS.patches, rtol=0, atol=0.5 if dtype == "uint8" else 0)


def test_plans_come_back_as_they_were():
    found = entry_of(plan_members(ENTRY, HEADER))
    assert (found.name, found.sha256) == (ENTRY.name, ENTRY.sha256)
    assert found.stream.to_bytes() == ENTRY.stream.to_bytes()


@given(values=st.lists(st.integers(0, 255), max_size=50), dtype=st.sampled_from(["<u1", "<u2", "<i4", "<f2", "<f4"]))
def test_arrays_are_flat_and_numpys(values, dtype):
    array = np.array(values).astype(dtype)
    data = encode_npy(array.reshape(1, -1))
    assert np.array_equal(decode_npy(data), array)
    assert np.array_equal(np.load(io.BytesIO(data)), array)


def npy(array, **changed):
    stream = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | changed
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


ODD_ARRAYS = {
    "no array": b"nothing",
    "nothing": b"",
    "pickled": b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 9 + b"\n",
    "two-dimensional": npy(np.zeros((2, 2), np.uint8)),
    "more than its bytes": npy(np.zeros(4, np.uint8), shape=(1 << 40,)),
    "less than its bytes": npy(np.zeros(4, np.uint8), shape=(3,)),
    "a header of another length": encode_npy(np.zeros(3))[:8] + b"\x01\x00" + encode_npy(np.zeros(3))[10:],
    "texts": npy(np.array(["a", "b"])),
    "complex": npy(np.zeros(2, np.complex64)),
    "a later version": b"\x93NUMPY\x02\x00" + encode_npy(np.zeros(3))[8:],
}


@pytest.mark.parametrize("data", ODD_ARRAYS.values(), ids=ODD_ARRAYS)
def test_odd_arrays_are_refused(data):
    with pytest.raises(TokenFileError):
        decode_npy(data)


@pytest.mark.parametrize("kind", ["tokens", "plans"])
def test_every_flipped_bit_of_an_array_is_found(kind):
    whole = members_of(kind)
    for ending in whole:
        if ending == "json":
            continue
        for place in range(0, len(whole[ending]), 7):
            damaged = bytearray(whole[ending])
            damaged[place] ^= 4
            try:
                found = read(kind, {**whole, ending: bytes(damaged)})
            except TokenFileError:
                continue
            # What changed is then nothing that counts: a space in the header of an array.
            assert place < 128
            assert found is not None


@pytest.mark.parametrize("kind", ["tokens", "plans"])
def test_every_flipped_bit_of_the_facts_is_found_or_says_the_same(kind):
    whole = members_of(kind)
    for place in range(len(whole["json"])):
        damaged = bytearray(whole["json"])
        damaged[place] ^= 1 << place % 7
        try:
            read(kind, {**whole, "json": bytes(damaged)})
        except TokenFileError:
            continue
        assert json.loads(damaged) == json.loads(whole["json"])


@pytest.mark.parametrize("kind", ["tokens", "plans"])
@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"version": "1"},
        {"crc32": 1},
        {"crc32": None},
        {"shapes": None, "image_size": [1]},
        {"shapes": {"patches": [1], "layout": [-1, 3]}, "image_size": [1 << 40, 1]},
        {"meta": None, "min_patch": "x"},
        {"meta": 5, "sha256": 5, "minima": "double"},
        {"name": "b.jpg"},
        {"fingerprint": "0"},
        {"more": float("nan")},
    ],
    ids=str,
)
def test_facts_that_are_not_true_are_refused(kind, change):
    whole = members_of(kind)
    facts = json.loads(whole["json"]) | change
    with pytest.raises(TokenFileError):
        read(kind, {**whole, "json": json.dumps(facts).encode()})


@pytest.mark.parametrize("kind", ["tokens", "plans"])
@pytest.mark.parametrize("data", [b"", b"[]", b"5", b"{", b"\xff", b"[" * 100_000, None])
def test_what_has_no_facts_is_refused(kind, data):
    members = members_of(kind)
    del members["json"]
    with pytest.raises(TokenFileError):
        read(kind, members if data is None else {**members, "json": data})
    with pytest.raises(TokenFileError):
        read("plans" if kind == "tokens" else "tokens", members_of(kind))


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("cats/" + "x" * 200 + ".jpg", "cats/" + "x" * 142),
        ("%" + "x" * 200, "%25" + "x" * 144),
        ("x" * 146 + "." * 20, "x" * 146),
        ("x" * 145 + "." * 20, "x" * 145),
        ("x" * 144 + "." * 20, "x" * 144 + "%2E"),
    ],
)
def test_a_long_name_is_cut_behind_its_last_whole_escape(name, begin):
    assert key_of(name) == f"{begin}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:1000], "is no tar file as it is, or is cut short"),
        (lambda data: data[:-10240].rstrip(b"\0"), "cut short"),
        (lambda data: data + data, "goes on behind its end"),
        (lambda data: gzip.compress(data), "is no tar file as it is"),
        (lambda data: b"", "is no tar file as it is"),
    ],
    ids=["in a file", "in the last file", "joined", "compressed", "empty"],
)
def test_a_shard_that_is_not_whole_is_said_to_be(tmp_path, change, said):
    path = tmp_path / "shard-000000.tar"
    KINDS["tar"].write(path, [("a", {"json": b"{}"}), ("b", {"json": b"[" + b"1," * 2000})])
    assert [place.key for place in places_in(path)] == ["a", "b"]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TokenFileError, match=said) as caught:
        places_in(path)
    assert str(caught.value).startswith(f"{path}: ")
