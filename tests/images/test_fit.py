"""Cropped, padded or squashed to a size, or left at their own: where each pixel goes."""

import numpy as np
import pytest
import torch
from PIL import Image

import bad_images
from bad_images import photo
from helpers import SAMPLE_IMAGES
from quadtok.images import (
    MAX_PIXELS,
    draft_for,
    fit_image,
    fit_native,
    native_size,
    read_image,
    to_pixels,
)

PHOTOS = sorted(SAMPLE_IMAGES.glob("*.jpg"))
FITS = ["crop", "pad", "squash"]
SIZES = [(64, 48), (48, 64), (50, 50), (333, 100), (37, 211)]  # (width, height)


def name(function):
    return getattr(function, "__name__", None)


def same(image, other):
    return image.size == other.size and np.array_equal(np.asarray(image), np.asarray(other))


@pytest.mark.parametrize(
    ("make", "size"),
    [(bad_images.one_pixel, (1, 1)), (bad_images.one_by_96, (1, 96)), (bad_images.strip_of_20000, (20_000, 1))],
    ids=name,
)
@pytest.mark.parametrize("fit", FITS)
def test_extreme_shapes_are_read_and_fitted(make, size, fit, tmp_path):
    image = read_image(make(tmp_path)).image
    assert image.size == size
    fitted = fit_image(image, 64, 96, fit)
    assert (fitted.pixels.shape, fitted.pixels.dtype) == ((3, 64, 96), torch.uint8)
    native = fit_native(image, 32, fit)
    assert native.pixels.shape[1:] == native_size(image, 32, fit)


def reference_crop(image, height, width):
    """torchvision's `Resize` and `CenterCrop`: cover the frame divided by 0.875, then cut."""
    cover_height, cover_width = int(height / 0.875), int(width / 0.875)
    if image.width / image.height <= cover_width / cover_height:
        shown = (cover_width, int(cover_width * image.height / image.width))
    else:
        shown = (int(cover_height * image.width / image.height), cover_height)
    left, top = round((shown[0] - width) / 2), round((shown[1] - height) / 2)
    whole = image.resize(shown, Image.Resampling.BILINEAR)
    return whole.crop((left, top, left + width, top + height))


@pytest.mark.parametrize(("height", "width"), [(256, 256), (224, 448), (96, 32)])
@pytest.mark.parametrize("size", SIZES)
def test_crop_is_resize_then_center_crop(size, height, width):
    image = photo(*size)
    fitted = fit_image(image, height, width, "crop")
    assert torch.equal(fitted.pixels, to_pixels(reference_crop(image, height, width)))
    left, top, right, bottom = fitted.crop_box
    assert 0 <= left < right <= image.width
    assert 0 <= top < bottom <= image.height
    # The box alone, resampled, is the same picture: up to a rounding to bytes after each of the two passes.
    direct = to_pixels(image.resize((width, height), Image.Resampling.BILINEAR, box=fitted.crop_box))
    assert (direct.int() - fitted.pixels.int()).abs().max() <= 1


def test_the_short_side_of_256_pixels_is_resized_to_292():
    # 292 = int(256 / 0.875), so the frame shows 256/292 of the short side.
    left, top, right, bottom = fit_image(photo(600, 292), 256, 256, "crop").crop_box
    assert (top, bottom) == (18, 274)
    assert (left, right) == (172, 428)


def test_a_long_strip_is_cropped_without_blowing_it_up(monkeypatch):
    # The resized whole would be 5.8 million pixels wide.
    image, resize = photo(20_000, 1), Image.Image.resize

    def small_resize(image, size, *rest, **options):
        assert size[0] * size[1] <= MAX_PIXELS
        return resize(image, size, *rest, **options)

    monkeypatch.setattr(Image.Image, "resize", small_resize)
    fitted = fit_image(image, 256, 256, "crop")
    left, top, right, bottom = fitted.crop_box
    assert 9_999 < left < right < 10_001
    assert (top, bottom) == pytest.approx((18 / 292, 274 / 292))
    near = to_pixels(image)[:, :, 9_998:10_002].int()
    assert (fitted.pixels.int().amin((1, 2)) >= near.amin((1, 2))).all()
    assert (fitted.pixels.int().amax((1, 2)) <= near.amax((1, 2))).all()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
