"""Which neighbouring pixels differ: flat patches to the bit, and edges counted by hand."""

from pathlib import Path

import pytest
import torch

from quadtok import Spec, get_scorer, normalize, reverse_patches, tokenize
from quadtok.images import fit_native, read_image

PLOT = Path(__file__).parents[2] / "docs" / "pictures" / "psnr.png"
SPEC = Spec(8, 16, 2, 8, 20)  # grids 4×8 of 2, 2×4 of 4, 1×2 of 8


def score(pixels, spec=SPEC):
    return get_scorer("duplicate")(pixels, spec)


def pixels_of(*rows):
    """`[1, 3, 8, 16]` bytes: grey levels, the last row and column repeated."""
    pixels = torch.tensor(rows, dtype=torch.uint8)
    down, across = torch.arange(8).clamp(max=len(pixels) - 1), torch.arange(16).clamp(max=pixels.shape[1] - 1)
    return pixels[down][:, across].expand(1, 3, -1, -1)


def random_bytes(spec=SPEC, levels=256, batch=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(levels, (batch, 3, spec.height, spec.width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_patches_of_one_colour_score_zero_and_all_others_more(dtype):
    pixels = random_bytes()
    pixels[..., :8] = pixels[..., :1, :1]  # one colour an image
    pixels[..., :4, 8:12] = torch.tensor([3, 4, 5], dtype=torch.uint8).view(3, 1, 1)
    images = pixels if dtype == torch.uint8 else normalize(pixels).to(dtype)
    for scale, scores in enumerate(score(images), start=1):
        size = SPEC.patch_size(scale)
        patches = images.unfold(2, size, size).unfold(3, size, size).flatten(4)
        flat = (patches == patches[..., :1]).all(dim=-1).all(dim=1)
        assert torch.equal(scores == 0, flat)
        assert (scores >= 0).all()
        assert 0 < flat.sum() < flat.numel()


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 255])
def test_one_pixel_in_one_channel_is_enough_whatever_it_differs_by(channel, step):
    pixels = torch.zeros(1, 3, 8, 16, dtype=torch.uint8)
    pixels[0, channel, 5, 6] = step  # of the patch of 4 in row 1 and column 1: four neighbours in it
    finest, coarsest = score(pixels)
    assert finest.nonzero().tolist() == [[0, 1, 1]]
    assert finest[0, 1, 1] == 4
    assert coarsest.tolist() == [[[4, 0]]]


def test_the_last_bit_of_a_float_counts():
    images = torch.full((1, 3, 8, 16), 0.5)
    images[0, 2, 0, 0] = torch.nextafter(images[0, 2, 0, 0], torch.tensor(1.0))
    finest, _ = score(images)
    assert finest.nonzero().tolist() == [[0, 0, 0]]


def test_edges_are_counted_by_the_pixel_and_only_inside_a_patch():
    # Four columns of 0, then 9s: the edge lies on the border of patches of 4, and inside one of 8, 8 pixels long.
    finest, coarsest = score(pixels_of([0, 0, 0, 0, 9]))
    assert not finest.any()
    assert coarsest.tolist() == [[[8, 0]]]
    # A line of 9s one pixel wide, in the second row: two edges, 4 long in each patch of 4, 8 in each of 8.
    finest, coarsest = score(pixels_of([0], [9], [0]))
    assert finest.tolist() == [[[8] * 4, [0] * 4]]
    assert coarsest.tolist() == [[[16, 16]]]


def test_what_differs_everywhere_has_all_pairs():
    chequered = (torch.arange(8)[:, None] + torch.arange(16)).remainder(2).to(torch.uint8).expand(1, 3, -1, -1)
    finest, coarsest = score(chequered)
    assert finest.unique().tolist() == [2 * 4 * 3]
    assert coarsest.unique().tolist() == [2 * 8 * 7]


def test_a_patch_has_no_less_than_its_four_children():
    finest, coarsest = score(random_bytes(levels=2))
    children = finest.view(3, 1, 2, 2, 2).sum(dim=(2, 4))
    assert (coarsest >= children).all()


def test_opposite_borders_of_the_image_are_no_neighbours():
    pixels = torch.zeros(1, 3, 8, 16, dtype=torch.uint8)
    pixels[..., 8:] = 1  # the left and the right patch of 8 differ, and each is flat
    assert [scores.count_nonzero().item() for scores in score(pixels)] == [0, 0]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_will_do(channels):
    pixels = torch.zeros(1, channels, 8, 16, dtype=torch.uint8)
    pixels[0, -1, 0, 0] = 1
    assert [scores.count_nonzero().item() for scores in score(pixels)] == [1, 1]


def test_a_plot_is_kept_without_loss():
    """The figures of docs/scorers.md; the picture is made with them."""
    plot = fit_native(read_image(PLOT).image, 64, "pad").pixels
    spec = Spec.full(*plot.shape[1:], min_patch=8, max_patch=64)
    tokens = tokenize(plot[None], spec, "duplicate", threshold=0.0).unpadded(0)
    assert torch.equal(reverse_patches(tokens.patches, tokens.plan), plot[None].float())
    assert (tokens.plan.spec.num_tokens, spec.num_cells) == (3472, 5824)
