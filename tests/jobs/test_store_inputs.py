"""A URL names inputs as a path does, and each problem of a store is one sentence."""

import os
import sys

import pytest

from quadtok.errors import ImageError, InputError
from quadtok.jobs.parts import Part
from quadtok.jobs.sources import find_sources
from quadtok.names import IMAGE_SUFFIXES, TOKEN_SUFFIXES
from quadtok.places import place_of

pytest.importorskip("fsspec", reason="URLs are its; the extra fsspec has it")


@pytest.fixture
def url(store, tree):
    for name in ("z/.hidden/f.jpg", "z/b.jpg", "z.jpg", "a/x[1].jpg", "a/x1.jpg"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    return store.put_all(tree, "photos")


def names(arguments, **options):
    found = find_sources(arguments, IMAGE_SUFFIXES, **options)
    return [(source.relative.as_posix(), source.found) for source in found.sources]


@pytest.mark.parametrize(
    "below",
    [
        *("", "/", "/sub", "/sub/deep/", "/*.jpg", "/*", "/**", "/**/*.jpg", "/sub/**/e.tif", "/[ab]*", "/.*"),
        *("/*/.hidden/*", "/z/*", "/**/deep", "/?.jpg", "/a/x[1].jpg", "/b.jpg", "/a/x[0-9].jpg", "/**/**/*.webp"),
    ],
)  # fmt: skip
def test_the_same_is_found_in_the_same_order_as_on_a_disk(url, tree, below):
    assert names([f"{url}{below}"]) == names([f"{tree}{below}"])


def test_a_list_is_named_by_the_folder_that_holds_all_of_it(url, tree):
    entries = ["sub", "z/b.jpg", "a/x[1].jpg"]
    assert names(["-"], listed=[f"{url}/{entry}" for entry in entries]) == names(
        ["-"], listed=[f"{tree}/{entry}" for entry in entries]
    )


def test_names_are_relative_to_a_folder_in_the_store(url):
    above = place_of(url.rpartition("/")[0])
    assert names([f"{url}/sub"], relative_to=above) == [("photos/sub/c.webp", True), ("photos/sub/deep/e.tif", True)]
    with pytest.raises(InputError, match=r"sub/c\.webp: does not lie in relative_to .*://.*/sub/deep"):
        find_sources([f"{url}/sub/c.webp"], IMAGE_SUFFIXES, relative_to=place_of(f"{url}/sub/deep"))


def test_one_url_is_one_input_and_is_written_as_it_was_typed(url):
    found = find_sources([url, f"{url}/b.jpg", f"{url}/*.jpg"], IMAGE_SUFFIXES).sources
    assert len({str(source.path) for source in found}) == len(found) == len(find_sources([url], IMAGE_SUFFIXES).sources)
    assert f"{url}/b.jpg" in [str(source.path) for source in found]


def test_the_parts_hold_each_file_once(url):
    found = find_sources([url], IMAGE_SUFFIXES)
    parts = [Part(number, 3).of(found).sources for number in (1, 2, 3)]
    every = sorted(str(source.path) for source in found.sources)
    assert sorted(str(source.path) for part in parts for source in part) == every


def test_the_bytes_are_those_of_the_store(store):
    source = find_sources([store.put("x/y.jpg", b"the bytes")], IMAGE_SUFFIXES).sources[0]
    assert source.read() == b"the bytes"
    with pytest.raises(ImageError, match=r"://.*/x/empty\.jpg: empty file$"):
        find_sources([store.put("x/empty.jpg", b"")], IMAGE_SUFFIXES).sources[0].read()


def test_a_file_that_is_gone_says_so_when_it_is_read(store):
    found = find_sources([f"{store.url}/x.jpg", f"{store.url}/nowhere"], IMAGE_SUFFIXES).sources
    for source in found:
        with pytest.raises(ImageError, match=f"^{source.path}: no such file$"):
            source.read()


def test_a_file_named_by_itself_may_have_any_ending(store):
    found = find_sources([store.put("x/picture"), store.put("x/y.data")], IMAGE_SUFFIXES).sources
    assert [source.relative.as_posix() for source in found] == ["picture", "y.data"]
    assert [source.read() for source in found] == [b"data", b"data"]
    listed = [f"{store.url}/x/picture", f"{store.url}/x/y.data"]
    assert names(["-"], listed=listed) == [("picture", False), ("y.data", False)]


@pytest.mark.parametrize(
    ("below", "sentence"),
    [
        ("/empty", "no images found in {url}/empty"),
        ("/*.gif", "no images match {url}/*.gif"),
        ("/x.tar", "{url}/x.tar: a tar is not read where a store has it: copy it here"),
        ("/x.PARQUET", "{url}/x.PARQUET: a Parquet file is not read where a store has it: copy it here"),
    ],
)
def test_what_cannot_be_taken_is_one_sentence(store, below, sentence):
    store.put("empty/notes.txt")
    store.put("x.tar")
    store.put("x.PARQUET")
    with pytest.raises(InputError) as raised:
        find_sources([f"{store.url}{below}"], IMAGE_SUFFIXES)
    assert str(raised.value) == sentence.format(url=store.url)


def test_a_store_that_nobody_knows_costs_its_inputs_alone(store):
    arguments = [store.put("a.jpg"), "nosuch://b/folder", "nosuch://b/x.jpg"]
    found = find_sources(arguments, IMAGE_SUFFIXES)
    assert [str(source.path) for source in found.sources] == [arguments[0], arguments[2]]
    assert str(found.refused[0].problem) == "nosuch://b/folder: ValueError: Protocol not known: nosuch"
    with pytest.raises(ImageError, match=r"^nosuch://b/x\.jpg: ValueError: Protocol not known: nosuch"):
        found.sources[1].read()


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (PermissionError("Access Denied"), "PermissionError: Access Denied"),
        (RuntimeError("a library's own\n\n  words"), "RuntimeError: a library's own words"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_store_that_fails_is_one_sentence(store, monkeypatch, problem, sentence):
    def fail(*arguments, **options):
        raise problem

    folder, file = f"{store.url}/photos", store.put("x.jpg")
    monkeypatch.setattr(type(store.files), "cat_file", fail)
    monkeypatch.setattr(type(store.files), "find", fail)
    with pytest.raises(InputError) as raised:
        find_sources([folder], IMAGE_SUFFIXES)
    assert str(raised.value) == f"{folder}: {sentence}"
    with pytest.raises(ImageError) as raised:
        find_sources([file], IMAGE_SUFFIXES).sources[0].read()
    assert str(raised.value) == f"{file}: {sentence}"


def test_a_name_that_leads_out_is_refused(monkeypatch, store):
    above = {"type": "file", "size": 1}
    monkeypatch.setattr(type(store.files), "find", lambda self, top, **_: {f"{top}/../x.jpg": above})
    with pytest.raises(InputError, match=r"photos/\.\./x\.jpg: its name leads out of the folder that it is in"):
        find_sources([f"{store.url}/photos"], IMAGE_SUFFIXES)


def test_a_folder_is_one_listing_and_its_files_are_not_asked_for(url, store, monkeypatch):
    asked = []

    def find(self, top, **options):
        asked.append(top)
        return {f"{top}/{number}.jpg": {"type": "file", "size": 1} for number in range(1000)}

    def refuse(*arguments, **options):
        raise AssertionError

    for name in ("info", "ls", "exists", "isfile", "isdir"):
        monkeypatch.setattr(type(store.files), name, refuse)
    monkeypatch.setattr(type(store.files), "find", find)
    assert len(find_sources([url], IMAGE_SUFFIXES).sources) == 1000
    assert len(asked) == 1
    assert len(find_sources([f"{url}/{number}.jpg" for number in range(1000)], IMAGE_SUFFIXES).sources) == 1000
    assert len(asked) == 1


def test_token_files_are_found_as_images_are(store):
    store.put("t/a.pt")
    store.put("t/b/c.safetensors")
    found = find_sources([f"{store.url}/t"], TOKEN_SUFFIXES).sources
    assert [source.relative.as_posix() for source in found] == ["a.pt", "b/c.safetensors"]


def test_without_fsspec_a_sentence_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.delitem(sys.modules, "quadtok.stores", raising=False)
    with pytest.raises(InputError, match=r"^s3://b/photos: .* needs fsspec: pip install 'quadtok\[fsspec\]'$"):
        find_sources(["s3://b/photos"], IMAGE_SUFFIXES)


def test_a_folder_whose_name_has_a_colon_is_a_folder(tree):
    os.makedirs("s3:/b")
    (tree / "s3:/b/x.jpg").touch()
    assert names(["s3:/b"]) == [("x.jpg", True)]
