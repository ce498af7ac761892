"""The reference's second notebook: what a ViT reads, from the quadtree and from the uniform grid.

`python examples/tokenizer_shapes.py PHOTO…`
"""

import sys

import torch

from quadtok import QuadtreeTokenizer, Spec, VanillaTokenizer, read_image
from quadtok.images.fit import fit_image


def main(*photographs: str) -> None:
    """The shapes for one batch of photographs."""
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)
    images = torch.stack(
        [fit_image(read_image(path).image, spec.height, spec.width, "crop").pixels for path in photographs]
    )
    print(f"images            {list(images.shape)}")

    tokens, plan = QuadtreeTokenizer(spec, "blur", embed_dim=384)(images, return_plan=True)
    print(f"QuadtreeTokenizer {list(tokens.shape)}: cls and {spec.num_tokens} patches of {spec.num_scales} sizes")
    print(f"their plan        {plan}")

    grid = VanillaTokenizer(patch_size=16, embed_dim=384)(images)
    print(f"VanillaTokenizer  {list(grid.shape)}: cls and {256 // 16} × {256 // 16} patches of one size")


if __name__ == "__main__":
    main(*sys.argv[1:])
