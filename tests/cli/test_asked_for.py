"""A token file holds its plan already: what the flags ask for agrees with it, or is refused."""

import pytest

from quadtok.cli.flags import FLAGS
from quadtok.errors import InputError
from quadtok.geometry import parse_budget
from quadtok.jobs.asked_for import AskedFor
from quadtok.spec import Spec

SPEC = Spec(256, 256, 16, 64, 100)


@pytest.fixture
def tokens(quadtok, photo, tmp_path):
    assert quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur").code == 0
    return tmp_path / "coffee.pt"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--tokens", "40"], "--tokens asks for 40, the token file holds 100"),
        (["--tokens", "100%"], "--tokens asks for 256, the token file holds 100"),
        (["--scorer", "random"], "--scorer asks for random, the token file holds blur"),
        (["--compare", "random"], "--scorer asks for random, the token file holds blur"),
        (["--image-size", "512"], "--image-size asks for 512x512, the token file holds 256x256"),
        (["--image-size", "native"], "--image-size asks for native, the token file holds 256x256"),
        (["--min-patch", "8"], "--min-patch asks for 8, the token file holds 16"),
        (["--max-patch", "32"], "--max-patch asks for 32, the token file holds 64"),
        (["--compare", "blur,random"], "a token file holds one plan; to compare, give the photograph"),
        (["--tokens", "40,100"], "a token file holds one plan; to compare, give the photograph"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_file_does_not_hold_is_refused_with_both(quadtok, tokens, tmp_path, flags, sentence):
    result = quadtok("visualize", tokens, *flags, "-o", tmp_path / "drawn")
    assert (result.code, (tmp_path / "drawn").exists()) == (1, False)
    assert result.lines[0].startswith(f"quadtok: error: {tokens}: {sentence}")


def test_it_is_refused_where_its_picture_is_there_too(quadtok, tokens, tmp_path):
    assert quadtok("visualize", tokens, "-o", tmp_path / "drawn").code == 0
    result = quadtok("visualize", tokens, "--tokens", "40", "-o", tmp_path / "drawn")
    assert (result.code, "0 written, 0 skipped, 1 failed" in result.err) == (1, True)
    assert result.lines[0].startswith(f"quadtok: error: {tokens}: --tokens asks for 40, the token file holds 100")


@pytest.mark.parametrize(
    "flags",
    [[], ["--scorer", "blur"], ["--compare", "blur"], ["--tokens", "100", "-s", "256"], ["--tokens", "40%"]],
    ids=" ".join,
)
def test_what_it_holds_is_drawn(quadtok, tokens, tmp_path, flags):
    assert quadtok("visualize", tokens, *flags, "-o", tmp_path / "drawn").code == 0


def test_a_photograph_beside_it_takes_every_flag(quadtok, photo, tokens, tmp_path):
    result = quadtok("visualize", photo, tokens, "-n", "40", "--scorer", "blur", "--fit", "pad", "--keep-ext")
    assert (result.code, "1 written, 0 skipped, 1 failed" in result.err) == (1, True)


def test_a_native_file_is_native():
    native = AskedFor(words=FLAGS, size="native")
    native.check("x.pt", SPEC, "blur", "native")
    with pytest.raises(InputError, match="--image-size asks for native"):
        native.check("x.pt", SPEC, "blur", None)


def test_a_file_that_records_no_scorer_agrees_with_none():
    AskedFor(words=FLAGS, budgets=(parse_budget("100"),)).check("x.pt", SPEC, "", None)
    with pytest.raises(InputError, match="--scorer asks for blur, the token file holds none that it records"):
        AskedFor(words=FLAGS, scorers=("blur",)).check("x.pt", SPEC, "", None)
