"""A plan against painting: boxes drawn cell by cell share no code with the arithmetic on z-order numbers."""

import io

import pytest
import torch

from helpers import (
    SPECS,
    assert_partition,
    assert_same_plan,
    boxes,
    saliency_of_kind,
)
from quadtok import Plan, Spec
from quadtok.bench import peak_bytes
from quadtok.errors import InputError, QuadtokError
from quadtok.quadtrees import QUADTREES, get_quadtree

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
    assert not torch.equal(mixed.first_cell(), plan.first_cell())
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


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_counts_say_how_many_tokens_of_each_scale_an_image_has(spec, device):
    plan = Plan.uniform(spec, 0, batch=2) if spec.num_scales == 1 else plan_of(spec)
    counts = plan.to(device).counts
    assert (counts.dtype, counts.device.type, counts.shape) == (torch.int64, device, (len(plan), spec.num_scales))
    for image in range(len(plan)):
        sizes = [size for _, _, size in boxes(plan, image)]
        assert counts[image].tolist() == [sizes.count(spec.patch_size(scale)) for scale in range(spec.num_scales)]
    assert plan[:0].counts.shape == (0, spec.num_scales)


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


class TestEquality:
    """One bool: the same spec and the same integers."""

    def test_plans_of_the_same_integers_are_equal_however_they_were_made(self, device):
        spec = Spec(256, 256, 16, 64, 100)
        saliency = saliency_of_kind("random", spec)
        plan = get_quadtree("dict")(saliency, spec)
        assert plan == plan
        assert all((get_quadtree(name)(saliency, spec) == plan) is True for name in QUADTREES)
        assert (plan.to(device) == plan, plan == plan.to(device)) == (True, True)
        assert Plan(plan.left.int(), plan.top.int(), plan.scale.to(torch.uint8), spec) == plan
        assert plan[0] == plan[:1]
        assert plan[:0] == plan[3:]

    @pytest.mark.parametrize("field", FIELDS)
    def test_one_integer_makes_a_plan_another(self, field):
        plan = plan_of(Spec(256, 256, 16, 64, 100))
        changed = {name: getattr(plan, name).clone() for name in FIELDS}
        changed[field][2, 99] += 1
        assert (plan == Plan(**changed, spec=plan.spec)) is False
        assert plan != Plan(**changed, spec=plan.spec)

    def test_another_spec_or_number_of_images_makes_a_plan_another(self):
        plan = Plan.uniform(Spec(64, 64, 16, 64, 16), 0)
        assert plan != Plan.uniform(Spec(64, 64, 16, 32, 16), 0)
        assert plan != Plan.uniform(Spec(64, 64, 16, 64, 16), 0, batch=2)

    @pytest.mark.parametrize("other", [None, 1, "plan", (1, 2), torch.zeros(3, 100)], ids=repr)
    def test_a_plan_is_nothing_else(self, other):
        assert (plan_of(Spec(256, 256, 16, 64, 100)) == other) is False

    def test_plans_without_numbers_cannot_be_compared_but_with_themselves(self):
        plan = Plan.uniform(Spec(64, 64, 16, 64, 16), 0).to("meta")
        assert plan == plan
        with pytest.raises(InputError, match="plans on the device meta hold no numbers that could be compared"):
            _ = plan == Plan.uniform(Spec(64, 64, 16, 64, 16), 0)

    def test_plans_have_no_hash_because_equal_ones_would_need_the_same(self):
        with pytest.raises(TypeError, match="unhashable"):
            hash(Plan.uniform(Spec(64, 64, 16, 64, 16), 0))


@pytest.mark.parametrize("boxes", [3.0, True, 1j, "1", None], ids=repr)
@pytest.mark.parametrize("field", FIELDS)
def test_boxes_that_are_no_integers_are_refused_by_name(field, boxes):
    plan = Plan.uniform(Spec(64, 64, 16, 64, 16), 0)
    odd = torch.full((1, 16), boxes) if isinstance(boxes, float | bool | complex) else boxes
    with pytest.raises(InputError, match=f"{field} of a plan must be integers .*got (torch|str|None)"):
        Plan.from_boxes(**{name: getattr(plan, name) for name in FIELDS} | {field: odd}, spec=plan.spec)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda field: field.to_sparse(), "left of a plan must be numbers in memory, got a tensor torch.sparse_coo"),
        (lambda field: field.to("meta"), "left of a plan must be numbers in memory, got a tensor .* on meta"),
        (lambda field: field[0], r"left has shape \[16\], the spec asks for \[16, 16\]"),
        (lambda field: field[0, 0], r"left has shape \[\], the spec asks for \[1, 16\]"),
        (lambda field: field + (2**63 - 64), "token 0 of image 0 lies off the grid of its scale or outside the image"),
    ],
    ids=["sparse", "meta", "a row", "a number", "a number near the end of 64 bits"],
)
def test_boxes_in_another_form_are_refused(spoil, sentence):
    plan = Plan.uniform(Spec(64, 64, 16, 64, 16), 0)
    with pytest.raises(InputError, match=sentence):
        Plan.from_boxes(spoil(plan.left), plan.top, plan.scale, plan.spec)


@pytest.mark.parametrize("scale", [-1, 3])
def test_a_uniform_plan_of_no_scale_of_the_spec_is_refused(scale):
    with pytest.raises(InputError, match=f"scale {scale} is none of the spec's 0 to 2"):
        Plan.uniform(Spec(64, 64, 16, 64, 16), scale)


