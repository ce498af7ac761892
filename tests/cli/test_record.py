"""Metadata is anybody's JSON: whatever stands in it, a legal token file is described, drawn and compared."""

import json

import pytest
import torch
from PIL import Image

from helpers import SAMPLE_IMAGES
from odd_metadata import GARBAGE, WELL_FORMED
from quadtok import Spec, Tokens, load_tokens, save_tokens, tokenize

SPEC = Spec(64, 64, 16, 32, 7)


def odd_metadata():
    """Each entry, on both levels, replaced by each piece of garbage, or left out."""
    yield from ({**WELL_FORMED, name: value} for name in WELL_FORMED for value in GARBAGE)
    for name in ("scorer", "source", "preprocess"):
        for entry in WELL_FORMED[name]:
            without = {key: value for key, value in WELL_FORMED[name].items() if key != entry}
            yield {**WELL_FORMED, name: without}
            yield from ({**WELL_FORMED, name: {**without, entry: value}} for value in GARBAGE)
    yield from ({}, {"scorer": "blur"}, {"source": ["cat.jpg"]}, {"source": {"name": "cat.jpg"}})
    yield from ({"preprocess": {"fit": "x"}}, {"preprocess": {"size": None, "exif": "no", "draft": True}})
    yield {"dtype": 5, "quadtok": [], "torch": None, "grid": "x", "token_order": 3, "scales": 1, "channels": {}}


ODD = list(odd_metadata())


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    with Image.open(SAMPLE_IMAGES / "chelsea.jpg") as image:
        pixels = torch.tensor(list(image.resize((64, 64)).tobytes()), dtype=torch.uint8).view(1, 64, 64, 3)
    return tokenize(pixels.permute(0, 3, 1, 2), SPEC, "blur")


@pytest.fixture
def folder(tokens, tmp_path):
    """A token file for each odd metadata."""
    (tmp_path / "tokens").mkdir()
    for number, metadata in enumerate(ODD):
        save_tokens(tmp_path / "tokens" / f"{number:03}.pt", tokens, metadata=metadata)
    return tmp_path / "tokens"


def test_info_describes_every_one(quadtok, folder):
    result = quadtok("info", folder)
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == 7 * len(ODD)
    assert "\x1b" not in result.out
    records = [json.loads(line) for line in quadtok("info", folder, "--json").out.splitlines()]
    assert [record["status"] for record in records[:-1]] == ["good"] * len(ODD)
    assert all(record["num_tokens"] == 7 and record["grid"] == [4, 4] for record in records[:-1])


def test_visualize_draws_every_one(quadtok, folder, tmp_path):
    result = quadtok("visualize", folder, "-o", tmp_path / "out", "--style", "mini")
    assert (result.code, len(result.lines)) == (0, 1)
    assert f"{len(ODD)} written" in result.err


@pytest.mark.parametrize("number", range(0, len(ODD), 7))
def test_a_photograph_is_read_beside_any_of_them(quadtok, folder, photo, tmp_path, number):
    path = folder / f"{number:03}.pt"
    drawn = quadtok("visualize", path, "--image", photo, "--output", tmp_path / "x.png")
    compared = quadtok("reverse", path, "--against", photo, "--output", tmp_path / "y.png")
    for result in (drawn, compared):
        assert "Traceback" not in result.err and "Error:" not in result.err
        assert result.code == 0 or "the tokens are of 64×64 pixels" in result.err  # recorded as native


def test_the_geometry_in_the_description_is_the_plans(tokens, tmp_path):
    from quadtok.storage.content import describe_tokens

    save_tokens(tmp_path / "x.pt", tokens, metadata={"grid": "x"})
    held = load_tokens(tmp_path / "x.pt")
    held.metadata.update(grid="x", num_tokens=-1, quadtok="0.0.9")
    facts = describe_tokens(held)
    assert (facts["grid"], facts["num_tokens"], facts["quadtok"]) == ([4, 4], 7, "0.0.9")
