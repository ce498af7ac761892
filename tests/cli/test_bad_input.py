"""The bad inputs of the conventions (research/ecosystem.md E.3), by their case numbers, through the command line.

Images one by one are in tests/images, token files in tests/storage/test_token_file.py; here is what a user sees.
"""

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import bad_images
from bad_images import REFUSED
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


def test_one_bad_file_of_each_kind_costs_no_other(quadtok, photo, tmp_path):
    """Cases 1-2, 4-6, 8-11, 15, 23-24: one run over all of them and one good photograph."""
    folder = tmp_path / "bad"
    folder.mkdir()
    bad = {make(case, folder): reason for case, reason in REFUSED.items() if case is not bad_images.folder_named_jpg}
    result = tokenize(quadtok, *bad, photo)
    assert result.code == 1
    assert result.lines[:-1] == [f"quadtok: error: {path}: {reason}" for path, reason in bad.items()]
    assert f"1 written, 0 skipped, {len(bad)} failed" in result.lines[-1]
    assert list(tmp_path.rglob("*.pt")) == [photo.with_suffix(".pt")]
    assert not list(tmp_path.rglob(".quadtok-*"))


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


def test_a_folder_named_like_an_image_is_walked(quadtok, tmp_path):
    """Case 22."""
    path = bad_images.folder_named_jpg(tmp_path)
    Image.new("RGB", (64, 64)).save(path / "inside.png")
    assert tokenize(quadtok, path).code == 0
    assert (path / "inside.pt").exists()


def test_an_unreadable_file_is_said_to_be_so(quadtok, photo, monkeypatch):
    """Case 25. Tests may run as root, who may read everything: so the refusal is simulated."""

    really_open = os.open

    def refuse(path, *arguments, **options):
        if path == photo:
            raise PermissionError(13, "Permission denied")
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    result = tokenize(quadtok, photo)
    assert (result.code, result.lines[0]) == (1, f"quadtok: error: {photo}: permission denied")


def test_the_digest_is_of_the_bytes_that_were_read(quadtok, photo, monkeypatch):
    """Case 26: a file that changes between listing and reading."""
    really_open = os.open

    def replace_first(path, *arguments, **options):
        if path == photo:
            Image.new("RGB", (70, 70), "blue").save(photo, "JPEG")
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", replace_first)
    assert tokenize(quadtok, photo).code == 0
    assert load_tokens(photo.with_suffix(".pt")).metadata["source"]["size"] == [70, 70]


def test_nothing_found_is_an_error(quadtok, tmp_path):
    """Case 27."""
    assert tokenize(quadtok, tmp_path).err == f"quadtok: error: no images found in {tmp_path}\n"
    result = tokenize(quadtok, f"{tmp_path}/*.jpg")
    assert (result.code, result.err) == (2, f"quadtok: error: no images match {tmp_path}/*.jpg\n")


def test_a_missing_path_fails_alone(quadtok, photo, tmp_path):
    """Case 28."""
    result = tokenize(quadtok, tmp_path / "gone.jpg", photo)
    assert result.code == 1
    assert result.lines[0] == f"quadtok: error: {tmp_path / 'gone.jpg'}: no such file"
    assert photo.with_suffix(".pt").exists()


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
    assert os.listdir(tmp_path / "out") == ["cat.pt"]
    assert tokenize(quadtok, tmp_path, "-o", tmp_path / "kept", "--keep-ext").code == 0
    assert (tmp_path / "kept" / "b" / "dog.png.pt").exists()


ODD_NAMES = [
    "new\nline.png",
    "esc\x1b[31m.png",
    "a[/]b.png",
    "-dash.png",
    "bytes\udcff.png",
    "x" * 251 + ".png",
    "猫.png",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=[f"{name[:12]!a}" for name in ODD_NAMES])
def test_odd_names_work_and_are_shown_escaped(quadtok, tmp_path, monkeypatch, name):
    """Case 33."""
    monkeypatch.chdir(tmp_path)
    path = Path("odd", *name.split("/"))
    path.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(path)
    result = tokenize(quadtok, "odd", "-v", "--json")
    assert result.code == 0
    assert path.with_suffix(".pt").exists()
    assert "\x1b" not in result.err and len(result.lines) == 2
    assert json.loads(result.out.splitlines()[0])["input"] == str(path)
    assert load_tokens(path.with_suffix(".pt")).metadata["source"]["name"] == path.relative_to("odd").as_posix()


