"""Fair turns, honest numbers, and a quadtree that is wrong does not get through."""

import itertools
import json
import time
from functools import partial

import pytest
import torch

from helpers import boxes
from quadtok import Spec, extract_patches, get_quadtree, get_scorer
from quadtok.bench import STAGES, Workload, random_pixels, time_quadtrees
from quadtok.errors import InputError
from quadtok.quadtrees import QUADTREES

SPEC = Spec(64, 96, 8, 32, 24)
BATCH = 3


def workload(score=None, device="cpu", spec=SPEC):
    images = random_pixels(BATCH, spec.height, spec.width).to(device)
    return Workload(images, spec, "random", score or get_scorer("random", seed=range(BATCH)))


def quick(names, score=None, **options):
    return time_quadtrees(workload(score), names, **{"warmup": 0, "min_time": 0.0, **options})


@pytest.fixture
def calls(monkeypatch):
    """The names of the quadtrees in the order in which they are called."""
    names = []

    def watched(name, quadtree, saliency, spec):
        names.append(name)
        return quadtree(saliency, spec)

    for name, quadtree in list(QUADTREES.items()):
        monkeypatch.setitem(QUADTREES, name, partial(watched, name, quadtree))
    return names


@pytest.fixture
def seconds_pass(monkeypatch):
    """Every look at the clock takes a second, and so does every stage."""
    looks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(looks)))


def test_all_quadtrees_get_a_row_and_agree(device):
    rows = time_quadtrees(workload(device=device), list(QUADTREES), warmup=1, min_time=0.0)
    assert [row.implementation for row in rows] == list(QUADTREES)
    for row in rows:
        assert (row.mismatch, row.failure, row.compiled, row.compile_seconds) == (None, None, False, None)
        assert (row.batch, row.spec, row.scorer, row.dtype) == (BATCH, SPEC, "random", "uint8")
        assert torch.device(row.device).type == device
        assert len(row.times) == 3 and all(len(times) == len(STAGES) for times in row.times)
        assert row.quartiles[0] <= row.median <= row.quartiles[1]
        assert row.images_per_second == BATCH / row.median
        assert row.peak_bytes >= BATCH * 24 * 3 * 8 * 8 * 4  # at least the patches that come out


def test_the_slowest_is_what_the_others_are_compared_with():
    rows = quick(list(QUADTREES))
    slowest = max(row.median for row in rows)
    assert [row.speedup for row in rows] == [slowest / row.median for row in rows]
    assert min(row.speedup for row in rows) == 1


def test_quadtrees_take_turns(calls):
    quick(["dict", "parallel"])
    in_the_memory_run = ["dict", "parallel"]
    assert calls == in_the_memory_run + ["dict", "parallel"] * 3


def test_warm_up_runs_are_not_timed(calls):
    (row,) = quick(["tensor"], warmup=5)
    assert len(calls) == 1 + 5 + 3
    assert len(row.times) == 3


@pytest.mark.usefixtures("seconds_pass")
def test_each_is_timed_for_as_long_as_was_asked(calls):
    rows = quick(["zcurve", "tensor"], min_time=60.0)
    assert [row.times for row in rows] == [((1.0, 1.0, 1.0),) * 20] * 2
    timed = calls[2:]
    assert timed == (["zcurve"] * 2 + ["tensor"] * 2) * 10  # ten rounds of six seconds each
    assert [(row.median, row.quartiles, row.images_per_second) for row in rows] == [(3.0, (3.0, 3.0), 1.0)] * 2
    assert rows[0].stages == {"score": 1.0, "select": 1.0, "extract": 1.0}


def misread(saliency, image):
    """The saliency with that of one image shifted by a place."""
    saliency = [scores.clone() for scores in saliency]
    for scores in saliency:
        scores[image] = scores[image].roll(1)
    return saliency


def wrong_at(call, image):
    """A quadtree that misreads one image at its nth call; the first call is that of the memory run."""
    calls = iter(range(1, 100))
    return lambda saliency, spec: get_quadtree("dict")(
        misread(saliency, image) if next(calls) == call else saliency, spec
    )


