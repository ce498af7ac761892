"""`tokenize_files`: from Python what the command does, and sentences for what its parser would refuse."""

import inspect
import math
import os
import shutil
import sys
import threading
from importlib.resources import files
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from helpers import files_in
from quadtok import QuadtokError, get_scorer, load_tokens, read_image
from quadtok.cli import app, run
from quadtok.errors import ImageError, InputError
from quadtok.jobs import tokenize_files
from quadtok.names import ScorerName

SMALL = {"image_size": 64, "max_patch": 32, "num_tokens": 10, "scorer": "blur"}
NET = files("quadtok.scorers.feature") / "object_net.pt"
IMPORTANCE_NET = files("quadtok.scorers.object") / "importance_net.pt"
FLAGS = ["--image-size", "64", "--max-patch", "32", "--tokens", "10", "--scorer", "blur"]


@pytest.fixture
def photos(tmp_path):
    """Three photographs, one of them in a folder, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.jpg", "pets/cat.png")):
        noise = np.random.default_rng(number).integers(0, 256, (70 + number, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    (folder / "bad.jpg").write_text("no image")
    (tmp_path / "points.csv").write_text("a.png,1,2\nb.jpg,10,20,30,40\npets/cat.png,70,60\nbad.jpg,1,2\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ({}, []),
        ({"overlay": True, "keep_ext": True}, ["--overlay", "--keep-ext"]),
        ({"image_size": "native", "num_tokens": "60%"}, ["-s", "native", "-n", "60%"]),
        ({"image_size": (64, 96), "num_tokens": 12, "fit": "pad"}, ["-s", "64x96", "-n", "12", "--fit", "pad"]),
        ({"threshold": 0.5, "num_tokens": None}, ["--threshold", "0.5", "--tokens", "100%"]),
        ({"threshold": 1, "num_tokens": 13}, ["--threshold", "1", "--tokens", "13"]),
        ({"scorer": "random", "seed": 7, "dtype": "uint8"}, ["--scorer", "random", "--seed", "7", "--dtype", "uint8"]),
        ({"scorer": get_scorer("blur"), "quadtree": "dict"}, ["--impl", "dict"]),
        ({"scorer": "point", "points": "points.csv"}, ["--scorer", "point", "--points", "points.csv"]),
        ({"scorer": "feature", "weights": NET}, ["--scorer", "feature", "--weights", str(NET)]),
        ({"part": "1/2"}, ["--part", "1/2"]),
    ],
)
def test_the_files_are_those_of_the_command_byte_for_byte(photos, tmp_path, monkeypatch, capfd, arguments, flags):
    monkeypatch.chdir(tmp_path)
    summary = tokenize_files(photos, tmp_path / "python", **{**SMALL, **arguments})
    assert (summary.written, summary.failed, summary.left, summary.ending) == (3, 1, 0, "done")
    assert run(["tokenize", str(photos), "-o", str(tmp_path / "command"), *FLAGS, *flags]) == 1
    assert files_in(tmp_path / "python") == files_in(tmp_path / "command")


@pytest.mark.parametrize(
    ("arguments", "flags", "meant"),
    [
        ({}, [], ("object", "bundled")),
        ({"scorer": "object"}, [], ("object", "bundled")),
        ({"scorer_options": {"views": 2}}, ["--scorer-option", "views=2"], ("object", "bundled")),
        (
            {"scorer": "object", "weights": IMPORTANCE_NET},
            ["--scorer", "object", "--weights", str(IMPORTANCE_NET)],
            ("object", "importance_net.pt"),
        ),
        ({"weights": NET}, ["--weights", str(NET)], ("feature", "object_net.pt")),
        ({"scorer_options": {"stride": 16}}, ["--scorer-option", "stride=16"], ("feature", "bundled")),
        (
            {"scorer_options": {"weights": str(NET)}},
            ["--scorer-option", f"weights={NET}"],
            ("feature", "object_net.pt"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_without_a_scorer_the_same_one_is_meant_as_on_the_command_line(
    photos, tmp_path, capfd, arguments, flags, meant
):
    sizes = {name: value for name, value in SMALL.items() if name != "scorer"}
    assert tokenize_files(photos / "pets", tmp_path / "python", **sizes, **arguments).written == 1
    assert run(["tokenize", str(photos / "pets"), "-o", str(tmp_path / "command"), *FLAGS[:-2], *flags]) == 0
    assert files_in(tmp_path / "python") == files_in(tmp_path / "command")
    scorer = load_tokens(tmp_path / "python" / "cat.pt").metadata["scorer"]
    assert (scorer["name"], scorer["weights"]) == meant


def test_a_folder_of_another_scorer_is_refused_naming_both(photos, tmp_path):
    assert tokenize_files(photos / "a.png", tmp_path / "out", **{**SMALL, "scorer": "feature"}).written == 1
    del (sizes := dict(SMALL))["scorer"]
    for scorer in (None, get_scorer("object")):
        summary = tokenize_files(photos / "a.png", tmp_path / "out", **sizes, scorer=scorer)
        assert [str(error) for error in summary.failures.values()] == [
            f"{photos / 'a.png'}: {tmp_path / 'out' / 'a.pt'} was made by the scorer feature (weights bundled), and "
            "this run's is object, the default: give scorer feature to go on, or another output folder, or use "
            'if_exists="overwrite"'
        ]
    assert tokenize_files(photos / "a.png", tmp_path / "out", **{**SMALL, "scorer": "feature"}).skipped == 1


def test_the_summary_counts_and_says_why(photos, tmp_path, capfd):
    out = tmp_path / "out"
    first = tokenize_files([photos, str(tmp_path / "none.jpg")], out, **SMALL)
    assert {path.name: type(error) for path, error in first.failures.items()} == dict.fromkeys(
        ("bad.jpg", "none.jpg"), ImageError
    )
    again = tokenize_files(photos, out, **SMALL)
    assert (again.written, again.skipped, again.failed) == (0, 3, 1)
    other = tokenize_files(photos, out, **{**SMALL, "num_tokens": 7})
    assert (other.failed, other.written) == (4, 0)
    assert 'use if_exists="overwrite"' in str(other.failures[photos / "a.png"])
    assert tokenize_files(photos, out, **{**SMALL, "num_tokens": 7}, if_exists="overwrite").written == 3
    assert load_tokens(out / "a.pt").plan.spec.num_tokens == 7
    assert capfd.readouterr() == ("", "")  # nothing is printed


def test_progress_hears_of_each_input_in_order_and_may_read_images(photos, tmp_path):
    heard = []

    def progress(outcome):
        heard.append((outcome.source.path.relative_to(photos).as_posix(), outcome.status))
        if outcome.status == "written":
            read_image(outcome.source.path)

    summary = tokenize_files(photos, tmp_path / "out", **SMALL, progress=progress)
    assert heard == [("a.png", "written"), ("b.jpg", "written"), ("bad.jpg", "failed"), ("pets/cat.png", "written")]
    assert summary.written == 3


def test_a_bar_of_progress_hears_first_how_many_there_will_be(photos, tmp_path):
    heard = []
    inputs = [photos, tmp_path / "*.none"]
    tokenize_files(inputs, tmp_path / "out", **SMALL, begin=heard.append, progress=lambda one: heard.append(one.status))
    assert heard == [5, "failed", "written", "written", "failed", "written"]


def test_every_flag_of_the_command_is_an_argument(photos, tmp_path):
    """But for those that are about a terminal, a list on stdin, the name of a single file, or files of many images;
    a cluster is told to its engine.
    """
    flags = {parameter.name for parameter in typer.main.get_command(app).commands["tokenize"].params}
    renamed = {"tokens": "num_tokens", "impl": "quadtree", "scorer_option": "scorer_options", "chosen": "engine"}
    missing = {renamed.get(name, name) for name in flags} - inspect.signature(tokenize_files).parameters.keys()
    assert missing == {"null", "overwrite", "dry_run", "as_json", "quiet", "verbose", "no_manifest", "ray_address"}


class Nobody:
    def run(self, job, sources, sink, hear, stop=None):
        return "stopped"


def test_an_engine_is_named_or_given(photos, tmp_path):
    assert tokenize_files(photos, tmp_path / "out", **SMALL, engine="threads").written == 3
    assert tokenize_files(photos, tmp_path / "other", **SMALL, engine=Nobody()).ending == "stopped"
    for wrong in ("dask", Nobody, None):
        with pytest.raises(InputError, match="is none of threads, ray, nor an engine"):
            tokenize_files(photos, tmp_path / "out", **SMALL, engine=wrong)


def test_fail_fast_ends_at_the_first_failure(photos, tmp_path):
    summary = tokenize_files(photos, tmp_path / "out", **SMALL, fail_fast=True)
    assert (summary.ending, summary.written, summary.failed, summary.left) == ("failed fast", 2, 1, 1)
    summary = tokenize_files([photos, tmp_path / "*.none"], tmp_path / "out", **SMALL, fail_fast=True)
    assert (summary.ending, summary.skipped, summary.left) == ("failed fast", 0, 4)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"if_exists": "Skip"}, "there is no policy if_exists='Skip': choose one of resume, skip, overwrite, error"),
        ({"fit": "cropped"}, "there is no fit 'cropped': choose one of crop, pad, squash"),
        ({"dtype": "float64"}, "there is no stored dtype 'float64': choose one of float16, uint8, float32, none"),
        ({"quadtree": "z"}, "there is no quadtree 'z': choose one of dict, tensor, zcurve, parallel"),
        ({"scorer": "blurr"}, f"there is no scorer 'blurr': choose one of {', '.join(get_args(ScorerName))}"),
        ({"scorer": 5}, "scorer 5 is neither a name nor a function of (images, spec)"),
        ({"scorer": "random", "scorer_options": {"seed": 1}}, "the random scorer has no options, and was given seed"),
        ({"scorer": get_scorer("blur"), "scorer_options": {"seed": 1}}, "go with the name of a scorer"),
        ({"scorer": get_scorer("blur"), "maps": "maps"}, "go with the name of a scorer"),
        ({"weights": "imagenet"}, "weights belong to scorer=\"feature\", not to 'blur'"),
        ({"scorer": get_scorer("blur"), "weights": "bundled"}, 'weights belong to scorer="feature", not to BlurScorer'),
        ({"scorer": "object", "weights": "lite0"}, "weights lite0 belong to scorer=\"feature\", not to 'object'"),
        (
            {"scorer": None, "scorer_options": {"thresholds": [5, 4]}},
            "thresholds is an option of entropy: give scorer entropy",
        ),
        (
            {"scorer": None, "weights": "bundled", "scorer_options": {"seed": 1, "thresholds": [5, 4]}},
            "weights is an option of object and feature, thresholds is an option of entropy: no scorer has all of them",
        ),
        ({"scorer": None, "scorer_options": {"seed": 1}}, "the object scorer was given options it does not have"),
        ({"scorer": "feature", "weights": "a", "scorer_options": {"weights": "b"}}, "both name the weights: give one"),
        ({"scorer": "feature", "weights": 3}, "weights must be a name or a path, got 3"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"workers": -1}, "workers must be an integer of at least 0, got -1"),
        ({"max_pixels": 0}, "max_pixels must be at least 1, got 0"),
        ({"background": "no colour"}, "'no colour' is no colour"),
        ({"device": "gpu"}, "device 'gpu' is none of auto, cpu, cuda and cuda:N"),
        ({"part": "3/2"}, "part 3/2: there is no such part"),
        ({"part": 2}, "part must be a text, got 2"),
        ({"image_size": (64, 64, 3)}, "image_size (64, 64, 3) is none of a side, (height, width) and 'native'"),
        ({"image_size": (64, 64.5)}, "width must be an integer"),
        ({"image_size": 1 << 15, "num_tokens": "50%"}, "at most 268435456 pixels, the image has 32768×32768"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read_or_written(photos, tmp_path, wrong, sentence):
    (photos / "a.pt").write_text("precious")
    before, heard = files_in(tmp_path), []
    with pytest.raises(QuadtokError) as refusal:
        tokenize_files(photos, **{**SMALL, **wrong}, progress=heard.append)
    assert sentence in str(refusal.value)
    assert (files_in(tmp_path), heard) == (before, [])


def test_weights_are_read_and_so_never_written(photos, tmp_path, capfd):
    """Also where an option of the scorer names them, and any other file may be replaced."""
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(NET, out / "cat.pt")
    before, weights = files_in(out), str(out / "cat.pt")
    arguments = {**SMALL, "scorer": "feature", "scorer_options": {"weights": weights}, "if_exists": "overwrite"}
    summary = tokenize_files(photos / "pets", out, **arguments)
    assert [str(error) for error in summary.failures.values()] == [
        f"{photos / 'pets' / 'cat.png'}: output {weights} is an input: choose another name or folder"
    ]
    flags = [*FLAGS[:-1], "feature", "--scorer-option", f"weights={weights}", "--overwrite"]
    assert run(["tokenize", str(photos / "pets"), "-o", str(out), *flags]) == 1
    assert files_in(out) == before


def test_where_nothing_can_be_done_at_all_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no images found"):
        tokenize_files(tmp_path, **SMALL)
    with pytest.raises(InputError, match="no inputs were given"):
        tokenize_files([], **SMALL)


WRONG = {
    "inputs": [None, b"photos", [b"a.png"], 5, [5], [None], []],
    "output_dir": [b"out", 5, ["out"], "a\0b"],
    "num_tokens": [10.0, True, 0, -1, b"10", "0%"],
    "threshold": ["high", "1", True, math.nan, math.inf, [1.0], 10**400],
    "image_size": [None, (64,), (64, 64, 64), (), ("64", "64"), True, 0],
    "quadtree": ["foo", None, ["dict"]],
    "scorer": ["foo", 5, b"blur", torch.nn.Identity],
    "scorer_options": [{"x": 1}, [1], "x", {1: 2}],
    "maps": ["maps.pt", 5, b"maps.pt"],
    "points": ["points.csv", 5, b"points.csv"],
    "seed": ["x", None, 1.5, True],
    "fit": ["foo", "", 5],
    "background": ["foo", None, (255, 255, 255)],
    "exif": ["no", None, 1],
    "draft": ["no", 0],
    "max_pixels": [0, None, "x", 1.5],
    "dtype": ["foo", torch.float16],
    "overlay": ["no", 1],
    "keep_ext": ["no", 1],
    "relative_to": ["nowhere", 5, b"photos"],
    "if_exists": ["foo", None, True, "Resume"],
    "device": ["foo", None, 0],
    "batch_size": [0, -1, "4", 1.5, None, True],
    "workers": [-1, "2", 1.5],
    "fail_fast": ["no", None],
    "decoders": [-1, "2", None],
    "store": ["foo", None],
    "format": ["foo", None],
    "manifest": [5, b"m"],
    "verify": ["no", None],
    "progress": [5, "x"],
}


@pytest.mark.parametrize("argument", WRONG)
def test_what_no_flag_could_be_is_refused_before_anything_is_done(photos, tmp_path, argument):
    for value in WRONG[argument]:
        given = {"inputs": photos, "output_dir": tmp_path / "out", **SMALL, argument: value}
        with pytest.raises(QuadtokError) as caught:
            tokenize_files(**given)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists(), value


def test_inputs_are_one_or_many_and_a_dash_is_a_file(photos, tmp_path, monkeypatch):
    for number, inputs in enumerate((str(photos), photos, [photos], iter([photos]), {photos: 1})):
        assert tokenize_files(inputs, tmp_path / f"{number}", **SMALL).written == 3
    monkeypatch.chdir(tmp_path)
    (photos / "a.png").rename("-")
    assert tokenize_files("-", "out", **SMALL).written == 1


def test_both_sides_may_be_a_list(photos, tmp_path):
    assert tokenize_files(photos, tmp_path / "out", **{**SMALL, "image_size": [64, 96], "num_tokens": 12}).written == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_whoever_listens_may_start_a_run(photos, tmp_path, workers):
    Image.effect_noise((70, 70), 60).save(photos / "c.tif")
    inner = []

    def show(outcome):
        inner.append(tokenize_files(photos, tmp_path / f"{len(inner)}", workers=workers, **SMALL).written)

    assert tokenize_files(photos, tmp_path / "out", workers=workers, progress=show, **SMALL).written == 4
    assert inner == [4] * 5


def blank(images, spec):
    return [images.new_zeros(len(images), spec.height // 32, spec.width // 32, dtype=torch.float32)]


def test_two_runs_at_once_with_scorers_of_ones_own_leave_stdout_as_it_was(photos, tmp_path, capfd):
    first_inside, second_inside = threading.Event(), threading.Event()

    def first(images, spec):
        first_inside.set()
        assert second_inside.wait(30)
        return blank(images, spec)

    def second(images, spec):
        second_inside.set()
        thread.join()  # so that the first is out before the second
        return blank(images, spec)

    before = sys.stdout
    thread = threading.Thread(
        target=tokenize_files, args=(photos / "a.png", tmp_path / "1"), kwargs={**SMALL, "scorer": first}
    )
    thread.start()
    assert first_inside.wait(30)
    assert tokenize_files(photos / "a.png", tmp_path / "2", **{**SMALL, "scorer": second}).written == 1
    thread.join()
    assert sys.stdout is before
    os.write(1, b"still stdout")
    assert capfd.readouterr().out == "still stdout"


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ({"shard_size": 2, "num_tokens": 40}, ["--shard-size", "2", "-n", "40"]),
        ({"dtype": "none", "part": "1/2"}, ["--dtype", "none", "--part", "1/2"]),
        ({"store": "plans"}, ["--store", "plans"]),
    ],
)
def test_shards_are_those_of_the_command_byte_for_byte(photos, tmp_path, arguments, flags):
    arguments, flags = {"format": "shards", **arguments}, ["--format", "shards", *flags]
    summary = tokenize_files(photos, tmp_path / "ours", scorer="blur", **arguments)
    code = run(["tokenize", str(photos), "-o", str(tmp_path / "theirs"), "--scorer", "blur", *flags])
    assert code == bool(summary.failed) and summary.written >= 1
    assert files_in(tmp_path / "ours") == files_in(tmp_path / "theirs")
    again = tokenize_files(photos, tmp_path / "ours", scorer="blur", **arguments)
    assert (again.written, again.skipped) == (0, summary.written)


@pytest.mark.parametrize("minima", [None, "float32"])
def test_plans_are_those_of_the_command_byte_for_byte(photos, tmp_path, minima):
    ours = {"store": "plans", "output": tmp_path / "ours.qts", "minima": minima}
    assert tokenize_files(photos, scorer="blur", **ours).written == 3
    flags = ["--store", "plans", "--output", str(tmp_path / "theirs.qts"), *(["--minima", minima] if minima else [])]
    run(["tokenize", str(photos), "--scorer", "blur", *flags])
    assert (tmp_path / "ours.qts").read_bytes() == (tmp_path / "theirs.qts").read_bytes()
    assert tokenize_files(photos, scorer="blur", **ours).skipped == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"store": "plan"}, "choose one of tokens, plans"),
        ({"format": "tar"}, "choose one of files, safetensors, shards"),
        ({"format": "shards", "minima": "float32"}, "minima goes with"),
        ({"store": "plans", "minima": "float8", "output": "x.qts"}, "choose one of none, float16, float32"),
        ({"store": "plans"}, "leave output_dir out|give output="),
        ({"store": "plans", "output": "x.pt", "output_dir": None}, "ends in .qts"),
        ({"store": "plans", "output": "x.qts", "output_dir": None, "num_tokens": 10}, "every budget"),
        ({"store": "plans", "output": "x.qts", "output_dir": None, "dtype": "uint8"}, "no pixels"),
        ({"store": "plans", "format": "safetensors", "output": "x.qts", "output_dir": None}, "format of their own"),
        ({"format": "shards", "overlay": True}, "overlay goes with"),
        ({"format": "shards", "keep_ext": True}, "keep_ext goes with"),
        ({"format": "shards", "output_dir": None}, "give their folder, output_dir"),
        ({"format": "shards", "shard_size": 0}, "at least one sample"),
        ({"format": "shards", "shard_size": "2"}, "an integer"),
        ({"shard_size": 2}, "shard_size goes with"),
        ({"format": "shards", "verify": True}, "manifest and verify go with"),
        ({"format": "shards", "manifest": "m"}, "manifest and verify go with"),
        ({"output": "x.pt"}, "give output_dir"),
    ],
)
def test_arguments_of_a_place_that_do_not_go_together_are_one_sentence(photos, tmp_path, arguments, sentence):
    with pytest.raises(QuadtokError, match=sentence):
        tokenize_files(photos, **{"output_dir": tmp_path / "out", "scorer": "blur", **arguments})
    assert not (tmp_path / "out").exists() and not Path("x.qts").exists()


def test_plans_of_images_with_fewer_patches_than_the_usual_tokens_are_those_of_the_command(photos, tmp_path):
    small = {"image_size": 64, "max_patch": 32, "scorer": "blur"}
    summary = tokenize_files([photos], store="plans", output=tmp_path / "ours.qts", **small)
    assert summary.written == 3
    flags = ["--image-size", "64", "--max-patch", "32", "--scorer", "blur"]
    assert run(["tokenize", str(photos), "--store", "plans", "--output", str(tmp_path / "theirs.qts"), *flags]) == 1
    assert (tmp_path / "ours.qts").read_bytes() == (tmp_path / "theirs.qts").read_bytes()
