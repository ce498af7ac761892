"""Rows of Parquet files are inputs like others, and each group of rows is read once."""

import pickle
import random
import sys
import tracemalloc
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from quadtok.errors import ImageError, InputError, QuadtokError
from quadtok.jobs.parquet import MOST_HELD, PIECE, Pieces, rows_of
from quadtok.jobs.sources import find_sources
from quadtok.jobs.walk import Refusal
from quadtok.names import IMAGE_SUFFIXES

pa = pytest.importorskip("pyarrow", reason="writes the files; the extra parquet has it")
pq = pytest.importorskip("pyarrow.parquet", reason="writes the files; the extra parquet has it")

LAYOUT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path, columns, group=2, **settings):
    pq.write_table(pa.table(columns), path, row_group_size=group, **settings)
    return path


def hugging(*pairs):
    """Hugging Face's column of images, of pairs (bytes, path)."""
    return pa.array([{"bytes": data, "path": name} for data, name in pairs], LAYOUT)


def found(path):
    """The names and bytes of what can be read, and the sentences of what cannot."""
    items = list(rows_of(path, Pieces()))
    good = [(str(item[0]), item[1].read()) for item in items if not isinstance(item, Refusal)]
    return good, [str(item.problem) for item in items if isinstance(item, Refusal)]


ONE, TWO, THREE = b"first", b"second", b"third"
NAMED = [("a.jpg", ONE), ("deep/b.png", TWO), ("c.jpg", THREE)]
NUMBERED = [("000000", ONE), ("000001", TWO), ("000002", THREE)]
DATA, NAMES = [ONE, TWO, THREE], ["a.jpg", "deep/b.png", "c.jpg"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": [1, 2, 3], "image": hugging(*zip(DATA, NAMES, strict=True))}, NAMED),
        ({"photo": hugging(*zip(DATA, NAMES, strict=True))}, NAMED),
        ({"image": hugging(*zip(DATA, ["a.jpg", None, ""], strict=True))}, [NAMED[0], *NUMBERED[1:]]),
        ({"image": hugging(*zip(DATA, [None] * 3, strict=True)), "id": NAMES}, NAMED),
        ({"image": pa.array([{"bytes": data} for data in DATA]), "file_name": NAMES}, NAMED),
        ({"image": pa.array([{"bytes": data, "path": None} for data in DATA])}, NUMBERED),
        ({"image": DATA}, NUMBERED),
        ({"image": pa.array(DATA, pa.large_binary()), "path": pa.array(NAMES).dictionary_encode()}, NAMED),
        ({"bytes": DATA, "path": pa.array(NAMES, pa.large_string())}, NAMED),
        ({"jpg": DATA, "__key__": ["x", "y/1.5", "z"]}, [("x", ONE), ("y/1.5", TWO), ("z", THREE)]),
        ({"PNG": DATA, "id": [7, 8, None]}, [("7", ONE), ("8", TWO), NUMBERED[2]]),
        ({"id": [[1], [2], [3]], "img": DATA}, NUMBERED),
        ({"name": NAMES, "path": ["1", "2", "3"], "img": DATA}, [("1", ONE), ("2", TWO), ("3", THREE)]),
        ({"mask": hugging(*[(b"no", "no")] * 3), "image": DATA, "jpg": [b"no"] * 3}, NUMBERED),
        (
            {"image": hugging(*zip(DATA, ["a.jpg", "x.jpg", "./a.jpg"], strict=True))},
            [("000000/a.jpg", ONE), ("000001/x.jpg", TWO), ("000002/a.jpg", THREE)],
        ),
        ({"image": DATA[:2], "id": ["000001", None]}, [("000000/000001", ONE), ("000001/000001", TWO)]),
        ({"image": DATA, "name": ["é\n[/]", ".", "a b"]}, [("é\n[/]", ONE), NUMBERED[1], ("a b", THREE)]),
    ],
)  # fmt: skip
def test_rows_are_called_by_their_names_or_numbers(tmp_path, columns, expected):
    assert found(write(tmp_path / "x.parquet", columns)) == (expected, [])


def test_they_are_inputs_named_by_their_file(tmp_path):
    write(tmp_path / "x.parquet", {"image": hugging((ONE, "a.jpg"), (b"", "deep/b.jpg"))})
    write(tmp_path / "y.PARQUET", {"jpg": [TWO]})
    (tmp_path / "z.jpg").write_bytes(b"image")
    pattern = find_sources([str(tmp_path / "*")], IMAGE_SUFFIXES)
    names = ["x/a.jpg", "x/deep/b.jpg", "y/000000", "z.jpg"]
    assert [source.relative.as_posix() for source in pattern.sources] == names
    assert pattern.sources[0].path == tmp_path / "x.parquet" / "a.jpg"
    assert (pattern.sources[2].read(), pattern.sources[0].read()) == (TWO, ONE)
    with pytest.raises(ImageError, match=r"x.parquet/deep/b.jpg: empty file"):
        pattern.sources[1].read()
    listed = find_sources(["-"], IMAGE_SUFFIXES, [str(tmp_path / "x.parquet"), str(tmp_path / "z.jpg")])
    assert [source.relative.as_posix() for source in listed.sources] == ["x/a.jpg", "x/deep/b.jpg", "z.jpg"]


