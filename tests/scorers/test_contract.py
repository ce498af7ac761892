"""What every scorer promises (scorers/base.py): a new one is tested by adding its name to SCORERS."""

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from helpers import GOLDEN, assert_partition, golden
from quadtok import Spec, get_quadtree, get_scorer, normalize, tokenize
from quadtok.errors import InputError
from quadtok.scorers import SCORERS, Scorer, on_device

SPEC = Spec(64, 96, 8, 32, 24)
IMAGES = golden("tokens_256_16_64_100_blur")["images_u8"][:, :, 96:160].unfold(3, 96, 80)[:, :, :, :2]
IMAGES = IMAGES.permute(0, 3, 1, 2, 4).flatten(0, 1).contiguous()  # [4, 3, 64, 96]: crops of photographs
MAPS = torch.rand(4, 8, 12, generator=torch.Generator().manual_seed(0))

# A scorer for the images of these numbers; what is not listed here is made by its name alone.
# stride 16: at 32 the random golden net's features are near zero, and rounding is a thousand times as large.
OPTIONS = {
    "feature": lambda picks: {"weights": GOLDEN / "feature_net.pt", "stride": 16},
    "point": lambda picks: {"points": [[(20.0 * pick, 9.5), (80, 60)][: 1 + pick % 2] for pick in picks]},
    "precomputed": lambda picks: {"maps": MAPS[picks]},
    "random": lambda picks: {"seed": [10 + pick for pick in picks]},
}
# Only convolutions may round differently in another batch: of the largest saliency.
TOLERANCE = {"object": 1e-5, "feature": 1e-4}


def make(name, picks=(0, 1, 2, 3)):
    return get_scorer(name, **OPTIONS.get(name, lambda picks: {})(list(picks)))


@pytest.fixture(params=sorted(SCORERS))
def name(request):
    return request.param


def assert_equal(saliency, expected, relative=0.0):
    assert len(saliency) == len(expected)
    for ours, theirs in zip(saliency, expected, strict=True):
        assert (ours - theirs).abs().max() <= relative * theirs.abs().max()


@pytest.mark.parametrize(
    "spec",
    [SPEC, Spec(32, 64, 16, 16, 8), Spec(8, 24, 1, 8, 60), Spec(32, 16, 2, 16, 20), Spec(56, 112, 14, 56, 20)],
    ids=str,
)
def test_saliency_is_one_float32_map_a_splittable_scale_the_finest_first(name, spec, device):
    images = torch.rand(4, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(1)).to(device)
    saliency = on_device(make(name), images.device)(images, spec)
    assert isinstance(saliency, list)
    assert [tuple(scores.shape) for scores in saliency] == [(4, *spec.grid(k)) for k in range(1, spec.num_scales)]
    assert all(scores.dtype == torch.float32 and scores.device == images.device for scores in saliency)
    assert all(scores.isfinite().all() for scores in saliency)


def test_a_scorer_follows_the_protocol_and_is_no_module(name):
    assert isinstance(make(name), Scorer)
    assert not isinstance(make(name), torch.nn.Module)


def test_the_saliency_makes_a_plan(name):
    assert_partition(get_quadtree()(make(name)(IMAGES, SPEC), SPEC))


def test_bytes_score_as_the_floats_that_they_are_normalised_to(name):
    assert_equal(make(name)(IMAGES, SPEC), make(name)(normalize(IMAGES), SPEC))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_any_float_type_score_as_their_float32_values(name, dtype):
    images = normalize(IMAGES).to(dtype)
    assert_equal(make(name)(images, SPEC), make(name)(images.float(), SPEC))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_bit(name, dtype, device):
    images = normalize(IMAGES).to(device)
    scorer = on_device(make(name), images.device)
    expected = scorer(images, SPEC)
    with torch.autocast(device_type=device, dtype=dtype):
        saliency = scorer(images, SPEC)
    assert_equal(saliency, expected)
    assert all(scores.dtype == torch.float32 for scores in saliency)


def test_saliency_carries_no_gradient(name):
    saliency = make(name)(normalize(IMAGES).requires_grad_(), SPEC)
    assert not any(scores.requires_grad for scores in saliency)


def test_the_images_are_not_modified(name):
    images = normalize(IMAGES)
    before = images.clone()
    make(name)(images, SPEC)
    assert torch.equal(images, before)


def test_a_scorer_on_another_device_leaves_the_first_where_it_was(name):
    scorer = make(name)
    expected = scorer(IMAGES, SPEC)
    elsewhere = on_device(scorer, torch.device("meta"))
    assert [scores.device.type for scores in elsewhere(IMAGES.to("meta"), SPEC)] == ["meta"] * (SPEC.num_scales - 1)
    assert_equal(scorer(IMAGES, SPEC), expected)


