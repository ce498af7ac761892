"""The order of all splits of an image holds the plan of every budget and threshold, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import SALIENCY_KINDS, SPECS, assert_same_plan, random_saliency, saliency_of_kind
from quadtok import Spec, get_quadtree
from quadtok.errors import InputError, SpecError, TokenFileError
from quadtok.storage.plan_stream import plan_streams, stream_of_bytes, stream_size

SPEC = Spec(256, 256, 16, 64, 100)


def budgets(spec, step=1):
    return range(spec.num_roots, spec.num_cells + 1, 3 * step)


def chosen(saliency, spec, image, threshold=None):
    return get_quadtree("dict")([scores[image : image + 1] for scores in saliency], spec, threshold)


@pytest.mark.parametrize("kind", SALIENCY_KINDS)
def test_every_budget_is_the_plan_of_the_quadtree(kind):
    saliency = saliency_of_kind(kind, SPEC)
    for image, stream in enumerate(plan_streams(saliency, SPEC)):
        for num_tokens in budgets(SPEC):
            assert_same_plan(stream.plan(num_tokens), chosen(saliency, replace(SPEC, num_tokens=num_tokens), image))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_geometry_comes_back_from_its_bytes(spec):
    saliency = random_saliency(spec, batch=2)
    for image, stream in enumerate(plan_streams(saliency, spec, "float32")):
        again = stream_of_bytes(stream.to_bytes(), spec, "float32")
        for num_tokens in budgets(spec, step=1 if spec.num_cells < 1000 else spec.num_cells // 60):
            wanted = chosen(saliency, replace(spec, num_tokens=num_tokens), image if saliency else 0)
            assert_same_plan(again.plan(num_tokens), wanted)


@pytest.mark.parametrize("kind", [kind for kind in SALIENCY_KINDS if not kind.startswith("shifted")])  # 64 bits
def test_every_threshold_is_the_plan_of_the_quadtree(kind):
    full, saliency = replace(SPEC, num_tokens=SPEC.num_cells), saliency_of_kind(kind, SPEC)
    values = torch.cat([scores.flatten() for scores in saliency])
    at = [float(value) for value in values[values.isfinite()].unique()[::9]]
    for image, stream in enumerate(plan_streams(saliency, SPEC, "float32")):
        for threshold in [-1e30, *at, *(value + 1e-9 for value in at), 1e30]:
            for spec in (full, SPEC):
                wanted = chosen(saliency, spec, image, threshold).unpadded(0)
                most = None if spec is full else spec.num_tokens
                assert_same_plan(stream.plan(most, threshold=threshold), wanted)


def test_sixteen_bits_differ_near_the_threshold_alone():
    saliency = random_saliency(SPEC, batch=1)
    exact, rounded = (plan_streams(saliency, SPEC, name)[0] for name in ("float32", "float16"))
    between = np.sort(exact.minima)[[20, 40]].mean()
    assert exact.plan(threshold=float(between)) == rounded.plan(threshold=float(between))
    differing = [
        value for value in exact.minima if exact.plan(threshold=float(value)) != rounded.plan(threshold=float(value))
    ]
    assert differing  # the value itself is rounded away


def test_an_image_takes_eighty_bytes_and_three_hundred_and_twenty_for_thresholds():
    saliency = random_saliency(SPEC, batch=1)
    assert len(plan_streams(saliency, SPEC)[0].to_bytes()) == stream_size(SPEC, "none") == 80
    assert len(plan_streams(saliency, SPEC, "float32")[0].to_bytes()) == 80 + 320
    assert len(plan_streams(saliency, SPEC, "float16")[0].to_bytes()) == 80 + 160


@pytest.mark.parametrize(
    "spec", [SPEC, Spec(128, 192, 8, 64, 6), Spec(64, 96, 16, 32, 6), Spec(48, 80, 16, 16, 15)], ids=str
)
def test_a_mirrored_image_has_the_mirrored_plans(spec):
    saliency = random_saliency(spec, batch=1, seed=3)
    stream = plan_streams(saliency, spec, "float32")[0]
    mirrored = plan_streams([scores.flip(-1) for scores in saliency], spec, "float32")[0]
    for num_tokens in budgets(spec, step=5):
        assert stream.mirrored().plan(num_tokens) == mirrored.plan(num_tokens)
    assert stream.mirrored().mirrored().to_bytes() == stream.to_bytes()


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 256, 256), (64, 0, 128, 192), (192, 128, 64, 128), (0, 192, 64, 64)]
)
def test_a_crop_has_the_plans_of_the_part_alone(top, left, height, width):
    saliency = random_saliency(SPEC, batch=1, seed=4)
    part = Spec.full(height, width, 16, 64)
    own = [
        scores[:, top // size : (top + height) // size, left // size : (left + width) // size]
        for scores, size in zip(saliency, (32, 64), strict=True)
    ]
    cropped, alone = (
        plan_streams(saliency, SPEC, "float32")[0].cropped(top, left, height, width),
        plan_streams(own, part, "float32")[0],
    )
    assert cropped.spec == part
    for num_tokens in budgets(part):
        assert cropped.plan(num_tokens) == alone.plan(num_tokens)
    assert cropped.to_bytes() == alone.to_bytes()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 100, 64),
        (32, 0, 64, 64),
        (0, 0, 0, 64),
        (-64, 0, 64, 64),
        (64, 64, 256, 64),
        (0, 256, 64, 64),
        (0.0, 0, 64, 64),
        ("0", 0, 64, 64),
    ],
)
def test_what_is_no_part_of_whole_roots_is_refused(box):
    stream = plan_streams(random_saliency(SPEC, batch=1), SPEC)[0]
    with pytest.raises(InputError, match="root patches|not inside"):
        stream.cropped(*box)


def test_a_plan_needs_a_number_of_tokens_or_a_threshold_with_minima():
    stream = plan_streams(random_saliency(SPEC, batch=1), SPEC)[0]
    with pytest.raises(InputError, match="give num_tokens, or a threshold"):
        stream.plan()
    with pytest.raises(InputError, match="without minima"):
        stream.plan(threshold=0.5)
    with pytest.raises(SpecError, match="Try 100 or 103"):
        stream.plan(101)
    with pytest.raises(InputError, match="finite"):
        plan_streams(random_saliency(SPEC, batch=1), SPEC, "float32")[0].plan(threshold=float("nan"))


def damaged(change, spec=SPEC, minima="float32"):
    stream = plan_streams(random_saliency(spec, batch=1), spec, minima)[0]
    data = bytearray(stream.to_bytes())
    change(data)
    return bytes(data)


FAULTS = {
    "cut short": lambda data: data.pop(),
    "too long": lambda data: data.append(0),
    "a node twice": lambda data: data.__setitem__(5, data[6]),
    "a node that there is not": lambda data: data.__setitem__(5, 80),
    "a child before its parent": lambda data: data.__setitem__(slice(0, 80), data[79::-1]),
    "minima that rise": lambda data: data.__setitem__(slice(80, 84), np.float32(-1e9).tobytes()),
    "minima that are NaN": lambda data: data.__setitem__(slice(396, 400), np.float32("nan").tobytes()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_that_is_damaged_is_refused(fault):
    with pytest.raises(TokenFileError):
        stream_of_bytes(damaged(FAULTS[fault]), SPEC, "float32")


def test_no_swap_of_two_bytes_is_believed_unless_it_is_an_order_too():
    data = plan_streams(random_saliency(SPEC, batch=1), SPEC)[0].to_bytes()
    refused = 0
    for first in range(0, 79):
        swapped = bytearray(data)
        swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
        try:
            stream = stream_of_bytes(bytes(swapped), SPEC, "none")
        except TokenFileError:
            refused += 1
            continue
        for num_tokens in budgets(SPEC):
            stream.plan(num_tokens).check_tiling()
    assert refused  # some are a child and its parent
