import json

import pytest
import torch

import quadtok as library


@pytest.fixture
def tokens(quadtok, photos, tmp_path):
    folder = tmp_path / "tokens"
    assert quadtok("tokenize", photos, "-o", folder, "--scorer", "random", "--seed", 3).code == 0
    return folder


def test_a_file_is_described(quadtok, tokens):
    result = quadtok("info", tokens / "coffee.pt")
    assert (result.code, result.err) == (0, "")
    path, *lines = result.out.splitlines()
    assert path == str(tokens / "coffee.pt")
    described = dict(line.split(maxsplit=1) for line in lines)
    assert described["tokens"] == "100 of 256 (39%) for 256×256 pixels, 100 requested"
    assert described["pixels"] == "float16 [100, 3, 16, 16], 0 to 255"
    assert described["scorer"].startswith("random (image_seed ")
    assert described["scorer"].endswith(", seed 3)")
    assert described["source"].startswith("coffee.jpg, JPEG 150×100, shown ")
    counts = [int(part.split(": ")[1]) for part in described["patches"].split(", ")]
    assert sum(counts) == 100 and len(counts) == 3


def test_json_holds_the_same_and_more(quadtok, tokens):
    result = quadtok("info", tokens, "--json")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["type"] for record in records] == ["file"] * 3 + ["summary"]
    assert records[0]["image_size"] == [256, 256]
    assert sum(scale["tokens"] for scale in records[0]["scales"]) == 100
    assert records[-1] == {"type": "summary", "good": 3, "bad": 0, "version": library.__version__}


def test_check_says_ok_for_each_file(quadtok, tokens):
    result = quadtok("info", "--check", tokens)
    assert result.code == 0
    assert result.out.splitlines() == [f"{tokens / name}: ok" for name in ("coffee.pt", "pets/cat.pt", "rocket.pt")] + [
        "3 good, 0 bad"
    ]


def test_check_finds_a_flipped_bit_and_goes_on(quadtok, tokens):
    damaged = bytearray((tokens / "coffee.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tokens / "coffee.pt").write_bytes(damaged)
    result = quadtok("info", "--check", tokens)
    assert result.code == 1
    assert result.err == (
        f"quadtok: error: {tokens / 'coffee.pt'}: checksum mismatch: the file was damaged after it was written\n"
    )
    assert result.out.splitlines()[-1] == "2 good, 1 bad"
    failed = json.loads(quadtok("info", "--json", tokens / "coffee.pt").out.splitlines()[0])
    assert (failed["status"], failed["error"].partition(": ")[0]) == ("bad", str(tokens / "coffee.pt"))


def test_quiet_is_quiet(quadtok, tokens):
    assert quadtok("info", "--check", "-q", tokens).out == ""


def test_foreign_and_missing_files_are_refused_in_one_line_each(quadtok, tmp_path):
    torch.save({"state": torch.zeros(3)}, tmp_path / "other.pt")
    result = quadtok("info", tmp_path / "other.pt", tmp_path / "gone.pt")
    assert result.code == 1
    assert result.lines == [
        f"quadtok: error: {tmp_path / 'other.pt'}: not a quadtok token file",
        f"quadtok: error: {tmp_path / 'gone.pt'}: no such file",
    ]


def test_an_empty_folder_is_a_usage_error(quadtok, tmp_path):
    result = quadtok("info", tmp_path)
    assert (result.code, result.err) == (2, f"quadtok: error: no token files (.pt, .safetensors) found in {tmp_path}\n")


def test_an_empty_folder_beside_others_is_one_bad_input(quadtok, tokens, tmp_path):
    (tmp_path / "empty").mkdir()
    result = quadtok("info", "--check", tmp_path / "empty", tokens)
    assert (result.code, result.out.splitlines()[-1]) == (1, "3 good, 1 bad")
    assert result.err == f"quadtok: error: no token files (.pt, .safetensors) found in {tmp_path / 'empty'}\n"
    record = json.loads(quadtok("info", "--json", tmp_path / "empty", tokens).out.splitlines()[0])
    assert (record["input"], record["status"]) == (str(tmp_path / "empty"), "bad")


def test_a_file_that_the_library_wrote_is_described_too(quadtok, tmp_path):
    spec = library.Spec(64, 64, 16, 32, 7)
    tokens = library.tokenize(torch.randint(256, (1, 5, 64, 64), dtype=torch.uint8), spec, "blur")
    library.save_tokens(tmp_path / "x.pt", tokens)
    library.save_tokens(tmp_path / "y.pt", tokens, dtype="none")
    out = quadtok("info", tmp_path).out
    assert "not recorded" in out
    assert "float16 [7, 5, 16, 16], 0 to 255" in out
    assert "none, the layout alone" in out


def test_without_arguments_the_environment(quadtok):
    result = quadtok("info")
    assert result.code == 0
    keys = [line.split()[0] for line in result.out.splitlines()]
    assert {"quadtok", "python", "torch", "torchvision", "pillow", "devices"} <= set(keys)
    facts = json.loads(quadtok("info", "--json").out)
    assert facts["type"] == "environment"
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]
