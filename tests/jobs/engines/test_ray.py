"""The engine ray on a Ray of this machine: the bytes of `Threads`, whoever dies over them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="the engine is Ray's; the extra ray has it")

import logging

import ray

from quadtok.errors import InputError, ScorerError, UnexpectedError
from quadtok.geometry import make_geometry, parse_budget
from quadtok.jobs import tokenize_files
from quadtok.jobs.base import StopRequest
from quadtok.jobs.engines.ray import LEAST_CHUNK, Ray
from quadtok.jobs.engines.threads import Threads
from quadtok.jobs.oracle import Classes, OracleJob
from quadtok.jobs.plans import ENTRY_SUFFIX, PlansJob
from quadtok.jobs.samples import TokenSamplesJob
from quadtok.jobs.scoring import make_scoring
from quadtok.jobs.sinks.folder import FolderSink
from quadtok.jobs.sinks.naming import Naming, plan_outputs
from quadtok.jobs.sinks.plan_file import PlanFileSink
from quadtok.jobs.sinks.shards import ShardSink
from quadtok.jobs.sources import find_sources
from quadtok.jobs.tokenize import TokenizeJob
from quadtok.names import IMAGE_SUFFIXES
from quadtok.oracle.classifiers import load_classifier
from quadtok.preprocess import Preprocess
from quadtok.storage.npy import decode_npy
from quadtok.storage.shards import PARQUET, TAR, read_shard
from quadtok.storage.token_file import load_tokens

NUMBER = 2 * LEAST_CHUNK + 6  # three chunks
GEOMETRY = {"num_tokens": 10, "image_size": 64, "max_patch": 32}
SCORER = """
import os, signal, time
import torch

def saliency(images, spec):
    return [torch.zeros(len(images), spec.height // size, spec.width // size) for size in (32,)]

def brightness(image):
    return int(image.float().mean())

def deadly(images, spec):
    for image in images:
        if brightness(image) == 200 or (brightness(image) == 100 and not os.path.exists("died")):
            if brightness(image) == 100:
                open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return saliency(images, spec)

def broken(images, spec):
    raise ArithmeticError("a scorer with a defect")

def slow(images, spec):
    time.sleep(0.05 * len(images))
    return saliency(images, spec)
"""


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One for all tests; each finds it running, and leaves it so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    yield
    ray.shutdown()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with photographs and a scorer in it."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SCORER)
    Path("in/sub").mkdir(parents=True)
    for number in range(NUMBER):
        sub = "sub/" * (number % 2)
        Image.effect_noise((70, 80), 40).point(lambda value: value // 4).save(f"in/{sub}{number:02}.png")
    return tmp_path


def plain(color, name):
    Image.new("L", (64, 64), color).save(f"in/{name}")


def steps():
    return Preprocess(make_geometry((64, 64), parse_budget("10"), None, 16, 32))


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def heard(engine, job, make_sink, stop=None):
    """How the run ended, and what was heard."""
    sources, outcomes = find_sources(["in"], IMAGE_SUFFIXES).sources, []
    with make_sink(job, sources).open() as sink:
        ending = engine.run(job, sources, sink, outcomes.append, stop)
    return ending, [(one.source, one.status, str(one.error), {**one.facts, "ms": 0}, one.notes) for one in outcomes]


def folder_sink(place):
    def make(job, sources):
        return FolderSink(plan_outputs(sources, Naming(tuple(job.makes), Path(place)))[0], job.makes)

    return make


def shards(place, container=TAR):
    return lambda job, sources: ShardSink(Path(place), 25, sources, container=container)


def tables(place):
    return shards(place, PARQUET)


def plan_file(place):
    return lambda job, sources: PlanFileSink(Path(place, "all.qts"), job.header, sources, ENTRY_SUFFIX)


def test_token_files_shards_and_plans_are_those_of_threads(folder):
    """Relative paths, a bad file, a note, a scorer of one's own."""
    Path("in/07.png").write_text("no image")
    Image.new("RGBA", (64, 64)).save("in/08.png")
    ways = [
        (TokenizeJob(steps(), make_scoring("blur"), overlay=True), folder_sink),
        (TokenSamplesJob(steps(), make_scoring("blur"), dtype="uint8"), shards),
        (TokenSamplesJob(steps(), make_scoring("blur"), dtype="uint8"), tables),
        (PlansJob(steps(), make_scoring("mine:saliency")), plan_file),
    ]
    for number, (job, make) in enumerate(ways):
        expected = heard(Threads(2, batch_size=4), job, make(f"threads{number}"))
        assert heard(Ray(2, batch_size=4), job, make(f"ray{number}")) == expected
        assert expected[0] == "done" and [line[1] for line in expected[1]].count("failed") == 1
        assert files_in(folder / f"ray{number}") == files_in(folder / f"threads{number}")


def test_what_is_written_by_a_url_is_what_is_written_in_a_folder_and_is_not_made_again(folder):
    pytest.importorskip("fsspec", reason="URLs are its; the extra fsspec has it")
    for kind in ("files", "shards"):
        for place, engine in ((f"threads/{kind}", "threads"), (f"file://{folder}/ray/{kind}", Ray(2))):
            summary = tokenize_files(
                "in", place, scorer="blur", manifest=kind == "shards", engine=engine,
                format=kind, **GEOMETRY,
            )  # fmt: skip
            assert (summary.written, summary.failed) == (NUMBER, 0)
        assert files_in(folder / "ray" / kind) == files_in(folder / "threads" / kind)
        again = tokenize_files(
            "in", f"file://{folder}/ray/{kind}", scorer="blur", engine=Ray(2), format=kind, **GEOMETRY
        )
        assert (again.written, again.skipped) == (0, NUMBER)


def test_maps_of_a_classifier_of_ones_own_are_those_of_threads(folder):
    Path("net.py").write_text(CLASSIFIER)
    job = OracleJob(steps(), load_classifier("net:Net"), Classes.of("1"), "conv", ".npy")
    for place, engine in (("threads", Threads(2, batch_size=4)), ("ray", Ray(2, batch_size=4))):
        ending, lines = heard(engine, job, folder_sink(place))
        assert (ending, {line[1] for line in lines}) == ("done", {"written"}), lines
    expected, found = files_in(folder / "threads"), files_in(folder / "ray")
    assert len(expected) == NUMBER and found.keys() == expected.keys()
    assert all(
        np.abs(np.load(BytesIO(found[name])) - np.load(BytesIO(expected[name]))).max() < 1e-4 for name in expected
    )


CLASSIFIER = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 8, 8)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator)

    def forward(self, images):
        return self.conv(images).square().mean((2, 3))
