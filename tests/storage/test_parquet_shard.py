"""Samples in Parquet files: a row each, the same sample as in a tar; groups are bounded; damage is a sentence."""

import itertools
import json

import numpy as np
import pytest
import torch

from helpers import random_saliency
from quadtok import Spec, tokenize
from quadtok.errors import TokenFileError, about
from quadtok.storage import parquet_shard
from quadtok.storage.container import Held
from quadtok.storage.parquet_shard import GROUP_BYTES
from quadtok.storage.plan_format import Entry, Header
from quadtok.storage.plan_stream import plan_streams
from quadtok.storage.sample import key_of, metadata_of, plan_members, token_members
from quadtok.storage.shard_dataset import ShardDataset
from quadtok.storage.shards import places_in, read_sample, read_shard
from shard_kinds import KINDS

pa = pytest.importorskip("pyarrow", reason="writes and reads the files; the extra parquet has it")
pq = pytest.importorskip("pyarrow.parquet", reason="writes and reads the files; the extra parquet has it")

SPEC = Spec(32, 32, 8, 16, 10)
KIND = KINDS["parquet"]


def tokens_sample(number, spec=SPEC, dtype="uint8"):
    image = torch.arange(3 * spec.height * spec.width).reshape(1, 3, spec.height, spec.width) + number
    name, tokens = f"{number}.jpg", tokenize(image.to(torch.uint8), spec, "blur")
    return key_of(name), token_members(tokens, name, dtype, {})


def plans_sample(number, spec=SPEC, minima="float32"):
    stream = plan_streams(random_saliency(spec, 1), spec, minima)[0]
    header = Header(spec.min_patch, spec.max_patch, minima, {"scorer": {"name": "blur"}})
    return key_of(f"{number}.jpg"), plan_members(Entry(f"{number}.jpg", "ab" * 32, stream), header)


SAMPLES = {
    **{dtype: lambda number, dtype=dtype: tokens_sample(number, dtype=dtype) for dtype in ("uint8", "float16", "none")},
    "float32": lambda number: tokens_sample(number, Spec(16 + 16 * number, 16, 8, 16, 4 + 4 * number), "float32"),
    "plans of one byte and of two": lambda number: plans_sample(number, Spec(64 << number, 64, 2, 16, 256 << number)),
    "plans of one scale": lambda number: plans_sample(number, Spec(32, 32, 16, 16, 4)),
    **{
        f"plans, {name}": lambda number, name=name: plans_sample(number, minima=name)
        for name in ("none", "float16", "float32")
    },
}


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard-000000.parquet"
    KIND.write(path, map(tokens_sample, range(3)))
    return path


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_what_comes_out_went_in_to_the_byte(tmp_path, sample):
    samples = [sample(number) for number in range(3)]
    KIND.write(tmp_path / "x.parquet", samples)
    assert list(read_shard(tmp_path / "x.parquet")) == samples
    assert [place.endings for place in places_in(tmp_path / "x.parquet")] == [tuple(members) for _, members in samples]


def test_columns_are_understood_without_quadtok(shard):
    for row, number in zip(pq.read_table(shard).to_pylist(), range(3), strict=True):
        key, members = tokens_sample(number)
        assert (row["key"], row["name"], row["num_tokens"]) == (key, f"{number}.jpg", 10)
        assert row["facts"].encode() == members["json"]
        pixels = np.frombuffer(row["patches"], row["dtype"]).reshape(row["shape"])
        assert pixels.shape == (10, 3, 8, 8) and pixels.tobytes() == members["patches.npy"][128:]
        assert np.array(row["layout"], np.int32).tobytes() == members["layout.npy"][128:]


def test_the_same_samples_give_the_same_bytes(shard, tmp_path):
    KIND.write(tmp_path / "again", map(tokens_sample, range(3)))
    assert (tmp_path / "again").read_bytes() == shard.read_bytes()


LARGE, COUNT = Spec(512, 512, 16, 16, 1024), 8  # 3 MB a sample of float32


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("groups") / "shard-000000.parquet"
    KIND.write(path, (tokens_sample(number, LARGE, "float32") for number in range(COUNT)))
    return path


