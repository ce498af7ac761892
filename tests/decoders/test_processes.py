"""Processes that decode: the same photos and sentences; one that dies costs at most the file that it died of."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import bad_images
from decoders.dying import LOOKS_LIKE_POISON, POISON, Dying
from helpers import SAMPLE_IMAGES
from quadtok.decoders import InThread, opened
from quadtok.decoders.room import Room
from quadtok.errors import ImageError, QuadtokError
from quadtok.geometry import make_geometry, parse_budget
from quadtok.preprocess import Preprocess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
GEOMETRY = make_geometry((64, 64), parse_budget("10"), "crop", 8, 32)
PHOTOS = sorted(path for path in SAMPLE_IMAGES.iterdir() if path.suffix in (".jpg", ".png"))
JPEG = next(path for path in PHOTOS if path.suffix == ".jpg").read_bytes()


def same(one, other):
    return (
        np.array_equal(one.fitted.array, other.fitted.array)
        and one.fitted.crop_box == other.fitted.crop_box
        and (one.spec, one.file, one.draft, one.notes) == (other.spec, other.file, other.draft, other.notes)
    )


@pytest.mark.parametrize("size", [(64, 64), None])
def test_photos_are_those_of_a_thread(size):
    steps = Preprocess(make_geometry(size, parse_budget("40%"), "pad", 8, 32))
    with opened(2) as decoder, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda path: decoder.decode(steps, path.read_bytes(), path), PHOTOS * 3))
    here = [steps.decode(path.read_bytes(), path) for path in PHOTOS * 3]
    assert all(map(same, found, here)) and len(found) > 10
    assert found[0].fitted.pixels.shape[0] == 3  # to be had as a tensor here


def test_what_cannot_be_read_is_said_as_a_thread_would(tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "cut.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    (tmp_path / "large.png").write_bytes(bad_images.png_header(100_000, 100_000))
    with opened(1) as decoder:
        for path in tmp_path.iterdir():
            said = []
            for way in (decoder, InThread(Room(1))):
                with pytest.raises(QuadtokError) as problem:
                    way.decode(Preprocess(GEOMETRY), path.read_bytes(), path)
                said.append((type(problem.value), str(problem.value)))
            assert said[0] == said[1]


def test_a_file_that_processes_die_of_is_named_and_the_others_lose_nothing(tmp_path):
    files = [JPEG, JPEG + POISON, *[JPEG] * 20, JPEG + POISON, JPEG]

    def decode(number):
        try:
            return decoder.decode(Dying(GEOMETRY), files[number], Path(f"{number}.jpg"))
        except ImageError as problem:
            return problem

    with opened(2) as decoder, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(decode, range(len(files))))
    failed = {number: str(one) for number, one in enumerate(found) if isinstance(one, Exception)}
    assert set(failed) == {1, 22}
    assert failed[1].startswith("1.jpg: ") and "died" in failed[1] and "SIGKILL" in failed[1]
    here = Preprocess(GEOMETRY).decode(JPEG, Path("0.jpg"))
    assert all(same(one, here) for number, one in enumerate(found) if number not in failed)


def test_a_file_at_which_a_process_was_killed_is_tried_once_more(tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    with opened(2) as decoder:
        found = decoder.decode(Dying(GEOMETRY), JPEG + LOOKS_LIKE_POISON + bytes(mark), Path("x.jpg"))
    assert not mark.exists() and found.fitted.array.shape == (3, 64, 64)


def test_a_system_without_room_for_a_process_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(QuadtokError, match="cannot be begun"), opened(1):
        pass


def test_one_that_ends_before_it_begins_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with opened(1) as decoder, pytest.raises(QuadtokError, match="before it began .exit code 1.; decode without"):
        decoder.decode(Preprocess(GEOMETRY), JPEG, Path("x.jpg"))


def test_a_photo_travels_without_torch():
    assert b"torch" not in pickle.dumps(Preprocess(GEOMETRY).decode(JPEG, Path("x.jpg")))
