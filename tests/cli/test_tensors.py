"""Maps and features are taken in every form that torch saves, or refused with what the file holds instead."""

import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from odd_tensors import NO_TENSORS, USABLE, VALUES
from quadtok import load_tokens

NO_MAPS = {
    "complex": (lambda: torch.complex(VALUES, VALUES), "holds complex numbers, which have no order"),
    "conjugate": (lambda: torch.complex(VALUES, VALUES).conj(), "holds complex numbers, which have no order"),
    "one number": (lambda: VALUES[0, 0], "must be [h, w]"),
    "a row": (lambda: VALUES[0], "must be [h, w]"),
    "of no height": (lambda: VALUES[:0], "must be [h, w], or [K, h, w] with one map a scale; it is [0, 8]"),
    "an empty list": (list, "must be [h, w]"),
    "not a number": (lambda: VALUES.log() / 0 * 0, "holds NaN"),
}
UNUSABLE = {**NO_TENSORS, **NO_MAPS}


@pytest.fixture
def folder(tmp_path):
    """Three small images, and where their maps go: the second's is the odd one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "maps").mkdir()
    for name in "abc":
        Image.new("RGB", (64, 64), "white").save(tmp_path / "in" / f"{name}.png")
        torch.save(VALUES, tmp_path / "maps" / f"{name}.pt")
    return tmp_path


def run(quadtok, folder, maps, out="out", command="tokenize"):
    small = ["-s", "64", "-n", "10", "--min-patch", "8", "--max-patch", "32"]
    return quadtok(command, folder / "in", "-o", folder / out, "--scorer", "precomputed", "--maps", maps, *small)


@pytest.mark.parametrize(("saved", "stands_for"), USABLE.values(), ids=USABLE)
def test_a_map_of_any_kind_is_the_map_that_it_stands_for(quadtok, folder, saved, stands_for):
    torch.save(saved(), folder / "maps" / "b.pt")
    assert run(quadtok, folder, folder / "maps").code == 0
    torch.save(stands_for, folder / "maps" / "b.pt")
    run(quadtok, folder, folder / "maps", "expected")
    ours, theirs = (load_tokens(folder / out / "b.pt") for out in ("out", "expected"))
    assert torch.equal(ours.plan.left, theirs.plan.left) and torch.equal(ours.saliency[0], theirs.saliency[0])
    assert ours.metadata["scorer"] == theirs.metadata["scorer"]


def test_nothing_but_quadtok_talks_about_odd_kinds(folder):
    for name, kind in zip("abc", ("sparse", "sparse rows", "quantised"), strict=True):
        torch.save(USABLE[kind][0](), folder / "maps" / f"{name}.pt")
    command = [sys.executable, "-m", "quadtok", "tokenize", "in", "--scorer", "precomputed", "--maps", "maps"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (0, 1), ended.stderr


@pytest.mark.parametrize("command", ["tokenize", "visualize"])
@pytest.mark.parametrize(("saved", "said"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_map_that_cannot_be_used_costs_its_image_alone(quadtok, folder, command, saved, said):
    torch.save(saved(), folder / "maps" / "b.pt")
    result = run(quadtok, folder, folder / "maps", command=command)
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[0].startswith(f"quadtok: error: {folder / 'in' / 'b.png'}: map {folder / 'maps' / 'b.pt'}: ")
    assert said in result.lines[0]
    assert "2 written, 0 skipped, 1 failed" in result.lines[1]


@pytest.mark.parametrize(("saved", "said"), [UNUSABLE[name] for name in UNUSABLE if name != "not a number"])
def test_one_file_for_all_is_named_itself_and_refused_at_once(quadtok, folder, saved, said):
    torch.save(saved(), folder / "all.pt")
    result = run(quadtok, folder, folder / "all.pt")
    assert (result.code, len(result.lines)) == (2, 1)
    assert result.err.startswith(f"quadtok: error: --maps {folder / 'all.pt'}") and said in result.err


def test_what_is_wrong_with_one_row_is_said_of_the_file_and_the_image(quadtok, folder):
    rows = torch.stack([VALUES, VALUES * torch.nan, VALUES])
    torch.save(rows, folder / "all.pt")
    result = run(quadtok, folder, folder / "all.pt")
    assert result.lines[0] == f"quadtok: error: {folder / 'in' / 'b.png'}: map {folder / 'all.pt'}: holds NaN"
    assert "2 written, 0 skipped, 1 failed" in result.lines[1]


def make_text(path):
    path.write_text("a map")


def make_empty(path):
    path.touch()


def make_folder(path):
    path.mkdir()


def link_to_nothing(path):
    path.symlink_to("nowhere")


NO_FILES = {
    make_text: "not a tensor that can be loaded safely; write it with torch.save(tensor, path)",
    make_empty: "not a tensor that can be loaded safely",
    os.mkfifo: "not a regular file",
    make_folder: "is a folder",
    link_to_nothing: "no such file",
    lambda path: None: "no such file",
}


@pytest.mark.parametrize(("make", "said"), NO_FILES.items())
def test_what_is_no_file_of_tensors_costs_its_image_alone(quadtok, folder, make, said):
    (folder / "maps" / "b.pt").unlink()
    make(folder / "maps" / "b.pt")
    result = run(quadtok, folder, folder / "maps")
    assert (result.code, len(result.lines)) == (1, 2)
    assert f"b.png: map {folder / 'maps' / 'b.pt'}: {said}" in result.lines[0]


FEATURES = {
    "requires grad": (lambda: torch.rand(10, 3, requires_grad=True), None),
    "sparse": (lambda: torch.rand(10, 3).to_sparse(), None),
    "a dict": (lambda: {"x": torch.rand(10, 3)}, "holds a dict, not a tensor"),
    "a list": (lambda: [torch.rand(10, 3)], "holds a list of tensors, not one tensor [N, D] or [B, N, D]"),
    "meta": (lambda: torch.rand(10, 3, device="meta"), "holds a tensor without numbers"),
    "a terabyte": (lambda: torch.rand(1).expand(10, 1 << 37), "bytes, and does not bring them"),
}


@pytest.mark.parametrize(("saved", "said"), FEATURES.values(), ids=FEATURES)
def test_features_are_read_by_the_same_rules(quadtok, folder, saved, said):
    run(quadtok, folder, folder / "maps")
    torch.save(saved(), folder / "features.pt")
    features = ["--to", "features", "--features", folder / "features.pt"]
    result = quadtok("reverse", folder / "out" / "a.pt", *features, "--output", folder / "dense.pth")
    if said is None:
        assert result.code == 0
        assert torch.load(folder / "dense.pth", weights_only=True).shape == (3, 8, 8)
    else:
        assert (result.code, len(result.lines)) == (2, 1)
        assert result.err.startswith(f"quadtok: error: --features {folder / 'features.pt'}: ") and said in result.err
