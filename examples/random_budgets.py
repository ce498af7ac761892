"""Fine-tune a ViT with another number of tokens in each step, so that it reads any number well afterwards.

`python examples/random_budgets.py PHOTO PHOTO… [--model=vit_small_patch16_224]`: a name fetches its weights; else a
small model, untrained.
"""

import random
import sys

import timm
import torch
import torch.nn.functional as F

from quadtok import Spec, read_image
from quadtok.images.fit import fit_image
from quadtok.models import adapt


def main(*words: str) -> None:
    """Ten steps that tell the photographs apart: a task whose labels need no data set."""
    names = [word.removeprefix("--model=") for word in words if word.startswith("--model=")]
    photographs = [word for word in words if not word.startswith("--model=")]
    spec = Spec(height=224, width=224, min_patch=16, max_patch=32, num_tokens=100)
    images = torch.stack([fit_image(read_image(path).image, 224, 224, "crop").pixels for path in photographs])
    labels = torch.arange(len(images))
    random.seed(0)
    torch.manual_seed(0)

    vit = timm.create_model([*names, "vit_tiny_patch16_224"][0], pretrained=bool(names), num_classes=len(images))
    model = adapt(vit, spec, "blur").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    budgets = range(spec.num_roots + 3 * 5, spec.num_cells + 1, 3)  # a split is 3 tokens more
    for step in range(10):
        num_tokens = random.choice(budgets)
        loss = F.cross_entropy(model(images, num_tokens=num_tokens), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: {num_tokens} tokens, loss {loss:.3f}")

    model.eval()
    with torch.no_grad():
        for num_tokens in (64, 100, 196):
            right = (model(images, num_tokens=num_tokens).argmax(dim=1) == labels).sum()
            print(f"{num_tokens} tokens: {right} of {len(images)} right")


if __name__ == "__main__":
    main(*sys.argv[1:])
