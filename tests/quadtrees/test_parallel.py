"""The records against their definition, the branch where they do not fit in one integer, and numpy's way."""

import math
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import (
    SALIENCY_KINDS,
    SPECS,
    assert_partition,
    assert_same_plan,
    best_first_by_definition,
    patches_in_tie_order,
    saliency_of_kind,
)
from quadtok import Plan, Spec
from quadtok.quadtrees import QUADTREES
from quadtok.quadtrees.base import node_ranks, plan_from_splits
from quadtok.quadtrees.dict_lookup import dict_lookup

# `quadtok.quadtrees.parallel` itself is the function, and so are others of that folder.
module, order, in_numpy = (
    import_module(f"quadtok.quadtrees.{name}") for name in ("parallel", "order", "parallel_numpy")
)

SMALL = [Spec(8, 24, 1, 8, 60), Spec(36, 12, 3, 12, 27), Spec(64, 64, 2, 64, 100), Spec(32, 96, 16, 32, 9)]
EIGHT_SCALES = Spec(128, 128, 1, 128, 1 + 3 * 700)


def random_ranks(spec, batch=2):
    """`[B, n]`: ranks from 1, distinct in each image."""
    nodes = len(patches_in_tie_order(spec))
    return torch.rand(batch, nodes, generator=torch.Generator().manual_seed(0)).argsort(dim=1) + 1


def records_by_definition(ranks, spec):
    """For each node the maximum of its path from the root, then of what follows it, and so on down to itself."""
    rank = dict(zip(patches_in_tie_order(spec), ranks, strict=True))
    for scale, left, top in patches_in_tie_order(spec):
        sizes = [(above, spec.patch_size(above)) for above in range(spec.num_scales - 1, scale - 1, -1)]
        path = [rank[above, left - left % size, top - top % size] for above, size in sizes]
        records = []
        while path:
            records.append(max(path))
            path = path[path.index(records[-1]) + 1 :]
        yield tuple(records)


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_path_records_are_the_suffix_maxima_of_the_path(spec):
    ranks = random_ranks(spec)
    digits = torch.stack(order.path_records(ranks, spec), dim=2)  # [B, n, levels]
    for image in range(2):
        expected = records_by_definition(ranks[image].tolist(), spec)
        padded = [[*records, *[0] * (spec.num_scales - 1 - len(records))] for records in expected]
        assert digits[image].tolist() == padded


@pytest.mark.parametrize("kind", ["random", "tied", "constant", "infinite", "nan"])
@pytest.mark.parametrize("spec", [Spec.full(8, 24, 1, 8), Spec.full(36, 12, 3, 12), Spec.full(32, 32, 1, 32)], ids=str)
def test_best_first_splitting_pops_nodes_in_the_order_of_their_records(spec, kind):
    """The claim of the module, on its own: no plan, no packing."""
    saliency = saliency_of_kind(kind, spec, batch=1)
    records = list(records_by_definition(node_ranks(saliency, spec)[0].tolist(), spec))
    nodes = patches_in_tie_order(spec)
    by_records = [nodes[place] for place in sorted(range(len(nodes)), key=records.__getitem__)]
    assert by_records == best_first_by_definition(saliency, spec)


def digits_of(spec, batch=2):
    return order.path_records(random_ranks(spec, batch), spec)


@pytest.mark.parametrize("bits", [1, 8, 16, 24, 63])
@pytest.mark.parametrize("spec", [*SMALL, EIGHT_SCALES], ids=str)
def test_packing_keeps_the_order_of_the_records_in_63_bits(spec, bits, monkeypatch):
    monkeypatch.setattr(order, "INT64_BITS", bits)
    digits = digits_of(spec, batch=1)
    keys = order.packed(digits)
    assert all(key.min() >= 0 for key in keys)
    # Compared as Python's integers, which do not overflow.
    records, packed = (list(zip(*(part[0].tolist() for part in parts), strict=True)) for parts in (digits, keys))
    nodes = range(len(records))
    assert sorted(nodes, key=packed.__getitem__) == sorted(nodes, key=records.__getitem__)


def test_there_are_as_few_integers_as_hold_the_digits(monkeypatch):
    digits = digits_of(Spec(64, 64, 2, 64, 100))  # 341 nodes, 5 levels: base 342 takes 9 bits
    for bits, integers in [(63, 1), (45, 1), (44, 2), (27, 2), (26, 3), (9, 5), (1, 5)]:
        monkeypatch.setattr(order, "INT64_BITS", bits)
        assert len(order.packed(digits)) == integers


