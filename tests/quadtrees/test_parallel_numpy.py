"""numpy's way, bit by bit: the floats of every type, and saliency that needs every round."""

import math
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import SALIENCY_KINDS, assert_same_plan, saliency_of_kind
from quadtok import Spec
from quadtok.quadtrees.dict_lookup import dict_lookup
from quadtok.quadtrees.parallel_numpy import descending_bits, parallel_numpy

# `quadtok.quadtrees.parallel` is the function that stands in the module of that name.
parallel_torch = import_module("quadtok.quadtrees.parallel").parallel_torch

SMALL = [Spec(8, 24, 1, 8, 60), Spec(36, 12, 3, 12, 27), Spec(64, 64, 2, 64, 100), Spec(32, 96, 16, 32, 9)]


def test_a_view_that_negates_is_read_with_its_sign():
    spec = SMALL[1]
    saliency = saliency_of_kind("random", spec, batch=2)
    views = [torch.complex(scores, scores).conj().imag for scores in saliency]
    assert all(view.is_neg() for view in views)
    assert_same_plan(parallel_numpy(views, spec), dict_lookup([-scores for scores in saliency], spec))


# Smallest to largest; what is equal shares a line.
FLOATS_BY_BITS = [
    [0xFF800000],  # -inf
    [0xFF7FFFFF],
    [0xBF800000],  # -1
    [0x80800000],
    [0x807FFFFF],  # subnormal
    [0x80000001],
    [0x80000000, 0x00000000],  # both zeros
    [0x00000001],
    [0x007FFFFF],
    [0x00800000],
    [0x3F800000],
    [0x7F7FFFFF],
    [0x7F800000],
]
NANS = [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF]  # quiet, signalling, of both signs


def test_bits_fall_as_the_values_rise_and_are_largest_for_every_nan():
    lines = [NANS, *FLOATS_BY_BITS]
    found = [set(descending_bits(np.array(line, np.uint32).view(np.float32)).tolist()) for line in lines]
    assert all(len(bits) == 1 for bits in found)
    bits = [min(line) for line in found]
    assert bits == sorted(bits, reverse=True) and len(set(bits)) == len(bits)
    assert min(bits) > 0  # with the node's number in the lower half, above every number


ODD_BITS = {
    torch.float16: (torch.int16, [0, 0x8000, 1, 0x8001, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7C01]),
    torch.bfloat16: (torch.int16, [0, 0x8000, 1, 0x8001, 0x3F80, 0xBF80, 0x7F80, 0xFF80, 0x7FC0, 0xFFC0, 0x7F81]),
    torch.float32: (torch.int32, [*(bits for line in FLOATS_BY_BITS for bits in line), *NANS]),
    torch.float64: (torch.int64, [bits << 48 for bits in (0, 0x8000, 0x3FF0, 0xBFF0, 0x7FF0, 0xFFF0, 0x7FF8, 0xFFF8)]),
}


def signed(bits, integer):
    return bits - (1 << torch.iinfo(integer).bits) if bits > torch.iinfo(integer).max else bits


@st.composite
def odd_saliency(draw, spec):
    """Scales of one float type or of several; a drawn byte a node chooses its bits."""
    one, saliency = draw(st.sampled_from([None, *ODD_BITS])), []
    for scale in range(1, spec.num_scales):
        dtype = one or draw(st.sampled_from([*ODD_BITS]))
        integer, alphabet = ODD_BITS[dtype]
        count = 2 * math.prod(spec.grid(scale))
        chosen = [alphabet[byte % len(alphabet)] for byte in draw(st.binary(min_size=count, max_size=count))]
        numbers = torch.tensor([signed(bits, integer) for bits in chosen], dtype=integer)
        saliency.append(numbers.view(dtype).view(2, *spec.grid(scale)))
    return saliency


@settings(deadline=None, max_examples=300, derandomize=True, database=None)
@given(st.data())
def test_odd_floats_of_every_type_give_the_plan_of_dict_both_ways(data):
    full = Spec.full(*data.draw(st.sampled_from([(8, 16, 2, 8), (12, 12, 3, 12), (16, 16, 1, 16)])))
    splits = data.draw(st.integers(0, full.num_splits))
    spec = replace(full, num_tokens=full.num_roots + 3 * splits)
    saliency = data.draw(odd_saliency(spec))
    expected = dict_lookup(saliency, spec)
    assert_same_plan(parallel_numpy(saliency, spec), expected)
    assert_same_plan(parallel_torch(saliency, spec), expected)


@pytest.mark.parametrize("kind", SALIENCY_KINDS)
@pytest.mark.parametrize("spec", [*SMALL, Spec(128, 128, 1, 128, 2101), Spec(256, 256, 4, 64, 1000)], ids=str)
def test_any_kind_gives_the_plan_of_dict(spec, kind):
    saliency = saliency_of_kind(kind, spec)
    assert_same_plan(parallel_numpy(saliency, spec), dict_lookup(saliency, spec))


@pytest.mark.parametrize("levels", range(1, 8))
def test_where_finer_is_more_salient_every_record_of_a_path_is_needed_and_asked_for(levels):
    """Split are the root, its first quadrant, the first quadrant of that, and so on: as many rounds as levels."""
    side = 2**levels
    spec = Spec(side, side, 1, side, 1 + 3 * levels)
    saliency = [torch.full((1, *spec.grid(scale)), -float(scale)) for scale in range(1, levels + 1)]
    assert_same_plan(parallel_numpy(saliency, spec), dict_lookup(saliency, spec))


def test_patches_of_more_pixels_than_32_bits_count():
    spec = Spec(2**29, 2**30, 2**27, 2**29, 2 + 3 * 4)
    saliency = saliency_of_kind("random", spec, batch=2)
    assert_same_plan(parallel_numpy(saliency, spec), dict_lookup(saliency, spec))