@pytest.mark.parametrize("size", SIZES)
def test_pad_keeps_the_whole_image_and_repeats_its_edge(size, height, width):
    image = photo(*size)
    fitted = fit_image(image, height, width, "pad")
    scale = min(height / image.height, width / image.width)
    shown = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    top, left = (height - shown[1]) // 2, (width - shown[0]) // 2
    inside = np.asarray(image.resize(shown, Image.Resampling.BILINEAR))
    around = ((top, height - top - shown[1]), (left, width - left - shown[0]), (0, 0))
    expected = np.pad(inside, around, mode="edge").transpose(2, 0, 1)
    assert np.array_equal(fitted.pixels.numpy(), expected)
    # The frame in source pixels: the image lies in it at the same place as its picture in the pixels.
    box = fitted.crop_box
    assert -box[0] / (box[2] - box[0]) == pytest.approx(left / width)
    assert -box[1] / (box[3] - box[1]) == pytest.approx(top / height)
    assert image.width / (box[2] - box[0]) == pytest.approx(shown[0] / width)
    assert image.height / (box[3] - box[1]) == pytest.approx(shown[1] / height)


@pytest.mark.parametrize("size", SIZES)
def test_squash_is_one_resize_of_the_whole(size):
    image = photo(*size)
    fitted = fit_image(image, 40, 72, "squash")
    assert torch.equal(fitted.pixels, to_pixels(image.resize((72, 40), Image.Resampling.BILINEAR)))
    assert fitted.crop_box == (0, 0, *image.size)


@pytest.mark.parametrize(
    ("fit", "size"),  # (height, width) of an image of 100 × 47 pixels, and of one of 20 × 5, in multiples of 32
    [("crop", [(96, 32), (32, 32)]), ("pad", [(128, 64), (32, 32)]), ("squash", [(96, 32), (32, 32)])],
)
def test_the_native_size_is_the_nearest_multiple(fit, size):
    assert [native_size(photo(47, 100), 32, fit), native_size(photo(5, 20), 32, fit)] == size


def test_native_crop_and_pad_resample_nothing():
    image = photo(47, 100)
    pixels = to_pixels(image)
    cropped = fit_native(image, 32, "crop")
    assert torch.equal(cropped.pixels, pixels[:, 2:98, 8:40])  # 15 columns go: round(7.5) is 8
    assert cropped.crop_box == (8, 2, 40, 98)
    padded = fit_native(image, 32, "pad")
    assert torch.equal(padded.pixels[:, 14:114, 8:55], pixels)
    assert padded.crop_box == (-8, -14, 56, 114)
    squashed = fit_native(image, 32, "squash")
    assert torch.equal(squashed.pixels, fit_image(image, 96, 32, "squash").pixels)


def test_a_native_crop_of_a_smaller_image_scales_it_until_it_covers_one_multiple():
    fitted = fit_native(photo(20, 5), 32, "crop")
    whole = photo(20, 5).resize((128, 32), Image.Resampling.BILINEAR)
    assert torch.equal(fitted.pixels, to_pixels(whole)[:, :, 48:80])
    assert fitted.crop_box == (7.5, 0, 12.5, 5)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_the_sample_photographs_fit(path, fit):
    image = read_image(path).image
    assert fit_image(image, 256, 256, fit).pixels.shape == (3, 256, 256)
    height, width = native_size(image, 64, fit)
    assert fit_native(image, 64, fit).pixels.shape == (3, height, width)


def test_there_are_sample_photographs():
    assert len(PHOTOS) == 5


@pytest.mark.parametrize(
    ("size", "divisor"),
    # (height, width) shown as 292 on the short side: a draft keeps at least 584 there.
    [((584, 900), 1), ((1167, 3000), 1), ((1168, 1168), 2), ((2335, 4000), 2), ((2336, 3504), 4), ((4672, 5000), 8)],
)
def test_a_draft_keeps_twice_the_resolution_that_is_needed(size, divisor):
    assert draft_for(256, 256, "crop")(*size) == divisor


@pytest.mark.parametrize(("fit", "divisor"), [("crop", 2), ("pad", 8), ("squash", 4)])
def test_the_rule_goes_by_what_each_fit_shows(fit, divisor):
    # 850 × 4800 for a frame of 100 × 100 is shown as 114 × 643, 18 × 100 and 100 × 100.
    assert draft_for(100, 100, fit)(850, 4800) == divisor