def test_a_leading_dash_needs_the_double_dash(quadtok, tmp_path, monkeypatch):
    """Case 33."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("-dash.png")
    assert tokenize(quadtok, "--", "-dash.png").code == 0


def test_a_name_that_becomes_too_long_fails_alone(quadtok, photo, tmp_path):
    """Case 33."""
    long = tmp_path / ("x" * 251 + ".png")
    Image.new("RGB", (64, 64)).save(long)
    result = tokenize(quadtok, long, photo, "--keep-ext")
    assert result.code == 1
    assert "the name is too long for this disk" in result.err
    assert "1 written" in result.err


def test_outputs_that_cannot_be_written_are_told_before_any_work(quadtok, photo, tmp_path):
    """Case 36."""
    (tmp_path / "file").touch()
    result = tokenize(quadtok, photo, "-o", tmp_path / "file")
    assert (result.code, result.err) == (
        2,
        f"quadtok: error: {tmp_path / 'file'}: {tmp_path / 'file'} is not a folder\n",
    )
    result = tokenize(quadtok, photo, "--output", tmp_path)
    assert (result.code, result.err) == (2, f"quadtok: error: output {tmp_path} is a folder: use --output-dir\n")


def test_one_output_that_is_a_folder_fails_alone(quadtok, photos, tmp_path):
    """Case 36."""
    (tmp_path / "out" / "coffee.pt").mkdir(parents=True)
    result = tokenize(quadtok, photos, "-o", tmp_path / "out")
    assert result.code == 1
    assert f"{tmp_path / 'out' / 'coffee.pt'}: is a folder, not a regular file" in result.err
    assert "2 written, 0 skipped, 1 failed" in result.err


def test_an_output_that_is_an_input_is_refused(quadtok, photo):
    """Case 37, of a photograph that has the ending of token files."""
    photo = photo.rename(photo.with_suffix(".pt"))
    before = photo.read_bytes()
    result = tokenize(quadtok, photo, "--output", photo)
    assert (result.code, result.err) == (
        2,
        f"quadtok: error: {photo}: output {photo} is an input: choose another name or folder\n",
    )
    assert photo.read_bytes() == before


def test_a_full_disk_stops_the_run(quadtok, photos, tmp_path, monkeypatch):
    """Case 38."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = tokenize(quadtok, photos, "-o", tmp_path / "out", "-b", 1, "--json")
    assert result.code == 1
    assert "no space left on device" in result.lines[0]
    assert json.loads(result.out.splitlines()[-1])["left"] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for the device that this machine has")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_an_absent_device_is_an_error_that_names_the_present_ones(quadtok, photo, device):
    """Case 44."""
    result = tokenize(quadtok, photo, "--device", device)
    assert (result.code, result.err) == (
        2,
        f"quadtok: error: --device {device}: there is no such device here; there is cpu\n",
    )


def test_a_device_by_another_name_is_a_usage_error(quadtok, photo):
    """Case 44."""
    assert "none of auto, cpu, cuda and cuda:N" in tokenize(quadtok, photo, "--device", "tpu").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "101"], "num_tokens 101 cannot be reached from 16 roots: each split adds 3. Try 100 or 103."),
        (["-n", "10"], "num_tokens 10 is fewer than the 16 roots"),
        (["-n", "300"], "num_tokens 300 is more than the 256 finest patches"),
        (["-s", "224"], "use max_patch 32 or 56 with min_patch 14, or height 256"),
        (["--min-patch", "12"], "use max_patch 48 or 96"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_geometries_that_do_not_work_name_the_nearest_that_do(quadtok, photo, arguments, message):
    """Case 45."""
    result = tokenize(quadtok, photo, *arguments)
    assert (result.code, len(result.lines)) == (2, 1)
    assert message in result.err


def test_no_weights_and_no_network_is_one_sentence_with_the_ways_out(quadtok, photo, tmp_path, monkeypatch):
    """Case 46. The download is made to fail, so that the test is the same with a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.delenv("no_proxy", raising=False)
    result = quadtok("tokenize", photo, "--scorer", "feature", "--weights", "imagenet")
    assert (result.code, result.out) == (2, "")
    assert (
        "give its path as weights" in result.err and "weights='bundled'" in result.err and "shufflenetv2" in result.err
    )
    assert "Traceback" not in result.err


@pytest.mark.parametrize("content", [b"", b"text", None], ids=["empty", "text", "another model"])
def test_weights_that_do_not_fit_are_one_sentence(quadtok, photo, tmp_path, content):
    """Case 47."""
    path = tmp_path / "weights.pt"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    if content is not None:
        path.write_bytes(content)
    result = quadtok("tokenize", photo, "--weights", path)
    assert (result.code, len(result.lines)) == (2, 1)
    assert f"weights {path}: not a" in result.err


def test_flat_images_get_the_same_plan_from_every_quadtree(quadtok, tmp_path):
    """Case 59."""
    path = tmp_path / "flat.png"
    Image.new("RGB", (256, 256), "gray").save(path)
    files = []
    for impl in ("dict", "tensor", "zcurve", "parallel"):
        tokenize(quadtok, path, "--impl", impl, "--overwrite")
        files.append(path.with_suffix(".pt").read_bytes())
    assert len(set(files)) == 1
    assert load_tokens(path.with_suffix(".pt")).plan.scale[0, :4].tolist() == [0, 0, 0, 0]


def test_torchvision_that_does_not_fit_stops_only_the_feature_scorer(quadtok, photo, monkeypatch):
    """Case 60."""
    import builtins

    real = builtins.__import__

    def broken(name, *arguments, **keywords):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", broken)
    result = quadtok("tokenize", photo, "--weights", "imagenet")
    assert result.code == 2
    assert "torchvision does not fit torch" in result.err and "one index" in result.err
    assert tokenize(quadtok, photo).code == 0


def test_undecodable_names_survive_json_and_stdin(quadtok, tmp_path, monkeypatch):
    """Case 33."""
    name = os.fsdecode(b"caf\xe9\n.png")
    Image.new("RGB", (64, 64)).save(tmp_path / name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(tmp_path / name) + b"\0")))
    result = tokenize(quadtok, "-0", "-", "--json")
    assert result.code == 0
    assert json.loads(result.out.splitlines()[0])["input"] == str(tmp_path / name)
