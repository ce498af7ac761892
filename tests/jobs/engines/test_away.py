"""Chunks in another process, without that process: what comes back, and who is blamed where somebody dies over one."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from quadtok import Spec
from quadtok.errors import DiskFull, InputError, NoOutput, ScorerError, UnexpectedError, Unwritable
from quadtok.files import remove_abandoned
from quadtok.jobs.engines.address import check_address, check_answers, why_not
from quadtok.jobs.engines.away import BYTES_KEPT, Chunk, Worker
from quadtok.jobs.engines.finish import LEAST_PATIENCE
from quadtok.jobs.engines.ledger import DEATHS_ALONE, Ledger
from quadtok.jobs.engines.pump import Pump
from quadtok.jobs.engines.threads import Threads
from quadtok.jobs.engines.witness import witness
from quadtok.jobs.sources import Source

SPEC = Spec(64, 64, 16, 32, 4)


@dataclass(frozen=True)
class Photo:
    name: str
    spec: Spec = SPEC
    notes: tuple = ()


class Job:
    """The name of an input says what happens to it."""

    in_parallel, tells, size = True, False, 1

    def load(self, source):
        return source.path.name.encode()

    def fingerprint(self, source, data):
        return data.decode()

    def read(self, source, data, fingerprint):
        if "unread" in fingerprint:
            raise InputError(f"{source.path}: cannot be read")
        return Photo(fingerprint)

    def run(self, photos):
        if any("deadly" in photo.name for photo in photos):
            raise KeyboardInterrupt  # nothing that an engine would catch
        if any("unscored" in photo.name for photo in photos):
            raise ScorerError("cannot be scored")
        return [photo.name for photo in photos]

    def encode(self, photo, result, wanted):
        return {suffix: result.encode() * self.size for suffix in wanted}

    def facts(self, photo, result):
        return {}


class Sink:
    shared = None

    def __init__(self):
        self.written = []

    def part(self, sources):
        return self

    def output(self, source):
        return f"{source.path.name}.x"

    def is_settled(self, source):
        return "settled" in source.path.name

    def outstanding(self, source, fingerprint):
        return frozenset([".x"])

    def write(self, source, files):
        for word, error in (("full", DiskFull), ("nowhere", NoOutput), ("unwritable", Unwritable)):
            if word in source.path.name:
                raise error("not written")
        self.written += files.values()
        return True


def chunk(*names, number=0, first=0, sink=None):
    return Chunk(number, first, [Source(Path(name), Path(name)) for name in names], sink or Sink())


def rows_of(given, ledger=None, job=None, writes=False):
    return list(Worker(job or Job(), Threads(0, batch_size=2), ledger or Ledger(), writes).rows(given))


def said(rows):
    return [(row.place, row.made.outcome.source.path.name, row.made.outcome.status) for row in rows]


def test_each_input_comes_back_in_order_with_its_files():
    rows = rows_of(chunk("a", "b unread", "c settled", "d", first=32))
    assert said(rows) == [
        (32, "a", "written"), (33, "b unread", "failed"), (34, "c settled", "skipped"), (35, "d", "written")
    ]  # fmt: skip
    assert [row.made.files for row in rows] == [{".x": b"a"}, None, None, {".x": b"d"}]
    assert [row.made.has_run for row in rows] == [True, False, False, True]


def test_where_the_part_is_written_to_nothing_comes_back_and_a_full_disk_ends_the_chunk():
    given = chunk("a", "b full", "c", "d", "e")
    rows = rows_of(given, writes=True)
    assert given.sink.written == [b"a"]
    assert said(rows) == [(0, "a", "written"), (1, "b full", "failed")]
    assert isinstance(rows[1].made.outcome.error, DiskFull) and all(row.made.files is None for row in rows)


def test_what_could_not_be_written_is_told_to_have_run_and_where_nothing_can_be_the_chunk_ends():
    rows = rows_of(chunk("a unwritable", "b unscored", "c nowhere", "d"), writes=True)
    assert [row.made.has_run for row in rows] == [True, False, True]


def test_a_scorer_that_fails_for_many_ends_no_chunk():
    names = [f"{number} unscored" for number in range(3 * LEAST_PATIENCE)]
    rows = rows_of(chunk(*names, "last"))
    assert [row.place for row in rows] == list(range(len(names) + 1)) and rows[-1].made.outcome.status == "written"


def test_what_is_kept_of_a_chunk_is_bounded():
    job = Job()
    job.size = BYTES_KEPT // 2
    rows = Worker(job, Threads(0, batch_size=2), Ledger(), writes=False).rows(chunk(*"abcdefghij"))
    assert next(rows).made.files == {".x": b"a" * job.size}
    job.size = 1  # what was made before the first came back is as large as it was then
    sizes = [len(row.made.files[".x"]) for row in rows]
    assert 1 <= sizes.count(BYTES_KEPT // 2) <= 3 and len(sizes) == 9


def test_whoever_dies_over_a_chunk_has_it_done_one_by_one_and_the_culprit_is_given_up():
    ledger, given = Ledger(), chunk("a", "b deadly", "c", number=7)
    for _ in range(1 + DEATHS_ALONE):
        with pytest.raises(KeyboardInterrupt):
            rows_of(given, ledger)
    rows = rows_of(given, ledger)
    assert said(rows) == [(0, "a", "written"), (1, "b deadly", "failed"), (2, "c", "written")]
    error = rows[1].made.outcome.error
    assert isinstance(error, UnexpectedError) and str(error).startswith("b deadly: 3 processes died over it")


def test_a_death_over_nothing_in_particular_blames_nobody():
    ledger = Ledger()
    for _ in range(5):
        attempt = ledger.begin(0)
        assert not attempt.given_up
    assert attempt.alone


def test_once_the_run_is_over_no_chunk_is_begun():
    ledger = Ledger()
    rows_of(chunk("a", number=3), ledger)
    ledger.begin(5)
    assert ledger.close() == 5
    (row,) = rows_of(chunk("b", number=6, first=96), ledger)
    assert (row.chunk, row.place, row.made) == (6, 96, None)


def test_a_witness_is_there_for_as_long_as_it_says_and_leaves_no_folder(tmp_path):
    with witness(None) as nothing:
        assert nothing is None
    with witness(tmp_path / "out") as path:
        assert path.exists() and path.parent == tmp_path / "out"
        remove_abandoned([path.parent])
        assert path.exists()
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file")
    with witness(tmp_path / "out") as path:
        assert path is None


def test_a_pump_gives_all_items_and_raises_what_was_raised():
    def three():
        yield from "abc"

    def broken():
        yield "a"
        raise ZeroDivisionError

    with Pump(three) as pump:
        assert [item for item in pump.items() if item is not None] == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError), Pump(broken) as pump:
        list(pump.items())


def test_a_pump_that_is_left_early_closes_what_it_iterates_over():
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with Pump(endless) as pump:
        next(pump.items())
    assert closed


@pytest.mark.parametrize("address", ["", "local", "head", "head:", "head:x", "head:70000", "ray://head:10001", ":/1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="is no address of a Ray"):
        check_address(address)


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check_address(address)
        with pytest.raises(InputError, match=f"no Ray answers at {address}"):
            check_answers(address)
        taken.listen()
        check_answers(address)
    check_answers("auto")


@pytest.mark.parametrize(
    ("address", "problem", "sentence"),
    [
        ("auto", ConnectionError("Could not find any running Ray instance"), "^no Ray runs on this machine: ray start"),
        ("auto", RuntimeError("a token"), r"^a Ray at auto cannot be joined \(its token, RAY_AUTH_MODE\?\): Runtime"),
        ("h:1", ConnectionError("gone"), "^a Ray at h:1 cannot be joined .*: ConnectionError: gone$"),
        (None, RuntimeError("no room"), "^a Ray cannot be started: RuntimeError: no room$"),
    ],
)
def test_a_ray_that_cannot_be_had_is_one_sentence(address, problem, sentence):
    assert re.search(sentence, why_not(address, problem))
