"""timm's NaFlexVit on tokens of a threshold: each photograph has as many as it needs, in one batch.

`python examples/naflexvit.py PHOTO… [--model=naflexvit_base_patch16_siglip]`: a name fetches its weights; else a small
model, untrained.
"""

import sys

import timm
import torch

from quadtok import Spec, read_image, tokenize
from quadtok.images.fit import fit_image
from quadtok.models import naflex, to_naflex


def main(*words: str) -> None:
    """The outputs of a batch, and how far each is from that of its image alone."""
    names = [word.removeprefix("--model=") for word in words if word.startswith("--model=")]
    photographs = [word for word in words if not word.startswith("--model=")]
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=160)
    images = torch.stack([fit_image(read_image(path).image, 256, 256, "crop").pixels for path in photographs])

    vit = timm.create_model([*names, "vit_tiny_patch16_224"][0], pretrained=bool(names), use_naflex=True).eval()
    model = naflex(vit, spec)  # as timm builds it, it would take quadtree tokens for a raster
    tokens = tokenize(images, spec, "blur", threshold=1.0)  # at most 160
    with torch.no_grad():
        outputs = model(to_naflex(tokens, model))
        alone = torch.cat([model(to_naflex(tokens.unpadded(number), model)) for number in range(len(tokens))])
    lengths = tokens.plan.cu_seqlens().diff().tolist()
    for path, length, difference in zip(photographs, lengths, (outputs - alone).abs().amax(dim=1), strict=True):
        print(f"{path}: {length} tokens, {difference:.0e} from the image alone")


if __name__ == "__main__":
    main(*sys.argv[1:])
