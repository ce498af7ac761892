"""Whole runs of `quadtok tokenize`: files, messages and exit codes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files

import pytest
import torch
from PIL import Image

from helpers import GOLDEN, SAMPLE_IMAGES, assert_partition, assert_same_plan, files_in
from quadtok import Spec, get_quadtree, get_scorer, load_tokens, normalize, tokenize
from quadtok.images import fit_image, read_image
from quadtok.quadtrees import QUADTREES

IMPORTANCE_NET = files("quadtok.scorers.object") / "importance_net.pt"


def files_below(folder):
    return list(files_in(folder))


def digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files_below(folder)}


def test_a_folder_becomes_a_mirrored_folder_of_token_files(quadtok, photos, tmp_path):
    result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur")
    assert result.code == 0
    assert result.out == ""
    assert len(result.lines) == 1
    assert result.err.startswith("quadtok: done: 3 written, 0 skipped, 0 failed in ")
    assert files_below(tmp_path / "out") == ["coffee.pt", "pets/cat.pt", "rocket.pt"]


def test_the_file_holds_what_the_library_gives(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur")
    pixels = fit_image(read_image(photo).image, 256, 256, "crop").pixels[None]
    expected = tokenize(pixels, Spec(256, 256, 16, 64, 100), "blur")
    found = load_tokens(tmp_path / "coffee.pt")
    assert_partition(found.plan)
    assert_same_plan(found.plan, expected.plan)
    assert torch.equal(found.patches, expected.patches)
    assert torch.equal(found.normalized(), normalize(expected.patches))


def test_the_metadata_says_how_it_was_made(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur")
    meta = load_tokens(tmp_path / "coffee.pt").metadata
    with Image.open(photo) as image:
        width, height = image.size
    assert meta["scorer"] == {"name": "blur"}
    assert meta["source"]["name"] == "coffee.jpg"
    assert meta["source"]["size"] == [width, height]
    assert meta["source"]["sha256"] == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert meta["normalize"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "applied": False}
    assert meta["preprocess"]["fit"] == "crop"
    left, top, right, bottom = meta["preprocess"]["crop_box"]
    assert 0 < left < right < width
    assert bottom - top == pytest.approx(0.875 * height, rel=0.01)
    assert len(meta["fingerprint"]) == 64


class TestDraft:
    """JPEGs far larger than asked for are decoded at a fraction of their size."""

    @pytest.fixture
    def large(self, tmp_path):
        with Image.open(SAMPLE_IMAGES / "coffee.jpg") as image:
            exif = Image.Exif()
            exif[0x0112] = 6
            image.resize((1203, 801)).save(tmp_path / "large.jpg", exif=exif)
        return tmp_path / "large.jpg"

    def run(self, quadtok, large, *flags):
        common = ["--scorer", "blur", "-s", "64", "--max-patch", "32", "-n", "100%", "--overwrite"]
        assert quadtok("tokenize", large, *common, *flags).code == 0
        return load_tokens(large.with_suffix(".pt"))

    def test_the_divisor_is_recorded_and_the_geometry_is_that_of_the_whole_file(self, quadtok, large):
        drafted, exact = self.run(quadtok, large), self.run(quadtok, large, "--no-draft")
        assert (drafted.metadata["preprocess"]["draft"], exact.metadata["preprocess"]["draft"]) == (4, 1)
        assert drafted.metadata["source"] == exact.metadata["source"]
        assert drafted.metadata["source"]["size"] == [801, 1203]
        assert drafted.metadata["preprocess"]["crop_box"] == exact.metadata["preprocess"]["crop_box"]
        assert not torch.equal(drafted.patches, exact.patches)
        assert (drafted.patches - exact.patches).abs().mean() < 1

    def test_no_draft_is_what_the_library_gives(self, quadtok, large):
        exact = self.run(quadtok, large, "--no-draft")
        pixels = fit_image(read_image(large).image, 64, 64, "crop").pixels[None]
        assert torch.equal(exact.patches, tokenize(pixels, exact.plan.spec, "blur").patches)

    def test_native_sizes_are_never_drafted(self, quadtok, large):
        assert self.run(quadtok, large, "-s", "native").metadata["preprocess"]["draft"] == 1

    @pytest.mark.parametrize("flag", ["--draft", "--no-draft"])
    @pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
    def test_reverse_reads_the_photograph_as_it_was_read(self, quadtok, large, fit, flag):
        self.run(quadtok, large, flag, "--fit", fit)
        result = quadtok("reverse", large.with_suffix(".pt"), "--against", large, "--overwrite")
        assert "PSNR inf dB" in result.out

    def test_the_other_setting_does_not_resume(self, quadtok, large):
        self.run(quadtok, large)
        common = ["--scorer", "blur", "-s", "64", "--max-patch", "32", "-n", "100%"]
        assert "1 skipped" in quadtok("tokenize", large, *common).err
        assert "exists with other settings" in quadtok("tokenize", large, *common, "--no-draft").err


@pytest.mark.parametrize("impl", sorted(QUADTREES))
def test_every_quadtree_writes_the_same_bytes(quadtok, photos, tmp_path, impl):
    for name in (impl, "dict"):
        assert quadtok("tokenize", photos, "-o", tmp_path / name, "--scorer", "blur", "--impl", name).code == 0
    assert digests(tmp_path / impl) == digests(tmp_path / "dict")


@pytest.mark.parametrize("scorer", ["blur", "random"])
def test_files_do_not_depend_on_batch_size_order_or_company(quadtok, photos, tmp_path, scorer):
    common = ["--scorer", scorer, "--seed", 7]
    quadtok("tokenize", photos, "-o", tmp_path / "a", *common, "--batch-size", 1)
    quadtok("tokenize", photos, "-o", tmp_path / "b", *common, "--batch-size", 32)
    quadtok("tokenize", photos / "rocket.png", photos / "coffee.jpg", "-o", tmp_path / "c", *common)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    some = digests(tmp_path / "c")
    assert some == {name: digests(tmp_path / "a")[name] for name in some}


def test_random_layouts_depend_on_seed_and_relative_name(quadtok, photo, tmp_path):
    (tmp_path / "twin.jpg").write_bytes(photo.read_bytes())

    def plan(image, seed):
        quadtok("tokenize", image, "--output", tmp_path / "x.pt", "--scorer", "random", "--seed", seed, "--overwrite")
        return load_tokens(tmp_path / "x.pt").plan

    first = plan(photo, 0)
    assert_same_plan(plan(photo, 0), first)
    assert not torch.equal(plan(photo, 1).left, first.left)
    assert not torch.equal(plan(tmp_path / "twin.jpg", 0).left, first.left)


def test_the_seed_of_an_image_is_recorded_and_gives_its_layout_again(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "random", "--seed", 5)
    tokens = load_tokens(tmp_path / "coffee.pt")
    scorer = tokens.metadata["scorer"]
    assert scorer["seed"] == 5
    spec = tokens.plan.spec
    saliency = get_scorer("random", seed=scorer["image_seed"])(torch.zeros(1, 3, 256, 256), spec)
    assert_same_plan(get_quadtree()(saliency, spec), tokens.plan)


def test_native_sizes_keep_the_whole_photograph(quadtok, tmp_path):
    rocket = SAMPLE_IMAGES / "rocket.jpg"  # 640 × 427
    result = quadtok("tokenize", rocket, "-o", tmp_path, "--scorer", "blur", "-s", "native", "-n", "40%", "--json")
    assert result.code == 0
    tokens = load_tokens(tmp_path / "rocket.pt")
    assert tokens.plan.spec == Spec(448, 640, 16, 64, 448)
    assert tokens.metadata["tokens_requested"] == "40%"
    left, top, right, bottom = tokens.metadata["preprocess"]["crop_box"]
    assert left <= 0 and top <= 0 and right >= 640 and bottom >= 427
    assert_partition(tokens.plan)


def test_images_of_many_native_sizes_go_through_in_one_run(quadtok, tmp_path):
    for number, size in enumerate([(64, 64), (200, 100), (64, 64), (30, 300), (1, 1)]):
        Image.effect_noise(size, 50).save(tmp_path / f"{number}.png")
    result = quadtok("tokenize", tmp_path, "--scorer", "blur", "-s", "native", "-n", "64", "--max-patch", "32", "-v")
    assert result.code == 0
    counts = [load_tokens(tmp_path / f"{number}.pt").plan.spec.num_tokens for number in range(5)]
    assert counts == [16, 64, 16, 40, 4]


def test_a_rectangle_can_be_asked_for(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur", "-s", "128x320", "-n", "40")
    assert load_tokens(tmp_path / "coffee.pt").plan.spec == Spec(128, 320, 16, 64, 40)


@pytest.mark.parametrize(("dtype", "stored"), [("uint8", torch.uint8), ("float32", torch.float32), ("none", None)])
def test_the_stored_dtype(quadtok, photo, tmp_path, dtype, stored):
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur", "--dtype", dtype)
    content = torch.load(tmp_path / "coffee.pt", weights_only=True)
    assert (content["patches"].dtype if "patches" in content else None) == stored


def test_the_default_scorer_brings_its_weights_and_says_once_which(quadtok, photos, tmp_path):
    result = quadtok("tokenize", photos, "-o", tmp_path)
    assert result.code == 0
    (said,) = [line for line in result.lines if "weights" in line]
    scorer = load_tokens(tmp_path / "coffee.pt").metadata["scorer"]
    assert (scorer["name"], scorer["weights"]) == ("object", "bundled")
    assert said == f"quadtok: object scorer: weights bundled, sha256 {scorer['weights_sha256'][:12]}…"
    assert quadtok("tokenize", photos, "-o", tmp_path, "--overwrite", "--quiet").err == ""


@pytest.mark.parametrize(
    ("flags", "said", "recorded"),
    [
        (["--weights", "bundled"], "feature scorer: weights bundled", {"name": "feature", "precision": None}),
        (["--scorer-option", "precision=float32"], "feature scorer: ", {"name": "feature", "precision": "float32"}),
        (["--scorer-option", "views=2"], "object scorer: weights bundled", {"name": "object", "views": 2}),
        (
            ["--scorer", "object", "--scorer-option", "precision=bfloat16"],
            "object scorer: ",
            {"name": "object", "precision": "bfloat16"},
        ),
        (
            ["--scorer", "object", "--weights", IMPORTANCE_NET],
            f"object scorer: weights {IMPORTANCE_NET}",
            {"name": "object", "weights": "importance_net.pt"},
        ),
        (
            ["--scorer", "object", "--scorer-option", f"weights={IMPORTANCE_NET}"],
            f"object scorer: weights {IMPORTANCE_NET}",
            {"name": "object", "weights": "importance_net.pt"},
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_weights_and_options_say_which_scorer_is_meant(quadtok, photo, tmp_path, flags, said, recorded):
    result = quadtok("tokenize", photo, "-o", tmp_path, *flags)
    assert (result.code, result.lines[0].startswith(f"quadtok: {said}")) == (0, True)
    scorer = load_tokens(tmp_path / "coffee.pt").metadata["scorer"]
    assert {name: scorer.get(name) for name in recorded} == recorded


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--weights", IMPORTANCE_NET], "of an ImportanceNet: they are for the object scorer, not for feature"),
        (["--scorer", "object", "--scorer-option", "weights=lite0"], "weights lite0 are the feature scorer's: give"),
        (["--scorer", "object", "--weights", "none.pt"], "weights none.pt: no such file; give bundled or the path of"),
        (["--scorer", "object", "--weights", GOLDEN / "feature_net.pt"], "feature_net.pt: not an ImportanceNet: "),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_weights_of_another_scorer_are_refused_naming_it(quadtok, photo, tmp_path, flags, sentence):
    result = quadtok("tokenize", photo, "-o", tmp_path, *flags)
    assert (result.code, len(result.lines), (tmp_path / "coffee.pt").exists()) == (2, 1, False)
    assert sentence in result.err


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK"])
def test_the_default_scorer_sees_every_photograph_in_three_channels(quadtok, photo, tmp_path, mode):
    path = tmp_path / "other.tif"
    Image.open(photo).convert(mode).save(path)
    assert quadtok("tokenize", path).code == 0
    tokens = load_tokens(tmp_path / "other.pt")
    assert (tokens.metadata["scorer"]["name"], tokens.patches.shape) == ("object", (1, 100, 3, 16, 16))


def test_features_with_weights_from_a_file(quadtok, photo, tmp_path):
    weights = GOLDEN / "feature_net.pt"
    common = ["tokenize", photo, "-o", tmp_path, "--weights", weights, "--scorer-option"]
    assert quadtok(*common, "stride=16").code == 0
    scorer = load_tokens(tmp_path / "coffee.pt").metadata["scorer"]
    assert (scorer["name"], scorer["stride"], scorer["weights"]) == ("feature", 16, "feature_net.pt")
    assert len(scorer["weights_sha256"]) == 64
    result = quadtok(*common, "strive=16")
    assert result.code == 2
    assert "options it does not have" in result.err


def test_a_scorer_of_ones_own(quadtok, photo, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def brightness(images, spec):\n"
        "    return [images.float().mean(dim=1)[:, ::P, ::P] for P in (32, 64)]\n"
        "def nan(images, spec):\n"
        "    return [torch.full((len(images), 256 // P, 256 // P), torch.nan) for P in (32, 64)]\n"
        "def broken(images, spec):\n"
        "    raise KeyError('oops')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert quadtok("tokenize", photo, "--scorer", "mine:brightness").code == 0
    assert load_tokens(photo.with_suffix(".pt")).metadata["scorer"] == {"name": "mine:brightness"}
    for name, message in [
        ("nan", f"{photo}: its saliency holds NaN"),
        ("broken", "scorer mine:broken failed: KeyError"),
    ]:
        result = quadtok("tokenize", photo, "--scorer", f"mine:{name}", "--overwrite")
        assert result.code == 1
        assert message in result.err
    assert quadtok("tokenize", photo, "--scorer", "mine:absent").code == 2


class TestMaps:
    """--maps with --scorer precomputed."""

    def run(self, quadtok, photos, tmp_path, maps):
        return quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "precomputed", "--maps", maps)

    def test_a_folder_mirrors_the_inputs(self, quadtok, photos, tmp_path):
        maps = tmp_path / "maps"
        (maps / "pets").mkdir(parents=True)
        torch.manual_seed(0)
        for name, shape in (("coffee", (16, 16)), ("rocket", (2, 8, 8)), ("pets/cat", (1, 33, 20))):
            torch.save(torch.rand(shape), maps / f"{name}.pt")
        assert self.run(quadtok, photos, tmp_path, maps).code == 0
        spec = Spec(256, 256, 16, 64, 100)
        importance = torch.load(maps / "coffee.pt", weights_only=True)[None]
        expected = get_quadtree()(get_scorer("precomputed", maps=importance)(torch.zeros(1, 3, 256, 256), spec), spec)
        assert_same_plan(load_tokens(tmp_path / "out" / "coffee.pt").plan, expected)

    @pytest.mark.parametrize("shape", [(16, 16), (3, 16, 16), (3, 2, 16, 16)])
    def test_one_file_for_all_or_a_row_for_each(self, quadtok, photos, tmp_path, shape):
        torch.save(torch.rand(shape), tmp_path / "maps.pt")
        assert self.run(quadtok, photos, tmp_path, tmp_path / "maps.pt").code == 0

    def test_a_row_too_few_is_refused_with_both_numbers(self, quadtok, photos, tmp_path):
        torch.save(torch.rand(2, 16, 16), tmp_path / "maps.pt")
        result = self.run(quadtok, photos, tmp_path, tmp_path / "maps.pt")
        assert result.code == 2
        assert "holds maps for 2 images and there are 3 inputs" in result.err

    def test_missing_misshapen_and_nan_maps_fail_their_image_alone(self, quadtok, photos, tmp_path):
        maps = tmp_path / "maps"
        (maps / "pets").mkdir(parents=True)
        torch.save(torch.rand(5, 16, 16), maps / "coffee.pt")
        torch.save(torch.full((16, 16), torch.nan), maps / "pets" / "cat.pt")
        result = self.run(quadtok, photos, tmp_path, maps)
        assert result.code == 1
        errors = "\n".join(result.lines[:-1])
        assert "coffee.jpg: map" in errors and "holds 5 scales, 2 can be split" in errors
        assert "cat.jpg: map" in errors and "holds NaN" in errors
        assert "rocket.pt: no such file" in errors
        assert "0 written, 0 skipped, 3 failed" in result.err

    @pytest.mark.parametrize("arguments", [["--scorer", "precomputed"], ["--scorer", "blur", "--maps", "x.pt"]])
    def test_maps_and_their_scorer_go_together(self, quadtok, photo, arguments):
        result = quadtok("tokenize", photo, *arguments)
        assert result.code == 2
        assert "--maps and --scorer precomputed go together" in result.err


class TestPoints:
    """--points with --scorer point."""

    def run(self, quadtok, photos, tmp_path, points, *more):
        given = ["--scorer", "point", "--points", points, *more]
        return quadtok("tokenize", photos, "-o", tmp_path / "out", *given)

    @pytest.fixture
    def points(self, tmp_path):
        (tmp_path / "points.csv").write_text("name,x,y\ncoffee.jpg,75,50\nrocket.png,10,20,30,40\npets/cat.jpg,9,9\n")
        return tmp_path / "points.csv"

    def test_names_are_the_inputs_paths_below_their_folder(self, quadtok, photos, tmp_path, points):
        assert self.run(quadtok, photos, tmp_path, points).code == 0
        with Image.open(photos / "coffee.jpg") as image:
            width, height = image.size  # scaled so that the short side is 256 / 0.875, then cropped
        left, top = (width - 0.875 * height) / 2, (height - 0.875 * height) / 2
        scale = 256 / (0.875 * height)
        spec = Spec(256, 256, 16, 64, 100)
        scorer = get_scorer("point", points=[[((75 - left) * scale, (50 - top) * scale)]])
        expected = get_quadtree()(scorer(torch.zeros(1, 3, 256, 256), spec), spec)
        tokens = load_tokens(tmp_path / "out" / "coffee.pt")
        assert_same_plan(tokens.plan, expected)
        assert tokens.metadata["scorer"] == {"name": "point", "points": [[75.0, 50.0]], "boxes": []}

    def test_other_points_are_another_run(self, quadtok, photos, tmp_path, points):
        self.run(quadtok, photos, tmp_path, points)
        points.write_text(points.read_text().replace("9,9", "9,10"))
        result = self.run(quadtok, photos, tmp_path, points)
        assert "0 written, 2 skipped, 1 failed" in result.err
        assert "cat.pt exists with other settings" in result.err

    def test_an_image_without_points_fails_alone(self, quadtok, photos, tmp_path):
        (tmp_path / "points.json").write_text('{"coffee.jpg": [[75, 50]], "rocket.png": [[1]]}')
        result = self.run(quadtok, photos, tmp_path, tmp_path / "points.json")
        errors = "\n".join(result.lines[:-1])
        assert result.code == 1
        assert "cat.jpg: " in errors and "has neither a point nor a box for 'pets/cat.jpg'" in errors
        assert "rocket.png: " in errors and "must be x, y or left, top, right, bottom in pixels, got [1]" in errors
        assert "1 written, 0 skipped, 2 failed" in result.err

    def test_a_file_of_no_points_is_told_before_anything_is_done(self, quadtok, photos, tmp_path):
        (tmp_path / "points.json").write_text("no JSON")
        result = self.run(quadtok, photos, tmp_path, tmp_path / "points.json")
        assert (result.code, (tmp_path / "out").exists()) == (2, False)
        assert f"--points {tmp_path / 'points.json'}: is no JSON" in result.err

    def test_pictures_are_drawn_by_points_too(self, quadtok, photos, tmp_path, points):
        given = ["--compare", "blur,point", "--points", points, "-o", tmp_path / "drawn"]
        assert quadtok("visualize", photos, *given).code == 0


class TestExisting:
    """--if-exists."""

    @pytest.fixture
    def again(self, quadtok, photo, tmp_path):
        def run(*arguments):
            return quadtok("tokenize", photo, "-o", tmp_path / "out", "--scorer", "blur", *arguments)

        assert run().code == 0
        self.target = tmp_path / "out" / "coffee.pt"
        return run

    def test_the_same_run_again_skips(self, again):
        before = self.target.stat().st_mtime_ns
        result = again()
        assert (result.code, self.target.stat().st_mtime_ns) == (0, before)
        assert "0 written, 1 skipped, 0 failed" in result.err

    def test_flags_that_do_not_change_the_content_do_not_matter(self, again):
        assert "1 skipped" in again("--impl", "dict", "--batch-size", 1).err

    @pytest.mark.parametrize("other", [["-n", "64"], ["--dtype", "uint8"], ["--fit", "pad"], ["--no-exif"]], ids=str)
    def test_other_settings_are_refused_and_the_file_is_left_alone(self, again, other):
        before = self.target.read_bytes()
        result = again(*other)
        assert result.code == 1
        assert "coffee.pt exists with other settings, or of another image of this name; use --overwrite" in result.err
        assert self.target.read_bytes() == before

    def test_another_scorer_is_refused_naming_both_and_the_file_is_left_alone(self, again):
        before = self.target.read_bytes()
        result = again("--scorer", "random")
        assert (result.code, self.target.read_bytes()) == (1, before)
        assert (
            f"{self.target} was made by the scorer blur, and this run's is random: give --scorer blur to go on, or "
            "another output folder, or use --overwrite" in result.err
        )

    def test_a_folder_made_by_the_old_default_is_refused_naming_the_flag_that_goes_on(self, quadtok, photos, tmp_path):
        old = ["tokenize", photos, "-o", tmp_path / "out"]
        assert quadtok(*old, "--scorer", "feature").code == 0
        result = quadtok(*old)
        refusals = [line for line in result.lines if line.startswith("quadtok: error: ")]
        assert (result.code, len(refusals)) == (1, 3)
        assert all(
            line.endswith(
                ".pt was made by the scorer feature (weights bundled), and this run's is object, the default: give "
                "--scorer feature to go on, or another output folder, or use --overwrite"
            )
            for line in refusals
        )
        assert "0 written, 3 skipped, 0 failed" in quadtok(*old, "--scorer", "feature").err
        assert "3 written, 0 skipped, 0 failed" in quadtok(*old, "--if-exists", "overwrite").err
        assert "0 written, 3 skipped, 0 failed" in quadtok(*old).err

    def test_another_image_under_the_same_name_is_refused(self, again, photo):
        Image.open(SAMPLE_IMAGES / "coffee.jpg").save(photo)
        assert "exists with other settings" in again().err

    def test_a_touched_or_copied_input_is_the_same(self, again, photo):
        os.utime(photo, (1, 1))
        assert "1 skipped" in again().err

    def test_a_foreign_file_is_refused(self, again):
        self.target.write_bytes(b"precious")
        result = again()
        assert result.code == 1
        assert "use --overwrite" in result.err
        assert self.target.read_bytes() == b"precious"

    @pytest.mark.parametrize(
        "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-9], lambda data: b"PK"]
    )
    def test_a_torn_file_is_written_anew_only_if_it_is_ours(self, again, damage):
        whole = self.target.read_bytes()
        self.target.write_bytes(damage(whole))
        result = again()
        if len(damage(whole)) > 100:
            assert (result.code, self.target.read_bytes()) == (0, whole)
        else:
            assert result.code == 1

    @pytest.mark.parametrize("overwrite", [["--overwrite"], ["--if-exists", "overwrite"]], ids=str)
    def test_overwrite_overwrites(self, again, overwrite):
        assert again("-n", "64", *overwrite).code == 0
        assert load_tokens(self.target).plan.spec.num_tokens == 64

    def test_skip_does_not_look(self, again, photo):
        self.target.write_bytes(b"anything")
        photo.unlink()
        assert "1 skipped" in again("--if-exists", "skip").err

    def test_error_refuses(self, again):
        result = again("--if-exists", "error")
        assert result.code == 1
        assert "coffee.pt exists; use --overwrite" in result.err


class TestReporting:
    def test_json_is_a_line_an_input_and_a_summary(self, quadtok, photos, tmp_path):
        (photos / "bad.jpg").write_text("text")
        result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur", "--json", "-b", 1)
        records = [json.loads(line) for line in result.out.splitlines()]
        assert [(record["type"], record.get("status")) for record in records] == [
            ("file", "failed"),
            ("file", "written"),
            ("file", "written"),
            ("file", "written"),
            ("summary", None),
        ]
        failed, written, summary = records[0], records[1], records[-1]
        assert failed["error"] == {"kind": "ImageError", "message": f"{photos / 'bad.jpg'}: not a supported image"}
        assert written["error"] is None
        assert written["tokens"] == sum(written["scales"]) == 100
        assert written["output"] == str(tmp_path / "out" / "coffee.pt")
        assert (summary["written"], summary["skipped"], summary["failed"], summary["left"]) == (3, 0, 1, 0)
        assert summary["settings"]["tokens"] == "100"
        assert result.code == 1

    def test_quiet_says_errors_only(self, quadtok, photos, tmp_path):
        assert quadtok("tokenize", photos, "-o", tmp_path / "a", "--scorer", "blur", "-q").err == ""
        (photos / "bad.jpg").write_text("text")
        result = quadtok("tokenize", photos, "-o", tmp_path / "b", "--scorer", "blur", "-q")
        assert result.err == f"quadtok: error: {photos / 'bad.jpg'}: not a supported image\n"

    def test_verbose_says_a_line_per_input(self, quadtok, photos, tmp_path):
        result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur", "-v")
        assert len(result.lines) == 4
        assert result.lines[0].startswith(f"quadtok: written: {photos / 'coffee.jpg'}, output ")

    def test_a_dry_run_writes_nothing(self, quadtok, photos, tmp_path):
        result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--dry-run")
        assert result.code == 0
        assert result.out.splitlines()[0] == f"{photos / 'coffee.jpg'} -> {tmp_path / 'out' / 'coffee.pt'}"
        assert not (tmp_path / "out").exists()

    def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(self, photos, tmp_path):
        shown, out = run_in_terminal(
            [sys.executable, "-m", "quadtok", "tokenize", str(photos), "-o", str(tmp_path), "--scorer", "blur"]
        )
        assert "3/3" in shown and "tokenize" in shown and "/s" in shown
        assert out == b""

    def test_data_stays_on_stdout_while_a_bar_is_shown(self, photos, tmp_path):
        command = [sys.executable, "-m", "quadtok", "tokenize", str(photos), "-o", str(tmp_path), "--scorer", "blur"]
        shown, out = run_in_terminal([*command, "--json"])
        assert len(out.splitlines()) == 4
        assert "coffee.jpg" not in shown


def run_in_terminal(command):
    """stderr of a command that has a terminal there, and its stdout."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    return shown.decode(errors="replace"), out


