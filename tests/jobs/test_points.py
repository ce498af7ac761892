"""Points and boxes by relative name: what a file may hold, and where they lie in what is scored."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from quadtok import Spec, get_scorer
from quadtok.errors import InputError
from quadtok.geometry import make_geometry, parse_budget
from quadtok.jobs.points import PointScoring
from quadtok.jobs.scoring import make_scoring
from quadtok.jobs.sources import Source
from quadtok.jobs.tokenize import TokenizeJob
from quadtok.preprocess import Preprocess
from quadtok.storage.token_file import decode_tokens

SPEC = Spec(64, 64, 8, 32, 16)
CAT = Source(Path("photos/pets/cat.png"), Path("pets/cat.png"))


def scoring_of(folder, content, name="points.json"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return PointScoring.of(folder / name)


def targets_of(folder, content, name="points.json"):
    found = scoring_of(folder, content, name).describe(scoring_of(folder, content, name).prepare(CAT, 3))
    return found["points"], found["boxes"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("points.json", '{"pets/cat.png": [[10, 20.5], [1, 2, 3, 4], [5, 6]], "dog.png": ["not looked at"]}'),
        ("points.json", '\ufeff{"./pets/cat.png": [[10, 20.5], [1, 2, 3, 4], [5, 6]]}'),
        ("points.json", '{"pets/cat.png": [[10, 20.5]], "./pets/cat.png": [[1, 2, 3, 4]], "pets/cat.png": [[5, 6]]}'),
        ("points.csv", "./pets/cat.png,10,20.5\npets/cat.png,1,2,3,4\npets/cat.png,5,6\n"),
        ("points.csv", "pets/cat.png,10,20.5\ndog.png,1,1\npets/cat.png,1,2,3,4\npets/cat.png,5,6\n"),
        ("POINTS.CSV", '\ufeffname,x,y\r\n"pets/cat.png", 10 ,20.5\r\n\r\npets/cat.png,1,2,3,4\r\npets/cat.png,5,6'),
    ],
)
def test_two_numbers_are_a_point_and_four_a_box_as_many_as_one_likes(tmp_path, name, content):
    assert targets_of(tmp_path, content, name) == ([[10.0, 20.5], [5.0, 6.0]], [[1.0, 2.0, 3.0, 4.0]])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("points.json", "{", r"points .*points.json: is no JSON \("),
        ("points.json", "[" * 100_000, r"points .*points.json: is no JSON \("),
        ("points.json", "[[1, 2]]", r'must be \{"name": \[\[x, y\]'),
        ("points.json", '{"a.png": 1}', r'must be \{"name": \[\[x, y\]'),
        ("points.json", b"\xff\xfe\x00", "is no UTF-8 text"),
        ("points.csv", 'a,1,2\n"b,1,2', r"is no CSV \("),
        ("points.txt", "a,1,2", r"the name must end in .json or .csv"),
    ],
)
def test_what_is_no_file_of_points_is_refused_at_once(tmp_path, name, content, sentence):
    with pytest.raises(InputError, match=sentence):
        scoring_of(tmp_path, content, name)


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r"points .*none.csv: no such file"):
        PointScoring.of(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([], r"points.json has neither a point nor a box for 'pets/cat.png'"),
        ([[1]], r"'pets/cat.png': must be x, y or left, top, right, bottom in pixels, got \[1\]"),
        ([[1, 2, 3]], r"must be x, y or .*got \[1, 2, 3\]"),
        ([[1, 2], "1, 2"], r"must be x, y or .*got '1, 2'"),
        ([[1, "2"]], r"must be x, y or .*got \[1, '2'\]"),
        ([[1, True]], "must be x, y or"),
        ([[1, float("nan")]], "must be x, y or"),
        ([[1, float("inf")]], "must be x, y or"),
        ([[1, 10**400]], "must be x, y or"),
        ([[3, 1, 2, 4]], r"must be x, y or .*got \[3, 1, 2, 4\]: right is left of left"),
        ([[1, 4, 2, 3]], r"must be x, y or .*got \[1, 4, 2, 3\]"),
    ],
)
def test_what_is_wrong_for_one_image_is_told_when_it_is_its_turn(tmp_path, entries, sentence):
    scoring = scoring_of(tmp_path, json.dumps({"pets/cat.png": entries, "dog.png": [[1, 2]]}))
    with pytest.raises(InputError, match=f"^photos/pets/cat.png: .*{sentence}"):
        scoring.prepare(CAT, 3)
    scoring.prepare(Source(Path("dog.png"), Path("dog.png")), 3)


@pytest.mark.parametrize(
    ("lines", "entry"),
    [("dog.png,1,1\npets/cat.png,1,two\n", r"\[1.0, 'two'\]"), ("pets/cat.png,1px,2px\n", r"\['1px', '2px'\]")],
)
def test_a_line_of_a_csv_that_holds_no_numbers_is_told_when_it_is_its_turn(tmp_path, lines, entry):
    scoring = scoring_of(tmp_path, lines, "points.csv")
    with pytest.raises(InputError, match=f"must be x, y or .*got {entry}"):
        scoring.prepare(CAT, 3)


@pytest.mark.parametrize(
    ("frame", "point", "box"),
    [
        ((0, 0, 64, 64), (10, 20), (1, 2, 3, 4)),
        ((0, 0, 128, 32), (5, 40), (0.5, 4, 1.5, 8)),  # squashed: half as wide, twice as high
        ((8, 16, 40, 48), (4, 8), (-14, -28, -10, -24)),  # cropped, and enlarged to twice the size
        ((-64, 0, 192, 256), (18.5, 5), (16.25, 0.5, 16.75, 1)),  # padded at the left, and shrunk
    ],
)
def test_pixels_of_the_photograph_become_pixels_of_what_is_scored(tmp_path, frame, point, box):
    scoring = scoring_of(tmp_path, '{"pets/cat.png": [[10, 20], [1, 2, 3, 4]]}')
    placed = scoring.place(scoring.prepare(CAT, 3), frame)
    saliency = scoring.saliency(torch.zeros(1, 3, 64, 64), SPEC, [placed])
    expected = get_scorer("point", points=[[point]], boxes=[[box]])(torch.zeros(1, 3, 64, 64), SPEC)
    assert all(map(torch.equal, saliency, expected))
    assert scoring.describe(placed) == scoring.describe(scoring.prepare(CAT, 3))


def nearest(tokens):
    """(x, y) of the centre of the finest tokens, in pixels of the fitted image."""
    plan = tokens.plan
    return (plan.centers[0][plan.scale[0] == 0].mean(dim=0) * plan.spec.min_patch).tolist()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_tokens_are_fine_where_the_point_lies_in_the_photograph(tmp_path, fit, orientation):
    """A white dot is scored by blur, which sees it, and by its point, which a user reads off an upright viewer."""
    upright = Image.new("RGB", (800, 500))
    upright.paste((255, 255, 255), (504, 150, 516, 162))
    stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright  # shown turned clockwise
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "dot.jpg", exif=exif, quality=95)
    source = Source(tmp_path / "dot.jpg", Path("dot.jpg"))
    steps = Preprocess(make_geometry((128, 128), parse_budget("31"), fit, 8, 32))
    found = []
    for scoring in (scoring_of(tmp_path, "dot.jpg,510,156", "points.csv"), make_scoring("blur")):
        job = TokenizeJob(steps, scoring)
        data = job.load(source)
        photo = job.read(source, data, job.fingerprint(source, data))
        (tokens,) = job.run([photo])
        assert decode_tokens(job.encode(photo, tokens, {".pt"})[".pt"]).metadata["scorer"]["name"] in ("point", "blur")
        found.append(nearest(tokens))
    assert found[0] == pytest.approx(found[1], abs=8)


def test_the_record_holds_the_points_and_the_fingerprint_knows_them(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "cat.png")
    source = Source(tmp_path / "cat.png", Path("pets/cat.png"))
    steps = Preprocess(make_geometry((64, 64), parse_budget("10"), None, 8, 32))
    jobs = [
        TokenizeJob(steps, scoring_of(tmp_path, f'{{"pets/cat.png": [{entry}], "x": []}}', name))
        for name, entry in (("a.json", "[10, 20]"), ("b.json", "[10, 20.0]"), ("c.json", "[10, 21]"))
    ]
    data = source.path.read_bytes()
    first, again, other = (job.fingerprint(source, data) for job in jobs)
    assert first == again != other
    photo = jobs[0].read(source, data, first)
    files = jobs[0].encode(photo, jobs[0].run([photo])[0], {".pt"})
    recorded = decode_tokens(files[".pt"]).metadata["scorer"]
    assert recorded == {"name": "point", "points": [[10.0, 20.0]], "boxes": []}
