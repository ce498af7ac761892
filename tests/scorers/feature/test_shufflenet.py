"""The folded trunk computes what the trunk does."""

import pytest
import torch
from torch import nn

from helpers import lively_trunk, photographs, snapshot
from quadtok.scorers.feature.shufflenet import STAGES, fold_trunk, interleave, interleave_last


@pytest.mark.parametrize("stride", sorted(STAGES))
def test_a_folded_trunk_gives_the_trunks_features_and_leaves_it_as_it_was(stride):
    trunk = lively_trunk(stride)
    state, flags = snapshot(trunk)
    folded = fold_trunk(trunk)
    assert flags == snapshot(trunk)[1]
    assert all(torch.equal(state[name], value) for name, value in trunk.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d) or module.training for module in folded.modules())
    assert not any(weight.requires_grad for weight in folded.parameters())
    with torch.no_grad():
        expected, found = (net(photographs(64, 96)) for net in (trunk, folded))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()  # found: 2e-5
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("way", [interleave, interleave_last])
def test_two_halves_are_interleaved_as_torchvision_shuffles_them(way):
    from torchvision.models.shufflenetv2 import channel_shuffle

    halves = [torch.rand(2, 5, 3, 4).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    found = way(*halves)
    assert torch.equal(found, channel_shuffle(torch.cat(halves, dim=1), 2))
    assert found.is_contiguous(memory_format=torch.channels_last)
