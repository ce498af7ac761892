"""A masked pool is the pool of what is there."""

import pytest
import torch

from quadtok.errors import InputError
from quadtok.models.pooling import masked_pool

POOLS = {
    "avg": lambda tokens: tokens.mean(dim=1),
    "max": lambda tokens: tokens.amax(dim=1),
    "avgmax": lambda tokens: (tokens.mean(dim=1) + tokens.amax(dim=1)) / 2,
}
LENGTHS = (1, 4, 7)


def padded(junk):
    generator = torch.Generator().manual_seed(0)
    keys = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(3, 7, 5, generator=generator).masked_fill(~keys[..., None], junk), keys


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("junk", [1e6, torch.nan, -torch.inf])
def test_a_masked_pool_is_the_pool_of_each_image_alone(kind, junk):
    tokens, keys = padded(junk)
    pooled = masked_pool(tokens, keys, kind)
    for image, length in enumerate(LENGTHS):
        torch.testing.assert_close(pooled[image], POOLS[kind](tokens[image : image + 1, :length])[0])


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_a_masked_pool_keeps_the_type(kind, dtype):
    tokens, keys = padded(0)
    assert masked_pool(tokens.to(dtype), keys, kind).dtype == dtype


@pytest.mark.parametrize("kind", POOLS)
def test_padding_gets_no_gradient(kind):
    tokens, keys = padded(0)
    masked_pool(tokens.requires_grad_(), keys, kind).sum().backward()
    assert not tokens.grad[~keys].any()


def test_a_pool_without_a_mask_is_refused():
    tokens, keys = padded(0)
    with pytest.raises(InputError, match="pooling 'prr' takes no mask, .* several lengths: leave out threshold"):
        masked_pool(tokens, keys, "prr")