def test_fail_fast_stops_at_the_first_bad_input(quadtok, photos, tmp_path):
    (photos / "a_bad.jpg").write_text("text")
    result = quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur", "--fail-fast", "--json")
    assert result.code == 1
    assert json.loads(result.out.splitlines()[-1])["left"] == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_ends_tidily_and_goes_on_later(tmp_path, number, code):
    for index in range(400):
        Image.effect_noise((300, 300), 60).save(tmp_path / f"{index:03}.png", compress_level=0)
    command = [sys.executable, "-m", "quadtok", "tokenize", str(tmp_path), "--scorer", "blur", "-b", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # the first file is written: it is at work
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    summary = json.loads(out.splitlines()[-1])
    assert summary["left"] > 0
    assert f"{summary['left']} left; run the same command to go on" in err
    written = sorted(tmp_path.glob("*.pt"))
    assert len(written) == summary["written"]
    assert all(load_tokens(path).plan.spec.num_tokens == 100 for path in written)
    assert not list(tmp_path.glob(".quadtok-*"))


def test_a_closed_stdout_ends_quietly(photos, tmp_path):
    command = f"{sys.executable} -m quadtok tokenize {photos} -o {tmp_path} --scorer blur --json -q | true"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr


def test_debug_shows_the_traceback(quadtok, photo):
    from quadtok.errors import SpecError

    with pytest.raises(SpecError, match="Try 100 or 103"):
        quadtok("--debug", "tokenize", photo, "-n", "101")


def test_a_run_leaves_signal_handlers_as_they_were(quadtok, photo, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur")
    assert signal.getsignal(signal.SIGINT) is before


def test_memory_of_the_batch_is_not_written_with_each_file(quadtok, photos, tmp_path):
    quadtok("tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur")
    assert max(path.stat().st_size for path in (tmp_path / "out").rglob("*.pt")) < 100 * 3 * 256 * 2 + 10_000


def test_the_clock_is_not_in_the_file(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "--output", tmp_path / "a.pt", "--scorer", "blur")
    time.sleep(1.1)
    quadtok("tokenize", photo, "--output", tmp_path / "another name.pt", "--scorer", "blur")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another name.pt").read_bytes()


@pytest.mark.parametrize(
    "option",
    ["stride=1.5", "stride=16.0", "high_res_fraction=half", "weights=3", "error=1", "precision=2", "net=5", "a=b"],
)
def test_an_option_that_no_scorer_can_take_is_a_usage_error(quadtok, photo, tmp_path, option):
    result = quadtok("tokenize", photo, "-o", tmp_path / "out", "--scorer-option", option)
    assert (result.code, len(result.lines), (tmp_path / "out").exists()) == (2, 1, False)
    assert option.partition("=")[0] in result.err
