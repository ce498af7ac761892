"""Properties over drawn geometries and saliencies; what fails is shrunk to the smallest case."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_partition, assert_same_plan, boxes, split_patches
from quadtok import Spec
from quadtok.quadtrees import QUADTREES, get_quadtree

# Derandomised: a run depends on the code alone, so CI does not fail by chance.
drawn = settings(deadline=None, max_examples=120, derandomize=True, database=None)
VALUES = [0.0, -0.0, 1.0, 2.0, 0.5, -1.0, 1e30, -1e30, math.inf, -math.inf, math.nan, -math.nan]


@st.composite
def specs(draw):
    min_patch, scales = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    max_patch = min_patch << (scales - 1)
    height, width = (max_patch * draw(st.integers(1, 3)) for _ in range(2))
    full = Spec.full(height, width, min_patch, max_patch)
    splits = draw(st.integers(0, (full.num_tokens - full.num_roots) // 3))
    return Spec(height, width, min_patch, max_patch, full.num_roots + 3 * splits)


@st.composite
def cases(draw, values=tuple(VALUES), max_batch=3):
    """(saliency, spec); one drawn byte a node chooses its value."""
    spec, batch = draw(specs()), draw(st.integers(1, max_batch))
    saliency = []
    for scale in range(1, spec.num_scales):
        rows, cols = spec.grid(scale)
        count = batch * rows * cols
        drawn_bytes = draw(st.binary(min_size=count, max_size=count))
        numbers = [values[byte % len(values)] for byte in drawn_bytes]
        saliency.append(torch.tensor(numbers, dtype=torch.float64).view(batch, rows, cols))
    return saliency, spec


@drawn
@given(cases())
def test_all_quadtrees_give_one_plan_and_it_tiles_the_image_exactly_once(case):
    saliency, spec = case
    plans = {name: quadtree(saliency, spec) for name, quadtree in QUADTREES.items()}
    assert_partition(plans["dict"])
    for plan in plans.values():
        assert_same_plan(plan, plans["dict"])


@drawn
@given(cases())
def test_there_are_num_tokens_tokens_and_num_splits_splits(case):
    saliency, spec = case
    plan = get_quadtree()(saliency, spec)
    assert plan.left.shape == (saliency[0].shape[0], spec.num_tokens)
    for image in range(len(plan)):
        assert len(set(boxes(plan, image))) == spec.num_tokens
        assert len(split_patches(plan, image)) == spec.num_splits


@drawn
@given(cases(), st.data())
def test_an_image_has_one_plan_in_every_company(case, data):
    saliency, spec = case
    order = data.draw(st.lists(st.integers(0, saliency[0].shape[0] - 1), min_size=1, max_size=4))
    for quadtree in QUADTREES.values():
        together = quadtree(saliency, spec)
        mixed = quadtree([scores[order] for scores in saliency], spec)
        for place, image in enumerate(order):
            assert_same_plan(mixed[place], together[image])
            assert_same_plan(quadtree([scores[image : image + 1] for scores in saliency], spec), together[image])


@drawn
@given(cases(max_batch=1))
def test_a_larger_budget_splits_what_a_smaller_one_split_and_one_more(case):
    saliency, spec = case
    if spec.num_tokens == spec.num_cells:
        return
    larger = Spec(spec.height, spec.width, spec.min_patch, spec.max_patch, spec.num_tokens + 3)
    for quadtree in QUADTREES.values():
        before, after = (split_patches(quadtree(saliency, budget)) for budget in (spec, larger))
        assert before < after
        assert len(after) == len(before) + 1


@drawn
@given(cases(values=tuple(range(-8, 9))), st.integers(-(10**12), 10**12))
def test_adding_an_integer_to_integer_saliencies_changes_nothing(case, shift):
    saliency, spec = case
    for quadtree in QUADTREES.values():
        assert_same_plan(quadtree([scores + shift for scores in saliency], spec), quadtree(saliency, spec))


@drawn
@given(cases(max_batch=1))
def test_no_patch_that_waits_has_a_wider_bottleneck_than_one_that_was_split(case):
    """A patch's bottleneck is the smallest saliency on its path from the root: what lies below has to wait for it."""
    saliency, spec = case
    plan = get_quadtree()(saliency, spec)

    def bottleneck(finest, left, top):
        sizes = ((scale, spec.patch_size(scale)) for scale in range(finest, spec.num_scales))
        path = [saliency[scale - 1][0, top // size, left // size].item() for scale, size in sizes]
        return min(-math.inf if math.isnan(value) else value for value in path)

    tokens = zip(plan.scale[0].tolist(), plan.left[0].tolist(), plan.top[0].tolist(), strict=True)
    waiting = [bottleneck(*token) for token in tokens if token[0] > 0]
    taken = [bottleneck(*patch) for patch in split_patches(plan)]
    assert min(taken, default=math.inf) >= max(waiting, default=-math.inf)
