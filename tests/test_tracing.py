"""What may be looked at, and what a release of torch that cannot tell is taken for."""

import pytest
import torch
from torch.utils import _python_dispatch

from helpers import assert_same_plan, random_saliency
from quadtok import Spec, get_quadtree
from quadtok.tracing import in_parts, is_recording, may_be_looked_at, without_gradients

SPEC = Spec(32, 48, 4, 16, 21)


def test_numbers_in_memory_that_nobody_follows_may_be_looked_at():
    assert may_be_looked_at(random_saliency(SPEC, 2))
    assert not may_be_looked_at([torch.zeros(2), torch.zeros(2, device="meta")])


# What quadtok asks torch about those who record, where torch has no public answer or one that is on its way out.
@pytest.mark.parametrize(
    ("module", "name"), [(_python_dispatch, "_get_current_dispatch_mode"), (torch.jit, "is_tracing")]
)
def test_a_release_of_torch_without_the_question_gives_the_same_plans(module, name, monkeypatch):
    saliency = random_saliency(SPEC, 2)
    expected = get_quadtree("parallel")(saliency, SPEC)
    monkeypatch.delattr(module, name, raising=False)
    assert_same_plan(get_quadtree("parallel")(saliency, SPEC), expected)
    assert not is_recording()


def test_where_a_mode_cannot_be_told_there_may_be_one(monkeypatch):
    monkeypatch.delattr(_python_dispatch, "_get_current_dispatch_mode", raising=False)
    assert not may_be_looked_at(random_saliency(SPEC, 2))


def test_images_go_in_parts_and_all_at_once_where_the_parts_would_be_recorded():
    images = torch.arange(10).view(5, 2)
    assert [part.tolist() for part in in_parts(images, 2)] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9]]]
    seen = torch.compile(lambda x: len(in_parts(x, 2)) * x, fullgraph=True, backend="eager")(images)
    assert torch.equal(seen, images)


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_off_inside_and_outside_as_they_were(enabled):
    @without_gradients
    def square(x, *, offset):
        return x * x + offset, torch.is_grad_enabled()

    x = torch.ones(1, requires_grad=True)
    with torch.set_grad_enabled(enabled):
        result, inside = square(x, offset=1)
        assert torch.is_grad_enabled() is enabled
    assert not inside
    assert not result.requires_grad
