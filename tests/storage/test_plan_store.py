"""A file of plan streams gives back what was put in, or a sentence; and a process that dies loses nothing."""

import errno
import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from helpers import random_saliency
from quadtok import Spec
from quadtok.errors import DiskFull, InputError, OutputError, QuadtokError, TokenFileError
from quadtok.storage import plan_format
from quadtok.storage.plan_format import Entry, Header, encode_block
from quadtok.storage.plan_store import PlanStore
from quadtok.storage.plan_stream import plan_streams
from quadtok.storage.plan_writer import PlanWriter, merge_plans

SPECS = [Spec(64, 64, 16, 64, 4), Spec(128, 192, 16, 64, 9), Spec(256, 256, 16, 64, 100)]  # native sizes
HEADER = Header(16, 64, "float32", {"scorer": {"name": "blur"}, "quadtok": "1"})


def entry(name, number=0, spec=None):
    spec = spec or SPECS[number % len(SPECS)]
    stream = plan_streams(random_saliency(spec, batch=1, seed=number), spec, "float32")[0]
    return Entry(name, hashlib.sha256(f"{name!a} {number}".encode()).hexdigest(), stream)


def entries(count, first=0):
    return [entry(f"class {number % 3}/{number}.jpg", number) for number in range(first, first + count)]


def written(path, images, header=HEADER):
    with PlanWriter(path, header) as writer:
        for image in images:
            writer.add(image)
    return path


def same(ours, theirs):
    return [one.told() for one in ours] == [one.told() for one in theirs]


def test_what_was_put_in_comes_back_by_name(tmp_path):
    images = entries(20)
    store = PlanStore(written(tmp_path / "plans.qts", images))
    assert len(store) == 20
    assert list(store) == [image.name for image in images]
    assert store.header.made["scorer"] == {"name": "blur"}
    for image in reversed(images):
        assert image.name in store
        assert store.entry(image.name).told() == image.told()
        for num_tokens in range(image.stream.spec.num_roots, image.stream.spec.num_cells + 1, 9):
            assert store[image.name].plan(num_tokens) == image.stream.plan(num_tokens)
        assert store[image.name].plan(threshold=0.4) == image.stream.plan(threshold=0.4)


def test_a_name_that_is_not_there_is_a_key_error(tmp_path):
    store = PlanStore(written(tmp_path / "plans.qts", entries(3)))
    assert "class 0/99.jpg" not in store
    assert 7 not in store
    with pytest.raises(KeyError, match="99"):
        store["class 0/99.jpg"]


@pytest.mark.parametrize("name", ["ä/ü — 猫.jpg", "a\nb.jpg", "x" * 300, "[/] \x1b[31m.png", "\udcff\udcfe.jpg", " "])
def test_a_name_may_be_anything_that_a_file_may_be_called(name, tmp_path):
    store = PlanStore(written(tmp_path / "plans.qts", [entry("before"), entry(name, 1), entry("behind")]))
    assert store.entry(name).told() == entry(name, 1).told()


def test_what_is_appended_stands_behind_what_was_there_and_the_later_of_two_counts(tmp_path):
    path = written(tmp_path / "plans.qts", entries(10))
    written(path, [entry("class 0/3.jpg", 77), *entries(5, first=10)])
    store = PlanStore(path)
    assert len(store) == 15
    assert store.entry("class 0/3.jpg").told() == entry("class 0/3.jpg", 77).told()
    assert list(store)[-1] == "class 2/14.jpg"


def test_twice_in_one_sitting_the_later_counts(tmp_path):
    store = PlanStore(written(tmp_path / "plans.qts", [entry("a", 1), entry("b", 2), entry("a", 3)]))
    assert len(store) == 2
    assert store.entry("a").told() == entry("a", 3).told()


def test_opening_and_closing_changes_nothing(tmp_path):
    path = written(tmp_path / "plans.qts", entries(4))
    before = path.read_bytes()
    written(path, [])
    assert path.read_bytes() == before


