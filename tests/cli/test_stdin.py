"""The list on stdin: how its entries are told from each other, and what is said of one that is none."""

import io
import os
import sys

import pytest

from quadtok.cli.stdin import read_list
from quadtok.errors import InputError


@pytest.fixture
def give(monkeypatch):
    """Put bytes on stdin."""

    def put(data):
        monkeypatch.setattr(sys, "stdin", None if data is None else io.TextIOWrapper(io.BytesIO(data)))

    return put


def test_a_line_is_a_path_and_an_empty_one_is_none(give):
    give(b"b.jpg\r\n\nsub dir\n \nlast")
    assert read_list(null_separated=False) == ["b.jpg", "sub dir", "last"]


def test_null_separated_names_may_hold_anything(give):
    odd = [b"new\nline.jpg", b"\xff\xfe.jpg", b"-dash.jpg", b"esc\x1b[31m.jpg"]
    give(b"\0".join(odd) + b"\0")
    assert [os.fsencode(entry) for entry in read_list(null_separated=True)] == odd


@pytest.mark.parametrize("data", [b"", b"\n \n", None])  # None: as `quadtok tokenize - <&-` has it
def test_an_empty_list_is_an_error(quadtok, give, data):
    give(data)
    result = quadtok("tokenize", "-")
    assert (result.code, result.lines) == (2, ["quadtok: error: no inputs: the list is empty"])


def test_a_list_is_read_once(quadtok, give, photos, monkeypatch):
    monkeypatch.chdir(photos)
    give(b"coffee.jpg\n")
    result = quadtok("tokenize", "-", "-", "rocket.png", "--dry-run")
    assert result.out.splitlines() == ["coffee.jpg -> coffee.pt", "rocket.png -> rocket.pt"]


def test_a_list_that_cannot_be_read_is_an_error(monkeypatch):
    class Torn(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise IsADirectoryError(21, "Is a directory")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Torn())))
    with pytest.raises(InputError, match="the list on stdin cannot be read: is a directory"):
        read_list(null_separated=False)


def test_a_list_that_was_meant_to_be_null_separated_is_told_so(give):
    give(b"b.jpg\0a.PNG\0")
    with pytest.raises(InputError, match="holds NUL bytes: use -0"):
        read_list(null_separated=False)


@pytest.mark.parametrize("lines", [b"b.jpg\na.PNG\n", b"b.jpg\n", b"b.jpg\na.PNG"])
def test_a_list_that_was_not_meant_to_be_null_separated_is_told_so(give, lines):
    give(lines)
    with pytest.raises(InputError, match="the list on stdin holds no NUL byte: leave out -0, or use find -print0"):
        read_list(null_separated=True)


@pytest.mark.parametrize("data", [b"two\nlines.jpg", b"two\nlines.jpg\0", b"b.jpg"])
def test_one_path_needs_no_null_behind_it_even_with_a_line_end_in_it(tmp_path, give, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two\nlines.jpg").touch()
    give(data)
    assert read_list(null_separated=True) == [data.rstrip(b"\0").decode()]
