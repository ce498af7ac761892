"""What a spec derives, what it refuses, and that the ways out it proposes are open."""

import dataclasses
import re
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch

from helpers import SPECS
from quadtok import QuadtokError, Spec
from quadtok.errors import SpecError


@pytest.mark.parametrize(
    ("spec", "scales", "roots", "cells", "splits", "grids"),
    [
        (Spec(256, 256, 16, 64, 100), 3, 16, 256, 28, [(16, 16), (8, 8), (4, 4)]),
        (Spec(448, 224, 14, 224, 50), 5, 2, 512, 16, [(32, 16), (16, 8), (8, 4), (4, 2), (2, 1)]),
        (Spec(32, 48, 16, 16, 6), 1, 6, 6, 0, [(2, 3)]),
    ],
)
def test_a_spec_derives_its_integers(spec, scales, roots, cells, splits, grids):
    assert (spec.num_scales, spec.num_roots, spec.num_cells, spec.num_splits) == (
        scales,
        roots,
        cells,
        splits,
    )
    assert [spec.grid(scale) for scale in range(scales)] == grids
    assert [spec.patch_size(scale) for scale in range(scales)] == [spec.min_patch * 2**k for k in range(scales)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_split_adds_three_tokens(spec):
    assert spec.num_tokens == spec.num_roots + 3 * spec.num_splits
    assert spec.patch_size(spec.num_scales - 1) == spec.max_patch


def test_a_spec_is_a_frozen_value():
    spec = Spec(256, 256, 16, 64, 100)
    assert spec == Spec(256, 256, 16, 64, 100) and spec != Spec(256, 256, 16, 64, 103)
    assert {spec: 1}[Spec(256, 256, 16, 64, 100)] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.height = 512


def test_any_integer_type_will_do_and_becomes_an_int():
    spec = Spec(np.int64(256), torch.tensor(256), np.uint8(16), torch.tensor(64, dtype=torch.int32), 100)
    assert spec == Spec(256, 256, 16, 64, 100)
    assert all(type(value) is int for value in dataclasses.astuple(spec))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Spec)])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (16.0, "{} must be an integer, got 16.0"),
        ("16", "{} must be an integer, got '16'"),
        (None, "{} must be an integer, got None"),
        (0, "{} must be at least 1, got 0"),
        (-64, "{} must be at least 1, got -64"),
    ],
)
def test_what_is_no_positive_integer_is_refused_by_name(name, value, sentence):
    good = {"height": 256, "width": 256, "min_patch": 16, "max_patch": 64, "num_tokens": 100}
    with pytest.raises(SpecError, match=f"^{re.escape(sentence.format(name))}$"):
        Spec(**{**good, name: value})


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (
            (256, 256, 16, 64, 101),
            "num_tokens 101 cannot be reached from 16 roots: each split adds 3. Try 100 or 103.",
        ),
        (
            (256, 256, 16, 64, 257),
            "num_tokens 257 is more than the 256 finest patches of the image: use 256 or fewer",
        ),
        (
            (256, 256, 16, 64, 13),
            "num_tokens 13 is fewer than the 16 roots, the patches of size max_patch: "
            "use 16 or 19, or a larger max_patch",
        ),
        (
            (32, 32, 16, 16, 1),
            "num_tokens 1 is fewer than the 4 roots, the patches of size max_patch: use 4, or a larger max_patch",
        ),
        (
            (192, 192, 16, 48, 16),
            "max_patch 48 is not min_patch 16 times a power of two: use max_patch 32 or 64",
        ),
        (
            (256, 256, 24, 64, 16),
            "max_patch 64 is not min_patch 24 times a power of two: use max_patch 48 or 96",
        ),
        ((256, 256, 16, 8, 16), "max_patch 8 is smaller than min_patch 16: use 16 or 32"),
        (
            (224, 224, 16, 64, 16),
            "height 224 is not a multiple of max_patch 64: use max_patch 32 or 56 with min_patch 14, or height 256",
        ),
        (
            (256, 240, 16, 64, 16),
            "width 240 is not a multiple of max_patch 64: use max_patch 16 or 16 with min_patch 4, or width 256",
        ),
        ((7, 8, 1, 4, 2), "height 7 is not a multiple of max_patch 4: use max_patch 1, or height 8"),
        (
            (250, 256, 16, 64, 16),
            "height 250 is not a multiple of max_patch 64: use height 256",
        ),
        ((13, 64, 16, 64, 16), "height 13 is not a multiple of max_patch 64: use height 64"),
    ],
)
def test_what_cannot_be_tiled_is_refused_with_numbers_and_a_way_out(numbers, sentence):
    with pytest.raises(SpecError, match=f"^{re.escape(sentence)}$"):
        Spec(*numbers)