@pytest.mark.parametrize("count", [0, 1, 7, 84, 85])
def test_the_smallest_are_found_by_many_integers_as_by_one(count):
    digits = digits_of(Spec(64, 64, 4, 64, 100), batch=4)  # 85 nodes
    (one_key,) = order.packed(digits)
    by_one, by_many = order.smallest([one_key], count), order.smallest(digits, count)
    assert by_one.shape == by_many.shape == (4, count)
    assert torch.equal(by_one.sort(dim=1).values, by_many.sort(dim=1).values)
    assert torch.equal(by_many, one_key.argsort(dim=1)[:, :count])


@pytest.mark.parametrize("kind", ["random", "tied", "constant", "infinite"])
def test_eight_scales_need_several_integers_and_give_the_plan_of_dict(kind, device):
    spec = EIGHT_SCALES
    nodes, levels = len(patches_in_tie_order(spec)), spec.num_scales - 1
    assert (nodes + 1) ** levels > 2**63
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, spec, batch=2)]
    assert len(order.packed(order.path_records(node_ranks(saliency, spec) + 1, spec))) > 1
    plan = module.parallel_torch(saliency, spec)
    assert_partition(plan)
    assert_same_plan(plan, dict_lookup(saliency, spec))
    assert_same_plan(module.parallel(saliency, spec), plan)


@pytest.mark.parametrize("bits", [1, 20])
@pytest.mark.parametrize("kind", SALIENCY_KINDS)
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.num_scales > 1], ids=str)
def test_the_plan_does_not_depend_on_how_many_integers_are_used(spec, kind, bits, device, monkeypatch):
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, spec)]
    plan = dict_lookup(saliency, spec)
    assert_same_plan(module.parallel_torch(saliency, spec), plan)
    monkeypatch.setattr(order, "INT64_BITS", bits)
    assert_same_plan(module.parallel_torch(saliency, spec), plan)


@pytest.mark.parametrize("bits", [1, 63])
@pytest.mark.parametrize("kind", ["random", "constant", "nan"])
@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_the_split_order_is_that_of_best_first_splitting_and_holds_every_budget(spec, kind, bits, device, monkeypatch):
    monkeypatch.setattr(order, "INT64_BITS", bits)
    full = Spec.full(spec.height, spec.width, spec.min_patch, spec.max_patch)
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, spec, batch=2)]
    splits, nodes = order.split_order(saliency, spec), patches_in_tie_order(spec)
    for image in range(2):
        in_order = [nodes[number] for number in splits[image].tolist()]
        assert in_order == best_first_by_definition(saliency, full, image)
    assert_same_plan(plan_from_splits(splits[:, : spec.num_splits], spec), module.parallel(saliency, spec))


def test_with_one_scale_there_is_nothing_to_order():
    assert order.split_order([], Spec(32, 32, 16, 16, 4)).shape == (1, 0)


NARROW = [Spec(256, 256, 16, 64, 100), Spec(36, 12, 3, 12, 27), Spec(512, 512, 8, 128, 400), Spec(64, 64, 2, 64, 100)]


@pytest.mark.parametrize("spec", NARROW, ids=str)
def test_a_level_of_maximums_gives_the_records_as_digits(spec):
    """The number of a node is the very number that its records spell, digit by digit."""
    ranks = random_ranks(spec)
    digit_bits = ranks.shape[1].bit_length()
    (numbers,) = order.record_keys(ranks, spec)
    spelled = torch.zeros_like(ranks)
    for digit in order.path_records(ranks, spec):
        spelled = (spelled << digit_bits) + digit
    assert torch.equal(numbers, spelled)


