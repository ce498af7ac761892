"""Weights are told apart by their digest. How files of weights are refused is in tests/scorers/test_feature.py."""

import torch

from quadtok.nets.base import weights_digest


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
