"""Random saliency as a function of the seed: pinned, uniform, and the same wherever and however it is asked for."""

import itertools
import random

import pytest
import torch

from helpers import DEVICES, assert_same_plan
from quadtok import Spec, get_scorer, tokenize
from quadtok.errors import InputError

SPEC = Spec(64, 96, 8, 32, 24)
LARGE = Spec(256, 256, 1, 4, 4096)  # grids 128×128 and 64×64
SEEDS = [0, 1, 2, 3, 256, 2**31, 2**32, 2**32 + 1, 2**63 - 1, 2**64 - 1, -1234, 0x9E3779B97F4A7C15]


def score(seed, spec=SPEC, batch=None, device="cpu"):
    batch = batch or (len(seed) if isinstance(seed, list) else 1)
    return get_scorer("random", seed=seed)(torch.zeros(batch, 3, spec.height, spec.width, device=device), spec)


# In units of 2**-24, computed with Python's own unbounded integers. They may never change: a seed is a layout for ever.
PINS = {
    (0, 1): [2359452, 15132456, 6541290],
    (0, 2): [5757736, 13557292, 3722863],
    (-1, 1): [5692516, 5080595, 13718430],
    (-1, 2): [3664440, 13364062, 799903],
    (9223372036854788153, 1): [5432458, 12075422, 12355617],
    (9223372036854788153, 2): [1353701, 11477999, 2644089],
    (11400714819323198485, 1): [9120321, 3944660, 3247899],
    (11400714819323198485, 2): [2242047, 7061580, 4745562],
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("seed", "scale", "pinned"), [(seed, scale, p) for (seed, scale), p in PINS.items()])
def test_the_numbers_are_those_of_every_other_version_and_device(seed, scale, pinned, device):
    scores = score(seed, device=device)[scale - 1].flatten()
    assert (scores[[0, 1, -1]].double() * 2**24).tolist() == pinned


def test_a_single_seed_gives_all_images_of_a_batch_one_layout():
    for together, alone in zip(score(7, batch=3), score(7), strict=True):
        assert torch.equal(together, alone.expand(3, -1, -1))


def test_an_images_layout_depends_on_its_own_seed_alone():
    together = score(SEEDS)
    for image, seed in enumerate(SEEDS):
        for scores, alone in zip(together, score(seed), strict=True):
            assert torch.equal(scores[image], alone[0])
    for scores, backwards in zip(together, score(SEEDS[::-1]), strict=True):
        assert torch.equal(scores, backwards.flip(0))


def test_what_the_images_show_does_not_matter():
    images = torch.rand(2, 1, 64, 96)
    scorer = get_scorer("random", seed=[4, 5])
    assert_same_plan(tokenize(images, SPEC, scorer).plan, tokenize(torch.zeros(2, 3, 64, 96), SPEC, scorer).plan)


@pytest.mark.parametrize("seed", [torch.tensor([3, 4]), [3, 4], (3, 4), range(3, 5)], ids=str)
def test_seeds_may_come_as_any_sequence_of_integers(seed):
    scorer = get_scorer("random", seed=seed)
    assert scorer.describe() == {"name": "random", "seed": [3, 4]}
    for ours, theirs in zip(scorer(torch.zeros(2, 3, 64, 96), SPEC), score([3, 4]), strict=True):
        assert torch.equal(ours, theirs)


def test_a_tensor_of_one_number_is_one_seed():
    assert get_scorer("random", seed=torch.tensor(5)).describe()["seed"] == 5


def test_different_seeds_give_different_layouts_negative_and_64_bit_ones_too():
    first = score(SEEDS)[0].flatten(1)
    for one, other in itertools.combinations(range(len(SEEDS)), 2):
        assert (first[one] == first[other]).sum() == 0


@pytest.mark.parametrize(("seeds", "batch"), [([1, 2, 3], 2), ([1], 2), ([], 1)])
def test_another_number_of_seeds_than_images_is_refused(seeds, batch):
    with pytest.raises(InputError, match=f"has {len(seeds)} seeds and was given {batch} images"):
        score(seeds, batch=batch)


@pytest.mark.parametrize("seed", [None, 1.5, "12", "x", [1, 2.5], torch.tensor([1.0, 2.0]), [[1], [2]]], ids=str)
def test_what_is_no_integer_is_refused_and_never_rounded(seed):
    with pytest.raises(InputError, match="seed must be an integer or one for each image, got"):
        get_scorer("random", seed=seed)


def test_the_numbers_are_uniform_in_0_to_1():
    # The numbers are fixed, so these are facts; the bounds are what 4 standard errors would allow true randomness.
    for scores in score(SEEDS, LARGE):
        for image in scores.flatten(1).double():
            n = len(image)
            assert image.min() >= 0 and image.max() < 1
            assert abs(image.mean() - 1 / 2) < 4 * (1 / 12 / n) ** 0.5
            assert abs(image.var() - 1 / 12) < 4 * (1 / 180 / n) ** 0.5
            counts = torch.histc(image.float(), 64, 0, 1)
            chi_squared = ((counts - n / 64) ** 2 / (n / 64)).sum()  # mean 63, standard deviation 11.2
            assert abs(chi_squared - 63) < 4 * 126**0.5


def test_seeds_scales_and_neighbouring_nodes_are_uncorrelated():
    def correlation(a, b):
        return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1].abs().item()

    fine, coarse = score(SEEDS, LARGE)
    for one, other in itertools.combinations(range(len(SEEDS)), 2):
        assert correlation(fine[one], fine[other]) < 4 / 128  # 4 standard errors: 4 / sqrt(n)
    for image in range(len(SEEDS)):
        assert correlation(fine[image].flatten()[: 64 * 64], coarse[image]) < 4 / 64
        assert correlation(fine[image, ::2, ::2], coarse[image]) < 4 / 64
        assert correlation(fine[image, :, :-1], fine[image, :, 1:]) < 4 / 127
        assert correlation(fine[image, :-1], fine[image, 1:]) < 4 / 127


def test_no_generator_is_used():
    torch.manual_seed(0)
    random.seed(0)
    first = score(7)
    torch.manual_seed(1)
    random.seed(1)
    for ours, theirs in zip(first, score(7), strict=True):
        assert torch.equal(ours, theirs)
