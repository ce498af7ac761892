"""A sink and an engine of one's own, written from what `jobs/base.py` says, go together with quadtok's."""

import zipfile

import pytest
from PIL import Image

from quadtok.errors import DiskFull, as_ours
from quadtok.geometry import make_geometry, parse_budget
from quadtok.jobs.base import Outcome
from quadtok.jobs.engines.threads import Threads
from quadtok.jobs.scoring import make_scoring
from quadtok.jobs.sinks.folder import FolderSink
from quadtok.jobs.sinks.naming import Naming, plan_outputs
from quadtok.jobs.sources import find_sources
from quadtok.jobs.tokenize import TokenizeJob
from quadtok.marks import Mark, is_passed_over, read_mark
from quadtok.names import IMAGE_SUFFIXES
from quadtok.pictures.encode import encode_picture
from quadtok.preprocess import Preprocess


class Plain:
    """An engine that does one input after another."""

    def run(self, job, sources, sink, hear, stop=None):
        for source in sources:
            if stop is not None and stop.asked:
                return "stopped"
            status, error, facts, notes = "failed", None, {}, ()
            try:
                status, facts, notes = self.do(job, source, sink)
            except Exception as problem:
                error = as_ours(problem, source.path)
            hear(Outcome(source, status, sink.output(source), error, facts, notes))
            if isinstance(error, DiskFull):
                return "disk full"
        return "done"

    def do(self, job, source, sink):
        if sink.is_settled(source):
            return "skipped", {}, ()
        data = job.load(source)
        if source.found and is_passed_over(read_mark(data)):
            return "passed over", {}, ()
        fingerprint = job.fingerprint(source, data)
        wanted = sink.outstanding(source, fingerprint)
        if not wanted and not job.tells:
            return "skipped", {}, ()
        photo = job.read(source, data, fingerprint)
        (result,) = job.run([photo])
        is_new = wanted and sink.write(source, job.encode(photo, result, wanted))
        return "written" if is_new else "skipped", job.facts(photo, result), photo.notes


class Zip:
    """A sink that keeps the files in one archive, and what each was made of in its comment."""

    def __init__(self, path, makes):
        self.path, self.makes, self.fingerprints = path, set(makes), {}

    def output(self, source):
        return f"{self.path}/{source.relative.as_posix()}"

    def is_settled(self, source):
        return False

    def outstanding(self, source, fingerprint):
        self.fingerprints[source] = fingerprint
        return frozenset(self.makes - {suffix for suffix, made_of in self.held(source) if made_of == fingerprint})

    def held(self, source):
        if self.path.exists():
            with zipfile.ZipFile(self.path) as archive:
                for item in archive.infolist():
                    name, _, suffix = item.filename.partition("/")
                    if name == str(source.relative):
                        yield f".{suffix}", item.comment.decode()

    def write(self, source, files):
        with zipfile.ZipFile(self.path, "a") as archive:
            for suffix, data in files.items():
                item = zipfile.ZipInfo(f"{source.relative}/{suffix[1:]}")
                item.comment = self.fingerprints[source].encode()
                archive.writestr(item, data)
        return bool(files)


@pytest.fixture
def photos(tmp_path):
    """Two photographs, a picture of quadtok's, and what is no image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.effect_noise((80, 70), 60).save(folder / name)
    (folder / "b.png").write_text("no image")
    picture = encode_picture(Image.new("RGB", (8, 8)), mark=Mark("drawing of a plan", "0" * 64))
    (folder / "d.png").write_bytes(picture)
    return find_sources([str(folder)], IMAGE_SUFFIXES).sources


@pytest.fixture
def job():
    geometry = make_geometry((64, 64), parse_budget("10"), None, 16, 32)
    return TokenizeJob(Preprocess(geometry), make_scoring("blur"), overlay=True)


def heard(engine, job, photos, sink):
    outcomes = []
    assert engine.run(job, photos, sink, outcomes.append) == "done"
    return [(one.source, one.status, str(one.error), {**one.facts, "ms": 0}, list(one.notes)) for one in outcomes]


def test_an_engine_of_ones_own_makes_the_files_and_says_the_outcomes_of_threads(photos, job, tmp_path):
    said = []
    for engine, name in ((Plain(), "plain"), (Threads(2, batch_size=2), "threads")):
        planned, _ = plan_outputs(photos, Naming(tuple(job.makes), tmp_path / name))
        with FolderSink(planned, job.makes).open() as sink:
            said.append(heard(engine, job, photos, sink))
    assert said[0] == said[1]
    assert [status for _, status, *_ in said[0]] == ["written", "failed", "written", "passed over"]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("plain", "threads")]
    assert files[0] == files[1]
    assert sorted(files[0]) == ["a.overlay.png", "a.pt", "c.overlay.png", "c.pt"]


def test_a_sink_of_ones_own_is_filled_by_one_engine_and_found_filled_by_another(photos, job, tmp_path):
    first, second = (
        heard(engine, job, photos, Zip(tmp_path / "all.zip", job.makes)) for engine in (Threads(2), Plain())
    )
    assert [status for _, status, *_ in first] == ["written", "failed", "written", "passed over"]
    assert [status for _, status, *_ in second] == ["skipped", "failed", "skipped", "passed over"]
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["a.png/pt", "a.png/overlay.png", "c.png/pt", "c.png/overlay.png"]