def test_in_folders_and_where_they_themselves_are_looked_for_they_are_files_like_others(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": DATA})
    (tmp_path / "y.jpg").write_bytes(b"image")
    assert [source.path.name for source in find_sources([str(tmp_path)], IMAGE_SUFFIXES).sources] == ["y.jpg"]
    assert [source.path for source in find_sources([str(path)], frozenset([".pt", ".parquet"])).sources] == [path]
    with pytest.raises(InputError, match="is no shard"):
        find_sources([str(path)], frozenset([".pt"]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../b.jpg", "../b.jpg leads out of the folder that it is in"),
        ("/b.jpg", "/b.jpg leads out of the folder that it is in"),
        ("x/../../b.jpg", "x/../../b.jpg leads out of the folder that it is in"),
        ("b\0.jpg", "its name has a NUL in it"),
    ],
)
@pytest.mark.parametrize("last", ["c.jpg", "a.jpg"], ids=["distinct", "not distinct"])
def test_a_name_that_can_be_no_files_is_refused_alone(tmp_path, name, said, last):
    path = write(tmp_path / "x.parquet", {"image": DATA, "path": ["a.jpg", name, last]})
    good, refused = found(path)
    assert ([data for _, data in good], len(refused)) == ([ONE, THREE], 1)
    assert refused[0].startswith(f"{path}: row 1: ") and (said in refused[0] or last == "a.jpg")


def test_a_row_without_an_image_costs_itself_alone(tmp_path):
    rows = hugging((ONE, "a.jpg"), (None, "b.jpg"), (THREE, "c.jpg")).to_pylist()
    path = write(tmp_path / "x.parquet", {"image": pa.array([*rows, None], LAYOUT)})
    first, second, third, fourth = find_sources([str(path)], IMAGE_SUFFIXES).sources
    assert (first.read(), third.read()) == (ONE, THREE)
    for source, name in ((second, "b.jpg"), (fourth, "000003")):
        with pytest.raises(ImageError, match=rf"x.parquet/{name}: there is nothing in the column image.bytes"):
            source.read()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [1], "picture": [b"x"]}, "has no column of images: .*; it has label, picture"),
        ({"image": ["https://x.org/a.jpg"]}, "has no column of images: .*; it has image"),
        ({"image": pa.array([[b"x"]])}, "has no column of images"),
        ({"a": hugging((ONE, "a")), "b": hugging((ONE, "a"))}, "has no column of images"),
        ({}, "it has no columns"),
        ({"image": pa.array([], pa.binary())}, "no images found in"),
    ],
)
def test_a_file_without_images_is_said(tmp_path, columns, said):
    path = write(tmp_path / "x.parquet", columns)
    with pytest.raises(InputError, match=rf"^(?=.*x\.parquet).*{said}"):
        find_sources([str(path)], IMAGE_SUFFIXES)


@pytest.mark.parametrize("data", [b"", b"no table" * 99, b"PAR1", b"PAR1" + b"\0" * 99 + b"PAR1"])
def test_what_is_no_parquet_file_is_refused_beside_others(tmp_path, data):
    (tmp_path / "x.parquet").write_bytes(data)
    write(tmp_path / "y.parquet", {"image": DATA})
    both = find_sources([str(tmp_path / "*.parquet")], IMAGE_SUFFIXES)
    assert [source.read() for source in both.sources] == DATA
    (refusal,) = both.refused
    assert str(refusal.problem) == f"{tmp_path / 'x.parquet'}: is no Parquet file, or is damaged or cut short"


