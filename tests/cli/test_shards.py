"""`quadtok tokenize --format shards`, or parquet: files that a trainer opens, each whole or not at all."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import torch

from helpers import assert_same_plan
from quadtok import load_tokens
from quadtok.errors import OutputError
from quadtok.jobs.parts import Part
from quadtok.jobs.sinks import shards
from quadtok.storage.plan_store import PlanStore
from quadtok.storage.sample import entry_of, key_of, tokens_of
from quadtok.storage.shards import CONTAINERS, read_shard
from shard_kinds import tar_alone

NAMES = ("coffee.jpg", "pets/cat.jpg", "rocket.png")


@pytest.fixture
def sharded(quadtok, photos, tmp_path, kind):
    def sharded(*arguments, inputs=photos, folder="shards", scorer="blur"):
        result = quadtok(
            "tokenize", inputs, "-o", tmp_path / folder, "--format", kind.format, "--scorer", scorer, *arguments
        )
        return result, tmp_path / folder

    return sharded


def samples_of(folder):
    paths = sorted(path for path in folder.iterdir() if path.suffix in CONTAINERS)
    return {key: members for path in paths for key, members in read_shard(path)}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("flags", [[], ["--threshold", "0.75", "-n", "100%"], ["-s", "native"]], ids=" ".join)
def test_a_sample_holds_the_tokens_of_the_file(flags, quadtok, sharded, photos, tmp_path):
    result, folder = sharded(*flags)
    assert (result.code, "3 written" in result.err) == (0, True)
    out = ("tokenize", photos, "-o", tmp_path / "files", "--scorer", "blur", "--dtype", "uint8", *flags)
    assert quadtok(*out).code == 0
    samples = samples_of(folder)
    assert set(samples) == {key_of(name) for name in NAMES}
    for name in NAMES:
        ours, theirs = tokens_of(samples[key_of(name)]), load_tokens((tmp_path / "files" / name).with_suffix(".pt"))
        assert_same_plan(ours.plan, theirs.plan)
        assert torch.equal(ours.patches, theirs.patches)
        assert ours.metadata["source"] == theirs.metadata["source"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "none"])
def test_pixels_are_of_the_type_that_is_asked_for(dtype, sharded):
    _, folder = sharded("--dtype", dtype)
    for members in samples_of(folder).values():
        patches = members.get("patches.npy")
        assert (patches is None) == (dtype == "none")
        assert patches is None or np.load(io.BytesIO(patches)).dtype == dtype


def test_plans_are_those_of_the_file_of_plans(quadtok, sharded, photos, tmp_path):
    _, folder = sharded("--store", "plans", "--minima", "float32")
    plans = ("tokenize", photos, "--scorer", "blur", "--store", "plans", "--minima", "float32")
    assert quadtok(*plans, "--output", tmp_path / "plans.qts").code == 0
    store, samples = PlanStore(tmp_path / "plans.qts"), samples_of(folder)
    for name in NAMES:
        entry = entry_of(samples[key_of(name)])
        assert (entry.name, entry.sha256) == (name, hashlib.sha256((photos / name).read_bytes()).hexdigest())
        assert entry.stream.plan(100) == store[name].plan(100)
        assert entry.stream.plan(threshold=0.7) == store[name].plan(threshold=0.7)


def test_shards_have_so_many_samples_and_an_index_tells_of_all(sharded, kind):
    _, folder = sharded("--shard-size", "2")
    names = [f"shard-{number:06d}{ending}" for number in (0, 1) for ending in kind.endings]
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", *names]
    index = json.loads((folder / "index.json").read_text())
    assert (index["samples"], [row["samples"] for row in index["shards"]]) == (3, [2, 1])
    for row in index["shards"]:
        data = (folder / row["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])


def test_the_same_images_give_the_same_bytes(sharded):
    _, first = sharded(folder="first")
    _, second = sharded("-j", "0", folder="second")
    assert contents(first) == contents(second)


@tar_alone
def test_members_of_a_sample_stand_together_and_keys_have_no_dots(sharded):
    _, folder = sharded()
    with tarfile.open(folder / "shard-000000.tar") as archive:
        names = archive.getnames()
    keys = [name.rpartition("/")[0] + "/" + name.rpartition("/")[2].split(".")[0] for name in names]
    assert keys == sorted(keys, key=keys.index) and len(set(keys)) == 3
    assert [name.rpartition("/")[2].split(".", 1)[1] for name in names] == ["patches.npy", "layout.npy", "json"] * 3


@tar_alone
@pytest.mark.parametrize("flags", [[], ["--store", "plans"], ["--dtype", "none"]], ids=" ".join)
def test_the_index_of_dali_tells_where_each_member_lies(sharded, photos, flags):
    shutil.copy(photos / "coffee.jpg", photos / f"{'long' * 40}.jpg")  # its header has another before it
    _, folder = sharded(*flags)
    with tarfile.open(folder / "shard-000000.tar") as archive:
        members = [(member.name, str(member.offset_data), str(member.size)) for member in archive]
    first, *lines = (folder / "shard-000000.idx").read_text().split("\n")
    assert (first, len(lines), lines.pop()) == ("v1.2 4", 5, ""), "how many samples, and an end of line behind each"
    found = []
    for line in lines:
        words = line.split(" ")
        named = [words[at : at + 4] for at in range(0, len(words), 4)]
        assert len({name.removesuffix(f".{ending}") for ending, *_, name in named}) == 1, "a sample a line"
        found += [(name, begin, size) for _, begin, size, name in named]
    assert found == members


class TestTheSecondRun:
    def test_does_only_what_is_missing(self, sharded, photos):
        _, folder = sharded()
        before = contents(folder)
        result, _ = sharded()
        assert (result.code, "0 written, 3 skipped" in result.err) == (0, True)
        assert contents(folder) == before
        shutil.copy(photos / "coffee.jpg", photos / "again.jpg")
        result, _ = sharded()
        assert (result.code, "1 written, 3 skipped" in result.err) == (0, True)
        assert contents(folder).items() >= {name: before[name] for name in before if name != "index.json"}.items()
        assert json.loads((folder / "index.json").read_text())["samples"] == 4

    @pytest.mark.parametrize("missing", [[".json"], [".idx"], [".idx", ".json"]], ids=["its own", "DALI's", "both"])
    def test_gives_a_shard_the_index_that_it_lacks(self, sharded, missing):
        _, folder = sharded("--shard-size", "2")
        before = contents(folder)
        for name in ("index.json", *(f"shard-000000{ending}" for ending in missing)):
            (folder / name).unlink(missing_ok=name.endswith(".idx"))
        result, _ = sharded("--shard-size", "2")
        assert (result.code, "0 written, 3 skipped" in result.err) == (0, True)
        assert contents(folder) == before

    def test_makes_anew_what_a_killed_run_had_not_finished(self, sharded, kind):
        _, folder = sharded("--shard-size", "2")
        before = contents(folder)
        for name in ("index.json", *(f"shard-000001{ending}" for ending in kind.endings)):
            (folder / name).unlink()
        result, _ = sharded("--shard-size", "2")
        assert (result.code, "1 written, 2 skipped" in result.err) == (0, True)
        assert contents(folder) == before

    @pytest.mark.parametrize("blank", [lambda data: b"", lambda data: bytes(len(data))], ids=["empty", "NUL"])
    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("which", [0, 1, -1])
    def test_heals_what_a_power_cut_left_blank(self, quadtok, sharded, kind, blank, number, which):
        _, folder = sharded("--shard-size", "1")
        whole, path = contents(folder), folder / f"shard-{number:06d}{kind.endings[which]}"
        path.write_bytes(blank(path.read_bytes()))
        if path.suffix == kind.suffix:
            assert quadtok("info", "--check", path).code == 1
        result, _ = sharded("--shard-size", "1")
        assert (result.code, "0 failed" in result.err) == (0, True)
        assert contents(folder) == whole

    @pytest.mark.parametrize("flags", [["--dtype", "float16"], ["-n", "64"], ["--threshold", "0.9"]], ids=" ".join)
    def test_of_other_settings_is_refused(self, sharded, flags):
        _, folder = sharded()
        before = contents(folder)
        result, _ = sharded(*flags)
        assert result.code == 1
        assert result.err.count("or of other settings: name a new folder") == 3
        assert contents(folder) == before

    def test_never_overwrites(self, sharded):
        _, folder = sharded()
        before = contents(folder)
        for policy in ("overwrite", "error"):
            result, _ = sharded("--if-exists", policy)
            assert (result.code, len(result.lines)) == (2, 1), "said once, before anything is read"
            assert result.err.endswith("exists, and shards are never changed: name a new folder\n")
            assert contents(folder) == before

    def test_in_place_of_images_is_refused_with_what_to_do(self, quadtok, sharded, kind, tmp_path):
        _, folder = sharded()
        shard = folder / f"shard-000000{kind.suffix}"
        sentence = f"{shard}: holds tokens or plans that quadtok made, and no images: give the images themselves"
        assert quadtok("tokenize", shard, "--scorer", "blur").lines == [f"quadtok: error: {sentence}"]
        for command in ("tokenize", "visualize", "reverse"):
            result = quadtok(command, folder, "-o", tmp_path / "x")
            assert (result.code, len(result.lines)) == (2, 1)
            way_out = f": to have its archives looked into, give {folder}/*{kind.suffix}\n"
            assert result.err.endswith(f"found in {folder}{way_out}")

    def test_into_a_folder_of_the_other_kind_is_refused(self, quadtok, sharded, kind, photos):
        _, folder = sharded()
        before = contents(folder)
        result = quadtok("tokenize", photos, "-o", folder, "--scorer", "blur", "--format", kind.other)
        assert (result.code, len(result.lines)) == (2, 1)
        assert f"{folder}: holds shard-000000{kind.suffix}, and would get " in result.err
        assert contents(folder) == before

    def test_names_a_shard_whose_index_does_not_fit(self, sharded, kind):
        _, folder = sharded()
        with (folder / f"shard-000000{kind.suffix}").open("ab") as file:
            file.write(b"more")
        result, _ = sharded()
        assert result.code != 0
        assert f"is not the index of shard-000000{kind.suffix} as it is; remove it to have it made again" in result.err


def test_a_full_disk_leaves_whole_shards_and_ends_the_run(sharded, kind, monkeypatch):
    writer = type(kind.container.writer(io.BytesIO()))

    def add(self, key, members, real=writer.add):
        if "rocket" in key:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, key, members)

    monkeypatch.setattr(writer, "add", add)
    result, folder = sharded("--shard-size", "1")
    assert (result.code, "no space left on device" in result.err) == (1, True), result.err
    assert len(samples_of(folder)) == 2
    monkeypatch.undo()
    assert sharded("--shard-size", "1")[0].code == 0
    assert len(samples_of(folder)) == 3
    assert [path.name for path in folder.iterdir() if path.suffix not in (".json", *kind.endings)] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_leaves_whole_shards_and_the_next_one_goes_on(quadtok, sharded, kind, photos, tmp_path):
    for number in range(40):
        shutil.copy(photos / "coffee.jpg", photos / f"{number:02}.jpg")
    command = ["tokenize", photos, "-o", tmp_path / "killed", "--format", kind.format, "--scorer", "blur"]
    run = subprocess.Popen([sys.executable, "-m", "quadtok", *map(str, command), "--shard-size", "1", "-b", "1"])
    while run.poll() is None and len(kind.shards_of(tmp_path / "killed")) < 3:
        time.sleep(0.005)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    left = len(kind.shards_of(tmp_path / "killed"))
    assert quadtok("info", "--check", tmp_path / "killed").out.splitlines()[-1] == f"{left} good, 0 bad"
    result, folder = sharded("--shard-size", "1", folder="killed")
    assert (result.code, f"{left} skipped" in result.err) == (0, True), result.err
    assert contents(folder) == contents(sharded("--shard-size", "1", folder="other")[1])


def test_one_bad_image_costs_itself_alone(sharded, photos):
    (photos / "bad.jpg").write_bytes(b"no image")
    result, folder = sharded()
    assert (result.code, "3 written, 0 skipped, 1 failed" in result.err) == (1, True)
    assert len(samples_of(folder)) == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--output", "x"], "--format and --output"),
        (["--keep-ext"], "--format and --keep-ext"),
        (["--overlay"], "--format and --overlay"),
        (["--store", "plans", "--tokens", "64"], "--store and --tokens"),
    ],
)
def test_flags_that_would_mean_nothing_are_refused(flags, said, quadtok, photos, tmp_path, kind):
    folder = [] if "--output" in flags else ["-o", tmp_path / "shards"]
    result = quadtok("tokenize", photos, "--format", kind.format, *folder, *flags)
    assert (result.code, said in result.err) == (2, True), result.err


def test_shards_need_a_folder_and_a_size_needs_shards(quadtok, photos, kind):
    assert "give their folder, --output-dir DIR" in quadtok("tokenize", photos, "--format", kind.format).err
    assert "--shard-size is about --format shards" in quadtok("tokenize", photos, "--shard-size", "3").err


def test_a_dry_run_writes_nothing(sharded, photos):
    result, folder = sharded("--dry-run")
    assert f"{photos / 'coffee.jpg'} -> {folder}:coffee.jpg" in result.out
    assert not folder.exists()


@tar_alone
def test_webdataset_reads_them(sharded):
    webdataset = pytest.importorskip("webdataset", reason="opens shards with it; the extra test-all has it")
    _, folder = sharded()
    dataset = webdataset.WebDataset(str(folder / "shard-000000.tar"), shardshuffle=False).decode()
    for sample in dataset:
        facts = sample["json"]
        patches = sample["patches.npy"].reshape(facts["shapes"]["patches"])
        layout = sample["layout.npy"].reshape(facts["shapes"]["layout"])
        assert (patches.shape, patches.dtype, layout.shape) == ((100, 3, 16, 16), np.uint8, (100, 3))
        assert sample["__key__"] == key_of(facts["name"])


@tar_alone
def test_hugging_face_datasets_read_them(sharded):
    datasets = pytest.importorskip("datasets", reason="opens shards with it; the extra test-all has it")
    _, folder = sharded()
    files = {"train": str(folder / "*.tar")}
    rows = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    found = {row["__key__"]: row for row in rows}
    assert set(found) == {key_of(name) for name in NAMES}
    for row in found.values():
        assert np.asarray(row["patches.npy"]).size == 100 * 3 * 16 * 16
        assert np.asarray(row["layout.npy"]).size == 300


def test_parts_of_an_array_write_to_one_folder(sharded, kind):
    everything = sharded(folder="whole")[1]
    for number in (1, 2, 3):
        result, folder = sharded("--part", f"{number}/3")
        assert result.code == 0
    assert samples_of(folder) == samples_of(everything)
    assert all(path.name[:12] in {f"shard-{n:05d}-" for n in (1, 2, 3)} for path in kind.shards_of(folder))
    assert json.loads((folder / "index.json").read_text())["samples"] == 3
    result, _ = sharded()
    assert (result.code, "0 written, 3 skipped" in result.err) == (0, True)


class TestInfo:
    @pytest.mark.parametrize("flags", [[], ["--store", "plans"]], ids=["tokens", "plans"])
    def test_a_shard_is_described(self, quadtok, sharded, kind, flags):
        _, folder = sharded(*flags)
        result = quadtok("info", folder / f"shard-000000{kind.suffix}")
        assert (result.code, result.err) == (0, "")
        described = dict(line.strip().split(maxsplit=1) for line in result.out.splitlines()[1:])
        assert described["samples"].startswith("3 in ")
        assert described["members"].endswith(".npy, json")
        assert described["scorer"].startswith("blur")

    def test_a_folder_of_shards_is_checked(self, quadtok, sharded, kind):
        _, folder = sharded("--shard-size", "1")
        assert quadtok("info", "--check", folder).out.splitlines()[-1] == "3 good, 0 bad"
        path = folder / f"shard-000001{kind.suffix}"
        data = bytearray(path.read_bytes())
        data[5000] ^= 1
        path.write_bytes(data)
        result = quadtok("info", "--check", folder)
        assert (result.code, result.out.splitlines()[-1]) == (1, "2 good, 1 bad")
        assert str(path) in result.err

    def test_an_archive_of_images_is_no_shard(self, quadtok, photos, tmp_path):
        with tarfile.open(tmp_path / "photos.tar", "w") as archive:
            archive.add(photos, arcname=".")
        result = quadtok("info", tmp_path / "photos.tar")
        assert (result.code, "not a sample of quadtok" in result.err) == (1, True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_processes_do_not_replace_each_others_shards(sharded, kind, tmp_path):
    folder = tmp_path / "shards"
    with shards.ShardSink(folder, 10, [], container=kind.container).open():
        result, _ = sharded()
        assert result.code == 2
        assert "another process writes its shard-*; wait for it" in result.err
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
@pytest.mark.parametrize(
    ("there", "comes", "is_refused"),
    [
        (Part(1, 3), "2/3", False),
        (Part(1, 3), "2/4", True),
        (Part(2, 2), "1/3", True),
        (Part(1, 2), None, True),
        (None, "2/2", True),
        (None, "1/1", True),
    ],
)
def test_processes_that_share_the_inputs_out_otherwise_do_no_image_twice(
    sharded, kind, tmp_path, there, comes, is_refused
):
    folder, flags = tmp_path / "shards", [] if comes is None else ["--part", comes]
    with shards.ShardSink(folder, 10, [], there, container=kind.container).open():
        result, _ = sharded(*flags)
        assert (result.code, "an image could be in both" in result.err) == ((2, True) if is_refused else (0, False))
    assert sharded(*flags)[0].code == 0, "those who come later see what is there"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_how_the_inputs_are_shared_out_is_known_until_the_last_one_leaves(tmp_path):
    folder = tmp_path / "shards"
    with shards.ShardSink(folder, 10, [], Part(1, 3)).open():
        with shards.ShardSink(folder, 10, [], Part(2, 3)).open():
            pass
        other = shards.ShardSink(folder, 10, [], Part(4, 4))
        with pytest.raises(OutputError, match="an image could be in both"), other.open():
            pass
    with other.open():
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_lock_whose_file_another_process_has_just_removed_is_none(tmp_path, monkeypatch):
    import fcntl

    really = fcntl.flock

    def flock(descriptor, kind):
        monkeypatch.setattr(fcntl, "flock", really)
        for lock in tmp_path.glob(".quadtok-*.tmp"):
            lock.unlink()
        really(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OutputError, match="another process"), shards.ShardSink(tmp_path, 10, []).open():
        pass


@pytest.mark.parametrize("size", ["3", "10"], ids=["full", "at the end of the run"])
def test_a_shard_that_cannot_be_ended_is_none(sharded, kind, monkeypatch, size):
    def close(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(type(kind.container.writer(io.BytesIO())), "close", close)
        result, folder = sharded("--shard-size", size)
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[0].endswith("run the same command to go on") and "no space left on device" in result.lines[0]
    assert not [path.name for path in folder.iterdir() if path.name != "index.json"]
    assert sharded("--shard-size", size)[0].code == 0
    assert len(samples_of(folder)) == 3
