"""Many threads, one result: what is written and said, and in which order, does not depend on --workers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin, TiffImagePlugin

import bad_images
from helpers import GOLDEN, files_in

WORKERS = [0, 1, 4]


@pytest.fixture
def folder(tmp_path):
    """Photographs of several sizes, two bad files, a TIFF and an animation among them."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        Image.effect_noise((60 + 37 * number % 100, 300 - 11 * number), 60).save(folder / f"{number:02}.png")
    (folder / "03_bad.jpg").write_text("text")
    (folder / "09_bad.jpg").write_bytes(b"")
    bad_images.animated(folder, "GIF")
    Image.effect_noise((90, 70), 60).save(folder / "05_scan.tif", compression="tiff_lzw")
    return folder


def bytes_below(folder):
    return {Path(name).name: data for name, data in files_in(folder).items()}


def without_times(out, place):
    """The JSON lines, less what differs from run to run."""
    records = [json.loads(line.replace(str(place), "OUT")) for line in out.splitlines()]
    return [{key: value for key, value in record.items() if key not in ("ms", "seconds")} for record in records]


@pytest.mark.parametrize(
    "flags",
    [["--scorer", "blur", "--overlay"], ["--scorer", "blur", "-s", "native", "-n", "40%"], ["--scorer", "random"]],
    ids=lambda flags: " ".join(flags[1:]),
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_files_and_lines_are_the_same_for_every_number_of_workers(quadtok, folder, tmp_path, flags, batch_size):
    runs = []
    for workers in WORKERS:
        output = tmp_path / f"out{workers}"
        result = quadtok("tokenize", folder, "-o", output, *flags, "-b", batch_size, "-j", workers, "--json", "-v")
        said = [line.split(", ms ")[0].replace(str(output), "OUT") for line in result.lines[:-1]]
        runs.append((result.code, without_times(result.out, output), said, bytes_below(output)))
    assert runs[0][0] == 1
    assert sum(record.get("status") == "written" for record in runs[0][1]) == 14
    assert any("first of 3 frames" in line for line in runs[0][2])
    assert runs[1:] == runs[:1] * (len(WORKERS) - 1)


def test_the_feature_scorer_gives_the_same_files_too(quadtok, photos, tmp_path):
    for workers in (0, 3):
        output = tmp_path / f"out{workers}"
        code = quadtok("tokenize", photos, "-o", output, "--weights", GOLDEN / "feature_net.pt", "-j", workers).code
        assert code == 0
    assert bytes_below(tmp_path / "out0") == bytes_below(tmp_path / "out3")


def test_the_default_scorer_gives_the_same_files_however_many_images_are_scored_at_once(quadtok, photos, tmp_path):
    for batch_size, workers in ((1, 0), (2, 3), (32, 0)):
        common = ("tokenize", photos, "-o", tmp_path / f"{batch_size}", "-b", batch_size, "-j", workers)
        assert quadtok(*common).code == 0
    expected = bytes_below(tmp_path / "1")
    assert len(expected) == 3 and bytes_below(tmp_path / "2") == bytes_below(tmp_path / "32") == expected


@pytest.mark.parametrize("workers", WORKERS)
def test_fail_fast_writes_what_came_before_and_nothing_after(quadtok, folder, tmp_path, workers):
    result = quadtok(
        *("tokenize", folder, "-o", tmp_path / "out", "--scorer", "blur"),
        *("--fail-fast", "-b", 2, "-j", workers, "--json"),
    )
    statuses = [record.get("status") for record in without_times(result.out, tmp_path)[:-1]]
    assert (result.code, statuses) == (1, ["written"] * 4 + ["failed"])
    assert sorted(bytes_below(tmp_path / "out")) == ["00.pt", "01.pt", "02.pt", "03.pt"]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_full_disk_stops_the_run_where_it_is(quadtok, folder, tmp_path, monkeypatch, workers):
    put, left = os.fsync, iter(range(5))

    def full(descriptor):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        put(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = quadtok(
        *("tokenize", folder, "-o", tmp_path / "out", "--scorer", "blur", "-b", 4, "-j", workers, "--json")
    )
    summary = json.loads(result.out.splitlines()[-1])
    assert (summary["written"], result.err.count("no space left on device")) == (5, 1)
    assert len(bytes_below(tmp_path / "out")) == 5


def test_a_run_resumes_with_another_number_of_workers(quadtok, folder, tmp_path):
    common = ["tokenize", folder, "-o", tmp_path / "out", "--scorer", "blur"]
    quadtok(*common, "-j", 0)
    assert "0 written, 14 skipped, 2 failed" in quadtok(*common, "-j", 3).err


def test_nothing_of_the_run_is_left(quadtok, photos, tmp_path):
    before = (threading.active_count(), torch.get_num_threads())
    quadtok("tokenize", photos, "-o", tmp_path, "--scorer", "blur", "-j", 4)
    assert (threading.active_count(), torch.get_num_threads()) == before


def test_no_line_is_lost_while_a_tiff_is_read(quadtok, tmp_path, monkeypatch):
    # libtiff's complaints are kept from stderr by turning the descriptor away, for all threads.
    folder, inside = tmp_path / "in", threading.Event()
    folder.mkdir()
    Image.effect_noise((70, 70), 90).save(folder / "a_bad.png")
    Image.effect_noise((70, 70), 90).save(folder / "b.tif", compression="tiff_lzw")
    load = TiffImagePlugin.TiffImageFile.load

    def slow_load(image):
        inside.set()
        time.sleep(0.3)
        return load(image)

    def fail_while_tiff_is_loaded(image):
        assert inside.wait(60)
        raise OSError("broken data")

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", slow_load)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail_while_tiff_is_loaded)
    # As outside of pytest, whose own stderr does not go through the descriptor.
    with open(2, "w", buffering=1, closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        result = quadtok("tokenize", folder, "-o", tmp_path / "out", "--scorer", "blur", "-j", 2)
    assert result.lines[0].startswith(f"quadtok: error: {folder / 'a_bad.png'}: ")


SLOW = "import time\ndef slow(images, spec):\n    print('scoring', flush=True)\n    time.sleep(60)\n"


@pytest.fixture
def slow_run(tmp_path):
    """A run that is inside a scorer which takes a minute."""
    for index in range(300):
        Image.effect_noise((300, 300), 60).save(tmp_path / f"{index:03}.png", compress_level=0)
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "quadtok", "tokenize", ".", "--scorer", "slow:slow", "-j", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"scoring\n" in iter(process.stderr.readline, b"")  # what a scorer prints is no data
        yield process
        process.kill()


def test_the_second_interrupt_leaves_at_once(slow_run, tmp_path):
    # Two that come at nearly the same time may arrive as one: so more follow.
    for _ in range(60):
        slow_run.send_signal(signal.SIGINT)
        try:
            slow_run.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            continue
    assert slow_run.returncode not in (None, 0)
    assert not list(tmp_path.glob(".quadtok-*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_finishes_what_is_in_flight(tmp_path, number, code):
    for index in range(40):
        Image.effect_noise((70, 70), 60).save(tmp_path / f"{index:03}.png")
    (tmp_path / "slow.py").write_text(
        "import time\nfrom quadtok import get_scorer\n"
        "def slow(images, spec):\n    print('scoring', flush=True)\n    time.sleep(1)\n"
        "    return get_scorer('blur')(images, spec)\n"
    )
    command = [sys.executable, "-m", "quadtok", "tokenize", ".", "--scorer", "slow:slow", "-j", "2", "-b", "4"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"scoring\n" in iter(process.stderr.readline, b"")
        process.send_signal(number)
        said = process.communicate(timeout=60)[1].decode()
    written = len(list(tmp_path.glob("*.pt")))
    assert (process.returncode, written % 4) == (code, 0)
    assert 4 <= written < 40 and f"interrupted: {written} written, 0 skipped, 0 failed, {40 - written} left" in said


def test_a_signal_that_was_to_be_ignored_stays_ignored(tmp_path):
    Image.effect_noise((70, 70), 60).save(tmp_path / "a.png")
    (tmp_path / "kills.py").write_text(
        "import os, signal\nfrom quadtok import get_scorer\n"
        "def kills(images, spec):\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return get_scorer('blur')(images, spec)\n"
    )
    command = f"trap '' INT; {sys.executable} -m quadtok tokenize a.png --scorer kills:kills"
    ended = subprocess.run(command, cwd=tmp_path, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "done: 1 written" in ended.stderr) == (0, True)


LOADS_LONG = """
import sys, time
print("loading", file=sys.stderr, flush=True)
for _ in range(2):
    try:
        time.sleep(20)
    except KeyboardInterrupt:  # as the import system does now and then
        pass
"""


@pytest.mark.parametrize("command", ["tokenize", "visualize", "reverse"])
def test_an_interrupt_while_torch_is_loaded_ends_the_process(tmp_path, command):
    """Swallowed by the import system, it left half of a module: images failed that were good, or the run hung."""
    Image.effect_noise((70, 70), 60).save(tmp_path / "a.png")
    (tmp_path / "a.pt").touch()
    (tmp_path / "torch.py").write_text(LOADS_LONG)
    given = "a.pt" if command == "reverse" else "a.png"
    arguments = [sys.executable, "-m", "quadtok", command, given, "-o", "out"]
    with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (130, b"")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
def test_decoding_processes_that_are_killed_cost_no_file(photos, tmp_path):
    for number in range(40):
        Image.effect_noise((1200, 900), 60).convert("RGB").save(photos / f"{number}.jpg")
    command = [sys.executable, "-m", "quadtok", "tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur"]
    command += ["--decoders", "2", "-b", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    killed = []
    while process.poll() is None and not killed:
        with contextlib.suppress(OSError):
            texts = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
            for child in "".join(texts).split() if len(list((tmp_path / "out").rglob("*.pt"))) > 3 else []:
                os.kill(int(child), signal.SIGKILL)
                killed.append(child)
        time.sleep(0.02)
    said = process.communicate()[1]
    assert len(killed) == 2 and process.returncode == 0, said
    assert sum(name.endswith(".pt") for name in files_in(tmp_path / "out")) == len(list(photos.rglob("*.*")))


@pytest.mark.parametrize(
    ("flags", "has_ray", "sentence"),
    [
        (["--ray-address", "auto"], True, "--ray-address goes with --engine ray"),
        (["--engine", "ray", "-j", "0"], True, "with --engine ray give at least 1"),
        (["--engine", "ray", "--decoders", "2"], True, "--decoders are of threads"),
        (["--engine", "ray", "--ray-address", "ray://head:10001"], True, "is no address of a Ray, HOST:PORT, nor auto"),
        (["--engine", "ray"], False, "--engine ray needs Ray: pip install 'quadtok[ray]'"),
        (["--engine", "dask"], True, "'dask' is not one of"),
    ],
)
def test_an_engine_that_cannot_work_is_refused_before_anything_is_read(
    quadtok, folder, monkeypatch, flags, has_ray, sentence
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if has_ray else None)
    result = quadtok("tokenize", folder, "-o", folder / "out", *flags)
    assert result.code == 2 and sentence in " ".join(result.err.split()) and not (folder / "out").exists()
