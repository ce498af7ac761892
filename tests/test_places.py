"""URLs stand where paths stand, and are written as they were typed."""

import pickle
from pathlib import Path

import pytest

from quadtok.places import Url, folder_above, is_elsewhere, is_url, place_of, url_meant


@pytest.mark.parametrize("text", ["s3://b/a/x.jpg", "hdfs:///a/x.jpg", "file:///a/x.jpg", "a+b.c-d://h/x.jpg?y=1"])
def test_a_url_is_written_as_it_was_typed(text):
    place = place_of(text)
    assert is_url(text) and isinstance(place, Url) and str(place) == text
    assert str(place.with_suffix(".pt").parent / "y.pt") == text.rpartition("/")[0] + "/y.pt"
    assert pickle.loads(pickle.dumps(place)) == place and hash(place_of(text)) == hash(place)


@pytest.mark.parametrize("text", ["x.jpg", "/a/x.jpg", "C://x.jpg", "a:b.jpg", "://x", "s3:/b/x", ""])
def test_a_path_stays_one(text):
    assert not is_url(text) and place_of(text) == Path(text) and not isinstance(place_of(text), Url)


def test_names_below_a_url_are_paths():
    top = place_of("s3://b/photos")
    assert place_of("s3://b/photos/cats/1.jpg").relative_to(top) == Path("cats/1.jpg")
    assert str(top.parent) == "s3://b" and not str(top.parent.parent).strip(".")
    assert not place_of("gs://b/photos/1.jpg").is_relative_to(top)


def test_a_url_is_known_when_a_path_was_made_of_it():
    url = place_of("s3://b/x")
    assert is_elsewhere(url) and is_elsewhere(Path("s3://b/x")) and is_elsewhere(Path(url))
    assert not is_elsewhere(Path("a/s3:/b")) and not is_elsewhere(Path("C:/x"))


def test_the_folder_above_two_places():
    one, other = place_of("s3://b/photos/a"), place_of("s3://b/photos/b/c")
    assert str(folder_above(one, other)) == "s3://b/photos"
    assert folder_above(one, place_of("gs://b/photos/a")) is None
    assert folder_above(Path("/x/a"), Path("/x/b")) == Path("/x")


@pytest.mark.parametrize(
    ("text", "url"),
    [("s3:/b/x.jpg", "s3://b/x.jpg"), ("s3:/b//x", "s3://b//x"), ("s3://b/x", ""), ("C:/x", ""), ("a/s3:/b", "")],
)
def test_a_text_that_lacks_a_slash_is_known_for_the_url_that_was_meant(text, url):
    assert url_meant(text) == url


def test_a_folder_of_such_a_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    assert url_meant("s3:/b") == ""
