"""The reference's fourth notebook: tokens back to a dense volume, for segmentation heads, and to a picture.

`python examples/dense_volume.py PHOTO PICTURE`
"""

import sys

import torch
from PIL import Image
from torch import Tensor

from quadtok import Spec, read_image, reverse, reverse_patches, tokenize
from quadtok.images.fit import fit_image


def replicated(patches: Tensor, volume: Tensor) -> Tensor:
    """The volume `[1, C*p*p, H/p, W/p]` as an image `[C, H, W]`: each cell shows its token's pixels."""
    _, _, channels, size, _ = patches.shape
    _, _, rows, cols = volume.shape
    cells = volume.view(channels, size, size, rows, cols)
    return cells.permute(0, 3, 1, 4, 2).reshape(channels, rows * size, cols * size)


def as_picture(pixels: Tensor) -> Image.Image:
    """`[3, H, W]`, 0…255."""
    return Image.fromarray(pixels.round().byte().permute(1, 2, 0).numpy())


def main(photograph: str, picture: str) -> None:
    """Side by side: the image, its tokens replicated, and its tokens enlarged to their boxes."""
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)
    image = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels
    tokens = tokenize(image[None], spec, "blur")

    features = tokens.patches.flatten(2)  # [1, N, C*p*p]; a ViT's outputs without the cls token do as well
    volume = reverse(features, tokens.plan)  # [1, C*p*p, H/p, W/p]
    print(f"features {list(features.shape)} -> volume {list(volume.shape)}")

    enlarged = reverse_patches(tokens.patches, tokens.plan)[0]  # [C, H, W]
    panels = [image.float(), replicated(tokens.patches, volume), enlarged]
    as_picture(torch.cat(panels, dim=2)).save(picture)
    print(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