def test_no_images_are_a_store_too(tmp_path):
    assert len(PlanStore(written(tmp_path / "new" / "plans.qts", []))) == 0


def test_who_reads_while_another_appends_sees_whole_images(tmp_path):
    path = tmp_path / "plans.qts"
    with PlanWriter(path, HEADER) as writer:
        for number, image in enumerate(entries(6)):
            assert len(PlanStore(path)) == number
            writer.add(image)
            assert PlanStore(path).entry(image.name).told() == image.told()
    early = PlanStore(path)
    written(path, entries(4, first=6))
    assert same(early.entries(), entries(6))
    assert same(PlanStore(path).entries(), entries(10))


def test_only_one_process_appends(tmp_path):
    path = tmp_path / "plans.qts"
    with PlanWriter(path, HEADER), pytest.raises(OutputError, match="another process is writing it"):
        PlanWriter(path, HEADER)
    written(path, entries(1))


def test_cut_off_anywhere_what_is_whole_is_kept_and_appending_goes_on(tmp_path):
    images, path = entries(5), tmp_path / "plans.qts"
    ends = []
    with PlanWriter(path, HEADER) as writer:
        for image in images:
            writer.add(image)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    begin = ends[0] - len(images[0].told()) - 12
    for length in [*range(begin, len(whole), 37), len(whole) - 1]:
        cut = tmp_path / "cut.qts"
        cut.write_bytes(whole[:length])
        kept = sum(end <= length for end in ends)
        assert same(PlanStore(cut).entries(), images[:kept])
        written(cut, images[kept:])
        assert same(PlanStore(cut).entries(), images)


def test_a_file_that_is_cut_in_its_header_is_begun_anew(tmp_path):
    path = written(tmp_path / "plans.qts", [])
    header = path.read_bytes()[:-1]
    for length in range(0, 60, 7):
        path.write_bytes(header[:length])
        with pytest.raises(TokenFileError):
            PlanStore(path)
        assert same(PlanStore(written(path, entries(2))).entries(), entries(2))


