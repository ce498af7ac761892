"""Maps that the caller has: three forms, any resolution, and no memory (docs/reference.md section 3)."""

import pytest
import torch
import torch.nn.functional as F

from helpers import GOLDEN_INDEX, assert_same_plan, boxes_by_scale, golden, golden_saliency, golden_spec, goldens
from quadtok import Spec, get_scorer, tokenize
from quadtok.errors import InputError

GOLDENS = [name for name in goldens("tokens") if GOLDEN_INDEX[name]["scorer"] == "precomputed"]
SPEC = Spec(64, 96, 8, 32, 24)  # grids 8×12, 4×6, 2×3
IMAGES = torch.zeros(2, 3, 64, 96)


def maps(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def score(given, spec=SPEC, images=IMAGES):
    return get_scorer("precomputed", maps=given)(images, spec)


@pytest.mark.parametrize("name", GOLDENS)
def test_saliency_and_boxes_are_the_references(name):
    data = golden(name)
    images = golden(GOLDEN_INDEX[name]["images"])["images_u8"]
    tokens = tokenize(images, golden_spec(name), get_scorer("precomputed", maps=data["maps"]))
    for ours, theirs in zip(tokens.saliency, golden_saliency(name), strict=True):
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()  # means of 4 to 64 numbers
    assert torch.equal(boxes_by_scale(tokens.plan), data["boxes"])


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_finer_map_is_averaged_over_each_patch(factor):
    given = maps(2, 8 * factor, 12 * factor)
    for scale, scores in enumerate(score(given), start=1):
        rows, cols = SPEC.grid(scale)
        expected = given.view(2, rows, -1, cols, 12 * factor // cols).mean(dim=(2, 4))
        torch.testing.assert_close(scores, expected)


def test_a_map_for_each_scale_is_given_as_a_tensor_or_as_a_list():
    first, second = maps(2, 8, 12), maps(2, 8, 12, seed=1)
    expected = [score(first)[0], score(second)[1]]
    for given in (torch.stack([first, second], dim=1), [first, second], (first, second)):
        for ours, theirs in zip(score(given), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_maps_in_a_list_may_differ_in_resolution():
    fine, exact = maps(2, 64, 96), maps(2, 2, 3)
    ours = score([fine, exact])
    assert torch.equal(ours[0], score(fine)[0])
    assert torch.equal(ours[1], exact)


def test_maps_on_the_grid_itself_pass_bit_for_bit():
    for ours, given in zip(score([maps(2, 4, 6), maps(2, 2, 3)]), [maps(2, 4, 6), maps(2, 2, 3)], strict=True):
        assert torch.equal(ours, given)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 2)], ids=str)
def test_a_coarser_map_is_resized_to_the_grid_bilinearly(size):
    given = maps(2, *size)
    expected = F.interpolate(given[:, None], size=SPEC.grid(1), mode="bilinear")[:, 0]
    torch.testing.assert_close(score(given)[0], expected)


@pytest.mark.parametrize("size", [(7, 12), (8, 13), (9, 9)], ids=str)
def test_a_map_finer_by_no_whole_factor_is_resized_without_antialiasing(size):
    given = maps(2, *size)
    for scale, scores in enumerate(score(given), start=1):
        expected = F.interpolate(given[:, None], size=SPEC.grid(scale), mode="bilinear", antialias=False)[:, 0]
        torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float16, torch.float64])
