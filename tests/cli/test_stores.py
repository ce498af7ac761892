"""Photographs by URLs: commands take them as they take files, and say the same of them."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import files_in
from quadtok import load_tokens

pytest.importorskip("fsspec", reason="URLs are its; the extra fsspec has it")

BLUR = ("--scorer", "blur", "-n", "22")


@pytest.fixture
def url(store, photos):
    return store.put_all(photos, "photos")


def test_token_files_are_those_of_files(quadtok, photos, url, tmp_path):
    for inputs, folder in ((photos, "files"), (url, "stored")):
        assert quadtok("tokenize", inputs, "-o", tmp_path / folder, *BLUR, "--overlay", "--no-manifest").code == 0
    made = files_in(tmp_path / "files")
    assert len(made) == 6 and files_in(tmp_path / "stored") == made


def test_the_same_command_again_has_nothing_to_do(quadtok, store, url, tmp_path):
    command = ("tokenize", url, "-o", tmp_path / "out", *BLUR)
    assert "3 written" in quadtok(*command).err
    assert "0 written, 3 skipped" in quadtok(*command).err
    assert "0 written, 3 skipped" in quadtok(*command, "--no-manifest").err
    read = [json.loads(line) for line in (tmp_path / "out" / ".quadtok-manifest.jsonl").read_text().splitlines()]
    assert [line["source_bytes"] for line in read] == [len(store.read(f"photos/{line['input']}")) for line in read]


def test_with_a_manifest_what_is_done_is_not_read_again(quadtok, store, url, tmp_path, monkeypatch):
    command = ("tokenize", url, "-o", tmp_path / "out", *BLUR)
    quadtok(*command)
    with monkeypatch.context() as while_:
        while_.setattr(type(store.files), "cat_file", None)
        assert "0 written, 3 skipped" in quadtok(*command).err
    store.put("photos/coffee.jpg", store.read("photos/pets/cat.jpg"))
    result = quadtok(*command)
    assert (result.code, "2 skipped, 1 failed" in result.err) == (1, True)  # made from another photograph: kept


def test_a_bad_one_and_one_that_vanishes_cost_themselves(quadtok, store, url, tmp_path):
    store.put("photos/bad.jpg", b"no image")
    result = quadtok("tokenize", url, f"{url}/gone.jpg", f"{url}/nothing*", "-o", tmp_path / "out", *BLUR)
    assert (result.code, "3 written, 0 skipped, 3 failed" in result.err) == (1, True)
    assert f"quadtok: error: {url}/bad.jpg: not a supported image" in result.lines
    assert f"quadtok: error: {url}/gone.jpg: no such file" in result.lines
    assert f"quadtok: error: no images match {url}/nothing*" in result.lines


def test_names_are_relative_to_a_folder_in_the_store(quadtok, store, url, tmp_path):
    result = quadtok("tokenize", f"{url}/pets", "-o", tmp_path / "out", *BLUR, "--relative-to", store.url)
    assert (result.code, list(files_in(tmp_path / "out"))) == (0, ["photos/pets/cat.pt"])


def test_two_that_would_clash_are_told_the_folder_above(quadtok, store, url, tmp_path):
    one, other = store.put("photos/a/x.jpg"), store.put("photos/b/x.jpg")
    result = quadtok("tokenize", one, other, "-o", tmp_path / "out", *BLUR)
    assert f"use --relative-to {url} (or another folder above both)" in result.err


def test_reports_show_the_url(quadtok, url, tmp_path):
    result = quadtok("tokenize", f"{url}/coffee.jpg", "-o", tmp_path / "out", *BLUR, "--json")
    assert json.loads(result.out.splitlines()[0])["input"] == f"{url}/coffee.jpg"
    planned = quadtok("tokenize", url, "-o", tmp_path / "out", *BLUR, "--dry-run").out.splitlines()
    assert planned[0] == f"{url}/coffee.jpg -> {tmp_path}/out/coffee.pt (exists)" and len(planned) == 3


def test_other_commands_read_them(quadtok, photos, store, url, tmp_path):
    assert quadtok("visualize", url, "-o", tmp_path / "drawn", *BLUR).code == 0
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 3
    assert quadtok("calibrate", url, *BLUR[:2]).code == 0
    assert quadtok("tokenize", url, "--output", tmp_path / "x.qts", "--store", "plans", *BLUR[:2]).code == 0
    assert quadtok("tokenize", url, "-o", tmp_path / "shards", "--format", "shards", *BLUR).code == 0
    assert quadtok("tokenize", photos, "-o", tmp_path / "out", *BLUR).code == 0
    tokens = store.put_all(tmp_path / "out", "tokens")
    assert quadtok("reverse", tokens, "-o", tmp_path / "back").code == 0
    assert len(list((tmp_path / "back").rglob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("info", "s3://b/x.pt"), "s3://b/x.pt: is a URL, and a file on a disk is needed here: copy it"),
        (("tokenize", "x.jpg", "--maps", "s3://b/m.pt", "--scorer", "precomputed"), "s3:/b/m.pt: is a URL, and a file"),
    ],
)
def test_where_a_file_is_needed_that_is_said(quadtok, photo, arguments, sentence, monkeypatch):
    monkeypatch.chdir(photo.parent)
    result = quadtok(*(photo if argument == "x.jpg" else argument for argument in arguments))
    assert result.code in (1, 2) and sentence in result.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tokenize", "s3:/b/photos"), "s3:/b/photos: no such file; a URL has two slashes: s3://b/photos"),
        (("tokenize", "x.jpg", "-o", "s3:/b/o"), "--output-dir s3:/b/o: a URL has two slashes: s3://b/o"),
        (("tokenize", "x.jpg", "-o", "s3:/b/o", "--dry-run"), "--output-dir s3:/b/o: a URL has two slashes: s3://b/o"),
        (("tokenize", "x.jpg", "-o", "s3:/b/o", "--format", "shards"), "--output-dir s3:/b/o: a URL has two slashes"),
        (
            ("visualize", "x.jpg", "--output", "s3:/b/x.png"),
            "--output s3:/b/x.png: a URL has two slashes: s3://b/x.png",
        ),
    ],
)
def test_a_url_that_lacks_a_slash_is_refused_before_anything_is_read(quadtok, photo, arguments, sentence, monkeypatch):
    monkeypatch.chdir(photo.parent)
    result = quadtok(*(photo if argument == "x.jpg" else argument for argument in arguments))
    assert (result.code, result.out) == (2, "") and sentence in result.err and not Path("s3:").exists()


def test_one_in_a_list_costs_itself_alone(quadtok, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"s3:/b/x.jpg\n{photo}\n".encode())))
    result = quadtok("tokenize", "-", "-o", tmp_path / "out", *BLUR)
    assert result.code == 1 and "s3:/b/x.jpg: no such file; a URL has two slashes: s3://b/x.jpg" in result.err


def test_a_run_over_files_does_not_load_fsspec(photo, tmp_path):
    code = (
        "import sys; from quadtok.cli import run; before = 'fsspec' in sys.modules; "
        f"run(['tokenize', {str(photo)!r}, '-o', {str(tmp_path / 'out')!r}, '--scorer', 'blur']); "
        "import torch; assert not before and 'quadtok.stores' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert load_tokens(tmp_path / "out" / "coffee.pt")
