"""What images may be, and what their numbers mean."""

import pytest
import torch
from torchvision.transforms import functional as tv

from quadtok import IMAGENET_MEAN, IMAGENET_STD, Spec, denormalize, normalize
from quadtok.errors import InputError
from quadtok.pixels import as_floats, check_images, standardize

SPEC = Spec(16, 32, 4, 8, 8)
BYTES = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 1).view(2, 3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bytes_and_floats_of_the_specs_size_are_accepted(dtype):
    assert check_images(torch.zeros(2, 5, 16, 32, dtype=dtype), SPEC) is None


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(2, 3, 16, 30), r"images are 16×30 \(height × width\) and the spec says 16×32: resize them"),
        (torch.zeros(2, 3, 32, 16), r"images are 32×16 .* the spec says 16×32"),
        (torch.zeros(3, 16, 32), r"must be a batch \[B, C, H, W\], got shape \[3, 16, 32\]"),
        (torch.zeros(2, 3, 16, 32, dtype=torch.int32), "must be uint8 or floating, got torch.int32"),
        (
            torch.zeros(2, 3, 16, 32).to(torch.float8_e5m2),
            r"got torch.float8_e5m2: give images\.float\(\)",
        ),
        (
            torch.zeros(2, 3, 16, 32).to_sparse(),
            "must be dense, got a tensor torch.sparse_coo: give .*to_dense",
        ),
        (
            torch.nested.as_nested_tensor([torch.zeros(3, 16, 32)] * 2, layout=torch.jagged),
            "must be one dense batch .* got a nested tensor",
        ),
        (torch.zeros(2, 3, 16, 32, dtype=torch.bool), "must be uint8 or floating, got torch.bool"),
        (torch.zeros(2, 3, 16, 32, dtype=torch.complex64), "must be uint8 or floating, got torch.complex64"),
        (torch.zeros(2, 3, 16, 32).numpy(), r"must be one tensor \[B, C, H, W\], got ndarray"),
        (
            [torch.zeros(3, 16, 32), torch.zeros(3, 8, 8)],
            r"got a list of 2 with the shapes \[\(3, 8, 8\), \(3, 16, 32\)\]: give all of them one size and stack",
        ),
        ((torch.zeros(3, 16, 32),), r"got a tuple of 1 with the shapes \[\(3, 16, 32\)\]"),
    ],
)
def test_everything_else_is_refused_with_what_was_found(images, sentence):
    with pytest.raises(InputError, match=sentence):
        check_images(images, SPEC)


def test_without_a_spec_any_size_is_accepted():
    assert check_images(torch.zeros(1, 1, 7, 5)) is None


def test_normalize_gives_the_very_numbers_of_torchvisions_transforms():
    expected = tv.normalize(tv.convert_image_dtype(BYTES, torch.float32), IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(normalize(BYTES), expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),  # two roundings of the type, on numbers up to 255
    [(torch.float16, 1.0), (torch.float32, 1e-4), (torch.float64, 1e-12)],
)
def test_denormalize_is_the_inverse_of_normalize_in_the_same_dtype(dtype, tolerance):
    there = normalize(BYTES.to(dtype))
    back = denormalize(there)
    assert there.dtype == back.dtype == dtype
    assert (back - BYTES.to(dtype)).abs().max() <= tolerance


def test_normalize_takes_one_mean_and_std_a_channel_for_any_leading_shape():
    pixels = torch.full((2, 7, 2, 3, 3), 51.0)  # 51 / 255 = 0.2
    values = normalize(pixels, mean=(0.2, 0.1), std=(1.0, 0.5))
    torch.testing.assert_close(values[:, :, 0], torch.zeros(2, 7, 3, 3))
    torch.testing.assert_close(values[:, :, 1], torch.full((2, 7, 3, 3), 0.2))


@pytest.mark.parametrize("function", [normalize, denormalize])
def test_a_mean_for_another_number_of_channels_is_refused(function):
    with pytest.raises(InputError, match="mean and std must have a number a channel: got 3 for 4 channels"):
        function(torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_bytes_that_are_no_photograph_are_only_brought_to_0_1(channels):
    pixels = torch.full((1, channels, 2, 2), 51, dtype=torch.uint8)
    torch.testing.assert_close(standardize(pixels), torch.full((1, channels, 2, 2), 0.2))


def test_bytes_of_three_channels_are_normalised_with_imagenets_numbers():
    assert torch.equal(standardize(BYTES), normalize(BYTES))
    assert torch.equal(as_floats(BYTES), normalize(BYTES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_taken_as_they_are_in_float32(dtype):
    images = torch.linspace(-3, 300, 12, dtype=dtype).view(1, 3, 2, 2)
    assert as_floats(images).dtype == torch.float32
    assert torch.equal(as_floats(images), images.float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_integers_were_never_normalised(dtype):
    with pytest.raises(InputError, match=f"normalised values are floating, got {dtype}: nothing is to be undone"):
        denormalize(BYTES.to(dtype))


@pytest.mark.parametrize("change", [normalize, denormalize])
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (None, "must be one tensor, got NoneType"),
        ([torch.zeros(3, 4, 4)], r"must be one tensor, got a list of 1 with the shapes \[\(3, 4, 4\)\]"),
        (torch.zeros(3, 4, 4).numpy(), "must be one tensor, got ndarray"),
        (torch.zeros(3, 4, 4).to_sparse(), r"must be dense, got a tensor torch.sparse_coo: give .*to_dense"),
        (torch.nested.nested_tensor([torch.zeros(3, 4, 4)]), "must be dense, got a nested tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.int16), "int16"),
        (torch.zeros(3, 4, 4).to(torch.float8_e5m2), "must be uint8 or floating, got torch.float8_e5m2"),
    ],
)
def test_only_tensors_of_pixels_are_normalised_and_back(change, values, sentence):
    with pytest.raises(InputError, match=sentence):
        change(values)


def test_one_number_for_all_channels_is_refused_with_their_number():
    with pytest.raises(InputError, match=r"a number a channel: got 0\.5, give 3 of them"):
        normalize(BYTES, 0.5, 0.5)
    with pytest.raises(InputError, match=r"a number a channel: got tensor\(0\.5000\), give 3 of them"):
        normalize(BYTES, torch.tensor(0.5), torch.tensor(0.5))