def test_maps_of_any_real_type_are_averaged_in_float32(dtype):
    given = (maps(2, 8, 12) * 2).to(dtype)
    for ours, theirs in zip(score(given), score(given.float()), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


def test_a_map_that_carries_gradients_gives_saliency_that_does_not():
    assert not any(scores.requires_grad for scores in score(maps(2, 8, 12).requires_grad_()))


def test_new_maps_for_the_same_images_give_a_new_plan():
    # The reference caches by the identity of its arguments and returns the old one.
    given = maps(2, 8, 12)
    scorer = get_scorer("precomputed", maps=given)
    before = tokenize(IMAGES, SPEC, scorer).plan
    given.copy_(maps(2, 8, 12, seed=1))
    refilled, fresh = (
        tokenize(IMAGES, SPEC, s).plan for s in (scorer, get_scorer("precomputed", maps=maps(2, 8, 12, seed=1)))
    )
    assert_same_plan(refilled, fresh)
    assert not torch.equal(before.scale, fresh.scale)


def test_a_spec_of_one_scale_needs_no_maps():
    assert score([], Spec(64, 96, 16, 16, 24)) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (maps(8, 12), r"\[B, h, w\], \[B, K, h, w\] or a list of \[B, h, w\], got \[8, 12\]"),
        (maps(1, 2, 2, 8, 12), r"got \[1, 2, 2, 8, 12\]"),
        (maps(2, 0, 12), r"got \[2, 0, 12\]"),
        ([maps(2, 8, 12), maps(2, 2, 8, 12)], r"got \[2, 2, 8, 12\]"),
        ([maps(2, 8, 12), "cam.png"], "got str"),
    ],
)
def test_what_is_no_map_is_refused_at_once(given, sentence):
    with pytest.raises(InputError, match=sentence):
        get_scorer("precomputed", maps=given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (maps(3, 8, 12), "maps for 3 images and 2 images"),
        ([maps(2, 8, 12), maps(1, 8, 12)], "maps for 1 images and 2 images"),
        (maps(2, 3, 8, 12), "maps for 3 scales, the spec has 2 that can be split"),
        ([maps(2, 8, 12)], "maps for 1 scales, the spec has 2 that can be split"),
    ],
)
def test_maps_for_other_images_or_scales_are_refused_with_both_numbers(given, sentence):
    with pytest.raises(InputError, match=sentence):
        score(given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda: maps(2, 8, 12).to_sparse(), r"maps must be dense tensors, got torch\.sparse_coo: give \.to_dense"),
        (lambda: [maps(2, 8, 12), maps(2, 4, 6).to_sparse()], "maps must be dense tensors"),
        (lambda: torch.nested.nested_tensor([maps(8, 12), maps(4, 12)]), "maps must be dense tensors, got a nested"),
        (lambda: maps(2, 8, 12) * 1j, r"maps must be real numbers, got torch\.complex64: give \.abs\(\)"),
        (lambda: None, "got NoneType"),
        (lambda: {"a": maps(2, 8, 12)}, "got dict"),
        (lambda: (entry for entry in [maps(2, 8, 12)]), "got generator"),
        (lambda: maps(2, 8, 12).numpy(), "got ndarray"),
        (lambda: [maps(2, 8, 12).numpy()], "got ndarray"),
    ],
)
def test_maps_of_a_kind_that_cannot_be_pooled_are_refused_at_once(given, sentence):
    with pytest.raises(InputError, match=sentence):
        get_scorer("precomputed", maps=given())


def test_maps_without_numbers_are_refused_where_they_are_needed():
    with pytest.raises(InputError, match="the maps are on the meta device and hold no numbers"):
        score(maps(2, 8, 12).to("meta"))
    assert score(maps(2, 8, 12).to("meta"), images=IMAGES.to("meta"))[0].is_meta


@pytest.mark.parametrize(
    "given",
    [
        lambda: maps(2, 8, 12).requires_grad_(),
        lambda: torch.nn.Parameter(maps(2, 8, 12)),
        lambda: torch.complex(maps(2, 8, 12), -maps(2, 8, 12)).conj().imag,
        lambda: maps(2, 8, 12).double(),
    ],
)
def test_maps_in_a_graph_or_a_view_are_the_maps_that_they_are(given):
    for ours, expected in zip(score(given()), score(maps(2, 8, 12)), strict=True):
        assert torch.equal(ours, expected) and not ours.requires_grad


@pytest.mark.parametrize("convert", [lambda m: m > 0.5, lambda m: (m * 9).long(), lambda m: (m * 9).byte()])
def test_maps_of_whole_numbers_are_taken(convert):
    given = convert(maps(2, 8, 12))
    for ours, expected in zip(score(given), score(given.float()), strict=True):
        assert torch.equal(ours, expected)