@pytest.mark.parametrize("call", [2, 4], ids=["in the first repetition", "in the last"])
def test_a_quadtree_that_is_wrong_has_no_time(monkeypatch, call):
    monkeypatch.setitem(QUADTREES, "zcurve", wrong_at(call, image=2))
    rows = quick(["tensor", "zcurve", "parallel"])
    assert [row.mismatch is None for row in rows] == [True, False, True]
    broken = rows[1]
    assert (broken.times, broken.median, broken.quartiles, broken.images_per_second, broken.speedup) == (
        (),
        *[None] * 4,
    )
    assert broken.stages == dict.fromkeys(STAGES)
    assert json.dumps(broken.describe())


def test_patches_that_are_read_otherwise_when_compiled_are_a_mismatch(monkeypatch):
    def spoiled(function, **options):
        if function is not extract_patches:
            return function
        return lambda images, plan: function(images, plan) + 1e-3

    monkeypatch.setattr(torch, "compile", spoiled)
    (_, row) = quick(["parallel"], compiled=True)
    assert row.mismatch == "parallel, compiled and parallel disagree: token 0 of image 0 has other pixels"


def test_a_mismatch_names_the_image_and_the_first_token_that_differs(monkeypatch):
    monkeypatch.setitem(QUADTREES, "tensor", wrong_at(2, image=1))
    (_, row) = quick(["dict", "tensor"])
    saliency = get_scorer("random", seed=range(BATCH))(workload().images, SPEC)
    wrong, right = (boxes(get_quadtree("dict")(maps, SPEC), 1) for maps in (misread(saliency, 1), saliency))
    token = next(token for token, (ours, theirs) in enumerate(zip(wrong, right, strict=True)) if ours != theirs)
    found, wanted = (f"{size} px at ({left}, {top})" for left, top, size in (wrong[token], right[token]))
    assert row.mismatch == f"tensor and dict disagree: token {token} of image 1 is {found}, not {wanted}"


def test_compiled_rows_stand_beside_the_others(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    rows = quick(["dict", "parallel"], compiled=True)
    assert [row.label for row in rows] == ["dict", "parallel", "dict, compiled", "parallel, compiled"]
    dict_compiled, parallel_compiled = rows[2:]
    assert dict_compiled.failure.startswith("torch.compile failed for dict: ")  # the rest is torch's own sentence
    assert "\n" not in dict_compiled.failure
    assert dict_compiled.times == ()
    assert len(parallel_compiled.times) == 3 and parallel_compiled.compile_seconds > 0
    assert (parallel_compiled.mismatch, parallel_compiled.failure) == (None, None)


def test_without_a_compiler_the_others_are_timed_all_the_same(monkeypatch):
    def no_compiler(*arguments, **options):
        raise RuntimeError("no C++ compiler\nand a page of details")

    monkeypatch.setattr(torch, "compile", no_compiler)
    rows = quick(["parallel"], compiled=True)
    assert [len(row.times) for row in rows] == [3, 0]
    assert rows[1].failure == "torch.compile failed for parallel: no C++ compiler"


def test_a_quadtree_that_crashes_is_not_swallowed(monkeypatch):
    def crash(saliency, spec):
        raise ZeroDivisionError

    monkeypatch.setitem(QUADTREES, "zcurve", crash)
    with pytest.raises(ZeroDivisionError):
        quick(["zcurve"])


def test_random_pixels_depend_on_their_seed_alone():
    before = torch.get_rng_state()
    assert torch.equal(random_pixels(2, 8, 16, seed=4), random_pixels(2, 8, 16, seed=4))
    assert not torch.equal(random_pixels(2, 8, 16, seed=4), random_pixels(2, 8, 16, seed=5))
    assert torch.equal(torch.get_rng_state(), before)
    assert (random_pixels(2, 8, 16).shape, random_pixels(2, 8, 16).dtype) == ((2, 3, 8, 16), torch.uint8)


def test_what_cannot_be_timed_is_refused():
    with pytest.raises(InputError, match="nothing to time: name at least one"):
        quick([])
    with pytest.raises(InputError, match="no quadtree 'heap': choose one of dict, tensor"):
        quick(["heap"])
    with pytest.raises(InputError, match="both 32: nothing is to choose; use max_patch 64"):
        time_quadtrees(workload(spec=Spec(64, 96, 32, 32, 6)), ["dict"])
    with pytest.raises(InputError, match="images are 64×96 .* the spec says 64×64"):
        time_quadtrees(Workload(workload().images, Spec(64, 64, 8, 32, 7), "blur", get_scorer("blur")), ["dict"])


def test_nothing_is_printed(capfd):
    quick(list(QUADTREES))
    assert capfd.readouterr() == ("", "")
