"""More of the bad inputs of tests/bad/table.py, by their numbers there: what takes flags, or several inputs at once."""

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

import bad_images
from helpers import files_in
from quadtok import load_tokens

ACCEPTED = [
    bad_images.png_without_its_end,  # 3
    bad_images.png_named_jpg,  # 7
    bad_images.cmyk_jpeg,  # 13
    bad_images.gray16_png,  # 14
    bad_images.gray16_tiff,
    bad_images.gray16_tiff_turned,
    bad_images.png_with_a_text_bomb,
    bad_images.gray16_pgm,
    bad_images.rgba_png,  # 16
    bad_images.la_png,
    bad_images.palette_png_with_transparency,
    bad_images.jpeg_with_corrupt_exif,  # 18
    bad_images.one_pixel,  # 20
    bad_images.one_by_96,
    bad_images.strip_of_20000,  # 21
]


def tokenize(quadtok, *arguments):
    return quadtok("tokenize", "--scorer", "blur", *arguments)


def make(case, folder: Path) -> Path:
    """The case's file in a folder of its own: several cases share a name."""
    own = folder / case.__name__
    own.mkdir()
    return case(own)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_odd_but_sound_files_are_tokenized(quadtok, tmp_path, fit):
    """Cases 3, 7, 13-14, 16, 18, 20-21."""
    paths = [make(case, tmp_path) for case in ACCEPTED]
    result = tokenize(quadtok, *paths, "--fit", fit)
    assert (result.code, result.lines[:-1]) == (0, [])
    assert all(load_tokens(path.with_suffix(".pt")).plan.spec.num_tokens == 100 for path in paths)


def test_notes_are_for_the_verbose(quadtok, tmp_path):
    """Cases 18 and 19."""
    paths = [make(bad_images.jpeg_with_corrupt_exif, tmp_path), bad_images.animated(tmp_path, "GIF")]
    result = tokenize(quadtok, *paths, "-v")
    assert "unreadable EXIF block, taken as upright" in result.err
    assert "first of " in result.err
    assert load_tokens(paths[1].with_suffix(".pt")).metadata["source"]["frames"] > 1


def test_max_pixels_is_the_users(quadtok, photo):
    """Case 12."""
    result = tokenize(quadtok, photo, "--max-pixels", 14_999)  # it has 150 × 100
    assert result.code == 1
    assert "15 000 pixels exceed max_pixels 14 999" in result.err
    assert tokenize(quadtok, photo, "--max-pixels", 15_000).code == 0


def test_background_and_exif_are_the_users(quadtok, tmp_path):
    """Cases 16 and 17."""
    path = tmp_path / "clear.png"
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(path)
    tokenize(quadtok, path, "--background", "#0000ff")
    pixels = load_tokens(path.with_suffix(".pt")).patches
    assert pixels.amax(dim=(0, 1, 3, 4)).tolist() == [0, 0, 255]
    assert "is no colour" in tokenize(quadtok, path, "--background", "blurple").err

    turned = bad_images.with_orientation(tmp_path, 6)
    with Image.open(turned) as image:
        size = image.size
    for flag, expected in (("--exif", size[::-1]), ("--no-exif", size)):
        tokenize(quadtok, turned, flag, "--overwrite")
        assert tuple(load_tokens(turned.with_suffix(".pt")).metadata["source"]["size"]) == expected


def test_a_path_that_is_given_twice_is_done_once_and_a_link_on_its_own(quadtok, photo, tmp_path):
    """Case 29."""
    assert "done: 1 written" in tokenize(quadtok, photo, photo).err
    for link in ("cat", "pet", "val"):
        (tmp_path / "classes" / link).mkdir(parents=True)
        (tmp_path / "classes" / link / "x.jpg").symlink_to(photo)
    assert "done: 3 written" in tokenize(quadtok, tmp_path / "classes", "-o", tmp_path / "out").err
    assert len(list((tmp_path / "out").rglob("x.pt"))) == 3