def test_threads_may_share_a_scorer(name):
    scorer = make(name)
    expected = scorer(IMAGES, SPEC)

    def score(device):
        return on_device(scorer, device)(IMAGES.to(device), SPEC)

    with ThreadPoolExecutor(4) as threads:
        devices = [torch.device("cpu"), torch.device("meta")] * 8
        for device, saliency in zip(devices, threads.map(score, devices), strict=True):
            assert {scores.device for scores in saliency} == {device}
            if device.type == "cpu":
                assert_equal(saliency, expected)


def test_the_global_random_states_are_not_touched(name):
    scorer = make(name)
    ours, pythons = torch.get_rng_state(), random.getstate()
    scorer(IMAGES, SPEC)
    assert torch.equal(torch.get_rng_state(), ours)
    assert random.getstate() == pythons


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(4, 3, 96, 64), r"images are 96×64 .* the spec says 64×96"),
        (torch.zeros(3, 64, 96), r"\[B, C, H, W\], got shape \[3, 64, 96\]"),
        (torch.zeros(4, 3, 64, 96, dtype=torch.long), "uint8 or floating, got torch.int64"),
        ([torch.zeros(3, 64, 96), torch.zeros(3, 64, 64)], r"list of 2 with the shapes .*64, 64.*64, 96.*stack them"),
    ],
)
def test_what_is_no_batch_of_the_specs_images_is_refused(name, images, sentence):
    with pytest.raises(InputError, match=sentence):
        make(name)(images, SPEC)


@pytest.mark.parametrize("picks", [(2,), (3, 1, 0, 2), (1, 3)], ids=["alone", "shuffled", "some"])
def test_an_images_saliency_does_not_depend_on_its_batch(name, picks):
    expected = [scores[list(picks)] for scores in make(name)(IMAGES, SPEC)]
    assert_equal(make(name, picks)(IMAGES[list(picks)], SPEC), expected, TOLERANCE.get(name, 0.0))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_a_stranger_in_the_batch_spoils_no_other_image(name, value):
    images = normalize(IMAGES)
    expected = [scores[:3] for scores in make(name)(images, SPEC)]
    images[3] = value
    assert_equal([scores[:3] for scores in make(name)(images, SPEC)], expected, TOLERANCE.get(name, 0.0))


def test_nothing_is_remembered_of_a_buffer_that_is_filled_again(name):
    scorer, buffer = make(name), IMAGES[[0, 1, 2, 3]]
    scorer(buffer, SPEC)
    buffer.copy_(IMAGES[[1, 0, 3, 2]])
    assert_equal(scorer(buffer, SPEC), make(name)(IMAGES[[1, 0, 3, 2]], SPEC))


def test_one_scorer_serves_many_specs_and_batch_layouts(name):
    scorer = make(name)
    scorer(IMAGES[..., :64].contiguous(), Spec(64, 64, 16, 32, 13))
    strided = IMAGES.contiguous(memory_format=torch.channels_last)
    assert_equal(scorer(strided, SPEC), make(name)(IMAGES, SPEC), TOLERANCE.get(name, 0.0))


def test_describe_is_json_that_begins_with_the_scorers_name(name):
    facts = make(name).describe()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["name"] == name


@pytest.mark.parametrize("unknown", ["gradcam", None, ["object"], {}], ids=str)
def test_an_unknown_name_is_refused_with_the_known_ones(unknown):
    with pytest.raises(InputError, match=rf"no scorer {re.escape(repr(unknown))}: choose one of {', '.join(SCORERS)}"):
        get_scorer(unknown)


def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"the {name} scorer was given options it does not have"):
        get_scorer(name, colour="red")


@pytest.mark.parametrize(
    ("name", "options"),
    [("object", "weights, views, precision"), ("precomputed", "maps"), ("random", "seed"), ("blur", "none")],
)
def test_an_unknown_option_is_refused_with_those_that_there_are(name, options):
    with pytest.raises(InputError, match=f"; it has {options}$"):
        get_scorer(name, colour="red")


def test_a_scorers_words_are_its_name_and_options_and_never_long():
    assert repr(get_scorer("blur")) == "BlurScorer()"
    assert repr(get_scorer("random", seed=range(1000))) == "RandomScorer(seed=[0, 1, 2, 3, 4, 5, ...])"
    assert repr(get_scorer("precomputed", maps=MAPS)) == "PrecomputedScorer()"
    assert repr(get_scorer("object")) == "ObjectScorer(weights='bundled', views=1)"
    words = repr(get_scorer("feature", error="cosine_distance", precision="bfloat16"))
    assert words.startswith("FeatureScorer(weights='bundled', stride=16, error='cosine_distance'")
    assert "precision='bfloat16'" in words
    assert "sha256" not in words


@pytest.mark.parametrize(("scorer", "found"), [(None, "NoneType"), (3, "int"), ([], "list")])
def test_what_cannot_be_called_is_no_scorer(scorer, found):
    with pytest.raises(InputError, match=f"a scorer is a name or is called with .*, got {found}"):
        tokenize(torch.zeros(1, 3, 32, 32), Spec(32, 32, 8, 16, 7), scorer)
