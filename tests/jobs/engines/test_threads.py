"""The engine alone, with a job and a sink of a few lines each: what is heard, in which order, and who does what."""

import gc
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from quadtok import Spec
from quadtok.errors import DiskFull, InputError, NoOutput, OutputError, ScorerError, Unwritable
from quadtok.jobs.base import StopRequest
from quadtok.jobs.engines.finish import LEAST_PATIENCE
from quadtok.jobs.engines.threads import PIXELS_IN_FLIGHT, Threads
from quadtok.jobs.sources import Source

WORKERS = [0, 1, 4]
SMALL, LARGE = Spec(64, 64, 16, 32, 4), Spec(64, 96, 16, 32, 6)


@dataclass(frozen=True)
class Photo:
    source: Source
    spec: Spec
    notes: tuple = ("a note",)


@dataclass(frozen=True)
class Job:
    """The name of an input says what happens to it: `…unread`, `…unscored`, `…large`, and so on."""

    in_parallel: bool = True
    tells: bool = False
    log: list = field(default_factory=list, compare=False)
    spec: Spec = SMALL

    @property
    def makes(self):
        return {".x": "tensor"}

    def load(self, source):
        return source.path.name.encode()

    def fingerprint(self, source, data):
        return data.decode()

    def read(self, source, data, fingerprint):
        self.log.append(("read", source.path.name, threading.current_thread()))
        if "unread" in source.path.name:
            raise InputError(f"{source.path}: cannot be read")
        if "foreign" in source.path.name:
            raise ZeroDivisionError("deep inside")
        return Photo(source, LARGE if "large" in source.path.name else self.spec)

    def run(self, photos):
        self.log.append(("run", tuple(photo.source.path.name for photo in photos), threading.current_thread()))
        if any("unscored" in photo.source.path.name for photo in photos):
            raise ScorerError("cannot be scored")
        return [photo.source.path.name for photo in photos]

    def encode(self, photo, result, wanted):
        if "unencoded" in result:
            raise ValueError("no bytes")
        return {suffix: result.encode() for suffix in wanted}

    def facts(self, photo, result):
        return {"name": result}

    def batches(self):
        return [names for what, names, _ in self.log if what == "run"]


class Sink:
    def __init__(self, there=()):
        self.written, self.there = [], there

    def output(self, source):
        return f"{source.path}.x"

    def is_settled(self, source):
        return "settled" in source.path.name

    def outstanding(self, source, fingerprint):
        return frozenset() if fingerprint in self.there else frozenset([".x"])

    def write(self, source, files):
        for error in (DiskFull, NoOutput, Unwritable, OutputError, MemoryError):
            if error.__name__ in source.path.name:
                raise error(f"{source.path}: not written")
        self.written += files.values()
        return bool(files)


def sources(*names):
    return [Source(Path(name), Path(name)) for name in names]


def run(names, job=None, sink=None, stop=None, **engine):
    job, sink, heard = job or Job(), sink or Sink(), []
    ending = Threads(**{"workers": 2, "batch_size": 4, **engine}).run(job, sources(*names), sink, heard.append, stop)
    return ending, [(outcome.source.path.name, outcome.status) for outcome in heard], job, sink, heard


@pytest.mark.parametrize("in_parallel", [True, False])
@pytest.mark.parametrize("workers", WORKERS)
def test_outcomes_come_in_the_order_of_the_inputs_whatever_they_are(workers, in_parallel):
    names = [
        "a",
        "b settled",
        "c unread",
        "d",
        "e unencoded",
        "f OutputError",
        "g unscored",
        "h foreign",
        "i large",
        "j",
        "k MemoryError",
    ]
    ending, said, _, sink, heard = run(names, Job(in_parallel), workers=workers)
    failed = ("unread", "unencoded", "OutputError", "unscored", "foreign", "MemoryError")
    assert said == [
        (name, "skipped" if "settled" in name else "failed" if any(word in name for word in failed) else "written")
        for name in names
    ]
    assert ending == "done"
    assert sink.written == [b"a", b"d", b"i large", b"j"]
    errors = {outcome.source.path.name: str(outcome.error) for outcome in heard if outcome.error}
    assert errors == {
        "c unread": "c unread: cannot be read",
        "e unencoded": "e unencoded: ValueError: no bytes",
        "f OutputError": "f OutputError: not written",
        "g unscored": "g unscored: cannot be scored",
        "h foreign": "h foreign: ZeroDivisionError: deep inside",
        "k MemoryError": "k MemoryError: MemoryError: k MemoryError: not written",
    }
    assert [dict(outcome.facts).get("name") for outcome in heard if outcome.status == "written"] == [
        "a",
        "d",
        "i large",
        "j",
    ]
    assert {outcome.notes for outcome in heard if outcome.status == "written"} == {("a note",)}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_batch_is_neighbours_of_one_spec(workers):
    names = ["0", "1 settled", "2", "3 large", "4 large", *"56789", "10"]
    job = run(names, workers=workers)[2]
    expected = [("0", "2"), ("3 large", "4 large"), ("5", "6", "7", "8"), ("9", "10")]
    assert sorted(job.batches()) == sorted(expected)
    assert workers > 1 or job.batches() == expected


