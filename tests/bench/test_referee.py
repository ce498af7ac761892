"""Tokens are the first ones, bit for bit, or it is said where they are not."""

from dataclasses import replace

import pytest
import torch

from helpers import boxes, random_saliency
from quadtok import Plan, Spec, Tokens, extract_patches, get_quadtree
from quadtok.bench.referee import Referee

SPEC = Spec(64, 96, 8, 32, 24)
IMAGES = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def tokens_of(plan, images=IMAGES):
    return Tokens(plan, extract_patches(images, plan))


def some_plan(seed=0):
    return get_quadtree()(random_saliency(SPEC, 3, seed), SPEC)


@pytest.fixture
def referee():
    """Has seen the tokens of `some_plan`."""
    referee = Referee()
    assert referee.objection("dict", tokens_of(some_plan())) is None
    return referee


def test_the_same_tokens_are_let_pass(referee):
    assert referee.objection("tensor", tokens_of(some_plan())) is None
    assert referee.objection("dict", tokens_of(some_plan())) is None


def test_other_boxes_are_named_by_the_first_that_differs(referee):
    wrong = some_plan(seed=1)
    pairs = zip(boxes(wrong), boxes(some_plan()), strict=True)
    token, found, wanted = next((token, *pair) for token, pair in enumerate(pairs) if pair[0] != pair[1])
    found, wanted = (f"{size} px at ({left}, {top})" for left, top, size in (found, wanted))
    assert referee.objection("tensor", tokens_of(wrong)) == (
        f"tensor and dict disagree: token {token} of image 0 is {found}, not {wanted}"
    )


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan.uniform(Spec(64, 96, 8, 32, 24), 1, batch=2), "2 images of 24 tokens"),
        (Plan.uniform(Spec(64, 96, 8, 32, 96), 0, batch=3), "3 images of 96 tokens"),
    ],
)
def test_a_plan_of_another_size_is_said_to_be_one(referee, plan, said):
    tokens = tokens_of(plan, IMAGES[: len(plan)])
    assert referee.objection("zcurve", tokens) == (
        f"zcurve and dict disagree: plans for {said} and for 3 images of 24 tokens"
    )


def test_other_pixels_are_named_by_their_token(referee):
    tokens = tokens_of(some_plan())
    tokens.patches[2, 7, 0, 0, 0] += 1e-3
    assert referee.objection("parallel", tokens) == "parallel and dict disagree: token 7 of image 2 has other pixels"


def test_who_differs_from_its_own_first_result_disagrees_with_itself(referee):
    tokens = tokens_of(some_plan())
    spoilt = replace(tokens, patches=tokens.patches + 1)
    assert referee.objection("dict", spoilt) == "dict disagrees with itself: token 0 of image 0 has other pixels"
