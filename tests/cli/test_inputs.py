import io
import os
import sys

import pytest

from quadtok.cli.inputs import find_sources
from quadtok.errors import InputError
from quadtok.names import IMAGE_SUFFIXES


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with images, other files, hidden files and subfolders; the working folder."""
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.webp", ".git/d.jpg", "sub/deep/e.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(arguments, **options):
    return [source.relative.as_posix() for source in find_sources(arguments, IMAGE_SUFFIXES, **options)]


def test_a_folder_is_walked_sorted_without_hidden_files(tree):
    assert names(["."]) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/e.tif"]


def test_names_are_relative_to_the_folder_that_was_given(tree):
    assert names(["sub"]) == ["c.webp", "deep/e.tif"]


def test_a_file_is_taken_whatever_its_ending(tree):
    assert names(["notes.txt"]) == ["notes.txt"]


def test_a_folder_named_like_an_image_is_walked(tree):
    (tree / "x.jpg").mkdir()
    (tree / "x.jpg" / "inside.png").touch()
    assert names(["x.jpg"]) == ["inside.png"]


def test_a_glob_mirrors_below_its_fixed_part(tree):
    assert names(["sub/*"]) == ["c.webp", "deep/e.tif"]
    assert names(["*/c.webp"]) == ["sub/c.webp"]
    assert names(["**/*.tif"]) == ["sub/deep/e.tif"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree):
    (tree / "[1].jpg").touch()
    assert names(["[1].jpg"]) == ["[1].jpg"]


@pytest.mark.parametrize("link_target", ["b.jpg", "sub/../b.jpg"])
def test_one_file_under_several_names_is_done_once(tree, link_target):
    (tree / "link.jpg").symlink_to(link_target)
    assert names(["b.jpg", "./b.jpg", "link.jpg", str(tree / "b.jpg")]) == ["b.jpg"]


def test_a_loop_of_links_is_visited_once(tree):
    (tree / "sub" / "again").symlink_to(tree)
    assert names(["sub"]) == ["again/a.PNG", "again/b.jpg", "c.webp", "deep/e.tif"]


def test_missing_and_dangling_paths_are_kept_to_fail_on_their_own(tree):
    (tree / "dangling.jpg").symlink_to("nowhere")
    assert names(["gone.jpg", "dangling.jpg", "b.jpg"]) == ["gone.jpg", "dangling.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("argument", "message"), [("empty", "no images found in empty"), ("x*y", r"no images match x\*y")]
)
def test_an_empty_folder_or_glob_is_an_error(tree, argument, message):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        names(["b.jpg", argument])


def stdin(monkeypatch, data: bytes):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_dash_reads_one_path_per_line(tree, monkeypatch):
    stdin(monkeypatch, b"b.jpg\r\n\nsub\n")
    assert names(["-"]) == ["b.jpg", "c.webp", "deep/e.tif"]


def test_null_separated_names_may_hold_anything(tree, monkeypatch):
    odd = [b"new\nline.jpg", b"\xff\xfe.jpg", b"-dash.jpg", b"esc\x1b[31m.jpg"]
    for name in odd:
        (tree / os.fsdecode(name)).touch()
    stdin(monkeypatch, b"\0".join(odd) + b"\0")
    assert [os.fsencode(name) for name in names(["-"], null_separated=True)] == odd


def test_empty_stdin_is_an_error(tree, monkeypatch):
    stdin(monkeypatch, b"")
    with pytest.raises(InputError, match="stdin was empty"):
        names(["-"])


def test_a_list_that_was_meant_to_be_null_separated_is_told_so(tree, monkeypatch):
    stdin(monkeypatch, b"b.jpg\0a.PNG\0")
    with pytest.raises(InputError, match="holds NUL bytes: use -0"):
        names(["-"])
