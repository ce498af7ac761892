"""The checkers pass what is right and fail what is wrong; the grids of cases hold what they promise."""

import pytest
import torch

from helpers import (
    GOLDEN,
    GOLDEN_INDEX,
    SALIENCY_KINDS,
    SPECS,
    assert_partition,
    assert_same_plan,
    assert_same_up_to_ties,
    best_first_by_definition,
    boxes,
    boxes_by_scale,
    order_by_scale,
    patches_in_tie_order,
    random_saliency,
    saliency_of_kind,
    split_patches,
    z_order_key,
)
from quadtok import Plan, Spec

# Two roots of 8 pixels side by side; the left one is split, and of its quadrants the top right one.
SPEC = Spec(8, 16, 2, 8, 8)
BOXES = [(0, 0, 4), (4, 0, 2), (6, 0, 2), (4, 2, 2), (6, 2, 2), (0, 4, 4), (4, 4, 4), (8, 0, 8)]


def plan_of(tokens, spec=SPEC):
    left, top, size = torch.tensor(tokens).T
    return Plan(left[None], top[None], (size // spec.min_patch).log2().long()[None], spec)


def replaced(index, box):
    return [*BOXES[:index], box, *BOXES[index + 1 :]]


def test_a_partition_passes():
    assert_partition(plan_of(BOXES))


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(replaced(1, (6, 0, 2)), id="one box twice, one missing"),
        pytest.param(replaced(0, (0, 0, 8)), id="a box over others"),
        pytest.param(replaced(7, (8, 0, 4)), id="a gap"),
        pytest.param(replaced(0, (2, 0, 4)), id="off the grid"),
        pytest.param(replaced(7, (16, 0, 8)), id="right of the image"),
        pytest.param(replaced(7, (8, 8, 8)), id="below the image"),
        pytest.param([BOXES[1], BOXES[0], *BOXES[2:]], id="not in z-order"),
        pytest.param([*BOXES[:5], BOXES[6], BOXES[5], BOXES[7]], id="siblings swapped"),
        pytest.param([*BOXES, (8, 0, 8)], id="a token too many"),
        pytest.param([(0, 0, 8), (8, 0, 8)], id="tokens missing, though they tile"),
    ],
)
def test_what_is_no_partition_fails(tokens):
    with pytest.raises(AssertionError):
        assert_partition(plan_of(tokens))


def test_a_scale_that_the_spec_does_not_have_is_no_partition():
    with pytest.raises(AssertionError):
        assert_partition(Plan(*torch.tensor([[[0]], [[0]], [[1]]]), Spec(2, 2, 2, 2, 1)))


def test_every_image_of_a_batch_is_looked_at():
    good, bad = plan_of(BOXES), plan_of(replaced(7, (8, 0, 4)))
    fields = (torch.cat([getattr(plan, name) for plan in (good, bad)]) for name in ("left", "top", "scale"))
    with pytest.raises(AssertionError):
        assert_partition(Plan(*fields, SPEC))


def test_z_order_goes_by_roots_in_raster_order_then_by_quadrants():
    assert z_order_key(0, 0, SPEC) == (0, 0, 0, 0)
    assert z_order_key(6, 0, SPEC) == (0, 0, 1, 1)
    assert z_order_key(0, 6, SPEC) == (0, 0, 2, 2)
    assert z_order_key(14, 4, SPEC) == (0, 1, 3, 1)


def test_patches_in_tie_order_start_with_the_roots():
    assert patches_in_tie_order(SPEC)[:5] == [(2, 0, 0), (2, 8, 0), (1, 0, 0), (1, 4, 0), (1, 0, 4)]
    assert len(patches_in_tie_order(SPEC)) == 2 + 8
    assert len(patches_in_tie_order(SPEC, finest=0)) == 2 + 8 + 32


def test_the_split_patches_are_the_ancestors_of_the_tokens():
    assert boxes(plan_of(BOXES)) == BOXES
    assert split_patches(plan_of(BOXES)) == {(2, 0, 0), (1, 4, 0)}


def test_best_first_by_definition_descends_into_what_it_opened():
    low, high = torch.tensor([[[9.0, 1], [1, 1]] * 2]), torch.tensor([[[1.0], [2]]])
    spec = Spec(16, 8, 2, 8, 2 + 3 * 3)
    assert best_first_by_definition([low, high], spec) == [(2, 0, 8), (1, 0, 8), (2, 0, 0)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda plan: Plan(plan.left + 8, plan.top, plan.scale, plan.spec), id="left"),
        pytest.param(lambda plan: Plan(plan.left, plan.top + 8, plan.scale, plan.spec), id="top"),
        pytest.param(lambda plan: Plan(plan.left, plan.top, plan.scale + 1, plan.spec), id="scale"),
        pytest.param(lambda plan: Plan(plan.left.flip(1), plan.top, plan.scale, plan.spec), id="order"),
        pytest.param(lambda plan: Plan(plan.left.int(), plan.top, plan.scale, plan.spec), id="dtype"),
        pytest.param(lambda plan: Plan(plan.left, plan.top, plan.scale, Spec(16, 8, 2, 8, 8)), id="spec"),
    ],
)
def test_plans_that_differ_in_anything_are_not_the_same(change):
    plan = plan_of(BOXES)
    assert_same_plan(plan, plan_of(BOXES))
    with pytest.raises(AssertionError):
        assert_same_plan(plan, change(plan))
    with pytest.raises(AssertionError):
        assert_same_plan(change(plan), plan)


