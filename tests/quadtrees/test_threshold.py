"""A threshold: what is above it is split, in the order that splits have anyway; the rest of the slots is padding."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import SALIENCY_KINDS, SPECS, assert_same_plan, saliency_of_kind, split_patches
from quadtok import Spec, get_quadtree
from quadtok.errors import InputError

SPLITTABLE = [spec for spec in SPECS if spec.num_scales > 1]
SPEC = Spec(64, 96, 4, 16, 96)
THRESHOLDS = (-math.inf, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3.0, math.inf)


def above_by_definition(saliency, spec, threshold, image):
    """(scale, left, top) of all patches that are above the threshold together with all that are around them."""
    split, size = set(), spec.max_patch
    places = [(left, top) for top in range(0, spec.height, size) for left in range(0, spec.width, size)]
    waiting = [(spec.num_scales - 1, left, top) for left, top in places]
    while waiting:
        scale, left, top = waiting.pop()
        size = spec.patch_size(scale)
        if scale and saliency[scale - 1][image, top // size, left // size].item() > threshold:
            split.add((scale, left, top))
            half = size // 2
            waiting += [(scale - 1, x, y) for x in (left, left + half) for y in (top, top + half)]
    return split


def assert_padded_plan_of(plan, saliency, spec, thresholds):
    """Image by image the ordinary plan of as many tokens as its threshold asks for, and zeros behind it."""
    assert plan.spec == spec
    assert plan.lengths.dtype == torch.int64
    for image, threshold in enumerate(thresholds):
        above = above_by_definition(saliency, spec, threshold, image)
        length = min(spec.num_tokens, spec.num_roots + 3 * len(above))
        assert plan.lengths[image] == length
        own = get_quadtree("dict")([scores[image : image + 1] for scores in saliency], replace(spec, num_tokens=length))
        assert_same_plan(plan.unpadded(image), own)
        if length < spec.num_tokens:
            assert split_patches(plan.unpadded(image)) == above
        for field in (plan.left, plan.top, plan.scale):
            assert not field[image, length:].any()


@pytest.mark.parametrize("spec", SPLITTABLE, ids=str)
@pytest.mark.parametrize("kind", SALIENCY_KINDS)
def test_an_image_has_the_plan_of_as_many_tokens_as_are_above_the_threshold(spec, kind, quadtree, device):
    saliency = saliency_of_kind(kind, spec)
    shift = {"shifted by -1e12": -1e12, "shifted by +1e12": 1e12}.get(kind, 0)
    for threshold in (0.4, 0.75):
        plan = quadtree([scores.to(device) for scores in saliency], spec, threshold + shift)
        assert_padded_plan_of(plan.cpu(), saliency, spec, [threshold + shift] * 3)


@pytest.mark.parametrize("num_tokens", [24, 27, 60, 96, 384])
@pytest.mark.parametrize("kind", ["random", "tied", "infinite", "nan", "bfloat16"])
def test_num_tokens_is_the_most_that_an_image_has(num_tokens, kind, quadtree):
    spec = replace(SPEC, num_tokens=num_tokens)
    saliency = saliency_of_kind(kind, spec, batch=2, seed=1)
    for threshold in THRESHOLDS:
        assert_padded_plan_of(quadtree(saliency, spec, threshold), saliency, spec, [threshold] * 2)


def test_each_image_may_have_a_threshold_of_its_own(quadtree):
    saliency = saliency_of_kind("random", SPEC, batch=4)
    thresholds = [0.9, 0.1, -math.inf, math.inf]
    for given in (torch.tensor(thresholds), torch.tensor(thresholds, dtype=torch.float64)):
        assert_padded_plan_of(quadtree(saliency, SPEC, given), saliency, SPEC, given.tolist())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_threshold_is_compared_without_rounding(dtype, quadtree):
    """The third of a half-precision number lies between two of them, and equals neither."""
    value = torch.tensor(1 / 3, dtype=dtype)
    spec, saliency = Spec(8, 16, 4, 8, 8), [value.expand(1, 1, 2)]
    exact = value.item()
    for threshold in (exact, torch.tensor(exact, dtype=torch.float64), value):
        assert quadtree(saliency, spec, threshold).lengths.tolist() == [2]
    for threshold in (math.nextafter(exact, 0), torch.tensor(math.nextafter(exact, 0), dtype=torch.float64)):
        assert quadtree(saliency, spec, threshold).lengths.tolist() == [8]


@pytest.mark.parametrize(
    "threshold", [0, 0.5, np.float32(0.5), np.int64(0), torch.tensor(0.5), torch.tensor([0, 0, 0])]
)
def test_any_number_is_a_threshold(threshold, quadtree):
    saliency = saliency_of_kind("random", SPEC)
    value = float(threshold if not isinstance(threshold, torch.Tensor) else threshold.flatten()[0])
    assert quadtree(saliency, SPEC, threshold) == quadtree(saliency, SPEC, value)


def test_a_tensor_of_nan_is_above_nothing_and_below_nothing(quadtree):
    plan = quadtree(saliency_of_kind("random", SPEC), SPEC, torch.tensor([math.nan, 0.0, 0.0]))
    assert plan.lengths.tolist() == [SPEC.num_roots, SPEC.num_tokens, SPEC.num_tokens]


@pytest.mark.parametrize(
    ("threshold", "sentence"),
    [
        (math.nan, "threshold nan is no number"),
        ("0.5", "threshold '0.5' is no number"),
        (True, "threshold True is no number"),
        (10**400, "is no number that saliency could be above"),
        ([0.5, 0.5], r"threshold \[0.5, 0.5\] is no number"),
        (1j, "threshold 1j is no number"),
        (torch.tensor([0.5, 0.5]), r"threshold has shape \[2\]: give one number, or one for each of 3 images"),
        (torch.zeros(3, 1), r"threshold has shape \[3, 1\]: give one number, or one for each of 3 images"),
        (torch.tensor(True), "threshold is torch.bool, torch.strided: it must be dense real numbers"),
        (torch.tensor(1j), "threshold is torch.complex64"),
        (torch.zeros(3, device="meta"), "the threshold is on the meta device and holds no numbers"),
        (torch.zeros(3).to_sparse(), "threshold is torch.float32, torch.sparse_coo: it must be dense real numbers"),
    ],
)
def test_what_is_no_threshold_is_refused_with_what_was_given(threshold, sentence, quadtree):
    with pytest.raises(InputError, match=sentence):
        quadtree(saliency_of_kind("random", SPEC), SPEC, threshold)


def test_where_there_is_one_scale_nothing_is_padding(quadtree):
    plan = quadtree([], Spec(32, 32, 16, 16, 4), 0.5)
    assert plan.lengths.tolist() == [4]
    assert plan.valid.all()


def test_without_a_threshold_a_plan_has_no_lengths(quadtree):
    assert quadtree(saliency_of_kind("random", SPEC), SPEC).lengths is None


@pytest.mark.parametrize("kind", ["random", "tied", "nan"])
def test_images_of_a_batch_do_not_see_each_other(kind, quadtree):
    saliency = saliency_of_kind(kind, SPEC, batch=4)
    together = quadtree(saliency, SPEC, 0.4)
    for image in range(4):
        alone = quadtree([scores[image : image + 1] for scores in saliency], SPEC, 0.4)
        assert alone == together[image]


def test_a_batch_of_no_image_has_no_lengths_to_speak_of(quadtree):
    plan = quadtree([torch.zeros(0, *SPEC.grid(scale)) for scale in range(1, SPEC.num_scales)], SPEC, 0.5)
    assert plan.lengths.shape == (0,)
    assert plan.left.shape == (0, SPEC.num_tokens)
