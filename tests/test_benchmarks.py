"""The plain loop that quadtok is timed against does the same work, or its times would say nothing."""

import io
import runpy
import sys
from pathlib import Path

import pytest
import torch

from helpers import SAMPLE_IMAGES
from quadtok import Spec, get_scorer, tokenize
from quadtok.images import fit_image, read_image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PHOTOGRAPHS = [SAMPLE_IMAGES / name for name in ("chelsea.jpg", "rocket.jpg")]


@pytest.fixture
def run_benchmark(monkeypatch, capsys):
    """Runs a script as a reader does; gives what it says."""

    def run_script(name, *arguments, given=""):
        monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / name), *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        runpy.run_path(sys.argv[0], run_name="__main__")
        return capsys.readouterr().out

    return run_script


def rows_of(path, scorer):
    """What quadtok makes of an image, in the reference's layout: a row `[pixels, x, y, scale]` a token."""
    pixels = fit_image(read_image(path).image, 256, 256, "crop").pixels
    tokens = tokenize(pixels[None], Spec(256, 256, 16, 64, 100), scorer)
    return torch.cat([tokens.normalized().flatten(2), tokens.plan.centers, tokens.plan.scale[..., None]], dim=2)[0]


def by_place(rows):
    """Sorted by what tells tokens apart: x, y and scale."""
    return torch.stack(sorted(rows, key=lambda row: row[-3:].tolist()))


@pytest.mark.parametrize("scorer", ["blur", "feature"])
def test_the_plain_loop_makes_the_tokens_that_quadtok_makes(scorer, run_benchmark, tmp_path):
    given = "\0".join(map(str, PHOTOGRAPHS))
    said = run_benchmark("plain_loop.py", "--scorer", scorer, "-o", tmp_path, given=given)
    assert said.splitlines() == [str(path) for path in PHOTOGRAPHS]
    for path in PHOTOGRAPHS:
        plain = by_place(torch.load(tmp_path / f"{path.stem}.pt", weights_only=True))
        ours = by_place(rows_of(path, get_scorer(scorer)))
        assert torch.equal(plain[:, -3:], ours[:, -3:])
        torch.testing.assert_close(plain, ours, rtol=0, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads the processes' clocks where Linux keeps them")
def test_the_folder_benchmark_prints_a_row_a_run_and_compares_the_boxes(run_benchmark, tmp_path):
    rows = ["plain loop", "quadtok"]
    only = [word for row in rows for word in ("--only", row)]
    said = run_benchmark(
        "folder.py", "--images", 2, "--sides", 300, 400, "--scorer", "precomputed", "--folder", tmp_path, *only
    )
    cells = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| ") and " s |" in line]
    assert [row[0] for row in cells] == rows
    assert "200 of 200 boxes" in said


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads the processes' memory where Linux keeps it")
def test_the_scale_benchmark_stores_reads_and_goes_on(run_benchmark, tmp_path):
    folders = ("--folder", tmp_path / "photographs", "--output", tmp_path / "stored")
    said = run_benchmark("scale.py", "--images", 3, *folders, "--steps", "write", "resume", "read")
    written, resumed, read = (part.split("|\n|", 2)[2] for part in said.split("### ")[1:])
    assert written.count("| 0 |") == 4  # exit codes
    assert resumed.count(" | 3 |") == 4
    assert [row.split(" | ")[0].strip("| ") for row in read.strip().splitlines()] == [
        *("token files, float16", "token files, uint8", "shards, uint8"),
        *("photographs and plans", "photographs, scored anew"),
    ]
