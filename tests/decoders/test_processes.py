"""Processes that decode: the same photos and sentences; one that dies costs at most the file that it died of."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bad_images
from decoders.dying import HANGS, LOOKS_LIKE_POISON, POISON, Dying, Timed
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


def decoding_processes(of=None):
    """Their numbers, as the system has them; only those that this process, or another, began."""
    found = subprocess.run(["ps", "-eww", "-o", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines() if "decoders.child import serve" in line]
    return [int(number) for number, parent, _ in rows if int(parent) == (of or os.getpid())]


def is_running(number):
    try:
        with open(f"/proc/{number}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(is_so, seconds=20):
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_of_a_terminal_end_none_even_before_it_has_begun(number):
    with opened(2) as decoder:
        for process in decoding_processes():
            os.kill(process, number)
        decoder.decode(Preprocess(GEOMETRY), JPEG, Path("x.jpg"))
        assert len(decoding_processes()) == 2


def test_one_that_is_killed_before_it_has_begun_is_replaced():
    with opened(1) as decoder:
        for process in decoding_processes():
            os.kill(process, signal.SIGKILL)
        for _ in range(2):
            decoder.decode(Preprocess(GEOMETRY), JPEG, Path("x.jpg"))


def test_a_run_that_breaks_off_waits_for_no_decoder_and_leaves_none():
    threads = ThreadPoolExecutor(2)
    with pytest.raises(KeyboardInterrupt), opened(1) as decoder:
        asked = [threads.submit(decoder.decode, Dying(GEOMETRY), JPEG + HANGS, Path("x.jpg")) for _ in range(2)]
        time.sleep(0.1)
        raise KeyboardInterrupt
    for one in asked:
        assert isinstance(one.exception(timeout=20), QuadtokError)
    assert decoding_processes() == []
    threads.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="a promise of Linux")
def test_one_that_is_stopped_ends_with_a_process_that_is_killed():
    code = (
        "import time; from quadtok.decoders import opened\nwith opened(2):\n    print(flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as asking:
        asking.stdout.readline()
        found = decoding_processes(asking.pid)
        time.sleep(2)  # until they have begun
        for number in found:
            os.kill(number, signal.SIGSTOP)
        asking.kill()
    assert len(found) == 2 and eventually(lambda: not any(map(is_running, found)))


@pytest.mark.parametrize("change", ["a path that is no text", "a folder that is gone", "words on stdout"])
def test_it_begins_where_this_python_runs(change, monkeypatch, tmp_path):
    if change == "a path that is no text":
        monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])
    elif change == "a folder that is gone":
        found = [folder for folder in sys.path if not (Path(folder) / "quadtok" / "__init__.py").is_file()]
        monkeypatch.setattr(sys, "path", found)
    else:
        (tmp_path / "sitecustomize.py").write_text("print('hello', end='')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with opened(1) as decoder:
        decoder.decode(Preprocess(GEOMETRY), JPEG, Path("x.jpg"))


@pytest.mark.parametrize("flags", [["-I"], ["-E"], ["-I", "-S"]])
def test_it_is_told_what_this_python_was_told(flags, tmp_path):
    photo = tmp_path / "x.jpg"
    photo.write_bytes(JPEG)
    (tmp_path / "code.py").write_text(
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from quadtok.decoders import opened\n"
        "from quadtok.geometry import make_geometry, parse_budget\n"
        "from quadtok.preprocess import Preprocess\n"
        'steps = Preprocess(make_geometry((64, 64), parse_budget("10"), "crop", 8, 32))\n'
        f"path = Path({str(photo)!r})\n"
        "with opened(1) as decoder:\n"
        "    decoder.decode(steps, path.read_bytes(), path)\n"
    )
    elsewhere = os.environ | {"PYTHONHOME": "/nowhere"}
    done = subprocess.run([sys.executable, *flags, tmp_path / "code.py"], env=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_photo_travels_without_torch():
    assert b"torch" not in pickle.dumps(Preprocess(GEOMETRY).decode(JPEG, Path("x.jpg")))


@pytest.mark.parametrize(("size", "draft", "divisor"), [((64, 64), True, 8), ((64, 64), False, 1), (None, True, 1)])
def test_room_is_asked_for_what_is_decoded(tmp_path, size, draft, divisor):
    Image.new("RGB", (2000, 1600)).save(tmp_path / "x.jpg")
    Image.new("RGB", (2000, 1600)).save(tmp_path / "x.png")
    steps = Preprocess(make_geometry(size, parse_budget("40%"), "pad", 8, 32), draft=draft)
    assert steps.pixels((tmp_path / "x.jpg").read_bytes()) == 2000 * 1600 // divisor**2
    assert steps.pixels((tmp_path / "x.png").read_bytes()) == 2000 * 1600
    assert steps.pixels(b"text") == 0


def test_a_second_try_is_alone(tmp_path):
    """So that what was killed for want of memory has all of it."""
    files = [JPEG] * 100
    killed = range(5, 100, 20)
    for number in killed:
        mark = tmp_path / f"mark {number}"
        mark.touch()
        files[number] = JPEG + LOOKS_LIKE_POISON + bytes(mark)

    def decode(number):
        return decoder.decode(Timed(GEOMETRY), files[number], tmp_path / f"{number}.jpg")

    with opened(3) as decoder, ThreadPoolExecutor(6) as threads:
        list(threads.map(decode, range(len(files))))
    spans = {}
    for path in tmp_path.glob("*.log"):  # of one that died there is none of its first try
        number, begin, end = path.stem.split()
        spans[int(number)] = float(begin), float(end)
    assert len(spans) == len(files)

    def beside(number):
        begin, end = spans[number]
        return [other for other, span in spans.items() if other != number and span[0] < end and begin < span[1]]

    assert not any(map(beside, killed)) and any(map(beside, spans))
