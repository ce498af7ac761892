"""Tokens in shards and in safetensors where commands read token files; and tars of photographs."""

import json
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from helpers import files_in
from quadtok import load_tokens
from quadtok.jobs.sources import find_sources
from shard_kinds import tar_alone

BLUR = ("--scorer", "blur")


@pytest.fixture
def made(quadtok, photos, tmp_path, kind):
    """Folders: token files, shards of two, and photographs."""
    assert quadtok("tokenize", photos, *BLUR, "--dtype", "uint8", "-o", tmp_path / "files").code == 0
    flags = ("--format", kind.format, "--shard-size", "2", "-o", tmp_path / "shards")
    assert quadtok("tokenize", photos, *BLUR, *flags).code == 0
    return tmp_path


def pixels(folder):
    return {Path(name).name.split(".")[0]: Image.open(folder / name).tobytes() for name in files_in(folder)}


@pytest.mark.parametrize("command", ["reverse", "visualize"])
def test_samples_of_shards_are_drawn_and_restored_as_token_files_are(quadtok, made, kind, command):
    assert quadtok(command, made / "files", "-o", made / "one").code == 0
    result = quadtok(command, *kind.shards_of(made / "shards"), "-o", made / "other")
    assert (result.code, "3 written" in result.err) == (0, True)
    assert pixels(made / "one") == pixels(made / "other") and len(pixels(made / "one")) == 3
    again = quadtok(command, made / "shards" / f"*{kind.suffix}", "-o", made / "other")
    assert (again.code, "0 written, 3 skipped" in again.err) == (0, True), again.err


def test_a_sample_is_read_where_it_was_sent(made, kind):
    shard = kind.shards_of(made / "shards")[0]
    sources = find_sources([str(shard)], frozenset([".pt"])).sources
    assert len({source.inside for source in sources}) == 2
    for source, sent in zip(sources, pickle.loads(pickle.dumps(sources)), strict=True):
        assert sent == source and sent.read() == source.read()


def test_a_sample_is_compared_with_its_photograph(quadtok, photo, tmp_path, kind):
    assert quadtok("tokenize", photo, *BLUR, "--format", kind.format, "-o", tmp_path / "shards").code == 0
    assert quadtok("tokenize", photo, *BLUR, "--dtype", "uint8", "-o", tmp_path / "files").code == 0
    said = [
        json.loads(quadtok("reverse", made, "-o", tmp_path / "x", "--against", photo, "--json").out.splitlines()[0])
        for made in (tmp_path / "shards" / f"shard-000000{kind.suffix}", tmp_path / "files" / "coffee.pt")
    ]
    assert said[0]["psnr"] == said[1]["psnr"]


def test_plans_in_shards_are_no_tokens(quadtok, photos, tmp_path, kind):
    flags = ("--store", "plans", "--format", kind.format, "-o", tmp_path / "shards")
    assert quadtok("tokenize", photos, *BLUR, *flags).code == 0
    result = quadtok("reverse", tmp_path / "shards" / f"*{kind.suffix}", "-o", tmp_path / "x")
    assert result.code in (1, 2) and "holds no tokens: give its image" in result.err


@tar_alone
def test_a_damaged_sample_costs_itself(quadtok, made, kind):
    shard = kind.shards_of(made / "shards")[0]
    with tarfile.open(shard) as tar:
        member = next(member for member in tar if member.name.endswith(".patches.npy"))
    data = bytearray(shard.read_bytes())
    data[member.offset_data + 2000] ^= 1
    shard.write_bytes(data)
    result = quadtok("reverse", *kind.shards_of(made / "shards"), "-o", made / "x")
    assert (result.code, "2 written, 0 skipped, 1 failed" in result.err) == (1, True), result.err
    assert "checksum mismatch" in result.err and result.err.count("error") == 1


@tar_alone
@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        (b'"quadtok sample"', b'"quidtok sample"', "not a sample of quadtok"),
        (b'"name": "coffee.jpg", "shapes"', b'"name": 123456789012, "shapes"', "does not say the name of its image"),
        (b'"name": "coffee.jpg", "shapes"', b'"name": "coffee.jpg,, "shapes"', "not a sample of quadtok"),
    ],
)
def test_a_sample_whose_facts_are_damaged_costs_itself(quadtok, made, kind, was, becomes, said):
    shard = kind.shards_of(made / "shards")[0]
    data = shard.read_bytes()
    assert was in data and len(was) == len(becomes)
    shard.write_bytes(data.replace(was, becomes, 1))
    result = quadtok("reverse", *kind.shards_of(made / "shards"), "-o", made / "x")
    assert (result.code, "2 written, 0 skipped, 1 failed" in result.err) == (1, True), result.err
    assert said in result.err