def test_a_byte_that_changed_is_noticed_or_concerns_no_plan(tmp_path):
    images, path = entries(6), tmp_path / "plans.qts"
    whole, generator = written(path, images).read_bytes(), random.Random(0)
    refused = 0
    for place in [*range(0, 40), *generator.sample(range(len(whole)), 300)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            found = list(PlanStore(path).entries())
        except TokenFileError as problem:
            assert str(problem).startswith(str(path))
            refused += 1
        else:
            assert same(found, images[: len(found)])  # the index or the last block was lost
    assert refused > 300


FOREIGN = {
    "nothing": b"",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "another header": b"qtplans1" + encode_block(b"HEAD", b"[]"),
    "no JSON": b"qtplans1" + encode_block(b"HEAD", b"{"),
    "deep JSON": b"qtplans1" + encode_block(b"HEAD", b"[" * 100_000),
    "no header": b"qtplans1" + encode_block(b"PLAN", entry("a").told()),
    "impossible patches": b"qtplans1"
    + encode_block(
        b"HEAD",
        json.dumps(
            {"format": "quadtok plans", "version": 1, "min_patch": 3, "max_patch": 10**30, "minima": "none"}
        ).encode(),
    ),
    "unknown minima": b"qtplans1"
    + encode_block(
        b"HEAD",
        json.dumps(
            {"format": "quadtok plans", "version": 1, "min_patch": 16, "max_patch": 64, "minima": ["none"]}
        ).encode(),
    ),
    "a newer version": b"qtplans1"
    + encode_block(b"HEAD", json.dumps({"format": "quadtok plans", "version": 2}).encode()),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_file_is_refused_and_kept(kind, tmp_path):
    path = tmp_path / "plans.qts"
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(TokenFileError, match=r"plans\.qts: "):
        PlanStore(path)
    if FOREIGN[kind]:
        with pytest.raises(QuadtokError):
            PlanWriter(path, HEADER)
        assert path.read_bytes() == FOREIGN[kind]


IMPOSSIBLE = {
    "cut short": lambda body: body[:30],
    "a name that is longer": lambda body: body[:56] + b"\xff\xff" + body[58:],
    "a geometry without whole roots": lambda body: b"\x01" + body[1:],
    "a geometry of a petabyte": lambda body: b"\x00\x00\x00\x40\x00\x00\x00\x40" + body[8:],
    "a stream cut short": lambda body: body[:-1],
}


@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_an_image_that_cannot_be_costs_itself(fault, tmp_path):
    path = written(tmp_path / "plans.qts", entries(2))
    bad = encode_block(b"PLAN", IMPOSSIBLE[fault](entry("bad", 2).told()))
    path.write_bytes(path.read_bytes() + bad)
    with pytest.raises(TokenFileError, match=r"plans\.qts: "):
        list(PlanStore(path).entries())


def test_names_of_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_format, "hash_of", lambda name: 7)
    path = written(tmp_path / "plans.qts", entries(5))
    written(path, [entry("class 0/3.jpg", 77), entry("more", 5)])
    store = PlanStore(path)
    assert len(store) == 6
    assert store.entry("class 0/3.jpg").told() == entry("class 0/3.jpg", 77).told()
    assert all(store.entry(image.name).told() == image.told() for image in entries(3))
    assert "more" in store and "less" not in store
    with pytest.raises(KeyError, match="less"):
        store["less"]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (replace(HEADER, minima="none"), "have minima float32, those of the file none"),
        (replace(HEADER, minima="float16"), "have minima float32, those of the file float16"),
        (replace(HEADER, min_patch=8), "have patches of 16 to 64, those of the file 8 to 64"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, header, sentence):
    with PlanWriter(tmp_path / "plans.qts", header) as writer, pytest.raises(InputError, match=f"x: .*{sentence}"):
        writer.add(entry("x"))
    assert len(PlanStore(tmp_path / "plans.qts")) == 0


@pytest.mark.parametrize("call", ["write", "ftruncate", "fsync"])
def test_what_the_disk_says_is_a_sentence(tmp_path, monkeypatch, call):
    path, torn = tmp_path / "plans.qts", written(tmp_path / "whole.qts", entries(2)).read_bytes()[:-40]
    path.write_bytes(torn if call == "ftruncate" else b"")

    def refuse(*_):
        raise OSError(errno.EIO, "the disk is ill")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OutputError) as caught, PlanWriter(path, HEADER):
        pass
    assert str(caught.value) == f"{path}: cannot be written (the disk is ill)"


def test_a_write_that_fails_leaves_no_part_of_itself(tmp_path, monkeypatch):
    path = written(tmp_path / "plans.qts", entries(1))
    writer, size, really_write = PlanWriter(path, HEADER), path.stat().st_size, os.write

    def write_half(descriptor, data):
        really_write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(DiskFull):
        patch.setattr(os, "write", write_half)
        writer.add(entry("no room"))
    assert path.stat().st_size == size
    writer.add(entry("smaller", 1))
    writer.close()
    images = [*entries(1), entry("smaller", 1)]
    assert same(PlanStore(path).entries(), images)
    assert b"DONE" not in path.read_bytes()[size:], "an index that the next one who appends need not write"
    assert same(PlanStore(written(path, [])).entries(), images)
    assert b"DONE" in path.read_bytes()[size:]


def test_an_end_that_names_another_index_is_damage(tmp_path):
    path = written(tmp_path / "plans.qts", entries(2))
    whole, more = path.read_bytes(), encode_block(b"PLAN", entry("more").told())
    ends = {"of before": whole.rindex(b"INDX"), "the header": len(b"qtplans1"), "nowhere": 1 << 63, "the magic": 0}
    for place in ends.values():
        path.write_bytes(whole + more + encode_block(b"DONE", place.to_bytes(8, "little")))
        for open_it in (lambda: PlanStore(path), lambda: PlanWriter(path, HEADER)):
            with pytest.raises(TokenFileError, match="names an index that is not there"):
                open_it()
    path.write_bytes(whole + encode_block(b"DONE", b"1234") + b"torn")
    assert same(PlanStore(path).entries(), entries(2))


