"""One answer: every quadtree gives, bit for bit, the plan of `dict`, and that is the plan of the definition."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch

from helpers import (
    SALIENCY_KINDS,
    SPECS,
    assert_partition,
    assert_same_plan,
    best_first_by_definition,
    boxes,
    random_saliency,
    saliency_of_kind,
    split_patches,
)
from quadtok import Spec
from quadtok.errors import InputError
from quadtok.quadtrees import QUADTREES, get_quadtree

SPLITTABLE = [spec for spec in SPECS if spec.num_scales > 1]
SPEC = Spec(256, 256, 16, 64, 100)


@cache
def by_dict(spec, kind):
    return QUADTREES["dict"](saliency_of_kind(kind, spec), spec)


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
@pytest.mark.parametrize("kind", SALIENCY_KINDS)
def test_every_quadtree_gives_the_plan_of_dict(spec, kind, quadtree, device):
    plan = quadtree([scores.to(device) for scores in saliency_of_kind(kind, spec)], spec)
    assert plan.left.device.type == device
    assert_same_plan(plan, by_dict(spec, kind))


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
@pytest.mark.parametrize("kind", SALIENCY_KINDS)
def test_the_plan_tiles_the_image_exactly_once(spec, kind):
    assert_partition(by_dict(spec, kind))


# What the reference cannot tile (rectangles; on z-curves, sides that are no power of two), and deep trees.
DEEP_OR_ODD = {
    "rectangle": Spec(128, 384, 16, 64, 39),
    "224 pixels": Spec(224, 224, 14, 56, 64),
    "224 by 448 pixels": Spec(224, 448, 14, 112, 71),
    "five scales": Spec(256, 256, 8, 128, 100),
    "seven scales": Spec(64, 64, 1, 64, 100),
}


@pytest.mark.parametrize("kind", ["random", "tied", "constant", "infinite", "nans of both signs"])
@pytest.mark.parametrize("spec", DEEP_OR_ODD.values(), ids=DEEP_OR_ODD)
def test_the_plan_is_that_of_best_first_splitting(spec, kind, quadtree):
    saliency = saliency_of_kind(kind, spec, batch=2, seed=3)
    plan = quadtree(saliency, spec)
    assert_partition(plan)
    for image in range(2):
        assert split_patches(plan, image) == set(best_first_by_definition(saliency, spec, image))


class TestTies:
    """Two roots of 8 pixels side by side, three scales; boxes are (left, top, size)."""

    @staticmethod
    def chosen(quadtree, num_splits, left_root=0.0, right_root=0.0, fine=None):
        fine = torch.zeros(1, 2, 4) if fine is None else fine
        return boxes(quadtree([fine, torch.tensor([[[left_root, right_root]]])], Spec(8, 16, 2, 8, 2 + 3 * num_splits)))

    def test_of_two_equal_roots_the_first_is_split(self, quadtree):
        assert self.chosen(quadtree, 1) == [(0, 0, 4), (4, 0, 4), (0, 4, 4), (4, 4, 4), (8, 0, 8)]

    def test_a_coarser_patch_goes_before_an_equal_finer_one(self, quadtree):
        """The right root is split first; then the left one, though four finer patches wait beside it."""
        quadrants = [(0, 0, 4), (4, 0, 4), (0, 4, 4), (4, 4, 4), (8, 0, 4), (12, 0, 4), (8, 4, 4), (12, 4, 4)]
        assert self.chosen(quadtree, 2, right_root=1.0) == quadrants

    def test_equal_patches_of_one_scale_go_in_z_order_not_in_raster_order(self, quadtree):
        finest = [(x, y, 2) for top in (0, 4) for left in (0, 4) for y in (top, top + 2) for x in (left, left + 2)]
        rest = [(4, 4, 4), (8, 0, 4), (12, 0, 4), (8, 4, 4), (12, 4, 4)]
        assert self.chosen(quadtree, 5) == finest[:12] + rest

    def test_a_larger_saliency_goes_before_scale_and_order(self, quadtree):
        fine = torch.zeros(1, 2, 4)
        fine[0, 1, 3] = 1e-6
        corner = [(12, 4, 2), (14, 4, 2), (12, 6, 2), (14, 6, 2)]
        right = [(8, 0, 4), (12, 0, 4), (8, 4, 4), *corner]
        assert self.chosen(quadtree, 2, right_root=1.0, fine=fine) == [(0, 0, 8), *right]

    def test_both_zeros_are_one_number(self, quadtree):
        assert self.chosen(quadtree, 1, left_root=-0.0, right_root=0.0)[-1] == (8, 0, 8)
        assert self.chosen(quadtree, 1, left_root=0.0, right_root=-0.0)[-1] == (8, 0, 8)


# Each is split before the next, wherever the two lie.
DESCENDING = [math.inf, 1e38, 1.0, 1e-45, 0.0, -1e-45, -1.0, -1e38, -math.inf, math.nan]


@pytest.mark.parametrize(("higher", "lower"), [*pairwise(DESCENDING)])
def test_infinities_are_saliencies_and_nan_ranks_below_them_all(higher, lower, quadtree, device):
    spec = Spec(8, 16, 4, 8, 5)
    saliency = [torch.tensor([[[higher, lower]], [[lower, higher]]], device=device)]
    plan = quadtree(saliency, spec)
    assert boxes(plan, 0)[-1] == (8, 0, 8)
    assert boxes(plan, 1)[0] == (0, 0, 8)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_nan_of_either_sign_ranks_below_minus_infinity(sign, quadtree, device):
    nan = torch.tensor(math.nan).copysign(torch.tensor(sign)).item()
    plan = quadtree([torch.tensor([[[nan, -math.inf]]], device=device)], Spec(8, 16, 4, 8, 5))
    assert boxes(plan)[0] == (0, 0, 8)


# Grain of the saliencies, shift, and a type that holds the sum exactly (float64 has an ulp of 2^-13 at 10^12).
SHIFTS = [
    (1, -1e7, torch.float32),
    (1, -1e12, torch.float64),
    (2**-10, -1e7, torch.float64),
    (2**-10, -1e12, torch.float64),
    (2**-10, 1e12, torch.float64),
]


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
@pytest.mark.parametrize(("grain", "shift", "dtype"), SHIFTS, ids=str)
def test_adding_a_constant_to_all_saliencies_changes_nothing(spec, grain, shift, dtype, quadtree):
    """The reference marks patches that cannot be split with a large number, and mistakes shifted saliencies for it."""
    numbers = random_saliency(spec, batch=2, dtype=torch.float64)
    saliency = [(scores * 1000 / grain).round() * grain for scores in numbers]
    shifted = [(scores + shift).to(dtype) for scores in saliency]
    assert all(torch.equal(after.double() - shift, scores) for after, scores in zip(shifted, saliency, strict=True))
    assert_same_plan(quadtree(shifted, spec), quadtree(saliency, spec))


@pytest.mark.parametrize("kind", SALIENCY_KINDS)
def test_images_of_a_batch_do_not_see_each_other(kind, quadtree, device):
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, SPEC, batch=4)]
    together = quadtree(saliency, SPEC)
    mixed = quadtree([scores[[2, 0, 3, 1, 2]] for scores in saliency], SPEC)
    for place, image in enumerate([2, 0, 3, 1, 2]):
        assert_same_plan(mixed[place], together[image])
        assert_same_plan(quadtree([scores[image : image + 1] for scores in saliency], SPEC), together[image])


def test_nothing_is_remembered_of_a_tensor_that_changed_in_place(quadtree):
    saliency, later = random_saliency(SPEC, batch=1, seed=0), random_saliency(SPEC, batch=1, seed=1)
    before = quadtree(saliency, SPEC)
    for scores, new in zip(saliency, later, strict=True):
        scores.copy_(new)
    after = quadtree(saliency, SPEC)
    assert_same_plan(after, quadtree(later, SPEC))
    assert not torch.equal(after.first_cell(), before.first_cell())


def test_saliency_and_random_state_are_left_alone(quadtree):
    saliency = saliency_of_kind("nan", SPEC)
    copies, state = [scores.clone() for scores in saliency], torch.get_rng_state()
    quadtree(saliency, SPEC)
    assert all(torch.equal(*map(torch.nan_to_num, pair)) for pair in zip(saliency, copies, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


LAYOUTS = {
    "transposed": lambda scores: scores.mT.contiguous().mT,
    "strided": lambda scores: scores.repeat_interleave(2, dim=2)[:, :, ::2],
    "batch last": lambda scores: scores.movedim(0, 2).contiguous().movedim(2, 0),
    "requires grad": lambda scores: scores.clone().requires_grad_(),
    "computed with grad": lambda scores: scores.clone().requires_grad_() * 1,
    "inference tensor": torch.inference_mode()(torch.clone),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_how_the_saliency_lies_in_memory_or_in_a_graph_does_not_matter(layout, quadtree):
    saliency = random_saliency(SPEC, batch=3)
    relaid = [LAYOUTS[layout](scores) for scores in saliency]
    plan = quadtree(relaid, SPEC)
    assert_same_plan(plan, quadtree(saliency, SPEC))
    assert not any(field.requires_grad for field in (plan.left, plan.top, plan.scale))


def test_an_expanded_saliency_gives_every_image_the_same_plan(quadtree):
    one = random_saliency(SPEC, batch=1)
    plan = quadtree([scores.expand(3, -1, -1) for scores in one], SPEC)
    for image in range(3):
        assert_same_plan(plan[image], quadtree(one, SPEC))


@pytest.mark.parametrize("dtypes", [("float16", "float64"), ("bfloat16", "float16"), ("float32", "bfloat16")], ids=str)
def test_scales_of_different_float_types_are_compared_without_loss(dtypes, quadtree):
    numbers = zip(random_saliency(SPEC, batch=2), dtypes, strict=True)
    saliency = [scores.to(getattr(torch, dtype)) for scores, dtype in numbers]
    assert_same_plan(quadtree(saliency, SPEC), quadtree([scores.double() for scores in saliency], SPEC))


def test_a_spec_with_one_scale_has_the_uniform_plan(quadtree):
    plan = quadtree([], Spec(32, 48, 16, 16, 6))
    assert boxes(plan) == [(0, 0, 16), (16, 0, 16), (32, 0, 16), (0, 16, 16), (16, 16, 16), (32, 16, 16)]
    with pytest.raises(InputError, match=r"saliency has 1 scales, the spec has 0 that can be split"):
        quadtree([torch.rand(1, 2, 3)], Spec(32, 48, 16, 16, 6))


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
def test_an_empty_batch_has_an_empty_plan(spec, quadtree, device):
    plan = quadtree([scores.to(device) for scores in random_saliency(spec, batch=0)], spec)
    assert plan.left.shape == plan.top.shape == plan.scale.shape == (0, spec.num_tokens)
    assert plan.left.dtype == torch.int64 and plan.left.device.type == device


@pytest.mark.parametrize("max_patch", [32, 64, 128])
def test_without_splits_the_roots_are_left_and_with_all_the_finest_grid(max_patch, quadtree):
    full = Spec.full(128, 256, 16, max_patch)
    none = Spec(128, 256, 16, max_patch, full.num_roots)
    roots, cells = (quadtree(random_saliency(spec, batch=2), spec) for spec in (none, full))
    assert (roots.size == max_patch).all() and (cells.size == 16).all()
    assert_partition(roots)
    assert_partition(cells)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda s: s[:1], r"saliency has 1 scales, the spec has 2 that can be split \(patch sizes \[32, 64\]\)"),
        (lambda s: [], r"saliency has 0 scales, the spec has 2 that can be split \(patch sizes \[32, 64\]\)"),
        (lambda s: [*s, s[0]], r"saliency has 3 scales, the spec has 2 that can be split"),
        (
            lambda s: s[::-1],
            r"saliency of scale 1 \(patches of 32 pixels\) has shape \[2, 4, 8\], expected \[2, 8, 16\]",
        ),
        (lambda s: [s[0], s[1].mT], r"scale 2 \(patches of 64 pixels\) has shape \[2, 8, 4\], expected \[2, 4, 8\]"),
        (lambda s: [s[0], s[1][:1]], r"saliency of scale 2 .* has shape \[1, 4, 8\], expected \[2, 4, 8\]"),
        (lambda s: [s[0][0], s[1][0]], r"saliency of scale 1 .* has shape \[8, 16\], expected \[8, 8, 16\]"),
        (lambda s: [s[0].flatten(1), s[1]], r"saliency of scale 1 .* has shape \[2, 128\], expected \[2, 8, 16\]"),
        (lambda s: [s[0][:, None], s[1]], r"scale 1 .* has shape \[2, 1, 8, 16\], expected \[2, 8, 16\]"),
        (lambda s: [s[0].sum(), s[1]], r"saliency of scale 1 .* has shape \[\], expected \[1, 8, 16\]"),
        (lambda s: [s[0].long(), s[1]], r"saliency of scale 1 is torch\.int64: it must be floating"),
        (lambda s: [s[0], s[1] > 0.5], r"saliency of scale 2 is torch\.bool: it must be floating"),
        (lambda s: [s[0], s[1] * 1j], r"saliency of scale 2 is torch\.complex64: it must be floating"),
        (lambda s: None, r"saliency is None: it must be a list with one tensor \[B, H/P, W/P\] for each patch size"),
        (lambda s: s[0], r"saliency is a torch\.Tensor: it must be a list"),
        (lambda s: (scores for scores in s), r"saliency is a generator: it must be a list"),
        (lambda s: dict(enumerate(s)), r"saliency is a dict: it must be a list"),
        (lambda s: s[0].numpy(), r"saliency is a numpy\.ndarray: it must be a list"),
        (lambda s: "ab", r"saliency is a str: it must be a list"),
        (lambda s: 1.5, r"saliency is a float: it must be a list"),
        (lambda s: [scores.numpy() for scores in s], r"saliency of scale 1 is a numpy\.ndarray: .* a torch tensor"),
        (lambda s: [s[0], None], r"saliency of scale 2 is None: it must be a torch tensor"),
        (lambda s: [s[0], [s[1]]], r"saliency of scale 2 is a list: it must be a torch tensor"),
        (lambda s: [None, s[1]], r"saliency of scale 1 is None: it must be a torch tensor"),
        (lambda s: [s[0].to_sparse(), s[1]], r"saliency of scale 1 is torch\.sparse_coo: it must be a dense tensor"),
        (lambda s: [s[0], s[1].to(torch.float8_e5m2)], r"scale 2 is torch\.float8_e5m2: .* one of float16, bfloat16"),
        (lambda s: [s[0].to("meta"), s[1]], r"saliency of scale 2 is on cpu, that of scale 1 on meta"),
    ],
)
def test_saliency_that_does_not_fit_is_refused_with_numbers(spoil, sentence, quadtree):
    spec = Spec(256, 512, 16, 64, 101)
    with pytest.raises(InputError, match=sentence):
        quadtree(spoil(random_saliency(spec, batch=2)), spec)


def test_dict_says_that_it_cannot_read_what_holds_no_numbers():
    with pytest.raises(InputError, match="meta device holds no numbers for the quadtree dict to read"):
        QUADTREES["dict"]([scores.to("meta") for scores in random_saliency(SPEC, batch=2)], SPEC)


def test_a_quadtree_is_got_by_its_name_and_the_parallel_one_by_default():
    assert all(get_quadtree(name) is quadtree for name, quadtree in QUADTREES.items())
    assert get_quadtree() is QUADTREES["parallel"]
    with pytest.raises(InputError, match="there is no quadtree 'octree': choose one of dict, tensor, zcurve, parallel"):
        get_quadtree("octree")
