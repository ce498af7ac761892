"""The records against their definition, and numbers of few bits, in which they do not fit."""

import pytest
import torch

from helpers import (
    SALIENCY_KINDS,
    SPECS,
    assert_same_plan,
    best_first_by_definition,
    patches_in_tie_order,
    saliency_of_kind,
)
from quadtok import Spec
from quadtok.quadtrees.base import node_ranks, plan_from_splits
from quadtok.quadtrees.dict_lookup import dict_lookup
from quadtok.quadtrees.order import packed, path_records, record_keys, smallest, split_order

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
    digits = torch.stack(path_records(ranks, spec), dim=2)  # [B, n, levels]
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
    """The records of all nodes, and a base that is above them."""
    return path_records(random_ranks(spec, batch), spec), len(patches_in_tie_order(spec)) + 1


@pytest.mark.parametrize("bits", [1, 8, 16, 24, 63])
@pytest.mark.parametrize("spec", [*SMALL, EIGHT_SCALES], ids=str)
def test_packing_keeps_the_order_of_the_records(spec, bits):
    digits, base = digits_of(spec, batch=1)
    keys = packed(digits, base, bits)
    assert all(key.min() >= 0 for key in keys)
    # Compared as Python's integers, which do not overflow.
    records, numbers = (list(zip(*(part[0].tolist() for part in parts), strict=True)) for parts in (digits, keys))
    nodes = range(len(records))
    assert sorted(nodes, key=numbers.__getitem__) == sorted(nodes, key=records.__getitem__)


def test_there_are_as_few_integers_as_hold_the_digits():
    digits, base = digits_of(Spec(64, 64, 2, 64, 100))  # 341 nodes, 5 levels: base 342 takes 9 bits
    for bits, integers in [(63, 1), (45, 1), (44, 2), (27, 2), (26, 3), (9, 5), (1, 5)]:
        assert len(packed(digits, base, bits)) == integers


@pytest.mark.parametrize("count", [0, 1, 7, 84, 85])
def test_the_smallest_are_found_by_many_integers_as_by_one(count):
    digits, base = digits_of(Spec(64, 64, 4, 64, 100), batch=4)  # 85 nodes
    (one_key,) = packed(digits, base)
    by_one, by_many = smallest([one_key], count), smallest(digits, count)
    assert by_one.shape == by_many.shape == (4, count)
    assert torch.equal(by_one.sort(dim=1).values, by_many.sort(dim=1).values)
    assert torch.equal(by_many, one_key.argsort(dim=1)[:, :count])


@pytest.mark.parametrize("kind", ["random", "tied", "constant", "infinite"])
def test_the_records_of_eight_scales_need_several_integers(kind, device):
    nodes, levels = len(patches_in_tie_order(EIGHT_SCALES)), EIGHT_SCALES.num_scales - 1
    assert (nodes + 1) ** levels > 2**63
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, EIGHT_SCALES, batch=2)]
    keys = record_keys(node_ranks(saliency, EIGHT_SCALES, first=1), EIGHT_SCALES)
    assert len(keys) > 1
    splits = smallest(keys, EIGHT_SCALES.num_splits)
    assert_same_plan(plan_from_splits(splits, EIGHT_SCALES), dict_lookup(saliency, EIGHT_SCALES))


@pytest.mark.parametrize("bits", [1, 20, 63])
@pytest.mark.parametrize("kind", SALIENCY_KINDS)
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.num_scales > 1], ids=str)
def test_the_plan_does_not_depend_on_how_many_integers_are_used(spec, kind, bits, device):
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, spec)]
    splits = smallest(record_keys(node_ranks(saliency, spec, first=1), spec, bits), spec.num_splits)
    assert_same_plan(plan_from_splits(splits, spec), dict_lookup(saliency, spec))


@pytest.mark.parametrize("kind", ["random", "constant", "nan"])
@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_the_split_order_is_that_of_best_first_splitting_and_holds_every_budget(spec, kind, device):
    full = Spec.full(spec.height, spec.width, spec.min_patch, spec.max_patch)
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, spec, batch=2)]
    splits, nodes = split_order(saliency, spec), patches_in_tie_order(spec)
    for image in range(2):
        in_order = [nodes[number] for number in splits[image].tolist()]
        assert in_order == best_first_by_definition(saliency, full, image)
    assert_same_plan(plan_from_splits(splits[:, : spec.num_splits], spec), dict_lookup(saliency, spec))
    in_many_integers = record_keys(node_ranks(saliency, spec, first=1), spec, bits=1)
    assert torch.equal(smallest(in_many_integers, len(nodes), in_order=True), splits)


def test_with_one_scale_there_is_nothing_to_order():
    assert split_order([], Spec(32, 32, 16, 16, 4)).shape == (1, 0)


NARROW = [Spec(256, 256, 16, 64, 100), Spec(36, 12, 3, 12, 27), Spec(512, 512, 8, 128, 400), Spec(64, 64, 2, 64, 100)]


@pytest.mark.parametrize("spec", NARROW, ids=str)
def test_a_level_of_maximums_gives_the_records_as_digits(spec):
    """The number of a node is the very number that its records spell, digit by digit."""
    ranks = random_ranks(spec)
    digit_bits = ranks.shape[1].bit_length()
    (numbers,) = record_keys(ranks, spec)
    spelled = torch.zeros_like(ranks)
    for digit in path_records(ranks, spec):
        spelled = (spelled << digit_bits) + digit
    assert torch.equal(numbers, spelled)
