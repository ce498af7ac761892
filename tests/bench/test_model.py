"""A ViT in three ways: what is counted is right, and the break-even is the one that one computes by hand."""

import json
from dataclasses import replace

import pytest
import torch

from quadtok import Spec, get_scorer
from quadtok.bench.model import break_even, time_model, uniform_grid
from quadtok.bench.rows import ModelRow
from quadtok.bench.timing import Workload, random_pixels
from quadtok.errors import InputError

pytest.importorskip("timm", reason="timm has the ViTs that are timed; the extra timm brings it")
SPEC = Spec(128, 128, 16, 64, 25)  # 64 cells; a uniform grid of 5 × 5


def timed(spec=SPEC, scorer="blur", name="test_vit", dtype=torch.float32, batch=2):
    images = random_pixels(batch, spec.height, spec.width)
    workload = Workload(images, spec, scorer, get_scorer(scorer))
    return time_model(workload, name, "parallel", dtype=dtype, warmup=0, min_time=0)


@pytest.mark.parametrize(
    ("spec", "grid"),
    [
        (SPEC, (5, 5)),
        (Spec(256, 256, 16, 64, 100), (10, 10)),
        (Spec(256, 256, 16, 64, 103), (10, 10)),
        (Spec(128, 512, 16, 64, 103), (5, 21)),
        (Spec(512, 128, 16, 64, 103), (20, 5)),
        (Spec(16, 512, 16, 16, 32), (1, 32)),
    ],
)
def test_a_uniform_grid_has_about_as_many_cells_and_the_images_proportions(spec, grid):
    assert uniform_grid(spec) == grid


def test_the_three_ways_are_timed_in_two_stages():
    rows = timed()
    assert [row.way for row in rows] == ["full grid", "uniform grid", "quadtree"]
    assert [row.tokens for row in rows] == [64, 25, 25]
    for row in rows:
        assert len(row.times) == 3 and all(len(times) == 2 and min(times) > 0 for times in row.times)
        assert (row.model, row.scorer, row.quadtree, row.batch, row.dtype) == (
            "test_vit",
            "blur",
            "parallel",
            2,
            "float32",
        )
        assert json.loads(json.dumps(row.describe())) == row.describe()


def test_as_many_tokens_take_as_many_flops_however_they_lie():
    full, uniform, tree = timed()
    assert uniform.flops[1] == tree.flops[1] < full.flops[1]
    assert timed(batch=4)[2].flops[1] == 2 * tree.flops[1]


def test_the_flops_of_attention_are_counted():
    """Without it they would grow as the tokens do, cls among them, or less."""
    full, uniform, _ = timed()
    assert full.flops[1] > 65 / 26 * uniform.flops[1]


def test_the_flops_of_a_scorers_net_are_counted_as_preparation():
    assert timed()[2].flops[0] == 0
    assert timed(scorer="feature")[2].flops[0] > 10**8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_may_be_in_half_precision(dtype):
    assert {row.dtype for row in timed(dtype=dtype)} == {str(dtype).removeprefix("torch.")}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_vit", r"timm cannot make a 'no_such_vit' for images of 128×128: RuntimeError: Unknown model"),
        ("test_vit.no_such_tag", r"timm cannot make a 'test_vit.no_such_tag' for images"),
        ("test_resnet", r"timm cannot make a 'test_resnet' for images of 128×128: TypeError: .*img_size"),
        ("vit_base_patch32_224", "patches are 32×32 pixels and the spec's min_patch is 16"),
    ],
)
def test_a_model_that_cannot_be_timed_is_refused_in_a_sentence(name, sentence):
    with pytest.raises(InputError, match=sentence):
        timed(name=name)


def row(way, tokens, prepare, forward):
    spec = Spec(256, 256, 16, 64, 100)
    grid = {"quadtree": None}.get(way, (1, tokens))
    return ModelRow(way, "vit", "blur", "parallel", "cpu", "float32", 8, spec, grid, ((prepare, forward),) * 3, (0, 0))


@pytest.mark.parametrize(
    ("prepare", "forward", "tokens"),
    [
        (0.0, 100.0, 256),  # nothing is spent: at the full grid
        (39.0, 100.0, 217),  # one unit a token: 256 - 39
        (156.0, 100.0, 100),  # spends all that it saves
        (200.0, 100.0, 56),  # would pay at 56 tokens
        (240.0, 100.0, 16),  # at the roots alone
        (241.0, 100.0, None),  # at fewer tokens than there are roots
        (1.0, 256.0, None),  # saves nothing
        (1.0, 300.0, None),
    ],
)
def test_the_break_even_is_where_preparing_takes_what_the_forward_saves(prepare, forward, tokens):
    full, tree = row("full grid", 256, 0.0, 256.0), row("quadtree", 100, prepare, forward)
    assert break_even(full, tree) == tokens


def test_what_the_full_grid_prepares_counts_too_and_the_full_grid_is_the_most():
    tree = row("quadtree", 100, 39.0, 100.0)
    assert break_even(row("full grid", 256, 10.0, 256.0), tree) == 227
    assert break_even(row("full grid", 256, 50.0, 256.0), tree) == 256


def test_a_quadtree_on_the_full_grid_has_no_break_even():
    tree = replace(row("quadtree", 100, 1.0, 256.0), spec=Spec(256, 256, 16, 64, 256))
    assert break_even(row("full grid", 256, 0.0, 256.0), tree) is None
