"""How far an archive from elsewhere is trusted: nothing is run, nothing is taken on its word, damage is noticed."""

import copy
import os
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO

import pytest
import torch

from quadtok.errors import TokenFileError
from quadtok.storage.archive import looks_like_ours
from quadtok.storage.token_file import decode_tokens, encode_tokens, load_tokens
from token_files import (
    LAYOUT,
    NOT_OURS,
    PATCHES,
    assert_same_tokens,
    content,
    edited,
    records,
    refused,
    relaid,
    saved,
    some_tokens,
    zipped,
)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("save", [saved, lambda evil: saved({**content(), "x": evil}), pickle.dumps])
def test_nothing_in_a_malicious_file_is_run(save, tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "tokens.pt"
    path.write_bytes(save(Evil(trap)))
    with pytest.raises(TokenFileError, match=f"^{path}: {NOT_OURS}"):
        load_tokens(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))
    assert trap.exists()  # the trap itself works


def legacy():
    buffer = BytesIO()
    torch.save(content(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


FOREIGN = {
    "nothing": lambda: b"",
    "a JPEG": lambda: b"\xff\xd8\xff\xe0 and so on",
    "text": lambda: b"dear diary",
    "a bare tensor": lambda: saved(torch.ones(3)),
    "another project's dict": lambda: saved({"state_dict": {"weight": torch.ones(3)}, "version": 1}),
    "a list": lambda: saved([1, 2]),
    "another format": lambda: edited(format="octok"),
    "a format that is a tensor": lambda: edited(format=torch.ones(2)),
    "no version": lambda: edited(["version"]),
    "a version that is a tensor": lambda: edited(version=torch.ones(2, dtype=torch.int32)),
    "a version that is text": lambda: edited(version="1\n2"),
    "a zip of something": lambda: zipped(readme="hello"),
    "a TorchScript archive": lambda: zipped(**{"data.pkl": b"\x80\x02}.", "constants.pkl": b"\x80\x02)."}),
    "the format of torch before 1.6": legacy,
    "that with a zip behind it": lambda: legacy() + zipped(**{"data.pkl": b"\x80\x02}."}),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_told_from_ours(make):
    assert refused(make()).startswith(NOT_OURS)


@pytest.mark.parametrize("level", [0, 9])  # level 0 makes the records larger, not smaller
def test_a_compressed_archive_is_refused_as_such(level):
    assert refused(zipped(zipfile.ZIP_DEFLATED, level, **records())) == f"{NOT_OURS} (a compressed archive)"


def test_our_records_in_another_uncompressed_zip_are_read():
    assert_same_tokens(decode_tokens(zipped(**records())), some_tokens())


def test_an_archive_that_holds_a_name_twice_is_refused():
    # torch ignores case where it looks for a record, and zipfile does not.
    twice = {**records(), "DATA.PKL": records()["data.pkl"]}
    assert refused(zipped(**twice)) == f"{NOT_OURS} (two records of one name)"


def test_damage_that_made_an_odd_text_of_a_number_does_not_warn():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        refused(zipped(**{"data.pkl": b"\x80\x02}S" + rb"'\q\u'" + b"\n0."}))
    assert not heard


@pytest.mark.parametrize("share", [0.99, 0.5, 0.2])
def test_a_file_cut_short_is_told_from_a_foreign_one(share):
    data = encode_tokens(some_tokens())
    cut = data[: int(len(data) * share)]
    assert refused(cut) == "damaged or cut short"
    assert looks_like_ours(cut)
    assert looks_like_ours(data)


@pytest.mark.parametrize(
    "make",
    [*list(FOREIGN.values())[:6], lambda: saved({"model": "quadtok"}), lambda: saved({"format": "pdf"})],
)
def test_a_foreign_file_does_not_look_like_ours(make):
    assert not looks_like_ours(make())


class Subclass(torch.Tensor):
    pass


def with_attribute(tensor):
    tensor.numpy = "something else"
    return tensor


STRANGE = {
    "no tensor": lambda: None,
    "of another type": lambda: PATCHES.double(),
    "of integers": lambda: PATCHES.long(),
    "of fewer dimensions": lambda: PATCHES.flatten(1),
    "sparse": lambda: torch.eye(4).to_sparse(),
    "sparse rows": lambda: torch.eye(4).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.rand(17, 3, 8, 8), 0.1, 0, torch.quint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "on no device": lambda: PATCHES.to("meta"),
    "a subclass": lambda: PATCHES.as_subclass(Subclass),
    "a parameter": lambda: torch.nn.Parameter(PATCHES),
    "asking for gradients": lambda: PATCHES.clone().requires_grad_(),
    "negated lazily": lambda: torch._neg_view(PATCHES.clone()),
    "wearing an attribute": lambda: with_attribute(PATCHES.clone()),
    "not contiguous": lambda: PATCHES.mT.contiguous().mT,
    "part of a larger storage": lambda: torch.cat([PATCHES, PATCHES])[:17],
    "at an offset": lambda: torch.cat([PATCHES, PATCHES])[17:],
    "without a step": lambda: PATCHES[:1].expand(17, -1, -1, -1),
    "of a terabyte without a step": lambda: torch.zeros(1).expand(17, 3, 10**5, 10**5),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_patches_must_be_a_plain_tensor(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about its own plans for some of these
        data = saved({**content(), "patches": make()})
    assert refused(data).startswith(f"{NOT_OURS} (")


SIZES = b"K\x11K\x03K\x08K\x08"  # 17, 3, 8, 8 as the pickle has it
NUMBER = b"M" + (17 * 3 * 8 * 8).to_bytes(2, "little")  # of elements in the storage
MANY = b"\x8a\x09" + (2**64).to_bytes(9, "little")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SIZES, b"K\x11K\x03" + 2 * (b"J" + (10**5).to_bytes(4, "little"))),
        (SIZES, b"K\x00K\x03" + 2 * (b"J" + (2**31 - 1).to_bytes(4, "little"))),
        (SIZES, b"K\x11K\x03" + 2 * MANY),
        (NUMBER, b"J" + (10**9).to_bytes(4, "little")),
        (NUMBER, MANY),
    ],
)
def test_sizes_that_the_storage_does_not_have_are_refused(old, new):
    pickled = records()["data.pkl"]
    assert pickled.count(old) == 1
    data = zipped(**{**records(), "data.pkl": pickled.replace(old, new)})
    assert refused(data) in ("damaged or cut short", f"{NOT_OURS} (its entries have other types)")


def greedy(function, argument):
    """An archive whose pickle calls what `weights_only` lets it call."""
    text = f"c{function}\n".encode()
    return zipped(**{"data.pkl": b"\x80\x02" + text + argument + b"\x85R.", "version": "3\n"})


def overlapping():
    """A thousand records, all made of the same 500 kB."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(500_000))
        for number in range(1, 1000):
            again = copy.copy(archive.getinfo("archive/data/0"))
            again.filename = f"archive/data/{number}"
            archive.filelist.append(again)
    return buffer.getvalue()


def deflated():
    """200 MB of zeros as the pixels, in 200 kB."""
    return zipped(zipfile.ZIP_DEFLATED, **{**records(), "data/2": bytes(200 << 20)})


def test_small_files_that_promise_much_cost_neither_memory_nor_time(tmp_path):
    gigabytes = b"J" + (2_000_000_000).to_bytes(4, "little")
    files = {
        "no step": saved({**content(), "layout": torch.zeros(1, dtype=torch.int32).expand(10**6, 10**6)}),
        "a grid of 10^12": relaid(LAYOUT, image_size=[8_000_000, 8_000_000]),
        "one token of 2^28 pixels": relaid([[0, 0, 14]], image_size=[2**14] * 2, min_patch=1, max_patch=2**14),
        "one token of 2^40 pixels": relaid([[0, 0, 20]], image_size=[2**20] * 2, min_patch=1, max_patch=2**20),
        "deflated": deflated(),
        "overlapping": overlapping(),
        "a bytearray": greedy("builtins\nbytearray", gigabytes),
        "a version to be printed": saved({**content(), "version": [[[[0] * 1000] * 1000] * 1000] * 1000}),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert len(data) < 1_000_000
    script = """
import resource, sys, time
from quadtok import load_tokens
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
accepted = []
for path in sys.argv[1:]:
    try:
        load_tokens(path)
        accepted.append(path)
    except ValueError:
        pass
print(peak() - before, time.perf_counter() - start, *accepted, sep="\\n")
"""
    command = [sys.executable, "-c", script, *(str(tmp_path / name) for name in files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    megabytes, seconds, *accepted = ran.stdout.splitlines()
    assert accepted == [str(tmp_path / "one token of 2^28 pixels")]  # an honest file: there are such images
    assert float(megabytes) < 50
    assert float(seconds) < 3


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5, 18, 128])
def test_a_pickle_of_another_protocol_is_refused_without_a_warning(protocol, recwarn):
    """torch warns of those that it does not write itself."""
    data = encode_tokens(some_tokens())
    begin = data.index(b"\x80\x02}") + 1
    assert refused(data[:begin] + bytes([protocol]) + data[begin + 1 :]).startswith(NOT_OURS)
    assert not recwarn.list


def damaged(data, generator):
    begin = generator.randrange(len(data))
    length = generator.randrange(1, 50)
    kind = generator.choice(["bit", "bytes", "cut", "insertion", "removal", "zeros", "copy"])
    match kind:
        case "bit":
            return data[:begin] + bytes([data[begin] ^ 1 << generator.randrange(8)]) + data[begin + 1 :]
        case "bytes":
            return data[:begin] + generator.randbytes(length) + data[begin + length :]
        case "cut":
            return data[:begin]
        case "insertion":
            return data[:begin] + generator.randbytes(length) + data[begin:]
        case "removal":
            return data[:begin] + data[begin + length :]
        case "zeros":
            return data[:begin] + bytes(length) + data[begin + length :]
        case "copy":
            source = generator.randrange(len(data))
            return data[:begin] + data[source : source + length] + data[begin + length :]


def test_random_damage_is_refused_in_one_line_or_changes_nothing(tmp_path):
    data, path, generator = encode_tokens(some_tokens()), tmp_path / "tokens.pt", random.Random(0)
    whole = decode_tokens(data)
    harmless = 0
    for _ in range(1500):
        path.write_bytes(damaged(data, generator))
        try:
            loaded = load_tokens(path)
        except TokenFileError as problem:
            assert str(problem).startswith(f"{path}: ")
            assert "\n" not in str(problem)
        else:
            assert_same_tokens(loaded, whole)
            assert loaded.metadata == whole.metadata
            harmless += 1
    assert harmless < 300  # padding, and what a zip says twice


def test_a_flipped_bit_anywhere_in_the_pickle_is_refused_or_changes_nothing(recwarn):
    data = encode_tokens(some_tokens())
    whole = decode_tokens(data)
    begin = data.index(b"\x80\x02}")
    end = data.index(b"u.", begin) + 2
    for at in range(begin, end):
        for bit in (0, 1, 4, 7):
            try:
                loaded = decode_tokens(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            except TokenFileError:
                continue
            assert_same_tokens(loaded, whole)
            assert loaded.metadata == whole.metadata
    assert not recwarn.list  # torch has things to say about some
