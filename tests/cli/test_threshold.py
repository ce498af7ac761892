"""`--threshold`: each image has as many tokens as it needs, and its file says why."""

import json
from dataclasses import replace

import pytest

from quadtok import Spec, get_scorer, load_tokens, tokenize
from quadtok.images import fit_image, read_image
from quadtok.jobs import tokenize_files

SPEC = Spec(256, 256, 16, 64, 256)
FLAGS = ["--scorer", "blur", "--threshold", "0.75"]


def pixels_of(path):
    return fit_image(read_image(path).image, 256, 256, "crop").pixels[None]


@pytest.fixture
def tokens(quadtok, photos, tmp_path):
    assert quadtok("tokenize", photos, "-o", tmp_path / "tokens", *FLAGS).code == 0
    return tmp_path / "tokens"


def test_a_file_holds_what_the_library_gives_above_the_threshold(photos, tokens):
    lengths = set()
    for name, path in (("coffee", "coffee.jpg"), ("rocket", "rocket.png"), ("pets/cat", "pets/cat.jpg")):
        found = load_tokens(tokens / f"{name}.pt")
        assert found == tokenize(pixels_of(photos / path), SPEC, "blur", threshold=0.75).unpadded(0)
        assert (found.metadata["threshold"], found.metadata["tokens_requested"]) == (0.75, "100%")
        lengths.add(found.plan.spec.num_tokens)
    assert len(lengths) == 3


def test_tokens_is_the_most(quadtok, photos, tokens, tmp_path):
    assert quadtok("tokenize", photos, "-o", tmp_path / "most", *FLAGS, "--tokens", "40").code == 0
    for name in ("coffee", "rocket", "pets/cat"):
        free, capped = (load_tokens(folder / f"{name}.pt") for folder in (tokens, tmp_path / "most"))
        assert capped.plan.spec.num_tokens == min(40, free.plan.spec.num_tokens)


def test_native_sizes_have_a_share_as_the_most(quadtok, photos, tmp_path):
    assert quadtok("tokenize", photos, "-o", tmp_path, *FLAGS, "-s", "native", "--tokens", "50%").code == 0
    for path in tmp_path.glob("*.pt"):
        spec = load_tokens(path).plan.spec
        assert spec.num_tokens <= spec.num_cells // 2


def test_another_threshold_is_another_run(quadtok, photo, tmp_path):
    arguments = ("tokenize", photo, "-o", tmp_path, "--scorer", "blur")
    assert quadtok(*arguments, "--threshold", "0.75").code == 0
    assert "1 skipped" in quadtok(*arguments, "--threshold", "0.75").err
    for other in (["--threshold", "0.8"], []):
        result = quadtok(*arguments, *other)
        assert (result.code, "give --overwrite" in result.err or "overwrite" in result.err) == (1, True)


def test_what_is_said_of_an_image_are_its_own_tokens(quadtok, photo, tmp_path):
    result = quadtok("tokenize", photo, "-o", tmp_path, *FLAGS, "--json", "--overlay")
    line, summary = map(json.loads, result.out.splitlines())
    tokens = load_tokens(tmp_path / "coffee.pt")
    assert (line["tokens"], line["scales"]) == (tokens.plan.spec.num_tokens, tokens.plan.counts[0].tolist())
    assert summary["settings"]["threshold"] == 0.75
    assert "above threshold 0.75, at most 100%" in quadtok("info", tmp_path / "coffee.pt").out


def test_python_writes_the_same_bytes(photos, tokens, tmp_path):
    tokenize_files(photos, tmp_path / "python", scorer="blur", threshold=0.75, device="cpu")
    for path in tokens.rglob("*.pt"):
        assert (tmp_path / "python" / path.relative_to(tokens)).read_bytes() == path.read_bytes()


def test_pictures_of_photographs_have_their_own_tokens(quadtok, photo, tmp_path):
    result = quadtok("visualize", photo, *FLAGS, "--tokens", "40,100%", "-o", tmp_path)
    assert (result.code, [path.name for path in tmp_path.glob("*.png")]) == (0, ["coffee.sheet.png"])
    result = quadtok("visualize", photo, "--scorer", "blur", "--tokens", "40,100%", "-o", tmp_path)
    assert "1 skipped" not in result.err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--threshold", "0.75"], None),
        (["--threshold", "0.75", "--tokens", "100%"], None),
        (["--threshold", "0.8"], "--threshold asks for 0.8, the token file holds 0.75"),
        (["--tokens", "160"], "--tokens asks for 160, the token file holds 100%"),
    ],
)
def test_a_token_file_agrees_with_its_own_threshold_alone(quadtok, tokens, tmp_path, flags, sentence):
    result = quadtok("visualize", tokens / "coffee.pt", *flags, "-o", tmp_path / "drawn")
    assert result.code == (0 if sentence is None else 1)
    assert sentence is None or sentence in result.err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "high", ""])
@pytest.mark.parametrize("command", ["tokenize", "visualize"])
def test_what_is_no_threshold_is_refused(quadtok, photo, tmp_path, command, value):
    result = quadtok(command, photo, "-o", tmp_path, "--scorer", "blur", "--threshold", value)
    assert result.code == 2
    assert "--threshold" in result.err


def test_a_threshold_that_a_file_does_not_hold_is_not_believed(quadtok, tokens, tmp_path):
    from quadtok import save_tokens

    known = load_tokens(tokens / "coffee.pt")
    for threshold in ("high", None, [1], True, 10**400):
        odd = replace(known, metadata={**known.metadata, "threshold": threshold})
        save_tokens(tmp_path / "odd.pt", odd, metadata=odd.metadata)
        assert "above threshold" not in quadtok("info", tmp_path / "odd.pt").out


def test_apts_thresholds_are_typed_as_apt_gives_them(quadtok, photo, tmp_path):
    apt = ["--scorer", "entropy", "--scorer-option", "thresholds=5.75,4.0", "--threshold", "0"]
    assert quadtok("tokenize", photo, "-o", tmp_path, *apt).code == 0
    found = load_tokens(tmp_path / "coffee.pt")
    scorer = get_scorer("entropy", thresholds=(5.75, 4.0))
    assert found.plan == tokenize(pixels_of(photo), SPEC, scorer, threshold=0.0).unpadded(0).plan
    assert found.metadata["scorer"] == {"name": "entropy", "thresholds": [5.75, 4.0]}
    result = quadtok("tokenize", photo, "-o", tmp_path / "one", *apt[:3], "thresholds=4", *apt[4:])
    assert "the entropy scorer has 1 thresholds and the spec has 2 scales that can be split" in result.err
