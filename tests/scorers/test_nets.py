"""What scorers with a net share: options, what weights may be, their digest; where no net can be made, they say so.

How files of weights are refused is in feature/test_weights.py and object/test_object.py.
"""

import json
import os
from fractions import Fraction
from functools import partial
from importlib.resources import files

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from quadtok import Spec, get_scorer
from quadtok.errors import InputError, WeightsError
from quadtok.scorers.nets import build_net, weights_digest

WITH_A_NET = ["feature", "object"]
FILES = {"feature": "object_net.pt", "object": "importance_net.pt"}


@pytest.mark.parametrize(
    ("name", "option", "value", "plain"),
    [
        ("object", "views", np.int64(2), 2),
        ("object", "views", torch.tensor(2), 2),
        ("object", "precision", np.str_("bfloat16"), "bfloat16"),
        ("feature", "stride", np.uint8(16), 16),
        ("feature", "error", np.str_("mse"), "mse"),
        ("feature", "high_res_fraction", np.float32(0.5), 0.5),
        ("feature", "high_res_fraction", Fraction(1, 2), 0.5),
        ("feature", "high_res_fraction", 1, 1.0),
    ],
    ids=lambda value: repr(value).replace(" ", ""),
)
def test_an_option_of_another_type_of_number_or_text_is_recorded_as_the_plain_one(name, option, value, plain):
    facts = get_scorer(name, **{option: value}).describe()
    assert json.dumps(facts) == json.dumps(get_scorer(name, **{option: plain}).describe())


@pytest.mark.parametrize("value", [["float32"], {}, None, b"float32", np.array([1, 2]), 2 + 0j, torch.tensor([1, 2])])
@pytest.mark.parametrize(
    ("name", "option"),
    [("object", "views"), ("object", "precision"), ("feature", "error"), ("feature", "precision")],
)
def test_what_is_none_of_the_choices_is_refused_whatever_its_type(name, option, value):
    with pytest.raises(InputError, match=f"^{option} .* is none of "):
        get_scorer(name, **{option: value})


@pytest.mark.parametrize("name", WITH_A_NET)
def test_whatever_stands_for_a_path_is_one(name, tmp_path):
    (tmp_path / "mine.pt").write_bytes((files("quadtok.scorers") / name / FILES[name]).read_bytes())
    with os.scandir(tmp_path) as entries:
        (entry,) = entries
    scorer = get_scorer(name, weights=entry)
    assert (scorer.weights, scorer.describe()["weights"]) == (entry.path, "mine.pt")


@pytest.mark.parametrize("names", [lambda name: 3, lambda name: (name,)], ids=["a number", "a tuple"])
@pytest.mark.parametrize("name", WITH_A_NET)
def test_tensors_under_what_is_no_text_are_no_state_dict(name, names, tmp_path):
    torch.save({names("stem.conv.weight"): torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w.pt: not a state dict \(a mapping of names to tensors\)"):
        get_scorer(name, weights=tmp_path / "w.pt")


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
        lambda weight: torch.nested.nested_tensor([weight[0], weight[0, :1]]),
        lambda weight: weight.long(),
        lambda weight: weight > 0,
    ],
    ids=["sparse", "meta", "complex", "quantised", "nested", "integers", "truth values"],
)
@pytest.mark.filterwarnings("ignore")  # torch's, about quantised tensors
def test_weights_that_are_no_plain_numbers_are_refused_by_name(spoil):
    state = dict(nn.Linear(2, 3).state_dict())
    state["weight"] = spoil(state["weight"])
    with pytest.raises(WeightsError, match="weights w.pt: not a layer: 1 of 2 tensors not plain numbers, first weight"):
        build_net(lambda: nn.Linear(2, 3), state, "w.pt", "a layer")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1e300], ids=str)
def test_weights_that_float32_does_not_hold_are_refused_by_name(value):
    state = {name: weight.double() for name, weight in nn.Linear(2, 3).state_dict().items()}
    state["weight"][1, 1] = value
    with pytest.raises(WeightsError, match="weights w.pt: not a layer: 1 of 2 tensors not finite, first weight"):
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


def first_scores(name, images):
    return get_scorer(name)(images, Spec(64, 64, 8, 32, 19))[0]


def in_a_mode_without_numbers(score, images):
    with FakeTensorMode():
        score(images)


@pytest.mark.parametrize("name", WITH_A_NET)
def test_a_copy_on_another_device_leaves_the_scorer_where_it_is(name):
    scorer, images = get_scorer(name), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    before = scorer(images, Spec(64, 64, 16, 64, 4))
    copy = scorer.to("meta")
    assert copy(images.to("meta"), Spec(64, 64, 16, 64, 4))[0].is_meta
    for ours, theirs in zip(before, scorer(images, Spec(64, 64, 16, 64, 4)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", WITH_A_NET)
def test_a_scorer_may_be_made_where_operations_are_made_functional(name):
    images = torch.rand(1, 3, 64, 64)
    score = partial(first_scores, name)
    assert torch.equal(torch.func.functionalize(score)(images), score(images))


@pytest.mark.parametrize("name", WITH_A_NET)
@pytest.mark.parametrize(
    "elsewhere",
    [
        lambda score, images: torch.vmap(score)(images[None]),
        lambda score, images: torch.func.jvp(score, (images,), (images,)),
        in_a_mode_without_numbers,
    ],
    ids=["vmap", "jvp", "fake tensors"],
)
def test_where_torch_lets_no_scorer_be_made_the_way_out_is_said(elsewhere, name):
    with pytest.raises(InputError, match=f"an? {name} scorer cannot be made here .* make it before, and pass it on"):
        elsewhere(partial(first_scores, name), torch.rand(1, 3, 64, 64))
