"""Entropy of the luma, against numbers computed by hand, APT's own counting, and a slow twin."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import SAMPLE_IMAGES, golden
from quadtok import Spec, get_quadtree, get_scorer, normalize
from quadtok.errors import InputError

SPEC = Spec(8, 16, 2, 8, 20)  # grids 4×8 of 2, 2×4 of 4, 1×2 of 8
PHOTOS = golden("tokens_256_16_64_100_blur")["images_u8"]


def score(pixels, spec=SPEC, **options):
    return get_scorer("entropy", **options)(pixels, spec)


def grey(levels, spec=SPEC):
    """An image of these grey levels, which come again and again in each row of each patch of scale 1."""
    size = spec.patch_size(1)
    patch = torch.tensor(levels, dtype=torch.uint8).repeat(size * size // len(levels)).view(size, size)
    rows, cols = spec.grid(1)
    return patch.tile(rows, cols).expand(1, 3, -1, -1)


@pytest.mark.parametrize(
    ("levels", "bits"),
    [
        ([7], 0.0),
        ([0, 255], 1.0),
        ([0, 1, 254, 255], 2.0),
        ([10, 10, 20, 30], 1.5),
        (range(40, 56), 4.0),
        ([0] * 14 + [9, 9], 0.5435644),  # -7/8 log2(7/8) - 1/8 log2(1/8)
    ],
)
def test_the_entropy_of_few_levels_is_what_one_computes_by_hand(levels, bits):
    for scores in score(grey(levels)):
        torch.testing.assert_close(scores, torch.full_like(scores, bits), rtol=0, atol=1e-6)


def test_a_flat_patch_has_no_bit_at_all():
    spec = Spec(28, 56, 7, 28, 11)  # shares of 1/196 are no round numbers
    assert all((scores == 0).all() for scores in score(torch.full((1, 3, 28, 56), 93, dtype=torch.uint8), spec))


@pytest.mark.parametrize("channels", [1, 2])
def test_white_lies_in_the_last_bin_and_in_no_other_patch(channels):
    pixels = torch.full((1, channels, 8, 16), 255, dtype=torch.uint8)  # the luma of three channels is 254.97 at most
    pixels[..., 1::2] = 0
    for scores in score(pixels):
        torch.testing.assert_close(scores, torch.ones_like(scores), rtol=0, atol=1e-6)


def test_a_patch_has_the_pixels_of_all_its_children():
    pixels = torch.zeros(1, 3, 8, 16, dtype=torch.uint8)
    pixels[..., :4, :4] = 100
    finest, coarsest = score(pixels)
    assert (finest == 0).all()
    quarter = -0.25 * math.log2(0.25) - 0.75 * math.log2(0.75)
    assert coarsest[0, 0].tolist() == pytest.approx([quarter, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "bits"),
    [
        # Luma 254.8605 and 254.9745 are one bin of 0.498, 254.3875 (in [254.004, 254.502)) the one before.
        ((255, 255, 254), (255, 255, 255), 0.0),
        ((255, 254, 255), (255, 255, 255), 1.0),
        # 0.456 and 0.5700: the bins meet at 255/512 = 0.49805. APT's other way, floor(2 · luma), has an edge at 0.5.
        ((0, 0, 4), (0, 0, 5), 1.0),
        # 159.375 is an edge: the integers know that this luma, 159.3750, lies above it; below it lies 159.2610.
        ((0, 250, 110), (0, 250, 111), 1.0),
        ((200, 100, 50), (200, 100, 51), 0.0),  # 124.18 and 124.294, in [124.0137, 124.5117)
    ],
)
def test_the_bins_are_those_of_512_between_0_and_255(first, second, bits):
    pixels = torch.tensor([first, second], dtype=torch.uint8).T.repeat(1, 8).view(1, 3, 1, 16).expand(-1, -1, 8, -1)
    for scores in score(pixels):
        assert scores.unique().tolist() == [bits]


def slow_entropy(patch):
    """In bits, of `[3, P, P]` bytes, with exact bins."""
    bins = Counter()
    for red, green, blue in patch.flatten(1).T.tolist():
        luma = Fraction(2989 * red + 5870 * green + 1140 * blue, 10000)
        bins[min(511, math.floor(luma * 512 / 255))] += 1
    return -sum(count / bins.total() * math.log2(count / bins.total()) for count in bins.values())


def test_the_entropy_of_photographs_is_the_definition_computed_slowly():
    spec = Spec(256, 256, 16, 64, 100)
    saliency = score(PHOTOS, spec)
    for scale, row, col, image in [(1, 0, 0, 0), (1, 5, 7, 1), (2, 3, 1, 0), (2, 2, 2, 1)]:
        size = spec.patch_size(scale)
        patch = PHOTOS[image, :, row * size :, col * size :][:, :size, :size]
        assert saliency[scale - 1][image, row, col].item() == pytest.approx(slow_entropy(patch), abs=1e-5)


def luma_in_patches(pixels, size):
    """`[n, size²]`: the luma as APT computes it, in floats, of bytes `[3, H, W]`."""
    luma = 0.2989 * pixels[0] + 0.5870 * pixels[1] + 0.1140 * pixels[2]
    return luma.unfold(0, size, size).unfold(1, size, size).reshape(-1, size * size)


def bits_of(counts):
    shares = counts / counts.sum(dim=1, keepdim=True)
    return -(shares * (shares + 1e-10).log2()).sum(dim=1)


def counted_by_histc(patches):
    return torch.stack([torch.histc(patch, bins=512, min=0, max=255) for patch in patches])


def counted_by_doubling(patches):
    bins = (patches * 2).long().clamp(0, 511)
    return torch.zeros(len(patches), 512).scatter_add(1, bins, torch.ones_like(patches))


def test_the_entropy_of_photographs_is_that_of_apts_data_loader():
    spec = Spec(256, 256, 16, 64, 100)
    for scale, scores in enumerate(score(PHOTOS[:1], spec), start=1):
        expected = bits_of(counted_by_histc(luma_in_patches(PHOTOS[0], spec.patch_size(scale))))
        # A float luma that lies on an edge may fall to either side: one pixel does, and moves its patch by 0.0017 bit.
        torch.testing.assert_close(scores.flatten(), expected, rtol=0, atol=0.01)


def test_apts_other_way_of_counting_gives_other_bits():
    """The figures of docs/scorers.md: 0.84 bit at most, 0.04 on average."""
    differences = []
    for path in sorted(SAMPLE_IMAGES.glob("*.jpg")):
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB").resize((336, 336)))).permute(2, 0, 1)
        patches = luma_in_patches(pixels, 28)
        differences.append(bits_of(counted_by_histc(patches)) - bits_of(counted_by_doubling(patches)))
    differences = torch.cat(differences).abs()
    assert 0.8 < differences.max() < 0.9  # decoders differ by a level
    assert 0.03 < differences.mean() < 0.05


def test_every_byte_is_found_again_in_normalised_floats():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    spec = Spec(16, 16, 2, 16, 13)
    for ours, theirs in zip(score(normalize(every), spec), score(every, spec), strict=True):
        assert torch.equal(ours, theirs)
    assert score(every, spec)[-1].item() == 8.0


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_than_three_are_averaged(channels):
    pixels = torch.arange(128, dtype=torch.uint8).view(1, 1, 8, 16)
    for dtype in (torch.uint8, torch.float32):
        images = (
            pixels.expand(1, channels, -1, -1) if dtype == torch.uint8 else pixels.expand(1, channels, -1, -1) / 255
        )
        assert [scores.unique().tolist() for scores in score(images)] == [[4.0], [6.0]]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_pixel_that_is_no_number_is_read_as_a_byte(value):
    images = torch.zeros(1, 3, 8, 16)
    images[0, :, 0, 0] = value
    finest, _ = score(images)
    assert finest[0, 0, 0] == pytest.approx(-1 / 16 * math.log2(1 / 16) - 15 / 16 * math.log2(15 / 16))
    assert finest.count_nonzero() == 1


def test_thresholds_are_subtracted_the_finest_scale_first():
    spec, thresholds = Spec(256, 256, 16, 64, 100), (5.75, 4.0)
    bare, less = score(PHOTOS, spec), score(PHOTOS, spec, thresholds=thresholds)
    for scores, reduced, threshold in zip(bare, less, thresholds, strict=True):
        assert torch.equal(reduced, scores - threshold)


def test_with_apts_thresholds_what_has_more_bits_is_split():
    """Patches of 32 with 5.75 bits or more become 16s, and of 64 with 4 or more 32s: the counts, one by one."""
    spec = Spec(256, 256, 16, 64, 256)
    fine, coarse = score(PHOTOS, spec)
    plan = get_quadtree()(score(PHOTOS, spec, thresholds=(5.75, 4.0)), spec, threshold=0.0)
    wide = coarse >= 4.0
    narrow = (fine >= 5.75) & wide.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    expected = 16 + 3 * wide.sum(dim=(1, 2)) + 3 * narrow.sum(dim=(1, 2))
    assert torch.equal(plan.lengths, expected)


@pytest.mark.parametrize(
    ("thresholds", "sentence"),
    [
        ((5.75,), "has 1 thresholds and the spec has 2 scales that can be split"),
        ((1, 2, 3), "has 3 thresholds and the spec has 2 scales that can be split"),
        (5.75, "has 1 thresholds and the spec has 2 scales that can be split"),
    ],
)
def test_thresholds_are_one_a_splittable_scale(thresholds, sentence):
    with pytest.raises(InputError, match=sentence):
        score(PHOTOS[..., :8, :16], thresholds=thresholds)


@pytest.mark.parametrize("thresholds", ["5.75,4.0", [1, torch.inf], [torch.nan], ["a"], {5.75: 1}, [10**400]])
def test_thresholds_that_are_no_numbers_are_refused(thresholds):
    with pytest.raises(InputError, match="thresholds must be finite numbers, one a splittable scale, got"):
        get_scorer("entropy", thresholds=thresholds)


def test_of_one_splittable_scale_a_number_will_do():
    (scores,) = score(grey([0, 255]), Spec(8, 16, 2, 4, 20), thresholds=0.25)
    assert scores.unique().tolist() == [0.75]


def test_the_options_are_described():
    assert get_scorer("entropy").describe() == {"name": "entropy", "thresholds": None}
    assert get_scorer("entropy", thresholds=(5.75, 4)).describe() == {"name": "entropy", "thresholds": [5.75, 4.0]}