def test_a_batch_that_fails_is_run_one_by_one():
    job = run(["a", "b unscored", "c"], workers=0)[2]
    assert job.batches() == [("a", "b unscored", "c"), ("a",), ("b unscored",), ("c",)]
    assert run(["unscored"])[2].batches() == [("unscored",)]


@pytest.mark.parametrize("workers", WORKERS)
def test_fail_fast_does_all_before_the_failure_and_nothing_after(workers):
    for name in ("d unread", "d unscored", "d unencoded", "d OutputError"):
        ending, said, _, sink, _ = run(["a", "b", "c", name, "e", "f"], workers=workers, fail_fast=True)
        assert (ending, said[-1], len(said)) == ("failed fast", (name, "failed"), 4)
        assert sink.written == [b"a", b"b", b"c"]


def test_nothing_is_begun_once_the_run_has_ended():
    for name in ("b unread", "b DiskFull"):
        job = run(["a", name, "c", "d"], workers=0, batch_size=2, fail_fast=True)[2]
        assert [name for what, name, _ in job.log if what == "read"] == ["a", name]
    names = ["a unscored", "b", "c"]
    assert run(names, workers=0, fail_fast=True)[2].batches() == [tuple(names), ("a unscored",)]


def test_a_run_that_ends_while_a_large_batch_waits_for_room_is_over():
    side = 1 << 13
    job = Job(spec=Spec.full(side, side, 16, 32))
    names = ["a large unencoded", "b large", "c large", "d"]  # "large" is small beside the others here
    ending, said, *_ = run(names, job, workers=4, batch_size=1, fail_fast=True)
    assert (ending, said) == ("failed fast", [(names[0], "failed")])
    assert ("d",) not in job.batches()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_full_disk_ends_the_run(workers):
    ending, said, _, sink, _ = run(["a", "b", "c DiskFull", "d", "e"], workers=workers)
    assert (ending, said[-1], sink.written) == ("disk full", ("c DiskFull", "failed"), [b"a", b"b"])


@pytest.mark.parametrize("workers", WORKERS)
def test_a_scorer_that_works_for_no_image_ends_the_run(workers):
    names = [f"{number} unscored" for number in range(40)]
    ending, said, *_ = run(names, workers=workers)
    assert (ending, len(said)) == ("scorer fails", LEAST_PATIENCE)
    assert len(run(names, workers=workers, batch_size=12)[1]) == 24
    names[10] = "10 unencoded"  # the scorer did its part
    assert run(names, workers=workers)[0] == "done"
    names[10] = "10 unread"
    assert run(names, workers=workers)[0] == "scorer fails"


@pytest.mark.parametrize("workers", WORKERS)
def test_where_nothing_can_be_written_the_run_ends(workers):
    ending, said, *_ = run(["a", "b", "c NoOutput", "d"], workers=workers)
    assert (ending, said[-1]) == ("output fails", ("c NoOutput", "failed"))
    names = [f"{number} Unwritable" for number in range(40)]
    ending, said, *_ = run(names, workers=workers)
    assert (ending, len(said)) == ("output fails", LEAST_PATIENCE)
    assert len(run(names, workers=workers, batch_size=12)[1]) == 24
    assert run(["a", *names], workers=workers)[0] == "done"
    assert run([f"{number} OutputError" for number in range(40)], workers=workers)[0] == "done"  # they are kept
    assert run([*names, "odd/a"], workers=workers)[0] == "done", "one folder that is odd, and another one works"
    ending, said, *_ = run([*names, "other/Unwritable", "other/a"], workers=workers)
    assert (ending, len(said)) == ("output fails", 41)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_stop_finishes_what_is_in_flight_and_leaves_the_rest(workers):
    stop, names = StopRequest(), [str(number) for number in range(100)]
    heard = []

    def hear(outcome):
        heard.append(outcome.source.path.name)
        stop.asked = True

    sink = Sink()
    ending = Threads(workers, batch_size=4).run(Job(), sources(*names), sink, hear, stop)
    assert ending == "stopped"
    assert heard == names[: len(heard)] and len(heard) % 4 == 0 and 4 <= len(heard) <= 4 * (workers + 2)
    assert len(sink.written) == len(heard)