@pytest.mark.parametrize(("min_patch", "max_patch"), [*product((1, 3, 14, 16), (1, 2, 3, 48, 100))])
def test_a_proposed_max_patch_is_legal(min_patch, max_patch):
    try:
        Spec.full(max_patch, max_patch, min_patch, max_patch)
    except SpecError as problem:
        proposals = re.findall(r"\d+", str(problem).partition(": use ")[2])
        assert len(proposals) == 2
        for proposed in map(int, proposals):
            assert Spec.full(proposed, proposed, min_patch, proposed).max_patch == proposed
    else:
        assert max_patch in {min_patch * 2**scale for scale in range(8)}


def ways_out(sentence, numbers):
    """The (height, width, min_patch, max_patch) that the refusal of a side proposes."""
    height, width, min_patch, max_patch = numbers
    side, ways = sentence.split()[0], sentence.partition(": use ")[2]
    for max_only in re.findall(r"max_patch (\d+)(?:,| or )", ways):
        yield height, width, min_patch, int(max_only)
    for other_max, other_min in re.findall(r"(\d+) with min_patch (\d+)", ways):
        yield height, width, int(other_min), int(other_max)
    for proposed in map(int, re.findall(rf"{side} (\d+)", ways)):
        # This way out speaks of the side it names: the other may be wrong in its turn.
        yield (proposed, max_patch, min_patch, max_patch) if side == "height" else (height, proposed, *numbers[2:])


@pytest.mark.parametrize("patches", [(1, 4), (1, 64), (3, 12), (14, 56), (16, 16), (16, 64), (5, 160)], ids=str)
def test_the_ways_out_of_a_wrong_side_are_open(patches):
    refused = 0
    for sides in product((7, 36, 224, 250, 1080), (8, 48, 224, 256, 1920)):
        numbers = (*sides, *patches)
        try:
            Spec.full(*numbers)
        except SpecError as problem:
            proposed = list(ways_out(str(problem), numbers))
            assert proposed, str(problem)
            assert all(Spec.full(*way).num_tokens >= 1 for way in proposed)
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_at_most_is_the_largest_reachable_count(spec):
    shape = (spec.height, spec.width, spec.min_patch, spec.max_patch)
    assert Spec.at_most(*shape, spec.num_tokens) == spec
    for budget in range(spec.num_roots, spec.num_cells + 4):
        reachable = [spec.num_roots + 3 * splits for splits in range((spec.num_cells - spec.num_roots) // 3 + 1)]
        assert Spec.at_most(*shape, budget).num_tokens == max(count for count in reachable if count <= budget)
    assert Spec.at_most(*shape, 10**12).num_tokens == spec.num_cells


def test_at_most_refuses_less_than_the_roots():
    with pytest.raises(SpecError, match=r"num_tokens 15 is fewer than the 16 roots.*use 16 or 19"):
        Spec.at_most(256, 256, 16, 64, 15)
    with pytest.raises(SpecError, match=r"num_tokens must be an integer, got 99\.5"):
        Spec.at_most(256, 256, 16, 64, 99.5)


def test_full_is_the_uniform_grid_of_finest_patches():
    assert Spec.full(224, 448, 14, 56).num_tokens == 16 * 32
    with pytest.raises(SpecError, match="height 230 is not a multiple of max_patch 64"):
        Spec.full(230, 256, 16, 64)
    with pytest.raises(SpecError, match="min_patch must be at least 1, got 0"):
        Spec.full(256, 256, 0, 64)


def test_refusals_are_quadtok_errors_and_value_errors():
    assert issubclass(SpecError, QuadtokError) and issubclass(SpecError, ValueError)


def test_a_count_out_of_reach_is_refused_under_python_o_too():
    """The reference checks with `assert`, which -O strips."""
    code = "from quadtok import Spec; Spec(256, 256, 16, 64, 101)"
    result = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "SpecError: num_tokens 101 cannot be reached from 16 roots" in result.stderr


@pytest.mark.parametrize("side", [2**31, 2**70], ids=str)
def test_a_side_whose_pixels_64_bits_cannot_count_is_refused(side):
    with pytest.raises(SpecError, match=f"height {side} is too large: a side has at most 2147483647 pixels"):
        Spec(side, side, side, side, 1)
    with pytest.raises(SpecError, match=f"width {side} is too large"):
        Spec.at_most(16, side, 16, 16, 10)


def test_a_number_that_python_would_not_print_is_refused_by_its_bits():
    with pytest.raises(SpecError, match="height is too large: a number of 20001 bits"):
        Spec(1 << 20000, 256, 16, 64, 100)
    with pytest.raises(SpecError, match="num_tokens is too large: a number of 20001 bits"):
        Spec(256, 256, 16, 64, -(1 << 20000))
