"""Weights are told apart by their digest. How files of weights are refused is in test_weights.py."""

import pytest
import torch
from torch import nn

from quadtok.errors import WeightsError
from quadtok.scorers.nets import build_net, weights_digest


def test_the_digest_changes_with_one_weight_a_type_a_shape_or_a_name():
    plain = {"a": torch.zeros(2, 3), "b": torch.tensor(1)}
    others = [
        plain | {"b": torch.tensor(2)},
        plain | {"a": torch.zeros(3, 2)},
        plain | {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": plain["a"], "c": plain["b"]},
        {"a": plain["a"]},
    ]
    digests = {weights_digest(content) for content in [plain, *others]}
    assert len(digests) == 6
    assert weights_digest(dict(reversed(plain.items()))) == weights_digest(plain)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to("meta"),
        lambda weight: weight + 1j,
        lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "quantised"],
)
@pytest.mark.filterwarnings("ignore")  # torch's, about quantised tensors
def test_weights_that_are_no_plain_numbers_are_refused_by_name(spoil):
    state = dict(nn.Linear(2, 3).state_dict())
    state["weight"] = spoil(state["weight"])
    with pytest.raises(WeightsError, match="weights w.pt: not a layer: 1 of 2 tensors not plain numbers, first weight"):
        build_net(lambda: nn.Linear(2, 3), state, "w.pt", "a layer")


def test_a_net_gets_float32_copies_of_its_weights_and_is_frozen():
    state = {
        "weight": torch.rand(3, 2, dtype=torch.float64).T.contiguous().T,
        "bias": torch.rand(3, requires_grad=True),
    }
    net = build_net(lambda: nn.Linear(2, 3), state, "w.pt", "a layer")
    assert torch.equal(net.weight, state["weight"].float()) and net.weight.is_contiguous()
    assert torch.equal(net.bias, state["bias"]) and net.bias.data_ptr() != state["bias"].data_ptr()
    assert not any(parameter.requires_grad for parameter in net.parameters())
