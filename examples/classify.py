"""Classify a photograph with a ViT of timm: 100 tokens in place of 196.

`python examples/classify.py PHOTO [vit_base_patch16_224]`: a name fetches its weights; else a small model, untrained.
"""

import sys

import timm
import torch
from timm.data import ImageNetInfo

from quadtok import Spec, read_image
from quadtok.images.fit import fit_image
from quadtok.models import adapt


def main(photograph: str, name: str | None = None) -> None:
    """The likeliest three classes, read from few tokens and from all of them."""
    vit = timm.create_model(name or "vit_tiny_patch16_224", pretrained=name is not None).eval()
    spec = Spec(height=224, width=224, min_patch=16, max_patch=32, num_tokens=100)
    model = adapt(vit, spec)  # a copy; the weights are the ViT's own
    images = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels[None]  # uint8

    words = ImageNetInfo()
    for num_tokens in (100, spec.num_cells):
        with torch.no_grad():
            chances = model(images, num_tokens=num_tokens).softmax(dim=-1)[0]
        best = [f"{words.index_to_description(i)} {chances[i]:.1%}" for i in chances.topk(3).indices.tolist()]
        print(f"{num_tokens} tokens: {'; '.join(best)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
