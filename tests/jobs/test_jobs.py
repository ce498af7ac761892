"""Jobs are values: frozen, picklable, and the same after a journey to another process."""

import dataclasses
import hashlib
import pickle
from collections.abc import Hashable
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image

from quadtok import __version__
from quadtok.geometry import make_geometry, parse_budget
from quadtok.jobs.draw import DrawJob
from quadtok.jobs.restore import RestoreFeaturesJob, RestoreImageJob
from quadtok.jobs.scoring import MapScoring, RandomScoring, make_scoring, scoring_of
from quadtok.jobs.sources import Source
from quadtok.jobs.tokenize import TokenizeJob
from quadtok.names import ScorerName
from quadtok.pictures.views import FORMS, Pen
from quadtok.preprocess import Preprocess
from quadtok.scorers import SCORERS, get_scorer
from quadtok.storage.record import Record
from quadtok.storage.token_file import decode_tokens


def steps(budget="10"):
    return Preprocess(make_geometry((64, 64), parse_budget(budget), None, 16, 32))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "cat.png"
    Image.effect_noise((80, 70), 60).save(path)
    return Source(path, Path("pets/cat.png"))


@pytest.fixture
def scorings(tmp_path, source):
    torch.save(torch.rand(4, 4), tmp_path / "map.pt")
    (tmp_path / "points.csv").write_text("pets/cat.png,30,20\n")
    read = {"precomputed": {"maps": tmp_path / "map.pt"}, "point": {"points": tmp_path / "points.csv"}}
    return {name: make_scoring(name, seed=3, sources=[source], **read.get(name, {})) for name in get_args(ScorerName)}


@pytest.fixture
def token_file(tmp_path, source):
    job = TokenizeJob(steps(), RandomScoring(1))
    (tmp_path / "cat.pt").write_bytes(made(job, source)[".pt"])
    return Source(tmp_path / "cat.pt", Path("cat.pt"))


def made(job, source):
    """The files of one input, as an engine makes them."""
    data = job.load(source)
    photo = job.read(source, data, job.fingerprint(source, data))
    (result,) = job.run([photo])
    return job.encode(photo, result, set(job.makes))


def jobs(scorings, token_file):
    for name, scoring in scorings.items():
        yield f"tokenize {name}", TokenizeJob(steps(), scoring, overlay=True)
    for form in FORMS:
        suffix = {"animation": ".gif", "page": ".html"}.get(form, ".png")
        yield f"draw {form}", DrawJob(suffix, form, Pen(), scorings, (steps(), steps("7")))
    yield "restore", RestoreImageJob(".png")
    yield "restore features", RestoreFeaturesJob(".pth", {token_file: torch.rand(10, 3)})


def test_a_job_does_the_same_after_it_was_pickled(scorings, source, token_file):
    for name, job in jobs(scorings, token_file):
        given = token_file if "restore" in name else source
        again = pickle.loads(pickle.dumps(job))
        assert made(again, given) == made(job, given), name
        data = job.load(given)
        assert again.fingerprint(given, data) == job.fingerprint(given, data)


def test_a_photo_and_its_result_can_travel_too(scorings, source, token_file):
    for name, job in jobs(scorings, token_file):
        given = token_file if "restore" in name else source
        data = job.load(given)
        photo = pickle.loads(pickle.dumps(job.read(given, data, job.fingerprint(given, data))))
        (result,) = job.run([photo])
        assert job.encode(photo, pickle.loads(pickle.dumps(result)), set(job.makes)) == made(job, given), name


def test_what_the_job_records_is_what_is_read_of_it(source, tmp_path):
    preprocess = dataclasses.replace(steps("50%"), background="#00ff00", exif=False)
    preprocess = dataclasses.replace(preprocess, geometry=dataclasses.replace(preprocess.geometry, fit="squash"))
    job = TokenizeJob(preprocess, RandomScoring(3), dtype="uint8")
    tokens = decode_tokens(made(job, source)[".pt"])
    data = source.path.read_bytes()
    assert Record.of(tokens.metadata) == Record(
        scorer="random",
        scorer_options={"seed": 3, "image_seed": RandomScoring(3).prepare(source, 2)},
        tokens_requested="50%",
        threshold=None,
        dtype="uint8",
        made_by={"quadtok": __version__, "torch": torch.__version__},
        source_name="pets/cat.png",
        source_format="PNG",
        source_size=(80, 70),
        source_sha256=hashlib.sha256(data).hexdigest(),
        native=False,
        fit="squash",
        background="#00ff00",
        exif=False,
        draft=1,
        crop_box=(0.0, 0.0, 80.0, 70.0),
        fingerprint=job.fingerprint(source, data),
    )
    native = dataclasses.replace(preprocess, geometry=make_geometry(None, parse_budget("10"), None, 16, 32))
    record = Record.of(decode_tokens(made(dataclasses.replace(job, preprocess=native), source)[".pt"]).metadata)
    assert (record.native, record.fit, record.tokens_requested) == (True, "pad", "10")