@pytest.mark.parametrize("bad", ["empty", "x*y", "", "lost+found"])
@pytest.mark.parametrize(
    "command", [["tokenize", "--scorer", "blur"], ["visualize", "--scorer", "blur"]], ids=lambda c: c[0]
)
def test_an_input_that_cannot_be_taken_fails_alone(quadtok, photos, tmp_path, monkeypatch, command, bad):
    (photos / "empty").mkdir()
    (photos / "lost+found").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.chdir(photos)
    result = quadtok(*command, bad, "coffee.jpg", "-o", tmp_path / "out", "--json")
    assert (result.code, len(result.lines)) == (1, 2)
    assert "1 written, 0 skipped, 1 failed" in result.err
    refused, written, summary = (json.loads(line) for line in result.out.splitlines())
    assert (refused["status"], refused["output"], refused["error"]["kind"]) == ("failed", None, "InputError")
    assert written["status"] == "written" and summary["left"] == 0
    stopped = quadtok(*command, bad, "coffee.jpg", "-o", tmp_path / "other", "--fail-fast", "--json")
    assert (stopped.code, json.loads(stopped.out.splitlines()[-1])["left"]) == (1, 1)
    assert not (tmp_path / "other").exists()
    assert quadtok(*command, bad, "-o", tmp_path / "out").code == 2


def test_a_list_of_class_folders_with_equal_names_mirrors_them(quadtok, photo, tmp_path, monkeypatch):
    """The README's `find … -print0 | quadtok tokenize -0 -`."""
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        (tmp_path / "classes" / name / "1.jpg").write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path / "classes")
    entries = b"./cat/1.jpg\0./dog/1.jpg\0./dog/gone[1].jpg\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(entries)))
    result = tokenize(quadtok, "-0", "-", "-o", tmp_path / "out")
    assert (result.code, result.lines[0]) == (1, "quadtok: error: dog/gone[1].jpg: no such file")
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.pt")) == [
        "cat/1.pt",
        "dog/1.pt",
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cat/1.jpg\0")))
    assert tokenize(quadtok, "-0", "-", "-o", tmp_path / "rooted", "--relative-to", "..").code == 0
    assert (tmp_path / "rooted" / "classes" / "cat" / "1.pt").exists()


def test_inputs_that_would_write_one_file_are_refused_and_the_others_are_done(quadtok, tmp_path):
    """Cases 30 and 31."""
    for name in ("a/cat.jpg", "b/cat.jpg", "b/dog.jpg", "b/dog.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(path)
    cats = [tmp_path / "a" / "cat.jpg", tmp_path / "b" / "cat.jpg"]
    result = tokenize(quadtok, cats[0].parent, cats[1], "-o", tmp_path / "out")
    assert (result.code, len(result.lines)) == (1, 3)
    for line, (mine, other) in zip(result.lines, (cats, cats[::-1]), strict=False):
        assert line.startswith(f"quadtok: error: {mine} and {other} would both write {tmp_path / 'out' / 'cat.pt'}; ")
    assert not (tmp_path / "out").exists()
    result = tokenize(quadtok, tmp_path / "b", "-o", tmp_path / "out")
    assert (result.code, result.err.count("use --keep-ext")) == (1, 2)
    assert "1 written, 0 skipped, 2 failed" in result.err
    assert list(files_in(tmp_path / "out")) == ["cat.pt"]
    assert tokenize(quadtok, tmp_path, "-o", tmp_path / "kept", "--keep-ext").code == 0
    assert (tmp_path / "kept" / "b" / "dog.png.pt").exists()


def test_one_output_that_is_a_folder_fails_alone(quadtok, photos, tmp_path):
    """Case 36."""
    (tmp_path / "out" / "coffee.pt").mkdir(parents=True)
    result = tokenize(quadtok, photos, "-o", tmp_path / "out")
    assert result.code == 1
    assert f"{tmp_path / 'out' / 'coffee.pt'}: is a folder, not a regular file" in result.err
    assert "2 written, 0 skipped, 1 failed" in result.err


def test_a_full_disk_stops_the_run(quadtok, photos, tmp_path, monkeypatch):
    """Case 38."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = tokenize(quadtok, photos, "-o", tmp_path / "out", "-b", 1, "--json")
    assert result.code == 1
    assert "no space left on device" in result.lines[0]
    assert json.loads(result.out.splitlines()[-1])["left"] == 2