"""


def test_ray_data_reads_shards(folder):
    for place in (Path("in/sub"), Path("in")):
        for path in sorted(place.glob("*.png"))[3:]:
            path.unlink()
    job = TokenSamplesJob(steps(), make_scoring("blur"), dtype="uint8")
    assert heard(Threads(0), job, shards("made"))[0] == "done"
    rows = ray.data.read_webdataset(str(folder / "made"), file_extensions=["tar"]).take_all()
    samples = dict(read_shard(folder / "made" / "shard-000000.tar"))
    assert len(rows) == len(samples) == 6
    for row in rows:
        members = samples[row["__key__"]]
        assert row["json"] == json.loads(members["json"])
        for ending in ("patches.npy", "layout.npy"):
            assert row[ending].tolist() == decode_npy(members[ending]).tolist()


def test_ray_data_reads_tables(folder):
    for path in sorted(Path("in").rglob("*.png"))[6:]:
        path.unlink()
    job = TokenSamplesJob(steps(), make_scoring("blur"), dtype="uint8")
    assert heard(Threads(0), job, tables("made"))[0] == "done"
    rows = ray.data.read_parquet(str(folder / "made")).take_all()
    samples = dict(read_shard(folder / "made" / "shard-000000.parquet"))
    assert len(rows) == len(samples) == 6
    for row in rows:
        members = samples[row["key"]]
        assert row["facts"] == members["json"].decode()
        assert np.frombuffer(row["patches"], row["dtype"]).tolist() == decode_npy(members["patches.npy"]).tolist()
        assert list(row["layout"]) == decode_npy(members["layout.npy"]).tolist()


def test_an_image_that_kills_every_process_is_named_and_one_that_kills_once_is_done(folder):
    plain(200, "20.png")
    plain(100, "50.png")
    summary = tokenize_files(
        "in", "out", engine=Ray(2, batch_size=4), scorer="mine:deadly", if_exists="overwrite", dtype="none", **GEOMETRY
    )
    assert (summary.ending, summary.failed) == ("done", 1)
    ((path, error),) = summary.failures.items()
    assert path == Path("in/20.png") and isinstance(error, UnexpectedError) and "3 processes died" in str(error)
    assert Path("died").exists()
    names = sorted(path.stem for path in Path("out").rglob("*.pt"))
    assert names == [f"{number:02}" for number in range(NUMBER) if number != 20]
    assert summary.written + summary.skipped == NUMBER - 1
    assert all(load_tokens(path).plan.spec.num_tokens == 10 for path in Path("out").rglob("*.pt"))


def test_a_scorer_that_works_for_no_image_ends_the_run(folder):
    summary = tokenize_files("in", "out", engine=Ray(2, batch_size=4), scorer="mine:broken", **GEOMETRY)
    assert summary.ending == "scorer fails"
    assert summary.failed == 16 and summary.left == NUMBER - 16
    assert all(isinstance(error, ScorerError) and "defect" in str(error) for error in summary.failures.values())


def test_a_stop_finishes_what_was_begun_and_leaves_the_rest(folder):
    for number in range(NUMBER, 12 * LEAST_CHUNK):
        os.link("in/00.png", f"in/z{number:03}.png")
    stop, names = StopRequest(), []

    def hear(outcome):
        names.append(outcome.source.relative.as_posix())
        stop.asked = True

    job, sources = TokenizeJob(steps(), make_scoring("mine:slow")), find_sources(["in"], IMAGE_SUFFIXES).sources
    with folder_sink("out")(job, sources).open() as sink:
        assert Ray(2, batch_size=4).run(job, sources, sink, hear, stop) == "stopped"
    # In their order; a chunk that nobody had begun may be missing before one that somebody had.
    assert names == [name for source in sources if (name := source.relative.as_posix()) in set(names)]
    assert 0 < len(names) < len(sources) - 2 * LEAST_CHUNK
    assert len(files_in(folder / "out")) == len(names)


def test_a_run_whose_own_process_is_killed_goes_on_from_there(folder):
    for number in range(NUMBER, 12 * LEAST_CHUNK):
        os.link("in/00.png", f"in/z{number:03}.png")
    command = [sys.executable, "-m", "quadtok", "tokenize", "in", "-o", "out", "--scorer", "mine:slow", "-n", "10"]
    run = subprocess.Popen([*command, *("-s", "64", "--max-patch", "32", "--engine", "ray", "-j", "2", "--quiet")])
    try:
        until = time.monotonic() + 200
        while len(list(Path("out").rglob("*.pt"))) < LEAST_CHUNK and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    there = len(list(Path("out").rglob("*.pt")))
    summary = tokenize_files("in", "out", engine=Ray(2, batch_size=32), scorer="mine:slow", **GEOMETRY)
    assert (summary.ending, summary.failed, summary.skipped + summary.written) == ("done", 0, 12 * LEAST_CHUNK)
    assert LEAST_CHUNK <= there <= summary.skipped + 2 * LEAST_CHUNK and summary.written
    assert {Path(name).suffix for name in files_in(folder / "out")} == {".pt", ".jsonl"}  # and nothing half written
    assert len(list(Path("out").rglob("*.pt"))) == 12 * LEAST_CHUNK
    assert all(load_tokens(path).plan.spec.num_tokens == 10 for path in Path("out").rglob("*.pt"))


def test_what_can_do_nothing_is_refused(folder):
    job, sources = TokenizeJob(steps(), make_scoring("blur")), find_sources(["in"], IMAGE_SUFFIXES).sources

    class Own:
        output = is_settled = outstanding = write = None

    with pytest.raises(InputError, match="Own"):
        Ray(1).run(job, sources, Own(), print)
    with folder_sink("out")(job, sources).open() as sink:
        with pytest.raises(InputError, match="no machine of this Ray has a GPU"):
            Ray(1, uses_gpus=True).run(job, sources, sink, print)
        assert Ray(1).run(job, [], sink, print) == "done"
    with pytest.raises(InputError, match="workers"):
        Ray(0)
    held = threading.Lock()
    with pytest.raises(InputError, match="cannot be sent.*lock"):
        tokenize_files("in", "out", engine="ray", scorer=lambda images, spec: held)
