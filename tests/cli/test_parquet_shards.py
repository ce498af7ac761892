"""`quadtok tokenize --format parquet`, where it is other than tar shards: what reads it, and what takes it for images.

What holds for both is in test_shards.py.
"""

import json
import sys

import numpy as np
import pytest

from helpers import files_in
from quadtok.errors import InputError
from quadtok.jobs import tokenize_files
from quadtok.storage.sample import key_of
from quadtok.storage.shards import read_shard

pa = pytest.importorskip("pyarrow", reason="reads the files; the extra parquet has it")
pq = pytest.importorskip("pyarrow.parquet", reason="reads the files; the extra parquet has it")

BLUR = ("--scorer", "blur")
PLANS = ("--store", "plans")


@pytest.fixture
def made(quadtok, photos, tmp_path):
    """Tokens and plans of the photographs."""
    for name, flags in (("tokens", ("--shard-size", 2)), ("plans", PLANS)):
        result = quadtok("tokenize", photos, "-o", tmp_path / name, "--format", "parquet", *BLUR, *flags)
        assert (result.code, "3 written" in result.err) == (0, True), result.err
    return tmp_path


@pytest.mark.parametrize(
    "flags",
    [
        *((), ("--threshold", 0.75, "-n", "100%"), ("-s", "native", "--dtype", "float32"), ("--dtype", "none")),
        *(PLANS, (*PLANS, "--minima", "float32"), (*PLANS, "-s", "native", "--minima", "float16")),
    ],
    ids=str,
)
def test_samples_are_those_of_tars_to_the_byte(quadtok, photos, tmp_path, flags):
    samples = []
    for kind, suffix in (("shards", "tar"), ("parquet", "parquet")):
        assert quadtok("tokenize", photos, "-o", tmp_path / kind, "--format", kind, *BLUR, *flags).code == 0
        samples.append(list(read_shard(tmp_path / kind / f"shard-000000.{suffix}")))
    assert samples[0] == samples[1] and len(samples[0]) == 3


def test_from_python_they_are_those_of_the_command(photos, made):
    summary = tokenize_files(photos, made / "python", scorer="blur", format="parquet", shard_size=2)
    assert summary.written == 3
    assert files_in(made / "python") == files_in(made / "tokens")


def check_tokens(rows):
    assert {row["key"] for row in rows} == {key_of(row["name"]) for row in rows} and len(rows) == 3
    for row in rows:
        pixels = np.frombuffer(row["patches"], row["dtype"]).reshape(row["shape"])
        layout = np.asarray(row["layout"]).reshape(-1, 3)
        assert (pixels.shape, pixels.dtype, layout.shape) == ((100, 3, 16, 16), np.uint8, (100, 3))
        assert json.loads(row["facts"])["meta"]["num_tokens"] == row["num_tokens"] == 100


def check_plans(rows):
    assert {row["key"] for row in rows} == {key_of(row["name"]) for row in rows} and len(rows) == 3
    for row in rows:
        assert sorted(row["plan"]) == list(range(80))
        assert json.loads(row["facts"])["image_size"] == [256, 256]


class TestOtherReaders:
    def test_pyarrow(self, made):
        for name, check in (("tokens", check_tokens), ("plans", check_plans)):
            check(pq.read_table(sorted(map(str, (made / name).glob("*.parquet")))).to_pylist())

    def test_hugging_face_datasets(self, made):
        datasets = pytest.importorskip("datasets", reason="opens the files with it; the extra test-all has it")
        for name, check in (("tokens", check_tokens), ("plans", check_plans)):
            files = {"train": str(made / name / "*.parquet")}
            for streaming in (True, False):
                how = {"streaming": True} if streaming else {"cache_dir": str(made / "cache")}
                check(list(datasets.load_dataset("parquet", data_files=files, split="train", **how)))


@pytest.mark.parametrize("name", ["tokens", "plans"])
@pytest.mark.parametrize("command", [("tokenize", "-o", "out"), ("calibrate",)], ids=["tokenize", "calibrate"])
def test_where_images_are_wanted_they_are_refused(quadtok, made, monkeypatch, name, command):
    monkeypatch.chdir(made)
    result = quadtok(command[0], f"{name}/shard-000000.parquet", *command[1:], *BLUR)
    assert (result.code, len(result.lines)) == (2, 1)
    said = "holds tokens or plans that quadtok made, and no images: give the images themselves"
    assert result.lines[0] == f"quadtok: error: {name}/shard-000000.parquet: {said}"