def test_plans_that_were_made_otherwise_are_not_mixed(tmp_path):
    path, refused = written(tmp_path / "plans.qts", entries(1)), []
    for other in (
        replace(HEADER, max_patch=32),
        replace(HEADER, minima="none"),
        replace(HEADER, made={"scorer": "me"}),
    ):
        with pytest.raises(InputError, match="give another file") as refusal:
            PlanWriter(path, other)
        refused.append(refusal)  # whoever keeps an error does not keep the file
    written(path, entries(1, first=1), replace(HEADER, made={**HEADER.made, "quadtok": "2"}))  # versions may differ
    assert len(PlanStore(path)) == 2


def test_processes_share_a_store_by_its_path(tmp_path):
    store = PlanStore(written(tmp_path / "plans.qts", entries(3)))
    assert len(pickle.dumps(store)) < 500
    assert same(pickle.loads(pickle.dumps(store)).entries(), entries(3))


class TestMerging:
    def test_parts_become_one_file_in_their_order(self, tmp_path):
        parts = [written(tmp_path / f"{part}.qts", entries(4, first=4 * part)) for part in range(3)]
        assert merge_plans(parts, tmp_path / "all.qts") == 12
        assert same(PlanStore(tmp_path / "all.qts").entries(), entries(12))
        assert sorted(os.listdir(tmp_path)) == ["0.qts", "1.qts", "2.qts", "all.qts"]

    def test_what_two_parts_agree_on_is_there_once(self, tmp_path):
        parts = [written(tmp_path / "a.qts", entries(4)), written(tmp_path / "b.qts", entries(4, first=2))]
        assert merge_plans(parts, tmp_path / "all.qts") == 6
        assert merge_plans([*parts, parts[1]], tmp_path / "all.qts") == 6

    def test_what_they_do_not_agree_on_is_refused_and_nothing_is_written(self, tmp_path):
        parts = [written(tmp_path / "a.qts", [entry("x", 1)]), written(tmp_path / "b.qts", [entry("x", 2)])]
        with pytest.raises(InputError, match=r"b\.qts: its plans of x are others than those in .*a\.qts"):
            merge_plans(parts, tmp_path / "all.qts")
        assert sorted(os.listdir(tmp_path)) == ["a.qts", "b.qts"]

    def test_parts_that_were_made_otherwise_are_refused(self, tmp_path):
        parts = [written(tmp_path / "a.qts", entries(1)), written(tmp_path / "b.qts", [], replace(HEADER, made={}))]
        with pytest.raises(InputError, match="scorer"):
            merge_plans(parts, tmp_path / "all.qts")

    def test_no_parts_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="no plans to merge"):
            merge_plans([], tmp_path / "all.qts")

    def test_what_a_killed_one_left_is_removed_by_the_next(self, tmp_path):
        written(tmp_path / "a.qts", entries(1))
        script = (
            "import os, signal, sys\nfrom quadtok.storage.plan_writer import merge_plans\n"
            "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nmerge_plans(sys.argv[1:], 'all.qts')"
        )
        subprocess.run([sys.executable, "-c", script, "a.qts"], cwd=tmp_path, timeout=60, check=False)
        assert len(list(tmp_path.glob(".quadtok-*"))) == 1
        merge_plans([tmp_path / "a.qts"], tmp_path / "all.qts")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.qts", "all.qts"]

    def test_a_file_that_another_process_appends_to_is_not_replaced(self, tmp_path):
        part = written(tmp_path / "a.qts", entries(2))
        with PlanWriter(tmp_path / "all.qts", HEADER) as writer:
            with pytest.raises(OutputError, match="another process is writing it"):
                merge_plans([part], tmp_path / "all.qts")
            writer.add(entry("kept"))
        assert list(PlanStore(tmp_path / "all.qts")) == ["kept"]
        assert merge_plans([part], tmp_path / "all.qts") == 2
        assert sorted(os.listdir(tmp_path)) == ["a.qts", "all.qts"]

    def test_a_part_may_be_what_it_becomes(self, tmp_path):
        path = written(tmp_path / "a.qts", [entry("x", 1), entry("x", 2)])
        assert merge_plans([path], path) == 1
        assert PlanStore(path).entry("x").told() == entry("x", 2).told()