def test_what_is_read_ahead_is_bounded():
    job, most = Job(), []

    def hear(outcome):
        read = sum(what == "read" for what, *_ in job.log)
        most.append(read - len(most))

    Threads(2, batch_size=4, ahead=8).run(job, sources(*map(str, range(200))), Sink(), hear)
    # Ahead: two a worker and `ahead`; then the batch that is collected, and those in flight.
    assert len(most) == 200 and max(most) <= 2 * 2 + 8 + 4 * (2 + 2) + 1


@pytest.mark.parametrize("first", [[], ["small"] * 3])
def test_of_large_photos_hardly_more_are_read_ahead_than_there_are_workers(first):
    """Also before one is known to be large, and behind small ones."""
    huge = Spec(4096, 8192, 16, 64, 8192 * 4096 // 64**2)
    assert huge.height * huge.width * 2 == PIXELS_IN_FLIGHT

    class Hoards(Job):
        held, most = 0, 0

        def read(self, source, data, fingerprint):
            photo = super().read(source, data, fingerprint)
            if "small" in source.path.name:
                return photo
            with lock:
                Hoards.held += 1
                Hoards.most = max(Hoards.most, Hoards.held)
            return replace(photo, spec=huge)

        def run(self, photos):
            time.sleep(0.02)
            with lock:
                Hoards.held -= sum(photo.spec == huge for photo in photos)
            return super().run(photos)

    lock, names = threading.Lock(), [*first, *(f"{number:02}" for number in range(60))]
    ending, said, *_ = run(names, Hoards(), workers=4, batch_size=32, ahead=32)
    assert (ending, said) == ("done", [(name, "written") for name in names])
    assert Hoards.most <= 4 + 6, "a photo a worker, what is waited for, and what is run"


def test_without_workers_one_input_is_read_at_a_time():
    job = Job()
    run(["a", "b", "c"], job, workers=0, batch_size=1)
    assert [(what, name) for what, name, _ in job.log] == [
        (what, (name,) if what == "run" else name) for name in "abc" for what in ("read", "run")
    ]
    assert {thread for *_, thread in job.log} == {threading.main_thread()}


@dataclass(frozen=True)
class Slow(Job):
    """A job whose batches take a while; `running` holds how many are at it, and `most` how many ever were."""

    running: list = field(default_factory=list)
    most: list = field(default_factory=lambda: [0])

    def run(self, photos):
        self.running.append(1)
        self.most[0] = max(self.most[0], len(self.running))
        time.sleep(0.02)
        self.running.pop()
        return super().run(photos)


@dataclass(frozen=True)
class Meets(Job):
    """A job of which three batches go on only together."""

    place: threading.Barrier = field(default_factory=lambda: threading.Barrier(3, timeout=60))

    def run(self, photos):
        self.place.wait()
        return super().run(photos)


def test_batches_are_run_side_by_side_by_workers():
    job = Meets()
    said = run([str(number) for number in range(24)], job, workers=3)[1]
    assert [status for _, status in said] == ["written"] * 24
    assert threading.main_thread() not in {thread for *_, thread in job.log}


def test_a_job_that_must_be_run_by_one_thread_is_run_by_the_calling_one():
    job = Slow(in_parallel=False)
    run([str(number) for number in range(24)], job, workers=3)
    assert job.most == [1]
    assert {thread for what, _, thread in job.log if what == "run"} == {threading.main_thread()}
    assert threading.main_thread() not in {thread for what, _, thread in job.log if what == "read"}


def test_large_batches_are_made_one_at_a_time():
    side = 1 << 13
    spec = Spec.full(side, side, 16, 32)
    assert side * side <= PIXELS_IN_FLIGHT < 2 * side * side
    job = Slow(spec=spec)
    run([str(number) for number in range(6)], job, workers=3, batch_size=1)
    assert job.most == [1]


def test_a_batch_of_large_photos_has_fewer_of_them():
    for side, expected in ((1 << 13, [1] * 6), (1 << 12, [4, 2])):
        assert side * side * expected[0] == PIXELS_IN_FLIGHT
        job = run(map(str, range(6)), Job(spec=Spec.full(side, side, 16, 32)), workers=0, batch_size=32)[2]
        assert [len(batch) for batch in job.batches()] == expected


@pytest.mark.parametrize("workers", WORKERS)
def test_inputs_with_nothing_to_do_are_said_at_once(workers):
    job, first = Job(), []

    def hear(outcome):
        if not first:
            first.append(sum(what == "read" for what, *_ in job.log))

    names = [f"{number} settled" for number in range(50)] + ["last"]
    Threads(workers, batch_size=32).run(job, sources(*names), Sink(), hear)
    assert first == [0]


def test_what_is_there_is_skipped_but_where_the_job_has_something_to_tell():
    there = Sink(there=["a", "b"])
    assert run(["a", "b", "c"], sink=there)[1] == [("a", "skipped"), ("b", "skipped"), ("c", "written")]
    _, said, _, sink, heard = run(["a", "b"], Job(tells=True), Sink(there=["a"]))
    assert said == [("a", "skipped"), ("b", "written")]
    assert [outcome.facts["name"] for outcome in heard] == ["a", "b"]
    assert sink.written == [b"b"]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt])