def test_a_uniform_plan_of_another_number_of_tokens_than_the_specs_is_refused():
    with pytest.raises(InputError, match="2×2 patches of scale 1 are 4 tokens, the spec has num_tokens 16"):
        Plan.uniform(Spec(64, 64, 16, 64, 16), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.int32])
def test_a_plan_goes_to_devices_alone_because_its_integers_stay_integers(dtype):
    with pytest.raises(InputError, match=f"a plan's integers have no other dtype, got {dtype}: give a device"):
        plan_of(Spec(256, 256, 16, 64, 100)).to(dtype)


def test_cpu_is_to_the_cpu(device):
    plan = plan_of(Spec(256, 256, 16, 64, 100))
    assert plan.to(device).cpu().left.device.type == "cpu"
    assert_same_plan(plan.to(device).cpu(), plan)


class TestFiles:
    """`to_dict` and `from_dict`: a plan as tensors and integers, for files that are read without running anything."""

    def saved(self, content):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)

    @pytest.mark.parametrize("spec", SPECS, ids=str)
    def test_a_plan_comes_back_from_a_file_that_is_read_safely(self, spec):
        plan = Plan.uniform(spec, 0, batch=2) if spec.num_scales == 1 else plan_of(spec)
        assert Plan.from_dict(self.saved(plan.to_dict())) == plan

    def test_one_image_of_many_takes_the_room_of_one(self):
        plan = plan_of(Spec(256, 256, 16, 64, 100), batch=50)
        assert all(plan[7].to_dict()[name].untyped_storage().nbytes() == 800 for name in FIELDS)

    @pytest.mark.parametrize("content", [None, [], 3, {}, {"left": 1}, "plan"], ids=repr)
    def test_what_is_no_dict_of_a_plan_is_refused(self, content):
        with pytest.raises(InputError, match=r"a plan is told by a dict of left, scale, spec, top .*got"):
            Plan.from_dict(content)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"lengths": 3}, r"lengths of a plan must be integers \(tokens of an image\), got int"),
            ({"weights": 3}, "got .*'weights'"),
            ({"spec": None}, "spec of a plan must be a dict of Spec's five integers"),
            ({"spec": {"height": 256}}, "spec of a plan must be a dict of Spec's five integers"),
            ({"spec": {"height": 256, "width": 256, "min_patch": 16, "max_patch": 64, "num_tokens": 99}}, "99 cannot"),
            ({"spec": {"height": 256, "width": 256, "min_patch": 16, "max_patch": 64, "num_tokens": 97}}, "left has"),
            ({"left": torch.zeros(3, 100)}, "left of a plan must be integers .*torch.float32"),
            ({"top": [[1, 2]]}, "top of a plan must be integers .*list"),
            ({"scale": torch.zeros(3, 100, dtype=torch.long)}, "do not tile image 0|off the grid"),
            ({"scale": torch.zeros(2, 100, dtype=torch.long)}, r"scale has shape \[2, 100\]"),
        ],
        ids=lambda change: str(change)[:30],
    )
    def test_a_dict_that_is_no_plan_is_refused_with_the_reason(self, change, sentence):
        content = plan_of(Spec(256, 256, 16, 64, 100)).to_dict()
        with pytest.raises(QuadtokError, match=sentence):
            Plan.from_dict(content | change)

    def test_another_order_is_refused_with_the_way_out(self):
        content = shuffled(plan_of(Spec(256, 256, 16, 64, 100))).to_dict()
        with pytest.raises(InputError, match=r"not in forest z-order: Plan\.from_boxes takes them in any order"):
            Plan.from_dict(content)


def test_centers_are_exact_far_out_where_no_float32_holds_the_pixel():
    spec = Spec(14, 14 * (1 << 21), 14, 14, 1 << 21)
    centers = Plan.uniform(spec, 0).centers[0]
    assert torch.equal(centers[:, 0].double(), torch.arange(1 << 21, dtype=torch.float64) + 0.5)


def test_a_small_plan_of_a_huge_image_is_checked_in_little_memory():
    spec = Spec(2**30, 2**30, 1, 2**30, 1)
    zero = torch.zeros(1, 1, dtype=torch.long)
    assert peak_bytes(lambda: Plan.from_boxes(zero, zero, zero + 30, spec)) < 100_000
    with pytest.raises(InputError, match="do not tile image 0"):
        Plan.from_boxes(zero, zero, zero, spec)


@pytest.mark.filterwarnings("ignore")  # of torch, about nested tensors
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda field: field[:1, :1].expand(2**40, 100), r"numbers in memory, got \[1099511627776, 100\] of fewer"),
        (lambda field: field[:, :1].clone().expand(-1, 100), "of fewer: give .clone()"),
        (lambda field: torch.nested.nested_tensor(list(field)), "numbers in memory, got a tensor nested on cpu"),
    ],
)
def test_a_file_does_not_declare_more_numbers_than_it_holds(change, sentence):
    content = plan_of(Spec(256, 256, 16, 64, 100)).to_dict()
    with pytest.raises(InputError, match=sentence):
        Plan.from_dict(content | {name: change(content[name]) for name in ("left", "top", "scale")})


def test_a_plan_without_numbers_is_not_checked():
    with pytest.raises(InputError, match="a plan on the device meta holds no numbers to be checked"):
        plan_of(Spec(256, 256, 16, 64, 100)).to("meta").check_tiling()
