"""What the numbers of an image mean: bytes 0…255, or floats that were normalised with a mean and a std."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.spec import Spec
from quadtok.tracing import may_be_looked_at

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of images
ROUNDING = 0.5  # of 255 levels: how far resizing and half precision lead below 0


def check_images(images: Tensor, spec: Spec | None = None) -> None:
    """Refuse everything that is no batch of images `[B, C, H, W]`, uint8 or floating, of the spec's size.

    Values are not looked at: that would make the device wait. A non-finite pixel spoils the saliency of its own
    patch, or of its whole image where a scorer looks at all of it (NaN ranks below everything), and of no other image.

    Raises:
        InputError: naming the shape or the type that was found.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images must be one tensor [B, C, H, W], got {_describe(images)}")
    if images.is_nested:
        raise InputError("images must be one dense batch [B, C, H, W], got a nested tensor: give them one size")
    if images.ndim != 4:
        raise InputError(f"images must be a batch [B, C, H, W], got shape {list(images.shape)}")
    if images.dtype not in DTYPES:
        raise InputError(
            f"images must be uint8 or floating, got {images.dtype}: give images.float() where they are normalised, "
            "images.byte() where they are 0…255"
        )
    if images.layout != torch.strided:
        raise InputError(f"images must be dense, got a tensor {images.layout}: give images.to_dense()")
    if spec is not None and tuple(images.shape[2:]) != (spec.height, spec.width):
        raise InputError(
            f"images are {images.shape[2]}×{images.shape[3]} (height × width) and the spec says "
            f"{spec.height}×{spec.width}: resize them, or make another Spec"
        )


def check_dense(values: object, name: str) -> None:
    """Refuse what is no tensor whose numbers lie one beside the other in memory; `name` is a plural.

    Raises:
        InputError: naming what was found.
    """
    if not isinstance(values, Tensor):
        raise InputError(f"{name} must be one tensor, got {_describe(values)}")
    if values.is_nested or values.layout != torch.strided:
        kind = "a nested tensor" if values.is_nested else f"a tensor {values.layout}"
        raise InputError(f"{name} must be dense, got {kind}: give {name}.to_dense()")
    if values.is_quantized:
        raise InputError(f"{name} must be plain numbers, got {values.dtype}: give {name}.dequantize()")


def _check_pixels(values: object, name: str) -> None:
    check_dense(values, name)
    if values.dtype not in DTYPES:  # type: ignore[attr-defined]  # a tensor, as was just checked
        raise InputError(f"{name} must be uint8 or floating, got {values.dtype}")  # type: ignore[attr-defined]


def normalize(pixels: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """Pixels on the scale 0…255 to `(pixels / 255 − mean) / std`.

    Args:
        pixels: `[..., C, h, w]`, uint8 or floating.
        mean: one number a channel, on the scale 0…1.
        std: one number a channel, on the scale 0…1.

    Returns:
        The same shape; float32 for uint8, else the pixels' own dtype.

    Raises:
        InputError: for pixels of another type, and where `mean` and `std` are not a number a channel.
    """
    _check_pixels(pixels, "pixels")
    values = pixels if pixels.is_floating_point() else pixels.float()
    # The order of operations of torchvision's to_tensor and normalize, so that models see the very same numbers.
    return (values / 255 - per_channel(mean, values)) / per_channel(std, values)


def refuse_normalized(pixels: Tensor, instead: str) -> None:
    """Refuse the pixels of tokens that are no levels 0…255; of those on a GPU nobody asks, it would have to be awaited.

    Args:
        pixels: of tokens.
        instead: what to do, if they are normalised.

    Raises:
        InputError: where one is below 0 by more than rounding explains.
    """
    if pixels.is_floating_point() and may_be_looked_at([pixels]):
        least = pixels.detach().amin().item()
        if least < -ROUNDING:
            raise InputError(
                f"the tokens' pixels must be on the scale 0…255 and go down to {least:.3g}, as normalised ones do: "
                + instead
            )


def denormalize(values: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """The inverse of `normalize`, back to the scale 0…255.

    Args:
        values: `[..., C, h, w]`, floating, normalised.
        mean: one number a channel, on the scale 0…1.
        std: one number a channel, on the scale 0…1.

    Returns:
        The same shape, in the values' dtype.

    Raises:
        InputError: for integers, which are not normalised values.
    """
    check_dense(values, "values")
    if not values.is_floating_point():
        raise InputError(f"normalised values are floating, got {values.dtype}: nothing is to be undone for bytes")
    _check_pixels(values, "values")
    return (values * per_channel(std, values) + per_channel(mean, values)) * 255


def as_floats(images: Tensor) -> Tensor:
    """What scorers and models look at: floats as they are given, in float32; bytes normalised first."""
    return images.float() if images.is_floating_point() else standardize(images)


def standardize(pixels: Tensor) -> Tensor:
    """Pixels `[..., C, h, w]` on the scale 0…255 as the reference's nets see them: normalised with ImageNet's numbers.

    Those weigh the three channels of a photograph. Another number of channels is only brought to 0…1.
    """
    return normalize(pixels) if pixels.shape[-3] == len(IMAGENET_MEAN) else pixels.float() / 255


def as_bytes(images: Tensor) -> Tensor:
    """The bytes that images show, uint8: what counts pixels must find the same ones in bytes and in floats.

    Floats are brought back from what `standardize` made of them, to the nearest byte. What is beyond 0…255 becomes the
    nearer end, and NaN 0: an index made of NaN would lead anywhere.
    """
    if not images.is_floating_point():
        return images
    values = images.float()
    values = denormalize(values) if values.shape[-3] == len(IMAGENET_MEAN) else values * 255
    return values.nan_to_num(nan=0.0).round().clamp(0, 255).to(torch.uint8)


def mean_and_std(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[Sequence[float], Sequence[float]] | None:
    """Both, or None where neither is given.

    Raises:
        InputError: for one without the other, and for other than a number a channel.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise InputError("mean and std go together: give both or neither")
    for numbers in (mean, std):
        _check_numbers(numbers, channels)
    return mean, std


def per_channel(numbers: Sequence[float], pixels: Tensor) -> Tensor:
    """`[C, 1, 1]`: one number for each channel of `pixels` `[..., C, h, w]`, in its dtype and on its device."""
    channels = pixels.shape[-3]
    _check_numbers(numbers, channels)
    # Filled on the device: a tensor made of host numbers would make it wait for the copy.
    filled = [torch.full((1, 1), number, dtype=pixels.dtype, device=pixels.device) for number in numbers]
    return torch.stack(filled)


def _check_numbers(numbers: Sequence[float], channels: int) -> None:
    try:
        found = len(numbers)
    except TypeError:  # one number, or a tensor of one
        raise InputError(
            f"mean and std must have a number a channel: got {numbers!r}, give {channels} of them"
        ) from None
    if found != channels:
        raise InputError(f"mean and std must have a number a channel: got {found} for {channels} channels")


def _describe(images: object) -> str:
    if isinstance(images, list | tuple):
        shapes = sorted({tuple(image.shape) for image in images if isinstance(image, Tensor)})
        return (
            f"a {type(images).__name__} of {len(images)} with the shapes {shapes}: "
            "give all of them one size and stack them"
        )
    return type(images).__name__
