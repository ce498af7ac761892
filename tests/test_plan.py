"""A plan against painting: boxes drawn cell by cell share no code with the arithmetic on z-order numbers."""

import math

import pytest
import torch

from helpers import (
    SPECS,
    assert_partition,
    assert_same_plan,
    boxes,
    saliency_of_kind,
    z_order_key,
)
from quadtok import Plan, Spec
from quadtok.errors import InputError
from quadtok.plan import from_z_order, to_z_order
from quadtok.quadtrees import get_quadtree

SPLITTABLE = [spec for spec in SPECS if spec.num_scales > 1]
FIELDS = ("left", "top", "scale")


def plan_of(spec, batch=3, seed=0):
    return get_quadtree()(saliency_of_kind("random", spec, batch, seed), spec)


def shuffled(plan, seed=0):
    """The same tokens in another order in each image."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(plan.left.shape, generator=generator).argsort(dim=1)
    return Plan(*(getattr(plan, name).gather(1, order) for name in FIELDS), plan.spec)


def fields(plan):
    return [getattr(plan, name).clone() for name in FIELDS]


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
def test_from_boxes_brings_any_order_into_the_one_order(spec):
    plan = plan_of(spec)
    mixed = shuffled(plan)
    assert plan.spec.num_tokens < 3 or not torch.equal(mixed.first_cell(), plan.first_cell())
    assert_same_plan(Plan.from_boxes(*fields(mixed), spec), plan)
    assert_same_plan(Plan.from_boxes(*(field.to(torch.int16) for field in fields(mixed)), spec), plan)


# Each spoils image 1 of a plan for Spec(256, 256, 16, 64, 100) whose last token is a finest patch.
def doubled(left, top, scale):
    left[1, 5], top[1, 5], scale[1, 5] = left[1, 6], top[1, 6], scale[1, 6]


def coarser(left, top, scale):
    token = int((scale[1] == 0).nonzero()[0])
    left[1, token], top[1, token], scale[1, token] = left[1, token] // 32 * 32, top[1, token] // 32 * 32, 1


def finer(left, top, scale):
    scale[1, int((scale[1] == 1).nonzero()[0])] = 0


def off_grid(left, top, scale):
    left[1, 7] += 1


def off_its_own_grid(left, top, scale):
    left[1, int((scale[1] == 1).nonzero()[0])] += 16


def outside(left, top, scale):
    left[1, 99] = 256


def negative(left, top, scale):
    top[1, 0] = -64


def unknown_scale(left, top, scale):
    scale[1, 3] = 3


def negative_scale(left, top, scale):
    scale[1, 3] = -1


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (doubled, r"tokens do not tile image 1 exactly once: the break is at token \d+"),
        (coarser, r"tokens do not tile image 1 exactly once: the break is at token \d+"),
        (finer, r"tokens do not tile image 1 exactly once: the break is at token \d+"),
        (off_grid, "token 7 of image 1 lies off the grid of its scale or outside the image"),
        (off_its_own_grid, r"token \d+ of image 1 lies off the grid of its scale or outside the image"),
        (outside, "token 99 of image 1 lies off the grid of its scale or outside the image"),
        (negative, "token 0 of image 1 lies off the grid of its scale or outside the image"),
        (unknown_scale, "token 3 of image 1 lies off the grid of its scale or outside the image"),
        (negative_scale, "token 3 of image 1 lies off the grid of its scale or outside the image"),
    ],
)
def test_boxes_that_do_not_tile_are_refused_naming_the_image(spoil, sentence):
    plan = plan_of(Spec(256, 256, 16, 64, 100))
    spoilt = fields(plan)
    spoil(*spoilt)
    with pytest.raises(InputError, match=sentence):
        Plan.from_boxes(*spoilt, plan.spec)


@pytest.mark.parametrize("position", range(3))
def test_fields_of_another_shape_are_refused_by_name(position):
    plan = plan_of(Spec(256, 256, 16, 64, 100))
    short = fields(plan)
    short[position] = short[position][:, :-1]
    with pytest.raises(InputError, match=rf"{FIELDS[position]} has shape \[3, 99\], the spec asks for \[3, 100\]"):
        Plan.from_boxes(*short, plan.spec)


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
@pytest.mark.parametrize("reorder", [lambda plan: plan, shuffled], ids=["canonical", "shuffled"])
def test_cell_to_token_is_what_painting_the_boxes_gives(spec, reorder):
    plan = reorder(plan_of(spec))
    p = spec.min_patch
    painted = torch.full((len(plan), *spec.grid(0)), -1)
    for image in range(len(plan)):
        for token, (left, top, size) in enumerate(boxes(plan, image)):
            painted[image, top // p : (top + size) // p, left // p : (left + size) // p] = token
    assert torch.equal(plan.cell_to_token, painted)


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
def test_sizes_and_centers_follow_from_the_boxes(spec):
    plan = plan_of(spec)
    assert plan.centers.dtype == torch.float32 and plan.size.dtype == torch.int64
    for image in range(len(plan)):
        scales = plan.scale[image].tolist()
        assert plan.size[image].tolist() == [spec.patch_size(scale) for scale in scales]
        middles = [(left + size / 2, top + size / 2) for left, top, size in boxes(plan, image)]
        # One division and one sum of float32: two roundings, at coordinates below 100.
        expected = torch.tensor(middles) / spec.min_patch
        torch.testing.assert_close(plan.centers[image], expected, rtol=2**-22, atol=0)


def test_a_finest_patch_of_column_i_has_its_center_at_i_and_a_half():
    assert Plan.uniform(Spec(28, 42, 14, 14, 6), scale=0).centers[0].tolist() == [
        [0.5, 0.5], [1.5, 0.5], [2.5, 0.5],
        [0.5, 1.5], [1.5, 1.5], [2.5, 1.5],
    ]  # fmt: skip


@pytest.mark.parametrize("scale", range(3))
def test_a_uniform_plan_holds_every_patch_of_its_scale(scale):
    size = 16 << scale
    spec = Spec(128, 192, 16, 64, 128 * 192 // size**2)
    plan = Plan.uniform(spec, scale, batch=2)
    assert len(plan) == 2
    assert (plan.scale == scale).all()
    assert_partition(plan)


def test_an_index_gives_one_image_as_a_batch_of_one():
    plan = plan_of(Spec(256, 256, 16, 64, 100))
    for index in (0, 2, -1, -3):
        one = plan[index]
        assert len(one) == 1
        assert torch.equal(one.left[0], plan.left[index]) and torch.equal(one.scale[0], plan.scale[index])
    assert_same_plan(Plan(*(torch.cat(field) for field in zip(*map(fields, plan), strict=True)), plan.spec), plan)


def test_a_slice_gives_a_plan_of_those_images():
    plan = plan_of(Spec(256, 256, 16, 64, 100))
    assert len(plan) == 3 and len(plan[1:]) == 2 and len(plan[3:]) == 0
    assert_same_plan(plan[1:][0], plan[1])


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_named(index):
    with pytest.raises(IndexError, match=f"image {index} of a plan for 3 images"):
        plan_of(Spec(256, 256, 16, 64, 100))[index]


def test_a_plan_moves_as_a_whole(device):
    plan = plan_of(Spec(256, 256, 16, 64, 100))
    moved = plan.to(device)
    assert {getattr(moved, name).device.type for name in FIELDS} == {torch.device(device).type}
    assert {moved.size.device, moved.centers.device, moved.cell_to_token.device} == {moved.left.device}
    assert torch.equal(moved.cell_to_token.cpu(), plan.cell_to_token)
    assert_same_plan(Plan.from_boxes(*(field.to(device) for field in fields(shuffled(plan))), plan.spec), plan)


@pytest.mark.parametrize(
    ("rows", "cols", "depth"), [(4, 4, 2), (4, 8, 2), (6, 2, 1), (3, 5, 0), (8, 24, 3), (32, 32, 5)]
)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_z_order_and_back_is_the_identity_and_follows_the_definition(rows, cols, depth, batch):
    grid = torch.arange(math.prod(batch) * rows * cols).view(*batch, rows, cols)
    line = to_z_order(grid, depth)
    assert line.shape == (*batch, rows * cols)
    assert torch.equal(from_z_order(line, rows, cols, depth), grid)
    spec = Spec.full(rows, cols, 1, 2**depth)
    cells = sorted(range(rows * cols), key=lambda cell: z_order_key(cell % cols, cell // cols, spec))
    assert line.view(-1, rows * cols)[0].tolist() == cells


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_first_cells_say_it_all(spec):
    plan = Plan.uniform(spec, 0, batch=2) if spec.num_scales == 1 else plan_of(spec)
    first = plan.first_cell()
    assert (first.diff(dim=1) > 0).all()
    assert_same_plan(Plan.from_first_cells(first, spec), plan)


def test_first_cells_are_cut_points_on_the_line():
    """Two roots of 16 cells each; the first is split, and of its quadrants the second."""
    plan = Plan.from_first_cells(torch.tensor([[0, 4, 5, 6, 7, 8, 12, 16]]), Spec(8, 16, 2, 8, 8))
    assert boxes(plan) == [
        (0, 0, 4), (4, 0, 2), (6, 0, 2), (4, 2, 2), (6, 2, 2), (0, 4, 4), (4, 4, 4), (8, 0, 8),
    ]  # fmt: skip
