"""A table of positions is read at centres: its very entries on the full grid, and bilinearly between them."""

import pytest
import torch
import torch.nn.functional as F

from helpers import SPECS, random_saliency
from quadtok import Plan, Spec, get_quadtree
from quadtok.models.positions import at_centers


def make_table(spec, dim=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*spec.grid(0), dim, generator=generator, dtype=torch.float64).to(dtype)


def make_plan(spec, batch=3):
    if spec.num_scales == 1:
        return Plan.uniform(spec, 0, batch)
    return get_quadtree("parallel")(random_saliency(spec, batch), spec)


def by_grid_sample(table, plan):
    """torch's own bilinear reading, half-pixel: the definition."""
    rows, cols, _ = table.shape
    places = 2 * plan.centers.double() / torch.tensor([cols, rows], dtype=torch.float64) - 1
    maps = table.double().permute(2, 0, 1).expand(len(plan), -1, -1, -1)
    read = F.grid_sample(maps, places[:, :, None], mode="bilinear", align_corners=False, padding_mode="border")
    return read[..., 0].transpose(1, 2)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_between_entries_the_table_is_read_bilinearly(spec):
    plan, table = make_plan(spec), make_table(spec)
    expected = by_grid_sample(table, plan).float()
    torch.testing.assert_close(at_centers(table, plan), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_on_the_full_grid_it_is_the_table_bit_for_bit(spec, dtype):
    full = Spec.full(spec.height, spec.width, spec.min_patch, spec.max_patch)
    plan, table = Plan.uniform(full, 0), make_table(full, dtype=dtype)
    read = at_centers(table, plan)
    assert read.dtype == dtype
    rows, cols = plan.top[0] // spec.min_patch, plan.left[0] // spec.min_patch
    assert torch.equal(read[0], table[rows, cols])


def test_the_order_of_tokens_is_that_of_the_plan():
    spec = SPECS[0]
    plan, table = make_plan(spec), make_table(spec)
    flipped = Plan(plan.left.flip(1), plan.top.flip(1), plan.scale.flip(1), spec)
    assert torch.equal(at_centers(table, flipped), at_centers(table, plan).flip(1))


def test_padding_reads_an_entry_that_is_there():
    spec = Spec(32, 32, 8, 32, 16)
    saliency = random_saliency(spec, 2)
    plan = get_quadtree("parallel")(saliency, spec, threshold=torch.tensor([0.9, 0.5]))
    table = make_table(spec)
    read = at_centers(table, plan)
    for image in range(2):
        alone = plan.unpadded(image)
        assert torch.equal(read[image : image + 1, : alone.left.shape[1]], at_centers(table, alone))


def test_gradients_are_shared_between_the_entries_around_a_centre():
    spec = Spec(16, 16, 8, 16, 1)
    table = make_table(spec).requires_grad_()
    at_centers(table, Plan.uniform(spec, 1)).sum().backward()
    assert torch.equal(table.grad, torch.full_like(table, 0.25))
