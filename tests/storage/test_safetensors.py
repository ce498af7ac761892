"""Token files as safetensors: the same tokens, read by the library itself, checked as strictly."""

import json
import struct

import pytest
import torch

from helpers import SAMPLE_IMAGES
from quadtok import Spec, load_tokens, read_image, save_tokens, tokenize
from quadtok.errors import TokenFileError
from quadtok.images import fit_image

safetensors = pytest.importorskip("safetensors.torch", reason="the extra safetensors")
SPEC = Spec(256, 256, 16, 64, 100)


@pytest.fixture(scope="module")
def tokens():
    image = fit_image(read_image(SAMPLE_IMAGES / "chelsea.jpg").image, 256, 256, "crop").pixels
    return tokenize(image[None], SPEC, "blur")


@pytest.mark.parametrize("dtype", ["float16", "uint8", "float32", "none"])
def test_it_holds_what_the_other_format_holds(tmp_path, tokens, dtype):
    for name in ("x.safetensors", "x.pt", "again.safetensors"):
        save_tokens(tmp_path / name, tokens, dtype=dtype, metadata={"who": "é[/]\n"})
    found = load_tokens(tmp_path / "x.safetensors")
    assert found == load_tokens(tmp_path / "x.pt") and found.metadata == load_tokens(tmp_path / "x.pt").metadata
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_library_reads_it(tmp_path, tokens):
    save_tokens(tmp_path / "x.safetensors", tokens, dtype="float32")
    tensors = safetensors.load_file(tmp_path / "x.safetensors")
    assert set(tensors) == {"layout", "patches", "saliency.0", "saliency.1"}
    assert torch.equal(tensors["patches"], tokens.patches[0])


def test_no_flipped_bit_and_no_cut_goes_unnoticed(tmp_path, tokens):
    path = tmp_path / "x.safetensors"
    save_tokens(path, tokens, dtype="uint8")
    data, generator = path.read_bytes(), torch.Generator().manual_seed(1)
    places = torch.randint(len(data), (300,), generator=generator).tolist()
    whole = load_tokens(path)
    for place in [*places, *range(400)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:  # in the JSON a blank may become another
            assert load_tokens(path) == whole
        except TokenFileError as problem:
            assert str(problem).startswith(f"{path}: ") and "\n" not in str(problem)
    for length in [*range(0, 600, 7), *places]:
        path.write_bytes(data[:length])
        with pytest.raises(TokenFileError):
            load_tokens(path)


def forged(change):
    return safetensors.save({"layout": torch.zeros(4, 3, dtype=torch.int32)}, {"quadtok": json.dumps(change)})


@pytest.mark.parametrize(
    "data",
    [
        safetensors.save({"weight": torch.zeros(3)}),
        safetensors.save({"weight": torch.zeros(3)}, {"format": "pt"}),
        forged([]),
        forged({"format": "quadtok", "version": 1}),
        forged({"format": "quadtok", "version": 1, "crc32": 1, "meta": "{}", "layout": [[1]]}),
        forged({"format": "quadtok", "version": 1, "crc32": "1", "meta": 3}),
        struct.pack("<Q", 1 << 62) + b'{"__metadata__":{"quadtok":',
        struct.pack("<Q", 40) + b'{"__metadata__":{"quadtok":' + b"[" * 100_000,
    ],
)
def test_what_is_something_else_is_one_sentence(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(TokenFileError, match="x.safetensors: "):
        load_tokens(tmp_path / "x.safetensors")


def test_the_weights_of_a_model_are_called_what_they_are(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(safetensors.save({"weight": torch.zeros(3)}, {"format": "pt"}))
    with pytest.raises(TokenFileError, match="not a quadtok token file, but other safetensors"):
        load_tokens(tmp_path / "x.safetensors")


def test_a_newer_version_is_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(forged({"format": "quadtok", "version": 2}))
    with pytest.raises(TokenFileError, match="format version 2, this quadtok reads 1"):
        load_tokens(tmp_path / "x.safetensors")


def test_without_the_extra_a_sentence_names_it(tmp_path, tokens, monkeypatch):
    save_tokens(tmp_path / "x.safetensors", tokens)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(TokenFileError, match=r"pip install 'quadtok\[safetensors\]'"):
        load_tokens(tmp_path / "x.safetensors")