def test_boxes_by_scale_are_in_the_order_of_the_goldens():
    ordered = boxes_by_scale(plan_of(BOXES[::-1]))
    assert ordered.dtype == torch.int32
    assert ordered[0].tolist() == sorted(map(list, BOXES), key=lambda box: (box[2], box[1], box[0]))
    assert order_by_scale(plan_of(BOXES))[0].tolist() == [1, 2, 3, 4, 0, 5, 6, 7]


class TestUpToTies:
    """`BOXES` splits the second quadrant of the left root, `OTHER` the first."""

    OTHER = plan_of([(0, 0, 2), (2, 0, 2), (0, 2, 2), (2, 2, 2), (4, 0, 4), (0, 4, 4), (4, 4, 4), (8, 0, 8)])
    ROOTS = torch.tensor([[[5.0, 0]]])

    def test_the_same_plan_passes(self):
        assert_same_up_to_ties(self.OTHER, self.OTHER, [torch.rand(1, 2, 4), self.ROOTS])

    def test_splits_of_one_saliency_may_be_swapped(self):
        fine = torch.tensor([[[3.0, 3, 0, 0], [1, 1, 0, 0]]])
        assert_same_up_to_ties(plan_of(BOXES), self.OTHER, [fine, self.ROOTS])

    def test_splits_of_different_saliency_may_not(self):
        fine = torch.tensor([[[3.0, 3.5, 0, 0], [1, 1, 0, 0]]])
        with pytest.raises(AssertionError, match=r"image 0: splits differ at saliency \[3\.0, 3\.5\]"):
            assert_same_up_to_ties(plan_of(BOXES), self.OTHER, [fine, self.ROOTS])

    def test_what_a_tied_split_opened_may_differ_too(self):
        left = plan_of([*BOXES[:7], (8, 0, 8)])
        right = plan_of([(0, 0, 8), *((x + 8, y, size) for x, y, size in BOXES[:7])])
        fine = torch.tensor([[[0.0, 7, 0, 6], [0, 0, 0, 0]]])
        assert_same_up_to_ties(left, right, [fine, torch.tensor([[[5.0, 5]]])])
        with pytest.raises(AssertionError, match=r"image 0: splits differ at saliency \[5\.0, 6\.0\]"):
            assert_same_up_to_ties(left, right, [fine, torch.tensor([[[5.0, 6]]])])

    def test_another_number_of_splits_fails(self):
        fewer = plan_of([(0, 0, 4), (4, 0, 4), (0, 4, 4), (4, 4, 4), (8, 0, 8)])
        with pytest.raises(AssertionError):
            assert_same_up_to_ties(plan_of(BOXES), fewer, [torch.zeros(1, 2, 4), self.ROOTS])


def test_each_kind_of_saliency_is_what_its_name_says():
    kinds = {
        kind: torch.cat([scores.flatten() for scores in saliency_of_kind(kind, SPECS[0])]) for kind in SALIENCY_KINDS
    }
    assert kinds["random"].unique().numel() > 0.99 * kinds["random"].numel()
    assert kinds["tied"].unique().numel() == 5
    assert kinds["constant"].unique().numel() == 1
    assert set(kinds["signed zeros"].signbit().tolist()) == {True, False} and (kinds["signed zeros"] == 0).all()
    assert kinds["infinite"].isposinf().any() and kinds["infinite"].isneginf().any()
    assert kinds["nan"].isnan().any() and kinds["nan"].isneginf().any()
    both = kinds["nans of both signs"]
    assert set(both[both.isnan()].signbit().tolist()) == {True, False}
    assert (kinds["shifted by -1e12"] < -1e11).all() and (kinds["shifted by +1e12"] > 1e11).all()
    assert kinds["half"].dtype == torch.float16 and kinds["bfloat16"].dtype == torch.bfloat16


def test_saliency_has_the_shapes_of_the_spec_and_depends_on_the_seed():
    first, same, other = (random_saliency(SPECS[5], batch=2, seed=seed) for seed in (0, 0, 1))
    assert [tuple(scores.shape) for scores in first] == [(2, 1, 3)]
    assert torch.equal(first[0], same[0]) and not torch.equal(first[0], other[0])


def test_the_specs_cover_what_their_comment_says():
    assert any(spec.height < spec.width for spec in SPECS) and any(spec.height > spec.width for spec in SPECS)
    assert {spec.num_scales for spec in SPECS} >= {1, 2, 3, 4, 5, 7}
    assert {spec.min_patch for spec in SPECS} >= {1, 3, 14, 16}
    assert any(spec.num_splits == 0 and spec.num_scales > 1 for spec in SPECS)
    assert any(spec.num_tokens == spec.num_cells and spec.num_scales > 1 for spec in SPECS)


def test_every_golden_of_the_index_is_there():
    files = {path.stem for path in GOLDEN.iterdir()} - {"index"}
    assert files == set(GOLDEN_INDEX)