def test_nothing_of_a_job_can_be_set(scorings, token_file):
    for name, job in jobs(scorings, token_file):
        with pytest.raises(dataclasses.FrozenInstanceError):
            job.suffix = ".else"
        assert set(job.makes) and all(isinstance(suffix, Hashable) for suffix in job.makes), name


def test_a_job_makes_what_it_says_and_only_what_is_wanted(scorings, source, token_file):
    for name, job in jobs(scorings, token_file):
        given = token_file if "restore" in name else source
        assert made(job, given).keys() == job.makes.keys(), name
    job = TokenizeJob(steps(), RandomScoring(0), overlay=True)
    data = job.load(source)
    photo = job.read(source, data, "f" * 64)
    (result,) = job.run([photo])
    assert set(job.encode(photo, result, {".overlay.png"})) == {".overlay.png"}


def test_the_fingerprint_knows_all_that_the_files_depend_on(scorings, source, token_file, tmp_path):
    """Each of these jobs makes other bytes of the same input, so each has a fingerprint of its own."""
    pens = [Pen(), Pen("blur"), Pen(line_color="red"), Pen(line_width=2), Pen(enlarge=2)]
    random = {"random": RandomScoring(0)}
    drawn = [DrawJob(".png", "picture", pen, random, (steps(),)) for pen in pens]
    drawn += [
        DrawJob(".webp", "picture", Pen(), random, (steps(),)),
        DrawJob(".png", "sheet", Pen(), random, (steps(),)),
        DrawJob(".png", "sheet", Pen(), random, (steps(), steps("7"))),
        DrawJob(".png", "sheet", Pen(), scorings, (steps(),)),
        DrawJob(".png", "sheet", Pen(), dict(reversed(scorings.items())), (steps(),)),
        DrawJob(".png", "picture", Pen(), {"random": RandomScoring(1)}, (steps(),)),
        DrawJob(".png", "picture", Pen(), random, (steps("7"),)),
        DrawJob(".png", "picture", Pen(), random, (dataclasses.replace(steps(), background="red"),)),
    ]
    restored = [RestoreImageJob(".png"), RestoreImageJob(".webp"), RestoreImageJob(".png", smooth=True)]
    for job_list, given in ((drawn, source), (restored, token_file)):
        prints = [job.fingerprint(given, job.load(given)) for job in job_list]
        assert len(set(prints)) == len(prints)
        assert all(len(one) == 64 for one in prints)


def test_the_fingerprint_of_a_sheet_knows_its_title_and_that_of_a_token_file_no_scorer(source, token_file, tmp_path):
    other = Source(source.path.rename(tmp_path / "dog.png"), Path("dog.png"))
    job = DrawJob(".png", "sheet", Pen(), {}, (steps(),))
    data = job.load(other)
    assert job.fingerprint(other, data) != job.fingerprint(source, data)
    data = job.load(token_file)
    random = dataclasses.replace(job, scorings={"random": RandomScoring(0)}, preprocess=(steps("7"),))
    assert job.fingerprint(token_file, data) == random.fingerprint(token_file, data)


def test_a_scorer_that_is_there_is_one_of_ours_or_is_run_by_one_thread():
    def own(images, spec):
        return get_scorer("blur")(images, spec)

    assert scoring_of(own).describe(None) == {"name": f"{__name__}:{own.__qualname__}"}
    assert not scoring_of(own).in_parallel
    for name in ("object", "feature", "blur"):
        ours = scoring_of(SCORERS[name]())
        assert ours.in_parallel
        assert ours.describe(None) == make_scoring(name).describe(None)


def test_a_net_of_ones_own_is_run_by_one_thread_too():
    net = torch.nn.Conv2d(3, 2, 16, 16)
    scorer = get_scorer("feature", net=net)
    assert not scoring_of(scorer).in_parallel
    assert scoring_of(scorer).describe(None) == {**scorer.describe(), "name": "feature"}


def test_jobs_on_a_gpu_are_run_by_one_thread(scorings):
    job = TokenizeJob(steps(), scorings["blur"])
    assert job.in_parallel and not dataclasses.replace(job, device="cuda:0").in_parallel
    draw = DrawJob(".png", "picture", Pen(), scorings, (steps(),))
    assert draw.in_parallel and not dataclasses.replace(draw, device="cuda").in_parallel


def test_rows_of_a_file_of_maps_belong_to_inputs_by_their_place(tmp_path):
    maps = torch.rand(2, 4, 4)
    torch.save(maps, tmp_path / "maps.pt")
    both = [Source(Path(name), Path(name)) for name in ("a.png", "b.png")]
    scoring = MapScoring.of(tmp_path / "maps.pt", both)
    assert torch.equal(scoring.prepare(both[1], 2)[0][0], maps[1])