class TestGroups:
    @pytest.fixture
    def readings(self, monkeypatch):
        """The numbers of the groups that are read as a whole."""
        numbers = []

        def read(file, size, *, row_groups, columns, real=pq.ParquetFile.iter_batches, **more):
            numbers.extend(row_groups if "patches" in columns else [])
            return real(file, size, row_groups=row_groups, columns=columns, **more)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", read)
        return numbers

    def test_are_as_large_as_is_held_while_they_are_written(self, large):
        facts = pq.ParquetFile(large).metadata
        sizes = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
        assert sizes == [3, 3, 2] and (3 - 1) * 3 << 20 < GROUP_BYTES <= 3 * 3 << 20

    def test_each_is_read_once_where_samples_are_asked_for_in_their_order(self, large, readings):
        assert len(list(read_shard(large))) == COUNT
        assert readings == [0, 1, 2]

    def test_threads_that_ask_across_a_border_read_none_twice(self, large, readings):
        places, held = places_in(large), Held()
        for row in (0, 1, 3, 2, 4, 6, 5, 7):
            read_sample(places[row], held=held)
        assert readings == [0, 1, 2]

    def test_are_what_an_epoch_goes_by(self, large, readings):
        orders = set()
        for epoch in range(6):
            dataset = ShardDataset([large])
            dataset.set_epoch(epoch)
            order = [int(tokens.patches.flatten()[0]) for tokens in dataset]
            assert sorted(order) == list(range(COUNT))
            of_groups = [group for group, _ in itertools.groupby(number // 3 for number in order)]
            assert sorted(of_groups) == [0, 1, 2]
            orders.add((tuple(of_groups), tuple(order)))
        assert len({groups for groups, _ in orders}) > 1 and len({order for _, order in orders}) > 3
        assert len(readings) == 6 * 3


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "snappy"},
        {"row_group_size": 1, "use_dictionary": True},
        {"compression": "none", "data_page_version": "2.0"},
    ],
    ids=str,
)
def test_a_file_that_another_program_wrote_anew_is_the_same(shard, tmp_path, how):
    pq.write_table(pq.read_table(shard), tmp_path / "other.parquet", **how)
    assert list(read_shard(tmp_path / "other.parquet")) == list(read_shard(shard))


@pytest.mark.parametrize("kind", ["large", "chosen and turned"])
def test_columns_of_other_widths_or_places_are_the_same(shard, tmp_path, kind):
    table = pq.read_table(shard)

    if kind == "large":
        wide = {name: pa.large_string() for name in ("key", "name", "facts")} | {"patches": pa.large_binary()}
        wide |= {name: pa.large_list(pa.int32()) for name in ("layout", "shape")}
        table = table.cast(pa.schema([pa.field(one.name, wide.get(one.name, one.type)) for one in table.schema]))
    else:
        table = table.append_column("label", pa.array([1, 2, 3])).select(table.column_names[::-1] + ["label"])
    pq.write_table(table, tmp_path / "other.parquet")
    assert dict(read_shard(tmp_path / "other.parquet")) == dict(read_shard(shard))


def with_column(name, values):
    def change(table):
        return table.set_column(table.column_names.index(name), name, pa.array(values))

    return change


def facts_with(table, **changed):
    return [json.dumps(json.loads(text) | changed) for text in table["facts"].to_pylist()]


