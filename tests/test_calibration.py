"""The threshold for a mean: against counting, on ties, and at the edges."""

import math

import pytest
import torch

from helpers import SALIENCY_KINDS, saliency_of_kind
from quadtok import Spec, calibrate, get_quadtree, levels_of
from quadtok.calibration import Calibration
from quadtok.errors import InputError

SPEC = Spec(64, 96, 4, 16, 384)


def mean_at(saliency, spec, threshold):
    """By choosing the plans."""
    return get_quadtree()(saliency, spec, threshold).lengths.double().mean().item()


@pytest.mark.parametrize("most", [384, 120, 60])
@pytest.mark.parametrize("wanted", [24, 24.75, 30, 47.1, 60])
@pytest.mark.parametrize("kind", ["random", "half", "bfloat16", "shifted by +1e12"])
def test_no_threshold_comes_nearer_from_below(kind, wanted, most):
    spec = Spec(64, 96, 4, 16, most)
    saliency = saliency_of_kind(kind, spec, batch=8)
    found = calibrate(levels_of(saliency, spec), wanted)
    assert found.mean == pytest.approx(mean_at(saliency, spec, found.threshold))
    means = [mean_at(saliency, spec, value) for value in torch.cat([s.flatten() for s in saliency]).unique().tolist()]
    half_a_split = 3 / 8 / 2
    assert found.mean == pytest.approx(max(mean for mean in [24, *means] if mean <= wanted + half_a_split))


@pytest.mark.parametrize("kind", SALIENCY_KINDS)
def test_tokens_are_those_of_the_plans_for_every_saliency(kind):
    saliency = saliency_of_kind(kind, SPEC, batch=4)
    try:
        found = calibrate(levels_of(saliency, SPEC), 100)
    except InputError as problem:
        assert kind == "infinite" and "infinite saliency" in str(problem)
        return
    plan = get_quadtree()(saliency, SPEC, found.threshold)
    assert list(found.tokens) == plan.lengths.tolist()
    assert found.most == (384,) * 4


def test_equal_levels_do_not_part_so_that_the_mean_falls_short():
    saliency = [torch.ones(2, *SPEC.grid(scale)) for scale in (1, 2)]
    found = calibrate(levels_of(saliency, SPEC), 100)
    assert (found.threshold, found.tokens) == (1.0, (24, 24))


def test_the_threshold_has_few_digits_and_stands_clear_of_both_neighbours():
    levels = levels_of([torch.tensor([[[0.125, 0.126]]])], Spec(8, 16, 4, 8, 8))
    assert calibrate(levels, 5).threshold == 0.1255
    levels = levels_of([torch.tensor([[[100.0, 300.0]]])], Spec(8, 16, 4, 8, 8))
    assert calibrate(levels, 5).threshold == 200


@pytest.mark.parametrize(("wanted", "tokens"), [(2, (2,)), (5, (5,)), (8, (8,))])
@pytest.mark.parametrize("values", [(1.0, 2.0), (-2.0, -1.0), (0.0, 1e-45), (1e38, 3e38)])
def test_from_the_roots_alone_to_the_full_grid(values, wanted, tokens):
    found = calibrate(levels_of([torch.tensor([[values]])], Spec(8, 16, 4, 8, 8)), wanted)
    assert found.tokens == tokens
    assert math.isfinite(found.threshold)


def test_nan_and_minus_infinity_are_never_split():
    levels = levels_of([torch.tensor([[[math.nan, -math.inf]], [[1.0, 2.0]]])], Spec(8, 16, 4, 8, 8))
    assert calibrate(levels, 5).tokens == (2, 8)
    with pytest.raises(InputError, match=r"a mean of 6\.5 tokens cannot be had: .* 2 \(their roots\) to 5 tokens"):
        calibrate(levels, 6.5)


def test_one_infinity_is_above_every_threshold():
    levels = levels_of([torch.tensor([[[math.inf, 2.0]], [[1.0, 0.0]]])], Spec(8, 16, 4, 8, 8))
    assert calibrate(levels, 3.5).tokens == (5, 2)
    with pytest.raises(InputError, match="infinite saliency asks for more splits than are wanted"):
        calibrate(levels_of([torch.full((1, 1, 2), math.inf)], Spec(8, 16, 4, 8, 8)), 2)


def test_images_of_different_sizes_share_a_threshold():
    small, large = Spec(32, 32, 4, 16, 64), Spec(64, 96, 4, 16, 384)
    images = [
        *levels_of(saliency_of_kind("random", small, 3), small),
        *levels_of(saliency_of_kind("random", large, 2), large),
    ]
    found = calibrate(images, 60)
    lengths = [
        get_quadtree()(saliency_of_kind("random", spec, batch), spec, found.threshold).lengths.tolist()
        for spec, batch in ((small, 3), (large, 2))
    ]
    assert list(found.tokens) == lengths[0] + lengths[1]
    assert 60 - 15 / 5 <= found.mean <= 60 + 3 / 5 / 2


def test_where_there_is_one_scale_there_is_nothing_to_find():
    spec = Spec.full(32, 32, 16, 16)
    found = calibrate(levels_of([], spec), 4)
    assert (found.tokens, found.mean) == ((4,), 4)


@pytest.mark.parametrize("wanted", [23.9, 384.1, 0, -1, math.nan, math.inf])
def test_a_mean_that_cannot_be_is_refused_with_what_can(wanted):
    with pytest.raises(InputError, match=r"a mean of .* tokens cannot be had: these images have 24 .* to 384 tokens"):
        calibrate(levels_of(saliency_of_kind("random", SPEC), SPEC), wanted)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 64, 96), saliency_of_kind("random", SPEC), iter(()), None],
    ids=lambda it: type(it).__name__,
)
def test_images_and_saliency_are_refused_with_what_makes_levels_of_them(images):
    with pytest.raises(
        InputError, match=r"on a list of levels, not on \w+: give levels_of\(scorer\(images, spec\), spec\)"
    ):
        calibrate(images, 100)


def test_no_images_are_refused():
    with pytest.raises(InputError, match="there are no images to find a threshold on"):
        calibrate([], 100)


class TestStatistics:
    found = calibrate(levels_of(saliency_of_kind("random", Spec(64, 96, 4, 16, 60), 20), Spec(64, 96, 4, 16, 60)), 50)

    def test_deviation_and_error_are_those_of_the_tokens(self):
        tokens = torch.tensor(self.found.tokens, dtype=torch.float64)
        assert self.found.deviation == pytest.approx(tokens.std().item())
        assert self.found.standard_error == pytest.approx(tokens.std().item() / math.sqrt(20))
        assert self.found.share_at_most == pytest.approx((tokens == 60).double().mean().item())
        assert self.found.quantile(0.5) == tokens.quantile(0.5)

    def test_a_histogram_counts_every_image_once(self):
        for bins in (1, 4, 12, 99):
            rows = self.found.histogram(bins)
            assert len(rows) <= bins
            assert sum(images for _, _, images in rows) == 20
            assert all(last - first >= 2 for first, last, _ in rows)  # narrower ones would lie between two splits
            for first, last, images in rows:
                assert images == sum(first <= count <= last for count in self.found.tokens)

    def test_an_image_is_at_the_most_that_its_own_size_allows(self):
        assert Calibration(0.0, 9.0, tokens=(8, 8, 11), most=(8, 20, 11)).share_at_most == pytest.approx(2 / 3)

    def test_a_single_image_has_no_error_that_is_known(self):
        found = calibrate(levels_of(saliency_of_kind("random", SPEC, 1), SPEC), 100)
        assert (found.deviation, found.standard_error) == (0, math.inf)
