"""Photographs of different lengths from a DataLoader, packed: the model works on their tokens and not on padding.

`python examples/packed_batches.py PHOTO… [--model=vit_small_patch16_224]`: a name fetches its weights; else a
small model, untrained.
"""

import sys

import timm
import torch
from torch.utils.data import DataLoader, Dataset

from quadtok import Spec, Tokens, collate, read_image, tokenize
from quadtok.images.fit import fit_image
from quadtok.models import adapt


class Photographs(Dataset):
    """The tokens of each photograph, as many as it needs: made in the loader's workers."""

    def __init__(self, paths: list[str], spec: Spec, threshold: float) -> None:
        self.paths, self.spec, self.threshold = paths, spec, threshold

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tokens:
        image = fit_image(read_image(self.paths[number]).image, self.spec.height, self.spec.width, "crop").pixels
        return tokenize(image[None], self.spec, "blur", threshold=self.threshold).unpadded(0)


def main(*words: str) -> None:
    """Each batch's tokens and slots, and how far packed and padded are apart."""
    names = [word.removeprefix("--model=") for word in words if word.startswith("--model=")]
    photographs = [word for word in words if not word.startswith("--model=")]
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=256)
    vit = timm.create_model([*names, "vit_tiny_patch16_224"][0], pretrained=bool(names)).eval()
    packed, padded = (adapt(vit, spec, "blur", attention=way) for way in ("packed", "padded"))

    # `quadtok calibrate` finds the threshold for a mean. Collated, the photographs are padded to the longest.
    loader = DataLoader(Photographs(photographs, spec, threshold=1.0), batch_size=4, collate_fn=collate)
    for tokens in loader:
        with torch.no_grad():
            difference = (packed(tokens) - padded(tokens)).abs().max()
        slots = tokens.plan.valid
        print(f"{len(tokens)} photographs: {slots.sum()} tokens in {slots.numel()} slots, {difference:.0e} from padded")


if __name__ == "__main__":
    main(*sys.argv[1:])
