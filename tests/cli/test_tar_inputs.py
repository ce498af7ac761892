"""Commands take the images in tar files as they take those in folders."""

import tarfile
from pathlib import Path

import pytest

from helpers import files_in
from quadtok import load_tokens
from quadtok.storage.plan_store import PlanStore


@pytest.fixture
def archive(photos, tmp_path):
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(photos, arcname=".")
    return path


def test_tokens_are_those_of_the_files(quadtok, photos, archive, tmp_path):
    for inputs, folder in ((photos, "files"), (archive, "tar")):
        assert quadtok("tokenize", inputs, "-o", tmp_path / folder, "--scorer", "blur", "--overlay").code == 0
    made = list(map(Path, files_in(tmp_path / "files")))
    assert len(made) == 6
    for path in made:
        ours, theirs = tmp_path / "tar" / "photos" / path, tmp_path / "files" / path
        if path.suffix == ".pt":
            assert load_tokens(ours) == load_tokens(theirs)
            assert load_tokens(ours).metadata["source"]["sha256"] == load_tokens(theirs).metadata["source"]["sha256"]
    result = quadtok("tokenize", archive, "-o", tmp_path / "tar", "--scorer", "blur", "--overlay")
    assert (result.code, "0 written, 3 skipped" in result.err) == (0, True)


def test_a_bad_image_in_it_is_named_and_costs_itself(quadtok, archive, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with tarfile.open(archive, "a") as tar:
        tar.add(tmp_path / "bad.jpg", arcname="pets/bad.jpg")
    result = quadtok("tokenize", archive, "-o", tmp_path / "out", "--scorer", "blur")
    assert (result.code, "3 written, 0 skipped, 1 failed" in result.err) == (1, True)
    assert f"quadtok: error: {archive}/pets/bad.jpg: " in result.err


def test_they_are_drawn_calibrated_timed_and_stored_as_plans(quadtok, archive, tmp_path):
    assert quadtok("visualize", archive, "-o", tmp_path / "drawn", "--scorer", "blur").code == 0
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 3
    assert quadtok("calibrate", archive, "--scorer", "blur").code == 0
    bench = ("bench", archive, "-b", 1, "--min-time", 0, "--warmup", 0, "--impl", "parallel")
    assert quadtok(*bench).code == 0
    plans = tmp_path / "plans.qts"
    assert quadtok("tokenize", archive, "--scorer", "blur", "--store", "plans", "--output", plans).code == 0
    assert sorted(PlanStore(plans)) == ["photos/coffee.jpg", "photos/pets/cat.jpg", "photos/rocket.png"]


def test_shards_of_shards_are_no_images(quadtok, archive, tmp_path):
    assert quadtok("tokenize", archive, "-o", tmp_path / "s", "--format", "shards", "--scorer", "blur").code == 0
    result = quadtok("tokenize", tmp_path / "s" / "shard-000000.tar", "-o", tmp_path / "t")
    assert (result.code, "holds tokens or plans that quadtok made, and no images" in result.err) == (2, True)


def test_beside_the_input_there_is_no_place_for_outputs(quadtok, archive):
    result = quadtok("tokenize", archive, "--scorer", "blur")
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[0] == (
        f"quadtok: error: {archive}: a file stands where a folder of outputs should be: name another one"
    )
