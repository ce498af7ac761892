"""`--manifest`: what was done before is known by sizes and times, and nothing that changed is believed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from helpers import MANIFEST
from quadtok import load_tokens
from quadtok.errors import OutputError
from quadtok.jobs import tokenize_files


@pytest.fixture
def run(quadtok, photos, tmp_path):
    def run(*flags, scorer="blur"):
        where = ("-o", tmp_path / "out", "--manifest", tmp_path / "manifest.jsonl")
        return quadtok("tokenize", photos, *where, "--scorer", scorer, *flags)

    return run


@pytest.fixture
def opened(monkeypatch):
    """The names of the inputs that are read."""
    from quadtok.jobs.sources import Source

    names, real = [], Source.read

    def read(self):
        names.append(self.path.name)
        return real(self)

    monkeypatch.setattr(Source, "read", read)
    return names


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]


def test_a_line_says_what_became_of_an_input(run, photos, tmp_path):
    (photos / "bad.jpg").write_bytes(b"no image")
    assert run("--overlay").code == 1
    by_name = {line["input"]: line for line in lines(tmp_path)}
    assert set(by_name) == {"bad.jpg", "coffee.jpg", "pets/cat.jpg", "rocket.png"}
    assert by_name["bad.jpg"]["status"] == "failed" and str(photos / "bad.jpg") in by_name["bad.jpg"]["error"]
    line = by_name["pets/cat.jpg"]
    assert (line["status"], line["error"]) == ("written", None)
    assert line["files"] == {
        f"out/pets/{path.name}": [path.stat().st_size, path.stat().st_mtime_ns]
        for path in (tmp_path / "out" / "pets").iterdir()
    }
    assert line["source_bytes"] == (photos / "pets" / "cat.jpg").stat().st_size
    assert line["source_mtime_ns"] == (photos / "pets" / "cat.jpg").stat().st_mtime_ns
    assert line["seconds"] > 0


def test_the_second_run_opens_nothing_and_adds_nothing(run, opened, tmp_path):
    assert run().code == 0
    before = lines(tmp_path)
    opened.clear()
    result = run()
    assert (result.code, "0 written, 3 skipped" in result.err) == (0, True)
    assert opened == [] and lines(tmp_path) == before


@pytest.mark.parametrize("scorer", ["random", "object"])
def test_so_with_other_scorers(run, opened, scorer):
    assert run(scorer=scorer).code == 0
    opened.clear()
    assert "3 skipped" in run(scorer=scorer).err and opened == []


def test_a_line_that_is_written_in_part_ends_the_run(run, monkeypatch):
    def half(descriptor, data, write=os.write):
        return write(descriptor, data[: len(data) // 2] if bytes(data).startswith(b'{"input"') else data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        result = run()
    assert (result.code, "no space left on device" in result.err) == (1, True), result.err
    assert run().code == 0


def test_verify_opens_everything(run, opened):
    assert run().code == 0
    opened.clear()
    assert "0 written, 3 skipped" in run("--verify").err
    assert sorted(opened) == ["cat.jpg", "coffee.jpg", "rocket.png"]


def touch(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


CHANGES = {
    "the input's time": lambda photos, out: touch(photos / "coffee.jpg"),
    "the input": lambda photos, out: shutil.copy(photos / "rocket.png", photos / "coffee.jpg"),
    "its file is gone": lambda photos, out: (out / "coffee.pt").unlink(),
    "its file is cut": lambda photos, out: (out / "coffee.pt").write_bytes((out / "coffee.pt").read_bytes()[:-9]),
    "its file is empty": lambda photos, out: (out / "coffee.pt").write_bytes(b""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_looked_at_again(run, opened, photos, tmp_path, change):
    assert run().code == 0
    opened.clear()
    CHANGES[change](photos, tmp_path / "out")
    result = run()
    assert opened == ["coffee.jpg"]
    refused = change == "the input"  # as without a manifest: a file of another input is never replaced
    assert result.code == (1 if refused else 0), result.err
    assert load_tokens(tmp_path / "out" / "coffee.pt").metadata["source"]["name"] == "coffee.jpg"
    opened.clear()
    assert run().code == (1 if refused else 0)
    assert opened == (["coffee.jpg"] if refused else [])


@pytest.mark.parametrize("flags", [["-n", "64"], ["--dtype", "uint8"], ["--seed", "4", "--scorer", "random"]])
def test_other_settings_are_not_what_was_done(run, opened, flags):
    assert run(scorer="random").code == 0
    opened.clear()
    assert run(*flags, scorer="random").code == 1
    assert len(opened) == 3


def test_an_overlay_that_is_wanted_too_is_made(run, tmp_path):
    assert run().code == 0
    result = run("--overlay")
    assert (result.code, "3 written" in result.err) == (0, True)
    assert len(list((tmp_path / "out").rglob("*.overlay.png"))) == 3
    assert "3 skipped" in run("--overlay").err


def test_overwriting_does_not_go_by_it(run, opened):
    assert run().code == 0
    opened.clear()
    assert "3 written" in run("--overwrite").err
    opened.clear()
    assert "3 skipped" in run().err and opened == []


def test_what_was_skipped_unseen_is_looked_at_by_the_next_run(run):
    assert run("-n", "64").code == 0
    assert "3 skipped" in run("-n", "100", "--if-exists", "skip").err
    found = run("-n", "100")
    assert found.code == 1 and "3 failed" in found.err and "other settings" in found.err


def test_what_was_made_beside_something_unseen_is_looked_at_too(run, tmp_path):
    assert run("-n", "64").code == 0
    assert "3 written" in run("-n", "100", "--if-exists", "skip", "--overlay").err
    assert run("-n", "100", "--overlay").code == 1


def test_inputs_of_one_name_in_two_folders_are_told_apart(quadtok, photos, tmp_path):
    twins = photos, shutil.copytree(photos, tmp_path / "twin", copy_function=shutil.copyfile)
    flags = *twins, "--manifest", tmp_path / "manifest.jsonl", "--scorer", "blur"
    assert "6 written" in quadtok("tokenize", *flags).err
    found = [line["source_mtime_ns"] for line in lines(tmp_path) if line["input"].endswith("coffee.jpg")]
    assert sorted(found) == sorted((folder / "coffee.jpg").stat().st_mtime_ns for folder in twins)


def test_a_name_that_is_too_long_is_one_sentence(photos, tmp_path):
    with pytest.raises(OutputError, match="too long"):
        tokenize_files(photos, tmp_path / "out", scorer="blur", manifest=tmp_path / ("x" * 300))


def test_a_torn_line_counts_for_nothing_and_the_next_begins_anew(run, opened, tmp_path):
    assert run().code == 0
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    opened.clear()
    assert "3 skipped" in run().err
    assert len(opened) == 1
    opened.clear()
    assert "3 skipped" in run().err and opened == []


@pytest.mark.parametrize("kept", [5, 40])
def test_a_first_line_that_is_torn_counts_for_nothing_either(run, opened, tmp_path, kept):
    assert run().code == 0
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:kept])
    for _ in range(2):
        assert run().code == 0
    opened.clear()
    assert "3 skipped" in run().err and opened == []


@pytest.mark.parametrize("kept", [0, 5, 40, -20, None])
def test_what_a_power_cut_left_as_nul_counts_for_nothing(run, opened, tmp_path, kept):
    assert run().code == 0
    path = tmp_path / "manifest.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:kept] + bytes(len(whole)))
    for _ in range(2):
        assert "3 skipped" in run().err
    opened.clear()
    assert "3 skipped" in run().err and opened == []


def test_a_number_without_end_counts_for_nothing(run, tmp_path):
    path = tmp_path / "manifest.jsonl"
    line = {"input": "x", "status": "written", "files": {}, "source_bytes": float("inf"), "source_mtime_ns": 1}
    path.write_text(json.dumps({**line, "settings": ""}) + "\n")
    assert run().code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_no_manifest_and_is_not_waited_for(run, tmp_path):
    os.mkfifo(tmp_path / "manifest.jsonl")
    result = run()
    assert (result.code, "is no file" in result.err) == (2, True)


@pytest.mark.parametrize("text", ["something else\n", '{"input": 5}\n', "[]\n", "no line end", "\nsecond\n", "GIF"])
def test_a_file_that_is_no_manifest_is_kept_and_named(run, tmp_path, text):
    (tmp_path / "manifest.jsonl").write_text(text)
    result = run()
    assert (result.code, "is no manifest of quadtok" in result.err) == (2, True)
    assert (tmp_path / "manifest.jsonl").read_text() == text


def test_where_it_cannot_be_written_that_is_said_first(quadtok, photos, tmp_path):
    (tmp_path / "file").write_text("")
    result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--manifest", tmp_path / "file" / "m.jsonl")
    assert (result.code, str(tmp_path / "file" / "m.jsonl") in result.err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--no-manifest", "--verify"], "--no-manifest and --verify"),
        (["--no-manifest", "--manifest", "m"], "--no-manifest and --manifest"),
        (["--no-manifest", "--store", "plans", "--output", "p.qts"], "--store and --no-manifest"),
        (["--verify", "--format", "shards", "-o", "s"], "--format and --verify"),
        (["--manifest", "m", "--store", "plans", "--output", "p.qts"], "--store and --manifest"),
        (["--manifest", "m", "--format", "shards", "-o", "s"], "--format and --manifest"),
    ],
)
def test_flags_that_would_mean_nothing_are_refused(quadtok, photo, flags, said):
    result = quadtok("tokenize", photo, *flags)
    assert (result.code, said in result.err) == (2, True), result.err


def test_parts_share_one(quadtok, photos, tmp_path, opened):
    for number in (1, 2, 3):
        where = ("-o", tmp_path / "out", "--manifest", tmp_path / "manifest.jsonl", "--part", f"{number}/3")
        assert quadtok("tokenize", photos, *where, "--scorer", "blur").code == 0
    opened.clear()
    result = quadtok("tokenize", photos, *where[:4], "--scorer", "blur")
    assert "3 skipped" in result.err and opened == []


@pytest.mark.parametrize("name", ["out/coffee.pt", "photos/coffee.jpg"])
def test_one_named_as_an_input_or_an_output_is_refused(quadtok, photos, tmp_path, name):
    before = (photos / "coffee.jpg").read_bytes()
    result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur", "--manifest", tmp_path / name)
    assert (result.code, "is an input or an output of this run" in result.err) == (2, True)
    assert (photos / "coffee.jpg").read_bytes() == before
    assert not (tmp_path / "out" / "coffee.pt").exists()


def test_an_output_folder_has_one_unless_told_otherwise(quadtok, photos, tmp_path, opened):
    where = ("tokenize", photos, "--scorer", "blur", "-o")
    assert quadtok(*where, tmp_path / "none", "--no-manifest").code == 0
    assert not (tmp_path / "none" / MANIFEST).exists()
    assert quadtok(*where, tmp_path / "out").code == 0
    assert len((tmp_path / "out" / MANIFEST).read_text().splitlines()) == 3
    opened.clear()
    assert "3 skipped" in quadtok(*where, tmp_path / "out").err and opened == []
    assert "3 skipped" in quadtok(*where, tmp_path / "out", "--no-manifest").err and len(opened) == 3


def test_beside_the_inputs_there_is_none(quadtok, photos):
    assert quadtok("tokenize", photos, "--scorer", "blur").code == 0
    assert not list(photos.rglob(MANIFEST))


def test_an_output_folder_that_was_moved_is_still_known(quadtok, photos, tmp_path, opened):
    assert quadtok("tokenize", photos, "--scorer", "blur", "-o", tmp_path / "out").code == 0
    (tmp_path / "out").rename(tmp_path / "there")
    opened.clear()
    assert "3 skipped" in quadtok("tokenize", photos, "--scorer", "blur", "-o", tmp_path / "there").err
    assert opened == []


def test_an_output_of_the_same_size_that_was_written_since_is_looked_at(run, tmp_path):
    assert run().code == 0
    path = tmp_path / "out" / "coffee.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "1 written, 2 skipped" in run().err
    assert load_tokens(path).plan.spec.num_tokens == 100


def test_python_has_the_same(photos, tmp_path, opened):
    settings = {"num_tokens": 40, "scorer": "random", "workers": 0}
    assert tokenize_files(photos, tmp_path / "out", **settings).written == 3
    opened.clear()
    assert tokenize_files(photos, tmp_path / "out", **settings).skipped == 3 and opened == []
    assert tokenize_files(photos, tmp_path / "out", **settings, verify=True).skipped == 3 and len(opened) == 3
    for given, place in ((False, None), (tmp_path / "m.jsonl", tmp_path / "m.jsonl")):
        assert tokenize_files(photos, tmp_path / "others", **settings, manifest=given).ending == "done"
        assert place is None or len(place.read_text().splitlines()) == 3
    assert not (tmp_path / "others" / MANIFEST).exists()


@pytest.mark.parametrize("parts", [["1/2", "2/2"], ["1/1", "1/1"]], ids=["in two parts", "the same twice"])
def test_processes_append_to_one_at_the_same_time(quadtok, tmp_path, opened, parts):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        Image.effect_noise((64, 64), number + 1).save(folder / f"{number:02}.png")
    small = ["-s", "64", "-n", "4", "--max-patch", "32", "--scorer", "blur"]
    where = [str(folder), "-o", str(tmp_path / "out"), "--manifest", str(tmp_path / "manifest.jsonl")]
    command = [sys.executable, "-m", "quadtok", "tokenize", *where, *small, "-b", "1", "-j", "1"]
    running = [subprocess.Popen([*command, "--part", part], stderr=subprocess.PIPE, text=True) for part in parts]
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert {line["input"] for line in lines(tmp_path)} == {path.name for path in folder.iterdir()}
    result = quadtok("tokenize", *where, *small)
    assert "0 written, 60 skipped" in result.err and opened == []


def test_maps_are_part_of_the_settings(quadtok, photos, tmp_path, opened):
    for name in ("coffee", "rocket", "pets/cat"):
        path = tmp_path / "maps" / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.rand(16, 16), path)
    command = ("tokenize", photos, "--scorer", "precomputed", "--maps", tmp_path / "maps", "-o", tmp_path / "out")
    assert quadtok(*command, "-j", "0").code == 0
    opened.clear()
    assert "3 skipped" in quadtok(*command).err and opened == []
    torch.save(torch.rand(16, 16), tmp_path / "maps" / "coffee.pt")
    result = quadtok(*command)
    assert (result.code, "exists with other settings" in result.err) == (1, True)
