"""Patch embedding and sinusoidal positions, against their definitions (docs/reference.md section 5)."""

import math

import pytest
import torch
import torch.nn.functional as F

from quadtok.errors import InputError
from quadtok.models.embed import PatchEmbedding, sinusoidal_embedding


def one_coordinate(position, dim):
    """The definition, one number at a time."""
    half = dim // 2
    frequencies = [10000 ** (-i / (half - 1)) if half > 1 else 1.0 for i in range(half)]
    return (
        [math.sin(position * f) for f in frequencies]
        + [math.cos(position * f) for f in frequencies]
        + [0.0] * (dim % 2)
    )


@pytest.mark.parametrize("embed_dim", [2, 4, 6, 8, 10, 32, 768])
def test_positions_are_embedded_as_defined(embed_dim, device):
    positions = torch.tensor([[0.5, 3.0], [0.0, 0.0], [63.5, 17.0], [255.5, 1.0]], dtype=torch.float64)
    expected = [one_coordinate(x, embed_dim // 2) + one_coordinate(y, embed_dim // 2) for x, y in positions.tolist()]
    expected = torch.tensor(expected, dtype=torch.float64)
    exact = sinusoidal_embedding(positions.to(device), embed_dim)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.cpu(), expected, rtol=0, atol=1e-12)
    single = sinusoidal_embedding(positions.float().to(device), embed_dim)
    assert single.dtype == torch.float32
    # A float32 angle near 256 is known to 2e-5, and so is its sine.
    torch.testing.assert_close(single.cpu().double(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("embed_dim", [2, 6, 10])
def test_an_odd_half_ends_with_a_zero(embed_dim):
    halves = sinusoidal_embedding(torch.rand(50, 2) * 16, embed_dim).view(50, 2, embed_dim // 2)
    assert (halves[..., -1] == 0).all()
    assert (halves[..., :-1] != 0).all()


def test_the_first_half_is_for_x_and_the_second_for_y():
    same_x = sinusoidal_embedding(torch.tensor([[2.5, 1.0], [2.5, 7.0]]), 16)
    assert torch.equal(same_x[0, :8], same_x[1, :8])
    assert not torch.equal(same_x[0, 8:], same_x[1, 8:])
    swapped = sinusoidal_embedding(torch.tensor([[1.0, 2.5]]), 16)
    assert torch.equal(swapped[0, 8:], same_x[0, :8])


@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 4, 2), (0, 2)], ids=str)
def test_positions_may_have_any_leading_shape(shape):
    assert sinusoidal_embedding(torch.zeros(shape), 8).shape == (*shape[:-1], 8)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16])
def test_positions_of_other_types_are_embedded_in_float32(dtype):
    positions = torch.arange(20).view(10, 2)
    embedded = sinusoidal_embedding(positions.to(dtype), 16)
    assert embedded.dtype == torch.float32
    assert torch.equal(embedded, sinusoidal_embedding(positions.float(), 16))


@pytest.mark.parametrize("embed_dim", [-2, 0, 1, 7])
def test_a_width_that_x_and_y_cannot_share_is_refused(embed_dim):
    with pytest.raises(InputError, match=f"embed_dim {embed_dim} cannot be shared between x and y: it must be even"):
        sinusoidal_embedding(torch.zeros(1, 2), embed_dim)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_patches_are_embedded_as_a_convolution_would(channels):
    embed = PatchEmbedding(channels, 4, 6)
    image = torch.randn(2, channels, 8, 12)
    patches = image.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    expected = F.conv2d(image, embed.proj.weight, embed.proj.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(patches), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (3, 3, 8, 8), (3, 3, 4, 5)], ids=str)
def test_patches_that_do_not_fit_the_weights_are_refused_with_both_shapes(shape):
    found = ", ".join(map(str, shape[1:]))
    if shape[0] == 1:
        found, shape = "1, 4, 4", (3, 1, 4, 4)
    with pytest.raises(InputError, match=rf"patches are \[{found}\] \(C, p, p\), the embedding takes \[3, 4, 4\]"):
        PatchEmbedding(3, 4, 6)(torch.zeros(2, *shape))
