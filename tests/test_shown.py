"""What a session shows of a plan: words, and a picture in a notebook."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import SPECS, boxes, saliency_of_kind
from quadtok import Plan, Spec
from quadtok.quadtrees import get_quadtree

SPLITTABLE = [spec for spec in SPECS if spec.num_scales > 1]


def plan_of(spec, batch=3, seed=0):
    return get_quadtree()(saliency_of_kind("random", spec, batch, seed), spec)


class TestWords:
    """What a session shows of a plan."""

    def test_they_say_the_images_and_how_many_tokens_have_which_size(self):
        spec = Spec(32, 48, 4, 16, 21)
        plan = Plan.from_first_cells(torch.tensor([[*range(16), 16, 32, 48, 64, 80]]), spec)
        assert repr(plan[0]) == "Plan(1 image of 32×48, 21 tokens: 16 of 4 px, 0 of 8 px, 5 of 16 px)"
        assert repr(Plan.uniform(Spec(32, 32, 16, 16, 4), 0, batch=3)) == (
            "Plan(3 images of 32×32, 4 tokens each: 12 of 16 px in all)"
        )

    def test_a_device_is_named_and_not_waited_for(self):
        plan = plan_of(Spec(256, 256, 16, 64, 100)).to("meta")
        assert repr(plan) == "Plan(3 images of 256×256, 100 tokens each of 16, 32, 64 px, on meta)"

    def test_a_plan_without_numbers_has_words_all_the_same(self):
        plan, seen = plan_of(Spec(256, 256, 16, 64, 100)), []

        def look(left, top, scale):
            seen.append(repr(Plan(left[None], top[None], scale[None], plan.spec)))
            return left

        torch.vmap(look)(plan.left, plan.top, plan.scale)
        assert seen == ["Plan(1 image of 256×256, 100 tokens of 16, 32, 64 px)"]


class TestPictures:
    """`_repr_png_`: what a notebook shows of a plan."""

    def picture(self, plan):
        with Image.open(io.BytesIO(plan._repr_png_())) as picture:
            return np.asarray(picture.convert("RGB"))

    @pytest.mark.parametrize("spec", [spec for spec in SPLITTABLE if max(spec.grid(0)) <= 64], ids=str)
    def test_every_box_is_seen_where_it_lies_and_each_size_has_its_color(self, spec):
        plan = plan_of(spec, batch=1)
        drawn = self.picture(plan)
        cell = drawn.shape[0] // spec.grid(0)[0]
        assert drawn.shape == (cell * spec.grid(0)[0], cell * spec.grid(0)[1], 3)
        colors = {}
        for left, top, size in boxes(plan):
            left, top, size = (value * cell // spec.min_patch for value in (left, top, size))
            inside = drawn[top + 1 : top + size - 1, left + 1 : left + size - 1].reshape(-1, 3)
            assert (inside == inside[0]).all()
            colors.setdefault(size, set()).add(tuple(inside[0]))
        assert [len(seen) for seen in colors.values()] == [1] * len(colors)
        assert len(set.union(*colors.values())) == len(colors)

    def test_the_first_images_stand_side_by_side(self):
        plan = plan_of(Spec(256, 256, 16, 64, 100), batch=6)
        one, four = self.picture(plan[0]), self.picture(plan)
        assert four.shape[0] == one.shape[0]
        assert 4 * one.shape[1] < four.shape[1] < 5 * one.shape[1]
        assert np.array_equal(four[:, : one.shape[1]], one)
        assert np.array_equal(four[:, -one.shape[1] :], self.picture(plan[3]))

    @pytest.mark.parametrize("sides", [(16, 16), (4096, 64), (64, 4096), (8192, 8192)], ids=str)
    def test_a_picture_is_no_larger_than_a_screen(self, sides):
        plan = Plan.uniform(Spec.full(*sides, 8, 16), 0)
        height, width, _ = self.picture(plan).shape
        assert max(height, width) <= 384

    def test_where_nothing_can_be_drawn_there_is_no_picture_and_no_error(self):
        plan = plan_of(Spec(256, 256, 16, 64, 100))
        assert plan.to("meta")._repr_png_() is None
        assert plan[:0]._repr_png_() is None
