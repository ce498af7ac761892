"""`quadtok tokenize --store plans`: every budget of all images in one file, bit-equal to scoring them again."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from quadtok import get_quadtree, get_scorer, load_tokens
from quadtok.storage.dataset import preprocess_of
from quadtok.storage.plan_store import PlanStore

SCORERS = ["object", "blur", "random", "entropy"]


@pytest.fixture
def store(quadtok, photos, tmp_path):
    def store(*arguments, scorer="blur", inputs=photos, name="plans.qts"):
        result = quadtok(
            "tokenize", inputs, "--scorer", scorer, "--store", "plans", "--output", tmp_path / name, *arguments
        )
        return result, tmp_path / name

    return store


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("size", ["256", "native"])
def test_every_budget_is_that_of_the_token_file(scorer, size, quadtok, store, photos, tmp_path):
    result, path = store("--image-size", size, scorer=scorer)
    assert (result.code, len(PlanStore(path))) == (0, 3)
    for tokens in ("40%", "77%", "100%"):
        out = tmp_path / tokens
        assert quadtok("tokenize", photos, "--scorer", scorer, "-s", size, "-n", tokens, "-o", out).code == 0
        for name in ("coffee.jpg", "rocket.png", "pets/cat.jpg"):
            plan = load_tokens((out / name).with_suffix(".pt")).plan
            assert PlanStore(path)[name].plan(plan.spec.num_tokens) == plan


@pytest.mark.parametrize("scorer", ["object", "blur"])
def test_every_budget_and_threshold_of_native_sizes_is_that_of_scoring_anew(scorer, store, photos):
    _, path = store("--image-size", "native", "--minima", "float32", scorer=scorer)
    plans, choose = PlanStore(path), get_quadtree("parallel")
    steps = preprocess_of(plans.header)
    for name in plans:
        stream, photo = plans[name], steps.decode((photos / name).read_bytes(), photos / name)
        saliency, spec = get_scorer(scorer)(photo.fitted.pixels[None], photo.spec), photo.spec
        for num_tokens in range(spec.num_roots, spec.num_cells + 1, 3):
            assert stream.plan(num_tokens) == choose(saliency, replace(spec, num_tokens=num_tokens))
        full = replace(spec, num_tokens=spec.num_cells)
        for minimum in sorted({float(value) for value in stream.minima})[::3]:
            for threshold in (minimum, math.nextafter(minimum, -math.inf)):  # as float64, which quadtrees compare in
                assert stream.plan(threshold=threshold) == choose(saliency, full, threshold).unpadded(0)


def test_every_threshold_is_that_of_the_token_file_where_minima_are_kept(quadtok, store, photos, tmp_path):
    _, path = store("--minima", "float32")
    for threshold in (0.5, 0.9, 1.2):
        out = tmp_path / str(threshold)
        assert quadtok("tokenize", photos, "--scorer", "blur", "--threshold", threshold, "-o", out).code == 0
        plan = load_tokens(out / "coffee.pt").plan
        assert PlanStore(path)["coffee.jpg"].plan(threshold=threshold) == plan


def test_the_second_run_does_only_what_is_missing(store, photos):
    store()
    before = store()[1].read_bytes()
    result, path = store("--json")
    assert json.loads(result.out.splitlines()[-1])["skipped"] == 3
    assert path.read_bytes() == before
    shutil.copy(photos / "coffee.jpg", photos / "again.jpg")
    result, path = store("--json")
    summary = json.loads(result.out.splitlines()[-1])
    assert (summary["written"], summary["skipped"]) == (1, 3)
    assert "again.jpg" in PlanStore(path)


def test_an_image_that_changed_is_refused_alone_until_it_may_be_replaced(store, photos):
    store()
    Image.new("RGB", (300, 300), "red").save(photos / "coffee.jpg")
    result, path = store()
    assert result.code == 1
    assert f"{path} holds plans of another image of this name" in result.err
    assert store("--overwrite")[0].code == 0
    red = PlanStore(path)["coffee.jpg"].order
    assert torch.equal(torch.from_numpy(red.copy()), torch.arange(80).to(torch.uint8))  # all alike: in tie order


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_policies_for_what_is_there(policy, store):
    store()
    result, _ = store("--if-exists", policy)
    assert result.code == (1 if policy == "error" else 0)
    assert (result.err.count("exists; use --overwrite") == 3) == (policy == "error")


def test_other_settings_are_another_file(store):
    store()
    for other in (["--min-patch", "32"], ["--fit", "pad"], ["--minima", "float16"]):
        result, path = store(*other)
        assert (result.code, result.err.count("give another file")) == (2, 1), other
    assert len(PlanStore(path)) == 3


def test_one_bad_image_costs_itself(store, photos):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    result, path = store()
    assert result.code == 1
    assert sorted(PlanStore(path)) == ["coffee.jpg", "pets/cat.jpg", "rocket.png"]


def test_two_inputs_of_one_name_are_both_refused(quadtok, photos, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(photos / "coffee.jpg", tmp_path / "other" / "coffee.jpg")
    out = tmp_path / "plans.qts"
    both = [photos / "coffee.jpg", tmp_path / "other" / "coffee.jpg"]
    result = quadtok("tokenize", *both, "--scorer", "blur", "--store", "plans", "--output", out)
    assert result.code == 1
    assert result.err.count("several inputs would be called coffee.jpg") == 2
    result = quadtok(
        "tokenize", *both, "--scorer", "blur", "--store", "plans", "--output", out, "--relative-to", tmp_path
    )
    assert (result.code, sorted(PlanStore(out))) == (0, ["other/coffee.jpg", "photos/coffee.jpg"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--tokens", "64"],
        ["--threshold", "0.5"],
        ["--dtype", "uint8"],
        ["--overlay"],
        ["--impl", "dict"],
    ],
    ids=" ".join,
)
def test_flags_that_would_mean_nothing_are_refused(flags, store):
    result, path = store(*flags)
    assert result.code == 2
    assert f"--store and {flags[0]}" in result.err
    assert not path.exists()


def test_the_file_must_be_named_as_what_it_is(quadtok, photos, tmp_path):
    assert "give --output NAME.qts" in quadtok("tokenize", photos, "--store", "plans").err
    assert "ends in .qts" in quadtok("tokenize", photos, "--store", "plans", "--output", tmp_path / "x.pt").err
    assert "--minima is about --store plans" in quadtok("tokenize", photos, "--minima", "float32").err


def test_a_dry_run_writes_nothing(store, photos):
    result, path = store("--dry-run")
    assert f"{photos / 'coffee.jpg'} -> {path}:coffee.jpg" in result.out
    assert not path.exists()


class TestInfo:
    def test_a_file_of_plans_is_described(self, quadtok, store):
        _, path = store("--minima", "float32", scorer="object")
        result = quadtok("info", path)
        assert (result.code, result.err) == (0, "")
        first, *lines = result.out.splitlines()
        described = dict(line.strip().split(maxsplit=1) for line in lines)
        assert first == str(path)
        assert described["images"] == f"3 in {path.stat().st_size} bytes, the plans of every number of tokens"
        assert described["patches"] == "16 to 64 px"
        assert described["minima"] == "float32, so every threshold, too"
        assert described["scorer"].startswith("object (")

    def test_json_holds_the_same_and_more(self, quadtok, store):
        _, path = store()
        record, summary = (json.loads(line) for line in quadtok("info", path, "--json").out.splitlines())
        assert (record["images"], record["minima"], record["scorer"]) == (3, "none", {"name": "blur"})
        assert record["preprocess"]["image_size"] == [256, 256]
        assert (summary["good"], summary["bad"]) == (1, 0)

    def test_a_folder_of_both_is_checked(self, quadtok, store, photos, tmp_path):
        store()
        assert quadtok("tokenize", photos, "--scorer", "blur", "-o", tmp_path / "tokens").code == 0
        (tmp_path / "plans.qts").rename(tmp_path / "tokens" / "plans.qts")
        result = quadtok("info", "--check", tmp_path / "tokens")
        assert (result.code, result.out.splitlines()[-1]) == (0, "4 good, 0 bad")

    @pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
    def test_a_flipped_bit_is_found(self, quadtok, store, place):
        _, path = store("--minima", "float32")
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 1
        path.write_bytes(data)
        result = quadtok("info", "--check", path)
        assert (result.code, result.out) == (1, "0 good, 1 bad\n")
        assert str(path) in result.err and "damaged" in result.err


class TestMerge:
    def test_parts_become_one(self, quadtok, store, photos, tmp_path):
        _, one = store(inputs=photos / "pets", name="one.qts")
        _, two = store(inputs=photos / "coffee.jpg", name="two.qts")
        result = quadtok("plans", "merge", one, two, "--output", tmp_path / "all.qts")
        assert (result.code, result.out) == (0, f"{tmp_path / 'all.qts'}: 2 images of 2 files\n")
        assert sorted(PlanStore(tmp_path / "all.qts")) == ["cat.jpg", "coffee.jpg"]

    def test_a_file_that_is_there_is_kept(self, quadtok, store, tmp_path):
        _, path = store()
        (tmp_path / "all.qts").write_text("mine")
        assert "exists; use --overwrite" in quadtok("plans", "merge", path, "--output", tmp_path / "all.qts").err
        assert (tmp_path / "all.qts").read_text() == "mine"
        assert quadtok("plans", "merge", path, "--output", tmp_path / "all.qts", "--overwrite").code == 0

    def test_a_photograph_is_kept_whatever_it_is_called(self, quadtok, store, photos, tmp_path):
        _, path = store()
        shutil.copy(photos / "coffee.jpg", tmp_path / "all.qts")
        result = quadtok("plans", "merge", path, "--output", tmp_path / "all.qts", "--overwrite")
        assert (result.code, "it is kept: choose another name" in result.err) == (2, True)
        assert (tmp_path / "all.qts").read_bytes() == (photos / "coffee.jpg").read_bytes()

    @pytest.mark.parametrize("name", ["plans.qts", "link.qts", "hard.qts"])
    def test_an_input_is_kept(self, quadtok, store, tmp_path, name):
        _, path = store()
        before = path.read_bytes()
        (tmp_path / "link.qts").symlink_to(path)
        (tmp_path / "hard.qts").hardlink_to(path)
        result = quadtok("plans", "merge", path, "--output", tmp_path / name, "--overwrite")
        assert (result.code, f"{name} is an input" in result.err) == (2, True)
        assert path.read_bytes() == before

    def test_what_is_no_file_of_plans_is_said(self, quadtok, photo, tmp_path):
        result = quadtok("plans", "merge", photo, "--output", tmp_path / "all.qts")
        assert (result.code, result.err) == (2, f"quadtok: error: {photo}: not a file of quadtok plans\n")
        assert not (tmp_path / "all.qts").exists()