def test_a_file_that_is_cut_is_said(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": DATA})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"x\.parquet: is no Parquet file, or is damaged or cut short"):
        find_sources([str(path)], IMAGE_SUFFIXES)


def test_one_that_is_not_there_or_no_longer_is_an_input_that_fails_by_itself(tmp_path):
    (source,) = find_sources([str(tmp_path / "x.parquet")], IMAGE_SUFFIXES).sources
    with pytest.raises(ImageError, match="no such file"):
        source.read()
    path = write(tmp_path / "x.parquet", {"image": DATA})
    first, *_ = find_sources([str(path)], IMAGE_SUFFIXES).sources
    path.unlink()
    with pytest.raises(ImageError, match=r"x.parquet/000000: no such file"):
        first.read()


def test_rows_that_are_gone_meanwhile_are_said(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": DATA * 20}, group=60)
    sources = find_sources([str(path)], IMAGE_SUFFIXES).sources
    write(path, {"image": DATA}, group=60)
    assert sources[0].read() == ONE
    for source in sources[PIECE : PIECE + 2]:
        with pytest.raises(ImageError, match="fewer rows than before"):
            source.read()


def test_without_the_extra_it_is_said_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet", {"image": DATA})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"x\.parquet: Parquet files are an extra: pip install 'quadtok\[parquet\]'"):
        find_sources([str(path)], IMAGE_SUFFIXES)


def test_damage_costs_the_rows_of_its_group_at_most(tmp_path):
    data = [random.Random(row).randbytes(3000) for row in range(60)]
    path = write(tmp_path / "x.parquet", {"image": data}, group=20, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.index(data[25]) + 7] ^= 1
    path.write_bytes(content)
    sources, bad = find_sources([str(path)], IMAGE_SUFFIXES).sources, []
    for row, source in enumerate(sources):
        try:
            assert source.read() == data[row]
        except ImageError as problem:
            assert str(problem) == f"{source.path}: the file is damaged, or cut short"
            bad.append(row)
    assert 25 in bad and set(bad) <= set(range(20, 40))


class Counted:
    """How often groups are begun to be read."""

    def __init__(self, monkeypatch):
        self.begun = []
        real = pq.ParquetFile.iter_batches

        def iter_batches(file, *arguments, row_groups, **others):
            self.begun += row_groups
            return real(file, *arguments, row_groups=row_groups, **others)

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)


AHEAD = 100  # an engine waits for the first of those that it has begun to read


@pytest.mark.parametrize("layout", ["plain", "struct"])
@pytest.mark.parametrize("group", [7, 2 * MOST_HELD + 5])
def test_each_group_is_read_once_by_however_many_threads(tmp_path, monkeypatch, group, layout):
    data = [str(row).encode() * 50 for row in range(600)]
    columns = {"image": data if layout == "plain" else hugging(*((one, None) for one in data))}
    path = write(tmp_path / "x.parquet", columns, group)
    sources, counted = find_sources([str(path)], IMAGE_SUFFIXES).sources, Counted(monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        begun = deque[Future[bytes]]()
        for source, expected in zip([*sources, *[None] * AHEAD], [*[None] * AHEAD, *data], strict=True):
            begun.append(pool.submit(source.read if source else bytes))
            if expected is not None:
                assert begun.popleft().result() == expected
    assert sorted(counted.begun) == list(range(-(-600 // group)))  # which of two threads is first is nobody's to say


def test_a_row_of_the_next_group_before_the_last_of_this_one_reads_neither_again(tmp_path, monkeypatch):
    data = [str(row).encode() * 50 for row in range(200)]
    path = write(tmp_path / "x.parquet", {"image": data}, 100)
    sources, counted = find_sources([str(path)], IMAGE_SUFFIXES).sources, Counted(monkeypatch)
    order = [*range(90), 100, *range(90, 100), *range(101, 200)]
    assert [sources[row].read() for row in order] == [data[row] for row in order]
    assert counted.begun == [0, 1]


def test_rows_are_the_right_ones_in_whatever_order(tmp_path):
    data = [str(row).encode() for row in range(500)]
    path = write(tmp_path / "x.parquet", {"image": data}, group=230)
    sources = list(enumerate(find_sources([str(path)], IMAGE_SUFFIXES).sources))
    random.Random(0).shuffle(sources)
    assert all(source.read() == data[row] for row, source in sources)


def test_no_more_than_some_rows_are_held_of_however_many_files(tmp_path):
    size, rows = 20_000, 40
    for number in range(20):
        data = [random.Random(row).randbytes(size) for row in range(rows)]
        write(tmp_path / f"{number:02}.parquet", {"image": data}, group=rows)
    sources = find_sources([str(tmp_path / "*.parquet")], IMAGE_SUFFIXES).sources
    tracemalloc.start()
    try:
        for source in sources:
            source.read()
        assert tracemalloc.get_traced_memory()[1] < (MOST_HELD + 3 * PIECE) * size
    finally:
        tracemalloc.stop()
    assert len(sources) == 20 * rows


def test_they_can_be_pickled_without_what_is_held(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": [b"x" * 100_000] * 20}, group=20)
    sources = find_sources([str(path)], IMAGE_SUFFIXES).sources
    sources[0].read()
    data = pickle.dumps(sources)
    assert len(data) < 20_000
    copies = pickle.loads(data)
    assert copies == sources and hash(copies[3]) == hash(sources[3])
    assert copies[19].read() == b"x" * 100_000
    assert len({id(copy.inside.pieces) for copy in copies}) == 1


def test_bytes_that_are_flipped_end_in_a_sentence(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": hugging(*((bytes([row]) * 200, f"{row}.jpg") for row in range(30)))})
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            for source in find_sources([str(path)], IMAGE_SUFFIXES).sources:
                source.read()
        except QuadtokError as problem:
            assert str(path) in str(problem)