KILLED = """
import sys
sys.path[:0] = [{tests!r}]
from storage.test_plan_store import HEADER, entry
from quadtok.storage.plan_writer import PlanWriter
with PlanWriter({path!r}, HEADER) as writer:
    for number in range({first}, 10_000):
        writer.add(entry(str(number), number % 3))
        print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_is_killed_loses_nothing_that_it_wrote(tmp_path):
    path, first, generator = tmp_path / "plans.qts", 0, random.Random(1)
    for _ in range(3):
        tests = os.path.dirname(os.path.dirname(__file__))
        script = KILLED.format(tests=tests, path=str(path), first=first)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                last = int(line)
                if last >= first + 5 and generator.random() < 0.2:
                    break
            process.send_signal(signal.SIGKILL)
            process.wait()
        store = PlanStore(path)
        names = list(store)
        assert names == [str(number) for number in range(len(names))]
        assert len(names) > last
        first = len(names)


def test_a_wrong_length_is_damage_and_no_torn_end(tmp_path):
    """Else the next who appends would cut off all that follows."""
    path, header = tmp_path / "plans.qts", Header(16, 64, "none", {})
    stream = plan_streams(random_saliency(Spec.full(64, 64, 16, 64), batch=1), Spec.full(64, 64, 16, 64))[0]
    with PlanWriter(path, header) as writer:
        for name in "abc":
            writer.add(Entry(name, "0" * 64, stream))
    data = bytearray(path.read_bytes())
    data = data[: data.rindex(b"INDX")]
    data[data.index(b"PLAN") + 7] ^= 0x40
    path.write_bytes(data)
    for open_it in (lambda: PlanStore(path), lambda: PlanWriter(path, header)):
        with pytest.raises(TokenFileError, match="damaged at byte"):
            open_it()
    assert path.read_bytes() == data


@pytest.mark.parametrize("zeros", [1, 12, 4096, 200_000])
@pytest.mark.parametrize("indexed", [True, False])
def test_zeros_behind_it_are_what_a_power_cut_left(tmp_path, zeros, indexed):
    path, header, spec = tmp_path / "plans.qts", Header(16, 64, "none", {}), Spec.full(64, 64, 16, 64)
    stream = plan_streams(random_saliency(spec, batch=1), spec)[0]
    with PlanWriter(path, header) as writer:
        writer.add(Entry("a", "0" * 64, stream))
    data = path.read_bytes()
    path.write_bytes((data if indexed else data[: data.rindex(b"INDX")]) + bytes(zeros))
    assert list(PlanStore(path)) == ["a"]
    with PlanWriter(path, header) as writer:
        writer.add(Entry("b", "1" * 64, stream))
    assert sorted(PlanStore(path)) == ["a", "b"]
    assert bytes(zeros) not in path.read_bytes() or zeros < 64


@pytest.mark.parametrize(
    "kept", [0, 5, 12, 40, None], ids=lambda kept: "in the last image" if kept is None else str(kept)
)
def test_an_end_that_became_zeros_is_torn_wherever_they_begin(tmp_path, kept):
    path, header, spec = tmp_path / "plans.qts", Header(16, 64, "none", {}), Spec.full(64, 64, 16, 64)
    stream = plan_streams(random_saliency(spec, batch=1), spec)[0]
    with PlanWriter(path, header) as writer:
        for name in "ab":
            writer.add(Entry(name, "0" * 64, stream))
    data = path.read_bytes()
    begin = data.rindex(b"PLAN") + 60 if kept is None else kept
    path.write_bytes(data[:begin] + bytes(len(data) - begin))
    with PlanWriter(path, header) as writer:
        writer.add(Entry("c", "1" * 64, stream))
    assert sorted(PlanStore(path)) == (["a", "c"] if kept is None else ["c"])
