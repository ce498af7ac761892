from fractions import Fraction

import pytest

from quadtok.cli.flags import Grid
from quadtok.cli.flags.grid import parse_budget, parse_size
from quadtok.cli.flags.scorer import parse_options
from quadtok.errors import InputError, SpecError
from quadtok.geometry import Budget


@pytest.mark.parametrize(
    ("text", "size"),
    [("256", (256, 256)), ("384x512", (384, 512)), ("384×512", (384, 512)), ("native", None)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "256x", "-256", "1.5", "256x256x3", "9" * 5000])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(InputError, match="--image-size .* is none of N, HxW and native"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("100", Budget(count=100)),
        ("40%", Budget(share=Fraction(2, 5))),
        ("12.5%", Budget(share=Fraction(1, 8))),
        ("100%", Budget(share=Fraction(1))),
    ],
)
def test_budgets(text, budget):
    assert parse_budget(text) == budget
    assert str(budget) == text


@pytest.mark.parametrize("text", ["", "many", "1.5", "-3", "0%", "101%", "40 %", "%", "9" * 5000])
def test_other_texts_are_no_budgets(text):
    with pytest.raises(InputError, match="--tokens"):
        parse_budget(text)


def geometry(image_size="256", fit=None, **flags):
    return Grid(image_size=image_size, **flags).geometry(fit)


def test_a_fixed_size_wants_a_reachable_count():
    assert geometry().spec(256, 256).num_tokens == 100
    with pytest.raises(SpecError, match="Try 100 or 103"):
        geometry(tokens="101")


@pytest.mark.parametrize(("tokens", "count"), [("40%", 100), ("39.9%", 100), ("39%", 97), ("100%", 256), ("6.25%", 16)])
def test_a_percentage_is_rounded_down_to_a_reachable_count(tokens, count):
    assert geometry(tokens=tokens).spec(256, 256).num_tokens == count


def test_a_percentage_below_the_roots_is_refused():
    with pytest.raises(SpecError, match="fewer than the 16 roots"):
        geometry(tokens="5%")


@pytest.mark.parametrize(("size", "count"), [((448, 640), 100), ((64, 64), 16), ((64, 128), 32), ((448, 704), 98)])
def test_any_count_with_native_sizes_is_rounded_down(size, count):
    assert geometry("native").spec(*size).num_tokens == count


def test_native_sizes_check_the_patch_sizes_at_once():
    with pytest.raises(SpecError, match="use max_patch 48 or 96"):
        geometry("native", min_patch=12)


def test_the_fit_is_crop_for_fixed_and_pad_for_native_sizes():
    assert geometry().fit == "crop"
    assert geometry("native").fit == "pad"
    assert geometry("native", fit="squash").fit == "squash"


def test_scorer_options_are_typed():
    assert parse_options(["stride=16", "high_res_fraction=0.5", "error=mse"]) == {
        "stride": 16,
        "high_res_fraction": 0.5,
        "error": "mse",
    }
    with pytest.raises(InputError, match="'stride' is not of the form key=value"):
        parse_options(["stride"])
