"""Walks over folders and patterns, as the arguments of a command line ask for them."""

import errno
import inspect
import os
import sys
from pathlib import Path

import pytest

from quadtok.errors import InputError
from quadtok.jobs.sources import find_sources
from quadtok.names import IMAGE_SUFFIXES


def names(arguments):
    return [source.relative.as_posix() for source in find_sources(arguments, IMAGE_SUFFIXES).sources]


def refused(arguments):
    return [str(refusal.problem) for refusal in find_sources(arguments, IMAGE_SUFFIXES).refused]


def test_a_loop_of_links_is_cut(tree):
    (tree / "sub" / "again").symlink_to(tree)
    assert names(["sub"]) == ["again/a.PNG", "again/b.jpg", "c.webp", "deep/e.tif"]
    assert names(["sub/**"]) == names(["sub"])
    assert names(["sub/**/*"]) == names(["sub"])
    assert names(["sub/**/*.jpg"]) == ["again/b.jpg"]


@pytest.mark.parametrize("pattern", ["*", "**", "**/*", "[s]*", "*/again", "s*/**/*.webp"])
def test_links_to_each_other_come_to_an_end(tree, pattern):
    for folder, other in (("sub", "other"), ("other", "sub")):
        (tree / folder).mkdir(exist_ok=True)
        (tree / folder / "again").symlink_to(tree / other)
    (tree / "sub" / "itself").symlink_to("itself")
    assert 0 < len(names([pattern])) < 20


@pytest.mark.parametrize("pattern", ["mesh", "mesh/**", "mesh/**/*.jpg"])
def test_folders_that_all_link_to_each_other_are_not_gone_through_in_all_ways(tree, pattern):
    for one in range(12):
        folder = tree / "mesh" / str(one)
        folder.mkdir(parents=True)
        (folder / "x.jpg").touch()
        for other in set(range(12)) - {one}:
            (folder / f"to{other}").symlink_to(f"../{other}")
    found = find_sources([pattern], IMAGE_SUFFIXES)
    assert {f"{one}/x.jpg" for one in range(12)} <= {source.relative.as_posix() for source in found.sources}
    assert len(found.sources) < 12 * 200
    said = [str(refusal.problem) for refusal in found.refused]
    assert 0 < len(said) <= 12 and all("over 100 ways lead here through links, others are cut" in line for line in said)


def test_a_folder_that_many_link_to_is_an_input_of_each(tree):
    for one in range(120):
        (tree / "classes" / str(one)).mkdir(parents=True)
        (tree / "classes" / str(one) / "shared").symlink_to(tree / "sub")
    assert (len(names(["classes"])), refused(["classes"])) == (240, [])


@pytest.mark.parametrize("argument", [".", "*", "**/*", "../tree/**/*.*", "**"])
def test_a_folder_that_cannot_be_listed_costs_itself_alone(tree, monkeypatch, close, argument):
    inner = tree / "tree"
    (inner / "lost+found").mkdir(parents=True)
    (inner / "x.jpg").touch()
    (inner / "z").mkdir()
    (inner / "z" / "y.jpg").touch()
    monkeypatch.chdir(inner)
    close("lost+found")
    assert names([argument]) == ["x.jpg", "z/y.jpg"]
    (sentence,) = refused([argument])
    assert sentence.endswith("lost+found: permission denied")


@pytest.mark.parametrize("reason", [errno.EACCES, errno.ENOENT, errno.EIO, errno.ELOOP])
def test_a_folder_that_is_alone_and_cannot_be_listed_is_an_error(tree, close, reason):
    close("sub", reason=reason)
    with pytest.raises(InputError, match=f"^sub: {os.strerror(reason).lower()}$"):
        names(["sub"])


@pytest.mark.parametrize("pattern", ["deep", "deep/**/*.jpg", "*/d"])
def test_folders_may_lie_deeper_than_python_calls(tree, pattern):
    deep = Path("deep", *["d"] * 400)  # the limit is 1000, and the system's paths have up to 4095 bytes
    deep.mkdir(parents=True)
    (deep / "x.jpg").touch()
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 250)
        (found,) = find_sources([pattern], IMAGE_SUFFIXES).sources
        assert found.path == deep / "x.jpg"
    finally:
        sys.setrecursionlimit(limit)


def test_what_is_no_regular_file_is_kept_to_fail_on_its_own(tree):
    os.mkfifo(tree / "sub" / "pipe.jpg")
    (tree / "sub" / "circle.jpg").symlink_to("circle.jpg")
    assert names(["sub"]) == ["c.webp", "circle.jpg", "deep/e.tif", "pipe.jpg"]