def test_a_tar_of_photographs_is_drawn_as_photographs(quadtok, photos, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, arcname=".")
    result = quadtok("visualize", tmp_path / "photos.tar", "-o", tmp_path / "x", *BLUR)
    assert (result.code, "3 written" in result.err) == (0, True)


@tar_alone
def test_a_name_that_leads_out_is_refused(quadtok, made, kind):
    shard = kind.shards_of(made / "shards")[0]
    data = shard.read_bytes()
    assert b'"name": "coffee.jpg", "shapes"' in data
    shard.write_bytes(data.replace(b'"name": "coffee.jpg", "shapes"', b'"name": "../ffe.jpg", "shapes"'))
    result = quadtok("reverse", shard, "-o", made / "x" / "y")
    assert (result.code, "leads out of the folder" in result.err) == (1, True)
    assert not (made / "x").exists() or {Path(name).parts[0] for name in files_in(made / "x")} == {"y"}


def test_without_the_extra_safetensors_nothing_is_begun(quadtok, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("quadtok.storage.safetensors_file.find_spec", lambda name: None)
    result = quadtok("tokenize", photos, "-o", tmp_path / "out", *BLUR, "--format", "safetensors")
    assert result.code == 2 and result.lines == [
        "quadtok: error: safetensors are an extra: pip install 'quadtok[safetensors]'"
    ]
    assert not (tmp_path / "out").exists()


@tar_alone
class TestSafetensors:
    @pytest.fixture(autouse=True)
    def needs_the_extra(self, kind):
        pytest.importorskip("safetensors", reason="the extra safetensors")

    def test_all_commands_read_what_tokenize_writes(self, quadtok, photos, made):
        out = made / "safe"
        command = ("tokenize", photos, *BLUR, "--dtype", "uint8", "--format", "safetensors", "-o", out)
        assert quadtok(*command).code == 0
        for flags in ((), ("--no-manifest",)):
            assert "0 written, 3 skipped" in quadtok(*command, *flags).err
        for name in files_in(out):
            assert load_tokens(out / name) == load_tokens((made / "files" / name).with_suffix(".pt"))
        assert quadtok("info", "--check", out).out.splitlines()[-1] == "3 good, 0 bad"
        for drawn in ("reverse", "visualize"):
            assert quadtok(drawn, out, "-o", made / drawn).code == 0
            assert quadtok(drawn, made / "files", "-o", made / "of files").code == 0
            assert pixels(made / drawn) == pixels(made / "of files")
            for name in files_in(made / "of files"):
                (made / "of files" / name).unlink()

    def test_the_name_of_an_output_asks_for_it(self, quadtok, photo, tmp_path):
        assert quadtok("tokenize", photo, *BLUR, "--output", tmp_path / "x.safetensors").code == 0
        assert (tmp_path / "x.safetensors").read_bytes()[8:9] == b"{"
        result = quadtok("tokenize", photo, *BLUR, "--format", "safetensors", "--output", tmp_path / "x.pt")
        assert (result.code, ".safetensors" in result.err) == (2, True)

    def test_a_cut_one_is_made_anew_and_a_models_weights_are_kept(self, quadtok, photo, tmp_path):
        import safetensors.torch
        import torch

        path = tmp_path / "out" / "coffee.safetensors"
        command = ("tokenize", photo, *BLUR, "--format", "safetensors", "-o", tmp_path / "out")
        assert quadtok(*command).code == 0
        whole = path.read_bytes()
        for torn in (b"", whole[:5000], whole[:10]):
            path.write_bytes(torn)
            assert quadtok(*command).code == 0 and path.read_bytes() == whole
        weights = safetensors.torch.save({"weight": torch.zeros(3)})
        path.write_bytes(weights)
        result = quadtok(*command)
        assert (result.code, "not a quadtok token file" in result.err) == (1, True)
        assert path.read_bytes() == weights

    def test_plans_have_a_format_of_their_own(self, quadtok, photo, tmp_path):
        flags = ("--store", "plans", "--output", tmp_path / "p.qts", "--format", "safetensors")
        result = quadtok("tokenize", photo, *flags)
        assert (result.code, "--store plans and --format safetensors" in result.err) == (2, True)