def test_a_table_of_images_that_has_such_columns_too_is_one_of_images(quadtok, photos, tmp_path):
    rows = [(photos / name).read_bytes() for name in ("coffee.jpg", "rocket.png")]
    table = pa.table({"image": rows, "key": ["a", "b"], "facts": ["x", "y"], "label": [1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert "2 written" in quadtok("tokenize", tmp_path / "x.parquet", "-o", tmp_path / "out", *BLUR).err
    assert "2 written" in quadtok("visualize", tmp_path / "x.parquet", "-o", tmp_path / "drawn", *BLUR).err


def test_tables_of_images_and_of_tokens_are_drawn_together(quadtok, photos, made):
    pq.write_table(pa.table({"image": [(photos / "coffee.jpg").read_bytes()]}), made / "tokens" / "images.parquet")
    result = quadtok("visualize", made / "tokens" / "*.parquet", "-o", made / "drawn", *BLUR)
    assert (result.code, "4 written" in result.err) == (0, True), result.err


@pytest.mark.parametrize("command", [("info",), ("info", "--check"), ("reverse", "-o", "out")], ids=" ".join)
def test_another_table_is_no_shard(quadtok, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"image": [b"x"], "name": ["a.jpg"]}), "x.parquet")
    result = quadtok(*command, "x.parquet")
    assert result.code in (1, 2)
    assert "x.parquet: is no shard: samples of quadtok have the columns key and facts, and tokens or p" in result.err


@pytest.mark.parametrize("command", [("info", "--check"), ("reverse", "-o", "out"), ("tokenize", "-o", "out")])
def test_a_file_that_is_cut_is_said_to_be(quadtok, made, monkeypatch, command):
    monkeypatch.chdir(made)
    path = made / "tokens" / "shard-000000.parquet"
    path.write_bytes(path.read_bytes()[:-1000])
    result = quadtok(*command, "tokens/shard-000000.parquet")
    assert result.code in (1, 2)
    assert "tokens/shard-000000.parquet: is no Parquet file, or is damaged or cut short" in result.err


def test_a_damaged_group_costs_its_samples(quadtok, made):
    path = made / "tokens" / "shard-000000.parquet"
    place = pq.ParquetFile(path).metadata.row_group(0).column(3).data_page_offset
    data = bytearray(path.read_bytes())
    data[place + 1000] ^= 1
    path.write_bytes(data)
    result = quadtok("reverse", made / "tokens" / "*.parquet", "-o", made / "x")
    assert (result.code, "1 written, 0 skipped, 2 failed" in result.err) == (1, True), result.err
    assert result.err.count("is damaged, or cut short") == 2


def test_a_name_that_leads_out_is_refused(quadtok, made):
    path = made / "tokens" / "shard-000000.parquet"
    table = pq.read_table(path)
    facts = [json.dumps(json.loads(text) | {"name": "../x.jpg"}) for text in table["facts"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("facts"), "facts", pa.array(facts)), path)
    result = quadtok("reverse", path, "-o", made / "x" / "y")
    assert (result.code, "leads out of the folder" in result.err) == (2, True)
    assert not (made / "x").exists()


class TestWithoutTheExtra:
    SAID = "Parquet files are an extra: pip install 'quadtok[parquet]'"

    @pytest.fixture(autouse=True)
    def without(self, made, monkeypatch):
        for name in [*(name for name in sys.modules if name.startswith("pyarrow.")), "pyarrow"]:
            monkeypatch.setitem(sys.modules, name, None)

    def test_nothing_is_begun(self, quadtok, photos, tmp_path):
        for flags in ((), PLANS, ("--dry-run",)):
            result = quadtok("tokenize", photos, "-o", tmp_path / "new", "--format", "parquet", *flags)
            assert (result.code, result.lines) == (2, [f"quadtok: error: {self.SAID}"])
        with pytest.raises(InputError, match="Parquet files are an extra"):
            tokenize_files(photos, tmp_path / "new", format="parquet")
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("command", [("info", "--check"), ("reverse", "-o", "x"), ("tokenize", "-o", "x")])
    def test_what_there_is_cannot_be_read(self, quadtok, made, monkeypatch, command):
        monkeypatch.chdir(made)
        result = quadtok(*command, "tokens/shard-000000.parquet")
        assert result.code in (1, 2) and f"tokens/shard-000000.parquet: {self.SAID}" in result.err
