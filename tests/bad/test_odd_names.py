"""Case 33: names that hold anything, from a folder, a list and tar files, into files, plans and shards, and back."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from bad.inputs import ODD_NAMES, small
from quadtok import PlanStore, load_tokens
from quadtok.storage.sample import entry_of, key_of, tokens_of
from quadtok.storage.shards import read_shard

NAMES = sorted(ODD_NAMES.values())


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """A folder of all of them; its parent is the working folder."""
    for name in NAMES:
        small(tmp_path / "odd", name)
    monkeypatch.chdir(tmp_path)
    return Path("odd")


def as_folder(odd: Path) -> Path:
    return odd


def as_tar(form: int):
    def make(odd: Path) -> Path:
        with tarfile.open("odd.tar", "w", format=form) as archive:
            for name in NAMES:
                archive.add(odd / name, name)
        return Path("odd.tar")

    return make


SOURCES = {"a folder": as_folder, "pax": as_tar(tarfile.PAX_FORMAT), "gnu": as_tar(tarfile.GNU_FORMAT)}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def tokenized(quadtok, *arguments):
    """All are written, nothing that is said moves the cursor, and the same command again does nothing."""
    command = ["tokenize", *arguments, "--scorer", "blur", "-v", "--json"]
    first, again = quadtok(*command), quadtok(*command)
    for result, status in ((first, "written"), (again, "skipped")):
        *files, summary = map(json.loads, result.out.splitlines())
        assert (result.code, summary[status], summary["left"]) == (0, len(NAMES), 0), result.err
        assert [line for line in result.lines if not line.isprintable()] == []
        assert len(result.lines) == len(NAMES) + 1
    return files


def names_in(source: Path) -> list[str]:
    """What inputs are called below the folder or the archive that they were found in."""
    return NAMES if source.suffix != ".tar" else [f"{source.stem}/{name}" for name in NAMES]


@every_source
def test_they_become_files(quadtok, odd, source):
    given = source(odd)
    files = tokenized(quadtok, given, "-o", "out")
    assert sorted(one["input"] for one in files) == sorted(str(given / name) for name in NAMES)
    for name in names_in(given):
        assert load_tokens(Path("out", name).with_suffix(".pt")).metadata["source"]["name"] == name
    assert quadtok("info", "--check", "out").out.splitlines()[-1] == f"{len(NAMES)} good, 0 bad"


@every_source
def test_a_manifest_remembers_them(quadtok, odd, source):
    given = source(odd)
    tokenized(quadtok, given, "-o", "out", "--manifest", "manifest.jsonl")
    lines = [json.loads(line) for line in Path("manifest.jsonl").read_bytes().splitlines()]
    assert sorted(line["input"] for line in lines) == sorted(names_in(given))


@every_source
def test_they_become_plans(quadtok, odd, source):
    given = source(odd)
    tokenized(quadtok, given, "--store", "plans", "--output", "odd.qts")
    store = PlanStore("odd.qts")
    assert sorted(store) == sorted(names_in(given))
    for name in names_in(given):
        assert store[name].plan(num_tokens=100).spec.num_tokens == 100


@every_source
@pytest.mark.parametrize("store", ["tokens", "plans"])
def test_they_become_samples_of_shards(quadtok, odd, source, store, kind):
    given = source(odd)
    flags = ["-o", "shards", "--format", kind.format, "--shard-size", "3", "--store", store]
    tokenized(quadtok, given, *flags)
    found = {}
    for path in kind.shards_of(Path("shards")):
        found |= dict(read_shard(path))
    assert set(found) == {key_of(name) for name in names_in(given)}
    for name in names_in(given):
        members = found[key_of(name)]
        (tokens_of if store == "tokens" else entry_of)(members)
        assert json.loads(members["json"])["name"] == name.encode("utf-8", "backslashreplace").decode()
    for index in Path("shards").glob("*.json"):  # as a killed run may leave them
        index.unlink()
    assert quadtok("tokenize", given, *flags, "--scorer", "blur").err.startswith(
        f"quadtok: done: 0 written, {len(NAMES)}"
    )


def test_shards_of_them_are_read_by_hugging_face_datasets_as_a_whole(quadtok, odd, kind):
    """Arrow holds no text that is no UTF-8: one name was the end of all samples."""
    datasets = pytest.importorskip("datasets", reason="opens shards with it; the extra test-all has it")
    tokenized(quadtok, odd, "-o", "shards", "--format", kind.format)
    reader, column = {"shards": ("webdataset", "__key__"), "parquet": ("parquet", "key")}[kind.format]
    files = {"train": f"shards/*{kind.suffix}"}
    rows = datasets.load_dataset(reader, data_files=files, split="train", cache_dir="cache")
    assert sorted(row[column] for row in rows) == sorted(map(key_of, NAMES))


@pytest.mark.parametrize("separated", [["-0"], []], ids=["by NUL", "by line"])
def test_a_list_names_them(quadtok, odd, monkeypatch, separated):
    names = [name for name in NAMES if separated or "\n" not in name]
    end = b"\0" if separated else b"\n"
    given = b"".join(os.fsencode(odd / name) + end for name in names)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    result = quadtok("tokenize", *separated, "-", "-o", "out", "--scorer", "blur", "--json")
    assert result.code == 0, result.err
    assert [json.loads(line)["input"] for line in result.out.splitlines()[:-1]] == [str(odd / name) for name in names]


def test_they_are_drawn_and_restored_but_for_those_that_become_too_long(quadtok, odd):
    assert quadtok("tokenize", odd, "-o", "out", "--scorer", "blur").code == 0
    for command in ("visualize", "reverse"):
        result = quadtok(command, "out", "-o", command)
        assert (result.code, f"{len(NAMES) - 2} written, 0 skipped, 2 failed" in result.err) == (1, True)
        assert result.err.count("the name is too long for this disk") == 2


def test_what_is_wrong_with_them_is_said_in_one_line(quadtok, odd):
    for name in NAMES:
        (odd / name).write_bytes(b"")
    result = quadtok("tokenize", odd, "-o", "out", "--scorer", "blur")
    assert (result.code, len(result.lines)) == (1, len(NAMES) + 1)
    assert all(line.isprintable() and line.endswith(": empty file") for line in result.lines[:-1])