class CountOperations(TorchDispatchMode):
    """Counts what would be kernel launches on a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += 1
        return function(*arguments, **(keywords or {}))


def test_the_number_of_operations_does_not_grow_with_the_number_of_splits():
    spec = Spec(256, 256, 4, 64, 16)
    saliency = saliency_of_kind("random", spec)
    counts = {}
    for name in ("parallel", "zcurve"):
        for num_tokens in (19, 1000, 4096):
            with CountOperations() as operations:
                QUADTREES[name](saliency, replace(spec, num_tokens=num_tokens))
            counts[name, num_tokens] = operations.count
    assert counts["parallel", 19] == counts["parallel", 1000] == counts["parallel", 4096]
    assert counts["zcurve", 19] < counts["zcurve", 1000] < counts["zcurve", 4096]


def some_saliency(batch=2, spec=SMALL[1]):
    return saliency_of_kind("random", spec, batch)


class Subclass(torch.Tensor):
    """May stand for anything."""


def left_of(*saliency):
    return module.parallel(saliency, SMALL[1]).left


def left_in_a_mode(saliency):
    with CountOperations():
        return left_of(*saliency)


FOLLOWED = {
    "compiled": lambda saliency: torch.compile(left_of, fullgraph=True, backend="eager")(*saliency),
    "traced": lambda saliency: make_fx(left_of)(*saliency)(*saliency),
    "in a mode": left_in_a_mode,
    "functionalized": lambda saliency: torch.func.functionalize(left_of)(*saliency),
    "mapped": lambda saliency: torch.vmap(left_of)(*(scores[None] for scores in saliency))[0],
    "a subclass": lambda saliency: left_of(*(scores.as_subclass(Subclass) for scores in saliency)),
    "partly a parameter": lambda saliency: left_of(torch.nn.Parameter(saliency[0]), *saliency[1:]),
}


def refuse(*_):
    raise AssertionError("numpy looked at the numbers")


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap about its own loop
@pytest.mark.parametrize("how", FOLLOWED)
def test_numpy_does_not_look_where_operations_are_followed(how, monkeypatch):
    torch._dynamo.reset()
    saliency = some_saliency()
    expected = left_of(*saliency)
    monkeypatch.setattr(module, "parallel_numpy", refuse)
    assert torch.equal(FOLLOWED[how](saliency).as_subclass(torch.Tensor), expected)


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and says so
def test_numpy_does_not_look_while_torch_jit_traces(monkeypatch):
    """It would write this saliency's plan into the trace."""
    monkeypatch.setattr(module, "parallel_numpy", refuse)
    monkeypatch.setattr(module, "parallel_torch", lambda saliency, spec: Plan(*saliency, saliency[0] * 2, spec))
    saliency = some_saliency()
    assert torch.equal(torch.jit.trace(left_of, saliency, check_trace=False)(*saliency), saliency[0])


def test_numpy_does_not_look_at_what_has_no_numbers(monkeypatch):
    monkeypatch.setattr(module, "parallel_numpy", refuse)
    assert left_of(*(scores.to("meta") for scores in some_saliency())).is_meta


def test_numpy_looks_at_numbers_in_memory(monkeypatch):
    monkeypatch.setattr(module, "parallel_torch", refuse)
    left_of(*some_saliency())


def test_a_view_that_negates_is_read_with_its_sign():
    saliency = some_saliency()
    views = [torch.complex(scores, scores).conj().imag for scores in saliency]
    assert all(view.is_neg() for view in views)
    assert_same_plan(module.parallel(views, SMALL[1]), dict_lookup([-scores for scores in saliency], SMALL[1]))


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
    found = [set(in_numpy.descending_bits(np.array(line, np.uint32).view(np.float32)).tolist()) for line in lines]
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
    assert_same_plan(in_numpy.parallel_numpy(saliency, spec), expected)
    assert_same_plan(module.parallel_torch(saliency, spec), expected)


def rounds_of(saliency, spec, monkeypatch):
    """How often numpy's way asks for the next records; its plan is checked."""
    rounds, maxima = [], in_numpy.path_maxima
    monkeypatch.setattr(in_numpy, "path_maxima", lambda *arguments: rounds.append(1) or maxima(*arguments))
    assert_same_plan(in_numpy.parallel_numpy(saliency, spec), dict_lookup(saliency, spec))
    return len(rounds)


@pytest.mark.parametrize("kind", SALIENCY_KINDS)
@pytest.mark.parametrize("spec", [*SMALL, EIGHT_SCALES, Spec(256, 256, 4, 64, 1000)], ids=str)
def test_there_are_no_more_rounds_than_levels_however_many_splits(spec, kind, monkeypatch):
    assert 1 <= rounds_of(saliency_of_kind(kind, spec), spec, monkeypatch) <= spec.num_scales - 1


def test_where_finer_is_more_salient_every_record_of_a_path_is_needed(monkeypatch):
    """Split are the root, its first quadrant, the first quadrant of that, and so on."""
    spec = Spec(16, 16, 1, 16, 1 + 3 * 4)
    saliency = [torch.full((1, *spec.grid(scale)), -float(scale)) for scale in range(1, 5)]
    assert rounds_of(saliency, spec, monkeypatch) == 4


def test_patches_of_more_pixels_than_32_bits_count():
    spec = Spec(2**29, 2**30, 2**27, 2**29, 2 + 3 * 4)
    saliency = some_saliency(spec=spec)
    assert_same_plan(in_numpy.parallel_numpy(saliency, spec), dict_lookup(saliency, spec))
