"""What the weights that ship must be able to do, on scenes whose seed and parameters training never saw.

docs/bundled-weights.md has the figures on more scenes and on photographs.
"""

import pytest
import torch

import measure
from quadtok import get_scorer


@pytest.fixture(scope="module")
def scenes():
    return measure.held_out(32)


@pytest.fixture(scope="module")
def figures(scenes):
    return measure.report(get_scorer("feature"), *scenes)


def test_most_of_the_finest_tokens_touch_an_object_where_the_budget_allows_it(figures, scenes):
    assert measure.budget_allows(scenes[1]).sum() >= 10
    assert figures["finest tokens on objects"] >= 0.8


def test_objects_are_resolved_better_than_by_pixel_blur(figures, scenes):
    assert figures["coverage of objects"] >= measure.report(get_scorer("blur"), *scenes)["coverage of objects"] + 0.1


@pytest.mark.parametrize("change", ["10 % brighter", "10 % darker", "JPEG quality 75"])
def test_the_ranking_is_stable(figures, change):
    assert figures[f"τ, {change}"] >= 0.9


def test_the_middle_of_the_picture_is_not_preferred(figures):
    assert 0.75 <= figures["middle over border"] <= 1.33


def test_sensor_noise_on_a_flat_ground_draws_no_tokens(figures):
    assert figures["finest tokens on noise"] <= 0.1


def test_the_measures_tell_good_from_bad(scenes):
    images, cells = scenes
    truth = [2**k * torch.nn.functional.avg_pool2d(cells[:, None], 1 << k)[:, 0] for k in (1, 2)]
    best = measure.plan_of(truth)
    worst = measure.plan_of([-scores for scores in truth])
    assert measure.finest_on_objects(best, cells).mean() > 0.9 > 0.3 > measure.finest_on_objects(worst, cells).mean()
    assert measure.coverage(best, cells).mean() > measure.coverage(worst, cells).mean() + 0.2
    assert measure.kendall(truth, [-scores for scores in truth]).max() < 0
    noise = measure.finest_on_noise(get_scorer("random", seed=0), images, cells)
    assert 0.3 < noise.mean() < 0.7
