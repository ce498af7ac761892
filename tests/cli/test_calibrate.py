"""`quadtok calibrate`: the mean that it promises is the mean of the run that follows."""

import json
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from quadtok import load_tokens


def records(result):
    return [json.loads(line) for line in result.out.splitlines()]


def calibration(result):
    (found,) = (line for line in records(result) if line["type"] == "calibration")
    return found


def assert_near(mean, wanted):
    """Of three images, to half a split; or below, where a patch and what is in it are split at once: 15 tokens."""
    assert wanted - 15 / 3 <= mean <= wanted + 0.5 + 1e-9


@pytest.mark.parametrize(
    "flags",
    [
        ["--scorer", "blur"],
        ["--scorer", "blur", "-b", "1", "-j", "0"],
        ["--scorer", "random", "--seed", "3"],
        ["--scorer", "blur", "-s", "128x192", "--max-patch", "32"],
        ["--scorer", "blur", "-s", "native", "--fit", "squash", "--min-patch", "8"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("most", ["100%", "60%"])
def test_the_run_that_follows_has_the_mean(quadtok, photos, tmp_path, flags, most):
    found = calibration(quadtok("calibrate", photos, *flags, "--tokens", "50", "--at-most", most, "--json"))
    threshold = repr(found["threshold"])
    assert quadtok("tokenize", photos, "-o", tmp_path, *flags, "--threshold", threshold, "--tokens", most).code == 0
    counts = [load_tokens(path).plan.spec.num_tokens for path in tmp_path.rglob("*.pt")]
    assert sum(counts) / len(counts) == pytest.approx(found["mean"])
    assert_near(found["mean"], 50)
    assert (found["images"], found["least"], found["largest"]) == (3, min(counts), max(counts))


def test_a_share_is_of_each_image(quadtok, photos):
    flags = ["--scorer", "blur", "-s", "native", "--tokens", "40%", "--json"]
    lines = records(quadtok("calibrate", photos, *flags))
    full = [line["most"] for line in lines if line["type"] == "file"]
    found = calibration(quadtok("calibrate", photos, *flags))
    assert found["wanted"] == pytest.approx(0.4 * sum(full) / 3)
    assert_near(found["mean"], found["wanted"])


def test_maps_are_calibrated_too(quadtok, photos, tmp_path):
    torch.save(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)), tmp_path / "maps.pt")
    result = quadtok("calibrate", photos, "--scorer", "precomputed", "--maps", tmp_path / "maps.pt", "--json")
    assert_near(calibration(result)["mean"], 100)


def test_points_are_calibrated_too(quadtok, photos, tmp_path):
    (tmp_path / "points.csv").write_text("coffee.jpg,30,40\nrocket.png,60,20\npets/cat.jpg,10,10\n")
    result = quadtok("calibrate", photos, "--scorer", "point", "--points", tmp_path / "points.csv", "--json")
    assert (result.code, calibration(result)["images"]) == (0, 3)
    assert calibration(result)["mean"] <= 100.5


def test_people_are_told_what_to_type_next(quadtok, photos):
    result = quadtok("calibrate", photos, "--scorer", "blur", "-n", "64", "--at-most", "160")
    lines = result.out.splitlines()
    assert lines[0].startswith("threshold  ")
    assert lines[1].startswith("tokens     64.00 on average of 3 images; standard error ")
    assert lines[-1] == f"use it as  --threshold {lines[0].split()[1]} --tokens 160"
    assert result.err.startswith("quadtok: done: 3 scored, 0 skipped, 0 failed in ")


def test_nothing_is_written(quadtok, photos):
    before = sorted(photos.rglob("*"))
    quadtok("calibrate", photos, "--scorer", "blur")
    assert sorted(photos.rglob("*")) == before


def test_a_bad_image_costs_itself_alone(quadtok, photos):
    (photos / "bad.jpg").write_text("no image")
    result = quadtok("calibrate", photos, "--scorer", "blur", "--json")
    assert (result.code, calibration(result)["images"]) == (1, 3)
    assert result.lines[0].startswith(f"quadtok: error: {photos / 'bad.jpg'}: ")
    assert records(result)[-1]["scored"] == 3


def test_an_image_whose_saliency_holds_nan_costs_itself_alone(quadtok, photos, tmp_path, monkeypatch):
    (tmp_path / "darkness.py").write_text(
        "def root(images, spec):\n"
        "    means = images[:, 0].float().mean(dim=(1, 2), keepdim=True) - 50\n"
        "    return [means.sqrt().repeat(1, 256 // size, 256 // size) for size in (32, 64)]\n"
    )
    Image.new("RGB", (300, 300)).save(photos / "dark.png")
    monkeypatch.chdir(tmp_path)
    result = quadtok("calibrate", photos, "--scorer", "darkness:root", "--json")
    assert (result.code, calibration(result)["images"]) == (1, 3)
    assert result.lines[0] == f"quadtok: error: {photos / 'dark.png'}: its saliency holds NaN"


def test_where_there_is_one_scale_every_image_is_counted(quadtok, photos):
    result = quadtok("calibrate", photos, "--scorer", "blur", "--max-patch", "16", "-n", "256", "-b", "3", "--json")
    found = calibration(result)
    assert (result.code, found["images"], found["mean"], found["share_at_most"]) == (0, 3, 256, 1)


def test_without_a_good_image_there_is_no_threshold(quadtok, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    result = quadtok("calibrate", tmp_path / "bad.jpg", "--scorer", "blur")
    assert (result.code, result.out) == (1, "")


def test_an_interrupted_run_gives_no_threshold_and_begins_again(tmp_path):
    for index in range(300):
        Image.effect_noise((300, 300), 60).save(tmp_path / f"{index:03}.png", compress_level=0)
    command = [sys.executable, "-m", "quadtok", "calibrate", str(tmp_path), "--scorer", "blur", "-b", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()  # the first file is scored: it is at work
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert {json.loads(line)["type"] for line in [first, *out.splitlines()]} == {"file", "summary"}
    assert "left; run the same command to begin again" in err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--tokens", "100", "--at-most", "64"], "--tokens 100 is more than --at-most 64: no mean can be"),
        (["--tokens", "60%", "--at-most", "50%"], "--tokens 60% is more than --at-most 50%"),
        (["--tokens", "300"], "a mean of 300 tokens cannot be had: these images have 16 (their roots) to 256 tokens"),
        (["--tokens", "300", "--json"], "a mean of 300 tokens cannot be had"),  # before anything is scored
        (["--tokens", "1%", "--json"], "a mean of 2.56 tokens cannot be had"),
        (["--tokens", "15"], "a mean of 15 tokens cannot be had"),
        (["--at-most", "150"], "num_tokens 150 cannot be reached from 16 roots"),
        (["--at-most", "many"], "--at-most 'many' is neither a number nor a percentage"),
        (["--tokens", "many"], "--tokens 'many' is neither a number nor a percentage"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(quadtok, photos, flags, sentence):
    result = quadtok("calibrate", photos, "--scorer", "blur", *flags)
    assert (result.code, result.out, len(result.lines)) == (2, "", 1)
    assert sentence in result.err