ODD = {
    "another name": (with_column("name", ["b.jpg"] * 3), "the columns of 0%2Ejpg say something else than its facts"),
    "another number": (with_column("num_tokens", [9] * 3), "say something else than its facts"),
    "another shape": (with_column("shape", [[10, 3, 4, 16]] * 3), "say something else than its facts"),
    "other pixels": (with_column("patches", [bytes(1920)] * 3), "checksum mismatch"),
    "fewer pixels": (with_column("patches", [bytes(3)] * 3), "the shape of its patches does not fit"),
    "pixels of two numbers each": (with_column("dtype", ["u1,u1"] * 3), "holds an array that cannot be read"),
    "pixels of objects": (with_column("dtype", ["O"] * 3), "damaged, or no sample of quadtok"),
    "pixels as a list": (with_column("patches", [[1, 2, 3]] * 3), "damaged, or no sample of quadtok"),
    "no dtype": (lambda table: table.drop_columns("dtype"), "damaged, or no sample of quadtok"),
    "a layout of longs": (with_column("layout", [[0] * 30] * 3), "its layout.npy holds torch.int64"),
    "a layout of nothing": (with_column("layout", pa.array([None] * 3, pa.list_(pa.int32()))), "not a sample of tok"),
    "a layout with a hole": (with_column("layout", [[None] * 30] * 3), "damaged, or no sample of quadtok"),
    "no facts in a row": (with_column("facts", pa.array([None] * 3, pa.string())), "not a sample of quadtok"),
    "facts of another": (lambda table: with_column("facts", facts_with(table, format="x"))(table), "not a sample of"),
    "facts of a later version": (lambda table: with_column("facts", facts_with(table, version=2))(table), "upgrade it"),
    "facts that are no text": (with_column("facts", [1, 2, 3]), "damaged, or no sample of quadtok"),
    "no column of facts": (lambda table: table.drop_columns("facts"), "is no shard: samples of quadtok have the"),
    "neither tokens nor plans": (lambda table: table.select(["key", "facts"]), "is no shard"),
    "two columns of facts": (lambda table: table.append_column("facts", table["facts"]), "is damaged, or cut short"),
    "two columns of keys": (lambda table: table.append_column("key", table["key"]), "is damaged, or cut short"),
    "images": (lambda _: pa.table({"image": [b"x"], "path": ["a.jpg"]}), "is no shard"),
}


def checked(shard):
    found = list(read_shard(shard))
    with about(shard):
        for _, members in found:
            metadata_of(members)
    return found


@pytest.mark.parametrize(("change", "said"), ODD.values(), ids=ODD)
def test_what_is_no_sample_of_ours_is_a_sentence(shard, change, said):
    pq.write_table(change(pq.read_table(shard)), shard)
    with pytest.raises(TokenFileError, match=said) as caught:
        checked(shard)
    assert str(caught.value).startswith(f"{shard}: ")
    assert "\n" not in str(caught.value)


def test_a_small_file_that_would_fill_the_memory_is_a_sentence(shard, monkeypatch):
    monkeypatch.setattr(parquet_shard, "MOST_BYTES", 5 << 20)
    table = pq.read_table(shard).slice(0, 1)
    table = table.set_column(table.column_names.index("patches"), "patches", pa.array([bytes(1 << 20)]))
    pq.write_table(pa.concat_tables([table] * 100), shard, use_dictionary=True, dictionary_pagesize_limit=1 << 24)
    assert shard.stat().st_size < 1 << 17
    with pytest.raises(TokenFileError, match=r"has more than 5 MiB, and would be in memory at once: write the file a"):
        checked(shard)


def test_a_file_without_rows_has_no_samples(tmp_path, shard):
    pq.write_table(pq.read_table(shard).slice(0, 0), shard)
    assert places_in(shard) == []


@pytest.mark.parametrize("cut", [0, 3, 4, 100, 2000, -1, -8, -200])
def test_a_file_that_is_cut_is_said_to_be(shard, cut):
    shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(TokenFileError, match="is no Parquet file, or is damaged or cut short") as caught:
        places_in(shard)
    assert str(caught.value).startswith(f"{shard}: ")


def test_every_flipped_bit_is_found_or_changes_nothing(shard):
    data, whole = shard.read_bytes(), list(read_shard(shard))
    for place in range(0, len(data), 13):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        shard.write_bytes(damaged)
        try:
            found = checked(shard)
        except TokenFileError as problem:
            assert str(problem).startswith(f"{shard}: ")
        else:
            assert [members for _, members in found] == [members for _, members in whole], place
