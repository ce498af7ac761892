"""Where nothing can be written the run stops, before anything is scored if that can be told; not for one odd folder."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from helpers import files_in
from quadtok.jobs import tokenize_files
from quadtok.jobs.engines.finish import LEAST_PATIENCE

COUNT = LEAST_PATIENCE + 4
SMALL = ("--scorer", "blur", "-s", "64", "-n", "4", "--max-patch", "32")
NO_FOLDER = "quadtok: error: /proc: no folder can be made there (No such file or directory)"

in_proc = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="there is no folder here that root cannot write to"
)


@pytest.fixture
def many(tmp_path):
    for name in [*(f"a/{number:02}.png" for number in range(COUNT)), "b/1.png"]:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (len(name), 9, 30)).save(path)
    return tmp_path / "in"


@pytest.fixture
def read_only(monkeypatch):
    """Make a folder and what is in it read-only: simulated, since tests may run as root, who writes everywhere."""
    really_access, really_open = os.access, os.open

    def make(folder):
        def is_in(path):
            return Path(os.path.abspath(path)).is_relative_to(folder)

        def access(path, mode, **more):
            return not (mode & os.W_OK and is_in(path)) and really_access(path, mode, **more)

        def opened(path, flags, *more, **options):
            if flags & (os.O_WRONLY | os.O_RDWR) and is_in(path):
                raise PermissionError(13, "Permission denied", str(path))
            return really_open(path, flags, *more, **options)

        monkeypatch.setattr(os, "access", access)
        monkeypatch.setattr(os, "open", opened)

    return make


@in_proc
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("command", ["tokenize", "tokenize --overlay", "visualize"])
def test_a_folder_that_cannot_be_made_ends_the_run(quadtok, many, command, workers):
    result = quadtok(*command.split(), many, "-o", "/proc/quadtok/x", *SMALL, "-j", workers)
    left = f"quadtok: stopped: 0 written, 0 skipped, 1 failed, {COUNT} left"
    assert (result.code, result.lines) == (1, [NO_FOLDER, left])


@in_proc
def test_so_it_does_for_token_files_and_from_python(quadtok, many, tmp_path):
    assert quadtok("tokenize", many, "-o", tmp_path / "out", *SMALL).code == 0
    result = quadtok("reverse", tmp_path / "out", "-o", "/proc/x")
    assert (result.code, result.lines[0]) == (1, NO_FOLDER)
    summary = tokenize_files(many, "/proc/x", num_tokens=4, image_size=64, max_patch=32, scorer="blur")
    assert (summary.ending, summary.failed, summary.left) == ("output fails", 1, COUNT)


@in_proc
@pytest.mark.parametrize(
    "flags", [["-o", "/proc/x", "--format", "shards"], ["--store", "plans", "--output", "/proc/x.qts"]]
)
def test_where_all_go_together_nothing_is_begun(quadtok, many, flags):
    result = quadtok("tokenize", many, *SMALL[:2], *flags)
    assert (result.code, len(result.lines), "cannot be written" in result.err) == (2, 1, True)


@in_proc
def test_a_ray_ends_likewise(quadtok, many):
    pytest.importorskip("ray", reason="the engine is Ray's; the extra ray has it")
    result = quadtok("tokenize", many, "-o", "/proc/x", *SMALL, "--engine", "ray", "-j", "1")
    assert (result.code, result.lines[0], len(result.lines)) == (1, NO_FOLDER, 2)


@pytest.mark.parametrize("flags", [[], ["--verify"], ["--no-manifest"], ["--overlay"]])
def test_where_all_is_done_a_folder_may_be_read_only(quadtok, many, tmp_path, read_only, flags):
    command = ("tokenize", many, "-o", tmp_path / "out", *SMALL, *flags)
    assert quadtok(*command).code == 0
    before = files_in(tmp_path / "out")
    read_only(tmp_path / "out")
    result = quadtok(*command)
    assert (result.code, f"0 written, {COUNT + 1} skipped, 0 failed" in result.err) == (0, True), result.err
    assert files_in(tmp_path / "out") == before


@pytest.mark.parametrize("flags", [[], ["--no-manifest"], ["--overwrite"]])
def test_else_the_first_that_is_missing_ends_the_run(quadtok, many, tmp_path, read_only, flags):
    out = tmp_path / "out"
    (many / "c").mkdir()
    shutil.copy(many / "b/1.png", many / "c/1.png")
    assert quadtok("tokenize", many / "a", "--relative-to", many, "-o", out, *SMALL).code == 0
    read_only(out)
    result = quadtok("tokenize", many, "-o", out, *SMALL, *flags)
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[0].startswith(f"quadtok: error: {out}") and result.lines[0].endswith(": no permission to write")
    skipped = 0 if flags == ["--overwrite"] else COUNT
    assert result.lines[1] == f"quadtok: stopped: 0 written, {skipped} skipped, 1 failed, {COUNT + 1 - skipped} left"


def test_one_folder_among_others_costs_its_own_images_and_none_is_scored(quadtok, many, read_only):
    read_only(many / "a")
    result = quadtok("tokenize", many, *SMALL, "--json")
    assert (result.code, f"1 written, 0 skipped, {COUNT} failed" in result.err) == (1, True)
    assert f"{many}/a/00.png: {many}/a: no permission to write" in result.err
    assert [path.parent.name for path in many.rglob("*.pt")] == ["b"]
    assert result.out.count('"ms"') == 1