def test_whoever_listens_may_end_the_run_at_once(workers, error):
    before = (threading.active_count(), torch.get_num_threads())

    def hear(outcome):
        raise error

    with pytest.raises(error):
        Threads(workers, batch_size=2).run(Job(), sources(*map(str, range(50))), Sink(), hear)
    for _ in range(100):
        if threading.active_count() == before[0]:
            break
        time.sleep(0.05)
    assert (threading.active_count(), torch.get_num_threads()) == before


@pytest.mark.parametrize("in_parallel", [True, False])
def test_nothing_of_a_run_is_left(in_parallel):
    before = (threading.active_count(), torch.get_num_threads())
    run(["a", "b"], Job(in_parallel), workers=4)
    assert (threading.active_count(), torch.get_num_threads()) == before


def test_a_batch_is_run_with_one_of_torchs_threads():
    seen = []

    class Counts(Job):
        def run(self, photos):
            seen.append(torch.get_num_threads())
            return super().run(photos)

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        run(["a", "b"], Counts(), workers=2)
        run(["a", "b"], Counts(), workers=0)
        run(["a", "b"], Counts(in_parallel=False), workers=2)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("what", ["read", "run", "encode"])
def test_an_outcome_that_is_kept_keeps_no_image(what, workers):
    class Image:
        pass

    kept = []

    class Fails(Job):
        def fail(self, what_fails, result):
            if what_fails != what:
                return result
            image = Image()
            kept.append(weakref.ref(image))
            try:
                raise ZeroDivisionError("about an image")
            except ZeroDivisionError as problem:
                raise InputError("cannot be done") from problem

        def read(self, *arguments):
            return self.fail("read", super().read(*arguments))

        def run(self, photos):
            return self.fail("run", super().run(photos))

        def encode(self, *arguments):
            return self.fail("encode", super().encode(*arguments))

    heard = run(["a", "b"], Fails(), workers=workers, batch_size=1)[4]
    gc.collect()
    assert [str(outcome.error) for outcome in heard] == ["cannot be done"] * 2
    assert heard[0].error.__traceback__ is not None  # where it happened may still be asked
    assert [reference() for reference in kept] == [None, None]


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"workers": 1.5}, {"workers": 1, "batch_size": 0}])
def test_an_engine_of_no_threads_or_no_photos_is_refused(wrong):
    with pytest.raises(InputError, match="must be an integer of at least"):
        Threads(**wrong)


def test_a_failed_outcome_says_where_the_result_would_be():
    (outcome,) = run(["a unread"])[4]
    assert (outcome.output, outcome.error.__class__) == ("a unread.x", InputError)
    assert replace(outcome, error=None).facts == {}


@dataclass(frozen=True)
class HungryJob(Job):
    """Has memory for so many at once."""

    most: int = 3
    kind: type = torch.OutOfMemoryError

    def run(self, photos):
        names = super().run(photos)
        if len(photos) > self.most:
            try:
                raise self.kind("no memory")
            except self.kind as problem:
                raise ScorerError("no memory") from problem
        return names


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.parametrize("workers", WORKERS)
def test_where_memory_runs_out_a_batch_is_halved(workers, kind):
    names = [str(number) for number in range(8)]
    _, said, job, _, _ = run(names, HungryJob(kind=kind), workers=workers, batch_size=8)
    assert said == [(name, "written") for name in names]
    assert [len(batch) for batch in job.batches()] == [8, 4, 2, 2, 4, 2, 2]


def test_an_image_that_does_not_fit_alone_fails_alone():
    _, said, _, _, heard = run(["0", "1"], HungryJob(most=0), batch_size=2)
    assert said == [("0", "failed"), ("1", "failed")]
    assert [str(outcome.error) for outcome in heard] == ["0: no memory", "1: no memory"]
