"""torch's way and numpy's give one plan, and each is gone where it belongs."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import SALIENCY_KINDS, SPECS, assert_partition, assert_same_plan, saliency_of_kind
from quadtok import Spec
from quadtok.quadtrees import QUADTREES
from quadtok.quadtrees.dict_lookup import dict_lookup

# `quadtok.quadtrees.parallel` is the function that stands in the module of that name.
parallel, parallel_torch = (
    getattr(import_module("quadtok.quadtrees.parallel"), name) for name in ("parallel", "parallel_torch")
)

SMALL = Spec(36, 12, 3, 12, 27)
EIGHT_SCALES = Spec(128, 128, 1, 128, 1 + 3 * 700)


@pytest.mark.parametrize("kind", SALIENCY_KINDS)
@pytest.mark.parametrize("spec", [*(spec for spec in SPECS if spec.num_scales > 1), EIGHT_SCALES], ids=str)
def test_torchs_way_gives_the_plan_of_dict(spec, kind, device):
    saliency = [scores.to(device) for scores in saliency_of_kind(kind, spec, batch=2)]
    plan = parallel_torch(saliency, spec)
    assert_partition(plan)
    assert_same_plan(plan, dict_lookup(saliency, spec))
    assert_same_plan(parallel(saliency, spec), plan)


class Operations(TorchDispatchMode):
    """Hears of what would be kernel launches on a device."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.names.append(str(function))
        return function(*arguments, **(keywords or {}))


def operations_of(choose, *arguments):
    with Operations() as operations:
        choose(*arguments)
    return operations.names


def test_the_number_of_operations_does_not_grow_with_the_number_of_splits():
    spec = Spec(256, 256, 4, 64, 16)
    saliency = saliency_of_kind("random", spec)
    counts = {}
    for name in ("parallel", "zcurve"):
        for num_tokens in (19, 1000, 4096):
            seen = operations_of(QUADTREES[name], saliency, replace(spec, num_tokens=num_tokens))
            counts[name, num_tokens] = len(seen)
    assert counts["parallel", 19] == counts["parallel", 1000] == counts["parallel", 4096]
    assert counts["zcurve", 19] < counts["zcurve", 1000] < counts["zcurve", 4096]


# Where operations are followed the numbers stand for others, and torch has to do it. numpy looks where it may.


def some_saliency(seed=0):
    return saliency_of_kind("random", SMALL, batch=2, seed=seed)


def left_of(*saliency):
    return parallel(saliency, SMALL).left


class Subclass(torch.Tensor):
    """May stand for anything."""


@pytest.mark.parametrize(
    "record",
    [
        lambda saliency: torch.compile(left_of, fullgraph=True, backend="eager"),
        lambda saliency: make_fx(left_of)(*saliency),
        lambda saliency: torch.jit.trace(left_of, saliency, check_trace=False),
    ],
    ids=["compiled", "traced", "traced by torch.jit"],
)
@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and says so
def test_what_is_recorded_with_one_saliency_is_right_for_another(record):
    torch._dynamo.reset()
    recorded = record(some_saliency())
    for seed in range(3):
        saliency = some_saliency(seed)
        assert torch.equal(recorded(*saliency), dict_lookup(saliency, SMALL).left)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap about its own loop
@pytest.mark.parametrize(
    "transformed",
    [
        torch.func.functionalize(left_of),
        lambda *saliency: torch.vmap(left_of)(*(scores[None] for scores in saliency))[0],
        lambda *saliency: left_of(torch.nn.Parameter(saliency[0]), *saliency[1:]),
    ],
    ids=["functionalized", "mapped", "partly a parameter"],
)
def test_a_transform_gets_the_plan_too(transformed):
    saliency = some_saliency()
    assert torch.equal(transformed(*saliency), dict_lookup(saliency, SMALL).left)


def test_a_mode_sees_the_whole_choice():
    names = operations_of(parallel, some_saliency(), SMALL)
    assert names == operations_of(parallel_torch, some_saliency(), SMALL)
    assert len(names) > 20


def test_a_subclass_of_tensors_stays_one():
    assert type(left_of(*(scores.as_subclass(Subclass) for scores in some_saliency()))) is Subclass


def test_saliency_without_numbers_gives_a_plan_without_numbers():
    assert left_of(*(scores.to("meta") for scores in some_saliency())).is_meta


def test_numbers_in_memory_are_sorted_by_numpy():
    def sorts(choose):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            choose(some_saliency(), SMALL)
        return [event.key for event in profile.key_averages() if event.key in ("aten::sort", "aten::topk")]

    assert (sorts(parallel), sorted(sorts(parallel_torch))) == ([], ["aten::sort", "aten::topk"])
