"""Several tokens as one batch, and each image out of it again."""

from dataclasses import replace

import pytest
import torch

from helpers import saliency_of_kind
from quadtok import Spec, collate, get_quadtree, tokenize
from quadtok.errors import InputError
from quadtok.tokens import Tokens

SPEC = Spec(64, 96, 4, 16, 120)


def tokens_of(batch, num_tokens=120, threshold=None, seed=0, spec=SPEC):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (batch, 3, spec.height, spec.width), generator=generator, dtype=torch.uint8)
    spec = replace(spec, num_tokens=num_tokens)
    return tokenize(pixels, spec, "blur", threshold=threshold)


PARTS = {
    "one": lambda: [tokens_of(2)],
    "alike": lambda: [tokens_of(2), tokens_of(1, seed=1)],
    "two budgets": lambda: [tokens_of(2, 60), tokens_of(1, 120), tokens_of(1, 24)],
    "padded": lambda: [tokens_of(3, threshold=88.0), tokens_of(2, threshold=90.0, seed=1)],
    "padded and not": lambda: [tokens_of(3, threshold=88.0), tokens_of(1, 27)],
    "no image": lambda: [tokens_of(2)[:0], tokens_of(1, 60)],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_each_image_comes_out_as_it_went_in(parts):
    parts = parts()
    batch = collate(parts)
    alone = [part.unpadded(image) for part in parts for image in range(len(part))]
    assert len(batch) == len(alone)
    assert [batch.unpadded(image) for image in range(len(batch))] == alone
    batch.plan.check_tiling()
    assert not batch.patches[~batch.plan.valid].any()


def test_nothing_is_longer_than_the_longest_image():
    batch = collate([tokens_of(3, threshold=90.0), tokens_of(2, 27)])
    assert batch.plan.spec.num_tokens == batch.plan.lengths.max() < 120


def test_images_of_one_length_need_no_lengths():
    assert collate([tokens_of(2), tokens_of(1)]).plan.lengths is None


def test_a_loader_of_tokens_gives_batches():
    loader = torch.utils.data.DataLoader([tokens_of(1, n) for n in (24, 60, 120)], batch_size=3, collate_fn=collate)
    (batch,) = loader
    assert batch.plan.lengths.tolist() == [24, 60, 120]


def test_layouts_alone_make_a_layout():
    bare = replace(tokens_of(1, 60), patches=None)
    assert collate([bare, bare]).patches is None


def test_saliency_is_kept_where_every_part_has_it():
    known, unknown = tokens_of(1), replace(tokens_of(1, 60), saliency=None)
    assert collate([known, unknown]).saliency is None
    assert [scores.shape[0] for scores in collate([known, known]).saliency] == [2, 2]


def test_a_float_image_keeps_its_gradient():
    pixels = torch.rand(1, 3, 64, 96, requires_grad=True)
    parts = [tokenize(pixels, replace(SPEC, num_tokens=n), "blur") for n in (24, 60)]
    collate(parts).patches.sum().backward()
    assert pixels.grad.any()


def with_layout(plan):
    return Tokens(plan, None)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([], "there are no tokens to put together"),
        ([tokens_of(1), None], "part 1 is NoneType: collate takes Tokens"),
        ([tokens_of(1), tokens_of(1).patches], "part 1 is Tensor: collate takes Tokens"),
        (
            [tokens_of(1), tokens_of(1, spec=Spec(64, 64, 4, 16, 40), num_tokens=40)],
            "part 1 has a geometry of 64×64 in patches of 4 to 16, part 0 64×96 in patches of 4 to 16",
        ),
        ([tokens_of(1), replace(tokens_of(1), patches=None)], "part 1 has patches of no pixels"),
        (
            [tokens_of(1), replace(tokens_of(1), patches=tokens_of(1).patches.half())],
            r"part 1 has patches of torch.float16 \[3, 4, 4\] on cpu, part 0 torch.float32",
        ),
        (
            [with_layout(tokens_of(1).plan), with_layout(tokens_of(1).plan.to("meta"))],
            "part 1 has its plan on meta, part 0 cpu",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_both_sides(parts, sentence):
    with pytest.raises(InputError, match=sentence):
        collate(parts)


def test_saliency_of_one_scale_is_an_empty_list():
    spec = Spec.full(64, 96, 16, 16)
    plan = get_quadtree()(saliency_of_kind("random", spec), spec)
    assert collate([Tokens(plan, None, []), Tokens(plan, None, [])]).saliency == []
