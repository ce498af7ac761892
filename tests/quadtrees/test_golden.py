"""Every golden of the reference, chosen again: as it is, alone, between strangers, and shuffled; on each device."""

import pytest
import torch

from helpers import (
    assert_partition,
    assert_same_plan,
    assert_same_up_to_ties,
    boxes_by_scale,
    golden,
    golden_plan,
    golden_saliency,
    golden_spec,
    goldens,
    random_saliency,
)

# Their saliency has ties just where the budget ends. The reference leaves the order of ties open.
TIED = {"tokens_256_16_64_100_feature_mse_16_0.5", "tokens_512_16_128_253_feature_cosine_distance_32_1.0"}
NAMES = [*goldens("select"), *goldens("tokens")]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TIED])
def test_the_boxes_are_the_references(name, quadtree, device):
    plan = quadtree([scores.to(device) for scores in golden_saliency(name)], golden_spec(name))
    assert plan.left.device.type == device
    assert torch.equal(boxes_by_scale(plan).cpu(), golden(name)["boxes"])
    assert_partition(plan)


@pytest.mark.parametrize("name", sorted(TIED))
def test_where_the_reference_leaves_ties_open_only_tied_splits_differ(name, quadtree, device):
    saliency, spec = golden_saliency(name), golden_spec(name)
    plan = quadtree([scores.to(device) for scores in saliency], spec)
    assert not torch.equal(boxes_by_scale(plan).cpu(), golden(name)["boxes"])  # else it is no exception
    assert_same_up_to_ties(plan, golden_plan(name), saliency)
    assert_partition(plan)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_one_plan_in_every_company(name, quadtree, device):
    saliency, spec = [scores.to(device) for scores in golden_saliency(name)], golden_spec(name)
    strangers = [scores.to(device) * 100 - 50 for scores in random_saliency(spec, batch=2, seed=1)]
    together = quadtree(saliency, spec)
    images = len(together)
    among = quadtree(
        [torch.cat([own, other, own.flip(0)]) for own, other in zip(saliency, strangers, strict=True)], spec
    )
    assert_same_plan(among[:images], together)
    for image in range(images):
        assert_same_plan(among[images + 2 + image], together[images - 1 - image])
        assert_same_plan(quadtree([scores[image : image + 1] for scores in saliency], spec), together[image])
