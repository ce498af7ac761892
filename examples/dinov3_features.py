"""Features of DINOv3 for 400 tokens, as a map over the photograph: its three main directions as red, green and blue.

`python examples/dinov3_features.py PHOTO PICTURE [vit_small_patch16_dinov3]`: a name fetches its weights; else a model
of two blocks, untrained.
"""

import sys

import timm
import torch
from PIL import Image
from torch import Tensor

from quadtok import Spec, read_image
from quadtok.images.fit import fit_image
from quadtok.models import adapt


def as_colors(features: Tensor) -> Tensor:
    """`[D, rows, cols]` to its three principal components, `[rows, cols, 3]` bytes."""
    points = features.flatten(1).T  # [cells, D]
    points = points - points.mean(dim=0)
    directions = torch.linalg.svd(points, full_matrices=False).Vh[:3]
    values = points @ directions.T
    low, high = values.amin(dim=0), values.amax(dim=0)
    return ((values - low) / (high - low) * 255).byte().view(*features.shape[1:], 3)


def main(photograph: str, picture: str, name: str | None = None) -> None:
    """A picture of the features, a pixel for each finest cell, enlarged."""
    small = {} if name else {"depth": 2}
    vit = timm.create_model(name or "vit_small_patch16_dinov3", pretrained=name is not None, **small).eval()
    spec = Spec(height=512, width=512, min_patch=16, max_patch=64, num_tokens=400)
    model = adapt(vit, spec, "blur")
    images = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels[None]
    with torch.no_grad():
        features, (maps,) = model.forward_intermediates(images, indices=1, norm=True)
    print(f"features {list(features.shape)}: {vit.num_prefix_tokens} of the image and {spec.num_tokens} of patches")
    print(f"as maps {list(maps.shape)}, of {spec.num_cells} cells")
    colors = Image.fromarray(as_colors(maps[0]).numpy())
    colors.resize((spec.width, spec.height), Image.Resampling.NEAREST).save(picture)
    print(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
