"""One input costs itself alone, whatever is raised on its way, and whoever raises it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image, ImageFile

from helpers import files_in
from quadtok import load_tokens


@pytest.fixture
def folder(tmp_path):
    """Six small images; the third is the one that something will go wrong with: it alone is white."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (64, 64), "white" if number == 2 else (10 * number, 20, 30)).save(folder / f"{number}.png")
    return folder


class ForeignError(Exception):
    """Nothing that quadtok knows of."""

    def __str__(self):
        return "two\nlines"


FOREIGN = [ForeignError(), SystemError("error return without exception set"), MemoryError(), RecursionError("deep")]


def sentence(path, problem):
    return (
        f"quadtok: error: {path}: {type(problem).__name__}{': ' * bool(str(problem))}{' '.join(str(problem).split())}"
    )


def raising_for(name, problem, real):
    """The real function, but for the input of this name."""

    def function(*arguments, **keywords):
        if any(name in str(argument) for argument in (*arguments, *keywords.values())):
            raise problem
        return real(*arguments, **keywords)

    return function


SMALL = ["-s", "64", "-n", "4", "--max-patch", "32"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("problem", FOREIGN, ids=lambda problem: type(problem).__name__)
def test_a_disk_that_raises_something_foreign_costs_one_input(quadtok, folder, tmp_path, monkeypatch, problem, workers):
    monkeypatch.setattr(os, "replace", raising_for("2.p", problem, os.replace))
    result = quadtok("tokenize", folder, "-o", tmp_path / "out", "--scorer", "blur", *SMALL, "-j", workers, "--json")
    assert (result.code, result.lines[0]) == (1, sentence(folder / "2.png", problem))
    assert "5 written, 0 skipped, 1 failed" in result.lines[1]
    failed = [record for record in map(json.loads, result.out.splitlines()) if record.get("error")]
    assert [record["error"]["kind"] for record in failed] == ["UnexpectedError"]
    assert list(files_in(tmp_path / "out")) == ["0.pt", "1.pt", "3.pt", "4.pt", "5.pt"]


@pytest.mark.parametrize("problem", FOREIGN, ids=lambda problem: type(problem).__name__)
def test_a_decoder_that_raises_something_foreign_costs_one_input(quadtok, folder, tmp_path, monkeypatch, problem):
    load = ImageFile.ImageFile.load

    def broken(image):
        if image.size == (65, 65):
            raise problem
        return load(image)

    Image.new("RGB", (65, 65)).save(folder / "2.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    for command in ("tokenize", "visualize"):
        result = quadtok(command, folder, "-o", tmp_path / command, "--scorer", "blur", *SMALL)
        assert result.code == 1
        assert result.lines[0].startswith(f"quadtok: error: {folder / '2.png'}: ")
        assert "5 written, 0 skipped, 1 failed" in result.lines[1]


SCORERS = """
import os
import subprocess
import numpy as np
import torch
from quadtok import get_scorer

class Odd(Exception):
    pass

def is_white(images):
    return [bool((image == 255).all()) for image in images]

def raises(images, spec):
    if any(is_white(images)):
        raise Odd("white")
    return get_scorer("blur")(images, spec)

def leaves(images, spec):
    if any(is_white(images)):
        raise SystemExit(0)
    return get_scorer("blur")(images, spec)

def nan(images, spec):
    white = torch.tensor(is_white(images))[:, None, None]
    return [torch.where(white, torch.nan, scores) for scores in get_scorer("blur")(images, spec)]

def none(images, spec):
    return None if any(is_white(images)) else get_scorer("blur")(images, spec)

def generator(images, spec):
    found = get_scorer("blur")(images, spec)
    return (scores for scores in found) if any(is_white(images)) else found

def arrays(images, spec):
    found = get_scorer("blur")(images, spec)
    return [scores.numpy() for scores in found] if any(is_white(images)) else found

def fewer(images, spec):
    return [scores[: len(images) - any(is_white(images))] for scores in get_scorer("blur")(images, spec)]

def in_place(images, spec):
    found = get_scorer("blur")(images, spec)
    if any(is_white(images)):
        images.fill_(7)
    return found

def through_numpy(images, spec):
    found = get_scorer("blur")(images, spec)
    if any(is_white(images)):
        images.numpy()[:] = 7
    return found

BUFFERS = {}

def one_buffer(images, spec):
    if len(images) > 1:
        raise Odd("one by one")
    found = get_scorer("blur")(images, spec)
    return [BUFFERS.setdefault(scores.shape, scores).copy_(scores) for scores in found]

def talks(images, spec):
    print("printed")
    os.write(1, b"written")
    subprocess.run(["echo", "by a child"])
    return get_scorer("blur")(images, spec)

def always(images, spec):
    raise Odd("never works")

def learned(images, spec):
    return [scores.clone().requires_grad_() for scores in get_scorer("blur")(images, spec)]

class Describes:
    def __init__(self, what=1):
        self.what = what
    def __call__(self, images, spec):
        return get_scorer("blur")(images, spec)
    def describe(self):
        if self.what == 1:
            raise Odd("what?")
        return {2: 5, 3: {"x": torch.zeros(1)}, 4: {"own": "words"}}[self.what]
"""


@pytest.fixture
def scorers(tmp_path, monkeypatch):
    """The module of scorers above, in the working folder."""
    (tmp_path / "odd_scorers.py").write_text(SCORERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_scorers", raising=False)


ODD_SCORERS = {
    "raises": "scorer odd_scorers:raises failed: Odd: white",
    "leaves": "scorer odd_scorers:leaves failed: SystemExit: 0",
    "nan": "its saliency holds NaN",
    "none": "saliency is None: it must be a list with one tensor",
    "generator": "saliency is a generator: it must be a list",
    "arrays": "saliency of scale 1 is a numpy.ndarray: it must be a torch tensor",
    "fewer": "the scorer gave saliency for 0 images, there are 1",
    "in_place": "scorer odd_scorers:in_place changed the images that it was given",
    "through_numpy": "scorer odd_scorers:through_numpy changed the images that it was given",
}


@pytest.mark.usefixtures("scorers")
@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize(("name", "said"), ODD_SCORERS.items())
def test_a_scorer_that_fails_for_one_image_of_a_batch_costs_that_image(
    quadtok, folder, tmp_path, name, said, batch_size
):
    common = ["tokenize", folder, *SMALL, "-b", batch_size]
    result = quadtok(*common, "-o", tmp_path / "out", "--scorer", f"odd_scorers:{name}", "--json")
    assert result.code == 1
    assert result.lines[0].startswith(f"quadtok: error: {folder / '2.png'}: {said}")
    assert "5 written, 0 skipped, 1 failed" in result.lines[1]
    failed = [record for record in map(json.loads, result.out.splitlines()) if record.get("error")]
    assert [record["error"]["kind"] for record in failed] == ["ScorerError"]
    assert quadtok(*common, "-o", tmp_path / "blur", "--scorer", "blur").code == 0
    for number in (0, 1, 3, 4, 5):
        ours, theirs = (load_tokens(tmp_path / out / f"{number}.pt") for out in ("out", "blur"))
        assert torch.equal(ours.patches, theirs.patches) and torch.equal(ours.plan.left, theirs.plan.left)


@pytest.mark.usefixtures("scorers")
def test_a_scorer_may_give_the_same_memory_for_each_image(quadtok, photos, tmp_path):
    for name in ("odd_scorers:one_buffer", "blur"):
        assert quadtok("tokenize", photos, "-o", tmp_path / name, "--scorer", name, *SMALL).code == 0
    for path in ("coffee.pt", "rocket.pt", "pets/cat.pt"):
        assert load_tokens(tmp_path / "odd_scorers:one_buffer" / path) == load_tokens(tmp_path / "blur" / path)


@pytest.mark.usefixtures("scorers")
@pytest.mark.parametrize("command", ["tokenize", "visualize"])
def test_what_a_scorer_prints_does_not_stand_between_the_data(quadtok, folder, tmp_path, command):
    result = quadtok(command, folder, "-o", tmp_path / "out", "--scorer", "odd_scorers:talks", *SMALL, "--json")
    assert result.code == 0
    assert [json.loads(line)["type"] for line in result.out.splitlines()] == ["file"] * 6 + ["summary"]
    assert all(text in result.err for text in ("printed", "written", "by a child"))


@pytest.mark.usefixtures("scorers")
@pytest.mark.parametrize("name", ["raises", "none", "arrays"])
def test_visualize_loses_that_image_alone_too(quadtok, folder, tmp_path, name):
    result = quadtok("visualize", folder, "-o", tmp_path / "out", "--scorer", f"odd_scorers:{name}", *SMALL)
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[0].startswith(f"quadtok: error: {folder / '2.png'}: {ODD_SCORERS[name]}")
    assert "5 written, 0 skipped, 1 failed" in result.lines[1]


@pytest.mark.usefixtures("scorers")
def test_fail_fast_stops_at_the_image_that_a_batch_failed_for(quadtok, folder, tmp_path):
    common = ["tokenize", folder, *SMALL, "-o", tmp_path / "out", "--scorer", "odd_scorers:raises", "--json"]
    result = quadtok(*common, "--fail-fast")
    statuses = {record.get("input"): record.get("status") for record in map(json.loads, result.out.splitlines())}
    assert statuses == {str(folder / "0.png"): "written", str(folder / "1.png"): "written"} | {
        str(folder / "2.png"): "failed",
        None: None,
    }
    assert "stopped: 2 written, 0 skipped, 1 failed, 3 left" in result.err


@pytest.mark.usefixtures("scorers")
@pytest.mark.parametrize(
    ("command", "flags", "tried"), [("tokenize", ["-b", 4], 16), ("tokenize", ["-b", 10], 20), ("visualize", [], 16)]
)
def test_a_scorer_that_never_works_stops_the_run_with_one_more_sentence(quadtok, tmp_path, command, flags, tried):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(30):
        Image.new("RGB", (64, 64)).save(many / f"{number:02}.png")
    result = quadtok(command, many, *SMALL, *flags, "-o", tmp_path / "out", "--scorer", "odd_scorers:always", "--json")
    assert result.code == 1
    assert result.lines == [
        f"quadtok: error: {many / '00.png'}: scorer odd_scorers:always failed: Odd: never works",
        f"quadtok: error: the scorer failed for each of the first {tried} images: stopped; see the first error above",
        f"quadtok: stopped: 0 written, 0 skipped, {tried} failed, {30 - tried} left",
    ]
    *files, summary = map(json.loads, result.out.splitlines())
    assert [record["status"] for record in files] == ["failed"] * tried
    assert summary["left"] == 30 - tried


@pytest.mark.usefixtures("scorers")
def test_few_images_that_a_scorer_fails_for_are_all_named(quadtok, folder, tmp_path):
    result = quadtok("tokenize", folder, *SMALL, "-o", tmp_path / "out", "--scorer", "odd_scorers:always")
    assert [line.split(": ")[2] for line in result.lines[:-1]] == [str(folder / f"{number}.png") for number in range(6)]
    assert "done: 0 written, 0 skipped, 6 failed" in result.lines[-1]


@pytest.mark.usefixtures("scorers")
def test_a_scorer_that_fails_at_first_and_works_then_goes_on(quadtok, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(30):
        Image.new("RGB", (64, 64), "white" if number < 12 else "black").save(many / f"{number:02}.png")
    result = quadtok("tokenize", many, *SMALL, "-b", 4, "-o", tmp_path / "out", "--scorer", "odd_scorers:raises")
    assert [line.split(": ")[2] for line in result.lines[:-1]] == [
        str(many / f"{number:02}.png") for number in range(12)
    ]
    assert "done: 18 written, 0 skipped, 12 failed" in result.lines[-1]


@pytest.mark.usefixtures("scorers")
def test_saliency_that_carries_gradients_is_written(quadtok, folder, tmp_path):
    assert quadtok("tokenize", folder, *SMALL, "-o", tmp_path / "out", "--scorer", "odd_scorers:learned").code == 0


@pytest.mark.usefixtures("scorers")
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (1, "cannot describe itself: Odd: what?"),
        (2, "describes itself with a int: it must be a dict"),
        (3, "cannot describe itself: TypeError"),
    ],
)
def test_a_scorer_that_cannot_describe_itself_is_refused_at_once(quadtok, folder, tmp_path, what, said):
    scorer = ["--scorer", "odd_scorers:Describes", "--scorer-option", f"what={what}"]
    result = quadtok("tokenize", folder, *SMALL, "-o", tmp_path / "out", *scorer)
    assert (result.code, len(result.lines)) == (2, 1)
    assert said in result.err


@pytest.mark.usefixtures("scorers")
def test_a_scorer_without_a_name_goes_by_what_was_typed(quadtok, folder, tmp_path):
    scorer = ["--scorer", "odd_scorers:Describes", "--scorer-option", "what=4"]
    assert quadtok("tokenize", folder / "0.png", *SMALL, "--output", tmp_path / "x.pt", *scorer).code == 0
    assert load_tokens(tmp_path / "x.pt").metadata["scorer"] == {"name": "odd_scorers:Describes", "own": "words"}


@pytest.mark.parametrize("line", ["raise SystemExit(0)", "1 / 0", "import sys; sys.path.clear()", "def x(:"])
def test_a_module_that_fails_or_ends_the_process_on_import_is_a_sentence(quadtok, photo, tmp_path, monkeypatch, line):
    (tmp_path / "fails_on_import.py").write_text(line)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "fails_on_import", raising=False)
    result = quadtok("tokenize", photo, "--scorer", "fails_on_import:score")
    assert (result.code, len(result.lines)) == (2, 1)
    assert "scorer fails_on_import:score cannot be loaded: " in result.err


class TestDebug:
    def test_the_traceback_of_one_input_is_shown_and_the_run_goes_on(self, quadtok, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "replace", raising_for("2.p", ForeignError(), os.replace))
        result = quadtok("--debug", "tokenize", folder, "-o", tmp_path / "out", "--scorer", "blur", *SMALL)
        assert result.lines[0] == sentence(folder / "2.png", ForeignError())
        assert "Traceback (most recent call last)" in result.err and "in raising_for" not in result.lines[0]
        assert "5 written, 0 skipped, 1 failed" in result.lines[-1]
        plain = quadtok("tokenize", folder, "-o", tmp_path / "again", "--scorer", "blur", *SMALL)
        assert (plain.code, len(plain.lines)) == (1, 2)

    def test_the_environment_may_ask_for_it(self, quadtok, tmp_path, monkeypatch):
        monkeypatch.setenv("QUADTOK_DEBUG", "1")
        assert "Traceback" in quadtok("info", tmp_path / "gone.pt").err
        monkeypatch.setenv("QUADTOK_DEBUG", "0")
        assert quadtok("info", tmp_path / "gone.pt").err == f"quadtok: error: {tmp_path / 'gone.pt'}: no such file\n"


def test_a_defect_outside_of_all_inputs_is_a_sentence_too(quadtok, photo, monkeypatch):
    def broken(*arguments):
        raise ForeignError

    monkeypatch.setattr(sys.modules["quadtok.cli.flags.inputs"], "find_sources", broken)
    result = quadtok("tokenize", photo)
    assert (result.code, len(result.lines)) == (1, 1)
    assert "error: ForeignError: two lines: a defect of quadtok; please report it" in result.err
    with pytest.raises(ForeignError):
        quadtok("--debug", "tokenize", photo)


def test_an_interrupt_before_the_work_begins_is_130(quadtok, photo, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["quadtok.cli.flags.inputs"], "find_sources", interrupted)
    assert quadtok("tokenize", photo).code == 130


def test_what_was_left_out_of_a_file_is_said_in_the_summary(quadtok, folder, tmp_path):
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "green", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    for command in ("tokenize", "visualize"):
        result = quadtok(command, folder, "-o", tmp_path / command, "--scorer", "blur", *SMALL, "--json")
        assert result.lines[-1].endswith("; 1 with further frames or previews, which were left out")
        *files, summary = map(json.loads, result.out.splitlines())
        assert {record["input"]: record["left_out"] for record in files} == {
            str(folder / f"{number}.png"): 0 for number in range(6)
        } | {str(folder / "moving.gif"): 2}
        assert summary["left_out"] == 1
    plain = quadtok("tokenize", folder / "0.png", "-o", tmp_path / "one", "--scorer", "blur", *SMALL)
    assert "left out" not in plain.err


COMMANDS = {
    "help": ["--help"],
    "tokenize help": ["tokenize", "--help"],
    "visualize help": ["visualize", "--help"],
    "reverse help": ["reverse", "--help"],
    "bench help": ["bench", "--help"],
    "info help": ["info", "--help"],
    "dry run": ["tokenize", "äöü 猫.png", "--dry-run"],
    "tokenize": ["tokenize", "äöü 猫.png", "-v", "--overwrite", "--scorer", "blur"],
    "a missing file": ["tokenize", "gäne 猫.png", "--scorer", "blur"],
    "a traceback": ["--debug", "info", "gäne 猫.pt"],
    "usage": ["tokenize", "--täkens", "4"],
    "info": ["info", "tök 猫.pt"],
    "check": ["info", "--check", "tök 猫.pt"],
    "environment": ["info"],
    "bench": ["bench", "äöü 猫.png", "--impl", "parallel", "-b", "1", "-s", "64", "-n", "16", "--min-time", "0"],
}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "ascii:strict"])
def test_what_a_terminal_cannot_show_is_escaped(photo, tmp_path, encoding):
    (tmp_path / "äöü 猫.png").write_bytes(photo.read_bytes())
    from quadtok.cli import run

    assert run(["tokenize", str(photo), "--output", str(tmp_path / "tök 猫.pt"), "--scorer", "blur", "-q"]) == 0
    script = (
        "import subprocess, sys, json, io\n"
        "from quadtok import cli\n"
        "for name, arguments in json.loads(sys.argv[1]).items():\n"
        "    sys.argv = ['quadtok', *arguments]\n"
        "    try:\n"
        "        cli.main()\n"
        "    except SystemExit as ended:\n"
        "        print(f'== {name} {ended.code}', file=sys.stderr, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    ended = subprocess.run(
        [sys.executable, "-c", script, json.dumps(COMMANDS)],
        cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said = ended.stderr.decode(encoding.partition(":")[0])
    codes = dict(line[3:].rsplit(" ", 1) for line in said.splitlines() if line.startswith("== "))
    assert codes == dict.fromkeys(COMMANDS, "0") | {"a missing file": "1", "a traceback": "1", "usage": "2"}, said
    assert "UnicodeEncodeError" not in said
    assert b"\\u732b" in ended.stdout and b"\\u732b" in ended.stderr


def test_a_full_stdout_is_a_sentence(tmp_path):
    ended = subprocess.run(
        f"{sys.executable} -m quadtok --version > /dev/full",
        shell=True, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing_and_no_file_takes_their_place(photo, tmp_path, closed):
    ended = subprocess.run(
        f"{sys.executable} -m quadtok tokenize {photo} gone.jpg -o out --scorer blur --json -v {closed}",
        cwd=tmp_path, shell=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert load_tokens(tmp_path / "out" / "coffee.pt").metadata["source"]["name"] == "coffee.jpg"
    assert (b"1 written, 0 skipped, 1 failed" in ended.stderr) == ("2>" not in closed)
    assert len(ended.stdout.splitlines()) == (0 if ">&-" in closed.split() else 3)


def test_a_working_folder_that_is_gone_is_a_sentence(quadtok, photo, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = quadtok("tokenize", photo, "-o", tmp_path / "out", "--scorer", "blur")
    assert result.code == 2
    assert result.lines == ["quadtok: error: the working folder is no longer there: cd to one that is"]


def test_a_closed_stdout_is_no_error(tmp_path):
    ended = subprocess.run(
        f"{sys.executable} -m quadtok --version >&-", shell=True, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
