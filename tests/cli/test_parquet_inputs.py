"""Commands take the rows of Parquet files as they take the images in folders."""

import json
from pathlib import Path

import pytest

from helpers import files_in
from quadtok import load_tokens

pa = pytest.importorskip("pyarrow", reason="writes the files; the extra parquet has it")
pq = pytest.importorskip("pyarrow.parquet", reason="writes the files; the extra parquet has it")

NAMES = ("coffee.jpg", "pets/cat.jpg", "rocket.png")


def as_hugging_face_does(photos, path):
    rows = [{"bytes": (photos / name).read_bytes(), "path": name} for name in NAMES]
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 2]}), path, row_group_size=2)


def as_ray_data_does(photos, path):
    data = [(photos / name).read_bytes() for name in NAMES]
    pq.write_table(pa.table({"bytes": data, "path": NAMES}), path)


def by_datasets(photos, path):
    datasets = pytest.importorskip("datasets", reason="writes the file; the extra test-all has it")
    rows = [{"bytes": (photos / name).read_bytes(), "path": name} for name in NAMES]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": rows}, features).to_parquet(path)


@pytest.fixture
def table(photos, tmp_path):
    as_hugging_face_does(photos, tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


@pytest.mark.parametrize("write", [as_hugging_face_does, as_ray_data_does, by_datasets])
def test_tokens_are_those_of_the_files(quadtok, photos, tmp_path, write):
    write(photos, tmp_path / "photos.parquet")
    for inputs, folder in ((photos, "files"), (tmp_path / "*.parquet", "rows")):
        result = quadtok("tokenize", inputs, "-o", tmp_path / folder, "--scorer", "blur", "--overlay")
        assert (result.code, "3 written" in result.err) == (0, True), result.err
    made = list(map(Path, files_in(tmp_path / "files")))
    assert len(made) == 6
    for path in made:
        ours, theirs = tmp_path / "rows" / "photos" / path, tmp_path / "files" / path
        if path.suffix == ".pt":
            assert load_tokens(ours) == load_tokens(theirs)
            assert load_tokens(ours).metadata["source"]["sha256"] == load_tokens(theirs).metadata["source"]["sha256"]


def test_the_second_run_finds_all_in_the_manifest(quadtok, table, tmp_path):
    command = ("tokenize", table, "-o", tmp_path / "out", "--scorer", "blur")
    assert quadtok(*command).code == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / ".quadtok-manifest.jsonl").read_text().splitlines()]
    assert {line["input"] for line in lines} == {f"photos/{name}" for name in NAMES}
    assert quadtok(*command).err.startswith("quadtok: done: 0 written, 3 skipped")
    table.write_bytes(table.read_bytes()[:-1])
    result = quadtok(*command)
    assert (result.code, "is no Parquet file, or is damaged or cut short" in result.err) == (2, True)


def test_parts_have_each_row_once(quadtok, table, tmp_path):
    written = []
    for number in (1, 2, 3):
        result = quadtok("tokenize", table, "-o", tmp_path / "out", "--scorer", "blur", "--part", f"{number}/3")
        assert result.code == 0
        written.append(result.err.partition(" written")[0].rpartition(" ")[2])
    assert sum(map(int, written)) == 3 == len(list((tmp_path / "out").rglob("*.pt")))


def test_a_row_that_is_no_image_is_named_and_costs_itself(quadtok, photos, tmp_path):
    rows = [*((photos / name).read_bytes() for name in NAMES), b"no image", None]
    pq.write_table(pa.table({"image": rows, "id": [*NAMES, "bad", "none"]}), tmp_path / "x.parquet")
    result = quadtok("tokenize", tmp_path / "x.parquet", "-o", tmp_path / "out", "--scorer", "blur")
    assert (result.code, "3 written, 0 skipped, 2 failed" in result.err) == (1, True)
    assert f"quadtok: error: {tmp_path}/x.parquet/bad: " in result.err
    assert f"quadtok: error: {tmp_path}/x.parquet/none: there is nothing in the column image" in result.err


def test_they_are_drawn_and_stored_in_shards(quadtok, table, tmp_path):
    assert quadtok("visualize", table, "-o", tmp_path / "drawn", "--scorer", "blur").code == 0
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 3
    shards = ("tokenize", table, "-o", tmp_path / "shards", "--format", "shards", "--scorer", "blur")
    assert quadtok(*shards).code == 0
    assert quadtok("info", "--check", tmp_path / "shards").out.splitlines()[-1] == "1 good, 0 bad"
