"""Every command on a GPU: what it writes is what it writes on a CPU, to rounding."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import assert_same_plan
from quadtok import load_tokens
from quadtok.quadtrees import QUADTREES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("flags", [[], ["--threshold", "0.75", "-n", "100%"]], ids=["tokens", "threshold"])
@pytest.mark.parametrize("scorer", ["object", "feature", "blur", "entropy", "random"])
@pytest.mark.parametrize("fit", ["crop", "native"])
def test_files_hold_the_plans_of_a_cpu(quadtok, photos, tmp_path, scorer, flags, fit):
    size = ["-s", "native", "--fit", "squash"] if fit == "native" else []
    for device in ("cpu", "cuda"):
        written = ["tokenize", photos, "-o", tmp_path / device, "--scorer", scorer, *size, *flags, "--device", device]
        result = quadtok(*written)
        assert result.code == 0, result.err
        assert quadtok("info", "--check", tmp_path / device).code == 0
    for name in ("coffee", "rocket", "pets/cat"):
        ours, theirs = (load_tokens(tmp_path / device / f"{name}.pt") for device in ("cuda", "cpu"))
        assert_same_plan(ours.plan, theirs.plan)
        torch.testing.assert_close(ours.patches, theirs.patches, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scorer", ["object", "blur"])
def test_a_gpu_is_used_where_there_is_one(quadtok, photos, tmp_path, monkeypatch, scorer):
    monkeypatch.delenv("QUADTOK_DEVICE")
    before = torch.cuda.memory_stats().get("allocation.all.allocated", 0)
    assert quadtok("tokenize", photos, "-o", tmp_path / "tokens", "--scorer", scorer).code == 0
    assert torch.cuda.memory_stats()["allocation.all.allocated"] > before


def test_pictures_are_those_of_a_cpu(quadtok, photos, tmp_path):
    for device in ("cpu", "cuda"):
        flags = ["--scorer", "blur", "--style", "levels", "--device", device]
        result = quadtok("visualize", photos, "-o", tmp_path / device, *flags)
        assert result.code == 0, result.err
    pictures = {path.relative_to(tmp_path / "cpu") for path in (tmp_path / "cpu").rglob("*.png")}
    assert len(pictures) == 3
    for picture in pictures:
        ours, theirs = (np.asarray(Image.open(tmp_path / device / picture)).astype(int) for device in ("cuda", "cpu"))
        assert abs(ours - theirs).max() <= 1


def test_a_threshold_is_calibrated_there_too(quadtok, photos):
    found = []
    for device in ("cpu", "cuda"):
        result = quadtok("calibrate", photos, "--scorer", "blur", "-n", "100", "--json", "--device", device)
        assert result.code == 0, result.err
        records = [json.loads(line) for line in result.out.splitlines()]
        found += [record["threshold"] for record in records if record["type"] == "calibration"]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("flags", [[], ["--compile"], ["--scorer", "object"]], ids=["eager", "compiled", "object"])
def test_bench_times_and_weighs_what_runs_there(quadtok, flags):
    quick = ("-s", 64, "--max-patch", 32, "-n", 10, "-b", 2, "--min-time", 0, "--warmup", 0)
    result = quadtok("bench", *quick, *flags, "--json", "--device", "cuda")
    assert result.code == 0, result.err
    rows = [row for row in map(json.loads, result.out.splitlines()) if row["type"] == "row"]
    timed = [row for row in rows if row["failure"] is None]
    assert {row["implementation"] for row in timed} == set(QUADTREES)
    for row in timed:
        assert row["device"].startswith("cuda") and row["median_ms"] > 0
        assert row["mismatch"] is None
        assert row["peak_bytes"] > 0
