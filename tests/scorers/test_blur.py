"""Pixel blur against the reference's goldens, a slow twin, and its definition (docs/reference.md section 3)."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from helpers import GOLDEN_INDEX, boxes_by_scale, golden, golden_saliency, golden_spec, goldens
from quadtok import Spec, get_scorer, normalize, tokenize

BLUR_GOLDENS = [name for name in goldens("tokens") if GOLDEN_INDEX[name]["scorer"] == "blur"]
SPEC = Spec(24, 48, 3, 12, 17)


def images(batch=2, channels=3, spec=SPEC, seed=0):
    return torch.randn(batch, channels, spec.height, spec.width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", BLUR_GOLDENS)
def test_saliency_and_boxes_are_the_references(name):
    spec = golden_spec(name)
    tokens = tokenize(golden(name)["images_u8"], spec, "blur")
    for ours, theirs in zip(tokens.saliency, golden_saliency(name), strict=True):
        # Relative to the largest. Found: 1.2e-5, nearly all of it the reference's own rounding (2e-6 from exact here).
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    # The cut is 2e-3 wide in all of these: no rounding moves a box.
    assert torch.equal(boxes_by_scale(tokens.plan), golden(name)["boxes"])


def bilinear(line, size):
    """One axis of a bilinear resize with half-pixel centres and no antialiasing, one output number at a time."""
    scale, last, out = len(line) / size, len(line) - 1, []
    for i in range(size):
        at = max(0.0, (i + 0.5) * scale - 0.5)
        left = int(at)
        out.append(line[left] * (1 - at + left) + line[min(left + 1, last)] * (at - left))
    return torch.stack(out)


def resized(image, height, width):
    return bilinear(bilinear(image, height).T, width).T


def test_saliency_is_the_definition_computed_slowly():
    pixels = images()
    for scale, scores in enumerate(get_scorer("blur")(pixels, SPEC), start=1):
        size = SPEC.patch_size(scale)
        for image, row, col in [(0, 0, 0), (1, 1, 2), (0, SPEC.grid(scale)[0] - 1, SPEC.grid(scale)[1] - 1)]:
            errors = []
            for channel in pixels[image].double():
                small = resized(channel, SPEC.height // 2**scale, SPEC.width // 2**scale)
                lost = (resized(small, SPEC.height, SPEC.width) - channel) ** 2
                errors.append(lost[row * size : (row + 1) * size, col * size : (col + 1) * size].mean())
            expected = (torch.stack(errors).mean() * size).sqrt()
            assert scores[image, row, col].item() == pytest.approx(expected.item(), rel=1e-5)  # float32 sums


@pytest.fixture
def one_thread():
    """The more threads torch has, the more is worked on at a time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("spec", [Spec(1024, 320, 4, 32, 998), Spec(384, 1024, 1, 16, 1596)], ids=str)
def test_an_image_that_is_scored_band_by_band_has_the_scores_of_the_whole(spec, dtype):
    """Both are worked through in several bands; a wrong neighbour at a border is in the scores' first digits."""
    pixels = (images(batch=1, spec=spec) * 40 + 128).clamp(0, 255).to(torch.uint8)
    given, exact = (pixels if dtype == torch.uint8 else normalize(pixels)), normalize(pixels.double())
    for scale, scores in enumerate(get_scorer("blur")(given, spec), start=1):
        small = F.interpolate(exact, scale_factor=0.5**scale, mode="bilinear")
        lost = F.avg_pool2d(
            (F.interpolate(small, exact.shape[2:], mode="bilinear") - exact) ** 2, spec.patch_size(scale)
        )
        expected = (lost.mean(dim=1) * spec.patch_size(scale)).sqrt()
        torch.testing.assert_close(scores.double(), expected, rtol=1e-5, atol=0)


def test_a_flat_image_loses_nothing():
    for scores in get_scorer("blur")(torch.full((1, 3, 24, 48), 0.25), SPEC):
        assert (scores == 0).all()


def test_detail_counts_in_its_own_patch_and_at_most_in_the_neighbours():
    pixels = torch.zeros(1, 1, 24, 48)
    pixels[..., 13, 25] = 1.0
    finest, coarsest = get_scorer("blur")(pixels, SPEC)
    assert finest[0].argmax() == 2 * 8 + 4  # row 13 // 6, column 25 // 6
    assert coarsest[0].argmax() == 1 * 4 + 2
    assert finest[0, 0].max() == finest[0, :, :3].max() == finest[0, :, 6:].max() == 0


def test_saliency_grows_in_proportion_to_the_contrast():
    once, fourfold = get_scorer("blur")(images(), SPEC), get_scorer("blur")(images() * 4, SPEC)
    for scores, larger in zip(once, fourfold, strict=True):
        assert torch.equal(scores * 4, larger)  # a power of two: exact


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_number_of_channels_is_averaged(channels):
    one = images(channels=1)
    for alone, repeated in zip(
        get_scorer("blur")(one, SPEC), get_scorer("blur")(one.expand(-1, channels, -1, -1), SPEC), strict=True
    ):
        torch.testing.assert_close(alone, repeated)


def test_scoring_with_blur_imports_no_torchvision():
    code = (
        "import sys, torch, quadtok\n"
        "spec = quadtok.Spec(32, 32, 8, 16, 7)\n"
        "quadtok.tokenize(torch.zeros(1, 3, 32, 32), spec, 'blur')\n"
        "print(sorted(name for name in sys.modules if name.startswith('torchvision')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_scores_are_the_same_where_operations_are_made_functional():
    spec, images = Spec(16, 16, 2, 8, 7), torch.rand(2, 3, 16, 16)
    functional = torch.func.functionalize(lambda pixels: get_scorer("blur")(pixels, spec))(images)
    assert all(map(torch.equal, functional, get_scorer("blur")(images, spec)))
