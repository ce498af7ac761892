"""What the weights of the object scorer must be able to do, on generated scenes, noise and the sample photographs.

Training saw none of them. docs/object-scorer.md has the figures on more scenes and on photographs.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import measure
from quadtok import Spec, get_scorer, read_image
from quadtok.images import fit_image
from quadtok.quadtrees.base import path_minimum
from quadtok.quadtrees.order import split_order

SPEC = measure.SPEC
SAMPLES = sorted((Path(__file__).parents[2] / "sample_images").glob("*.jpg"))
CHANGES = {
    "10 % brighter": lambda images: measure.brighter(images, 1.1),
    "10 % darker": lambda images: measure.brighter(images, 0.9),
    "JPEG quality 75": measure.as_jpeg,
}
NOISE = {  # of one spread, from a generator: [4, 3, 256, 256]
    "normal": lambda generator: torch.randn(4, 3, 256, 256, generator=generator),
    "grey": lambda generator: torch.randn(4, 1, 256, 256, generator=generator).expand(-1, 3, -1, -1),
    "flat": lambda generator: 3**0.5 * (2 * torch.rand(4, 3, 256, 256, generator=generator) - 1),
    "coarse": lambda generator: F.interpolate(torch.randn(4, 3, 128, 128, generator=generator), scale_factor=2.0),
}


@pytest.fixture(scope="module")
def scorer():
    return get_scorer("object")


@pytest.fixture(scope="module")
def scenes():
    return measure.held_out(32)


@pytest.fixture(scope="module")
def samples():
    """`[5, 3, 256, 256]` uint8: the middle square of each sample photograph, made small."""
    pictures = []
    for path in SAMPLES:
        picture = Image.open(path).convert("RGB")
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        box = (left, top, left + side, top + side)
        pictures.append(np.asarray(picture.resize((256, 256), Image.Resampling.LANCZOS, box=box)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def figures(scorer, scenes):
    return measure.report(scorer, *scenes)


def test_nearly_all_of_the_finest_tokens_touch_an_object_where_the_budget_allows_it(figures, scenes):
    assert measure.budget_allows(scenes[1]).sum() >= 10
    assert figures["finest tokens on objects"] >= 0.95


def test_objects_are_resolved_better_than_by_the_bundled_feature_weights_and_by_blur(figures, scenes):
    ours = figures["coverage of objects"]
    assert ours > measure.report(get_scorer("feature"), *scenes)["coverage of objects"]
    assert ours > measure.report(get_scorer("blur"), *scenes)["coverage of objects"] + 0.1


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shown", ["scenes", "samples"])
def test_light_and_compression_change_the_order_of_the_scores_little(shown, change, scorer, request):
    images = request.getfixturevalue(shown)
    images = images[0] if shown == "scenes" else images
    changed = CHANGES[change](images)
    assert not torch.equal(images, changed)
    assert measure.kendall(scorer(images, SPEC), scorer(changed, SPEC)).mean() >= 0.95


@pytest.mark.parametrize("shown", ["scenes", "samples"])
def test_a_mirrored_image_gets_nearly_the_mirrored_order(shown, scorer, request):
    images = request.getfixturevalue(shown)
    images = images[0] if shown == "scenes" else images
    mirrored = [each.flip(-1).contiguous() for each in scorer(images.flip(-1), SPEC)]
    assert measure.kendall(scorer(images, SPEC), mirrored).mean() >= 0.95


def test_with_two_views_a_mirrored_image_gets_the_mirrored_scores(samples):
    both = get_scorer("object", views=2)
    for ours, mirrored in zip(both(samples, SPEC), both(samples.flip(-1), SPEC), strict=True):
        assert (ours - mirrored.flip(-1)).abs().max() <= 1e-4 * ours.abs().max()
        assert (ours - mirrored).abs().max() > 0.1 * ours.abs().max()  # not because they are alike everywhere


@pytest.mark.parametrize(("canvas", "side"), [(512, 256), (512, 192)])
@pytest.mark.parametrize(("down", "right"), [(64, 0), (0, 64), (64, 64)])
def test_a_photograph_that_moves_takes_the_order_of_its_scores_along(canvas, side, down, right, scorer, samples):
    spec, orders = Spec(canvas, canvas, 16, 64, 64), []
    for top, left in ((64, 64), (64 + down, 64 + right)):
        images = torch.full((len(samples), 3, canvas, canvas), 124, dtype=torch.uint8)
        images[..., top : top + side, left : left + side] = samples[..., :side, :side]
        scores = scorer(images, spec)
        orders.append(
            [
                grid[:, top // patch : (top + side) // patch, left // patch : (left + side) // patch].contiguous()
                for patch, grid in zip((32, 64), scores, strict=True)
            ]
        )
    assert measure.kendall(*orders).mean() >= 0.95


@pytest.mark.parametrize("sigma", [4, 12, 40])
@pytest.mark.parametrize("kind", NOISE)
def test_of_nothing_but_noise_no_place_is_worth_more(kind, sigma, scorer):
    noise = NOISE[kind](torch.Generator().manual_seed(0))
    images = (120 + sigma * noise).round().clamp(0, 255).byte()
    for scores in scorer(images, Spec(256, 256, 16, 64, 64)):
        values = scores.flatten(1)
        assert (values.std(1) / values.mean(1)).max() <= 0.3


def test_sensor_noise_on_a_flat_ground_draws_next_to_no_tokens(figures):
    assert figures["finest tokens on noise"] <= 0.03


def test_the_middle_of_the_picture_is_not_preferred(figures):
    assert 0.87 <= figures["middle over border"] <= 1.15


# The patches that are split, one bit each in tie order, at a number of tokens where the next one is far below.
SPLIT = {
    "astronaut": (136, "efff0fa05fa00ff00c80"),
    "chelsea": (79, "4f7200005f030c0c0000"),
    "coffee": (106, "6ff600001ff00ef000c0"),
    "hubble_deep_field": (79, "ffff4c000000000a0000"),
    "rocket": (106, "06ef000005a055a0f7b2"),
}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_weights_that_ship_split_what_they_split_when_they_were_measured(path, scorer):
    num_tokens, bits = SPLIT[path.stem]
    spec = Spec(256, 256, 16, 64, num_tokens)
    pixels = fit_image(read_image(path).image, 256, 256, "crop").pixels[None]
    saliency = scorer(pixels, spec)
    order = split_order(saliency, spec)[0]
    levels = path_minimum(saliency, spec)[0, order]
    assert levels[spec.num_splits] < 0.95 * levels[spec.num_splits - 1]
    split = np.zeros(80, dtype=bool)
    split[order[: spec.num_splits]] = True
    assert np.packbits(split).tobytes().hex() == bits
