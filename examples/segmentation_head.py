"""A segmentation head on a frozen ViT that reads 100 tokens: `reverse` inside lays them back over the image.

`python examples/segmentation_head.py PHOTO [vit_small_patch14_reg4_dinov2]`: a name fetches its weights; else a small
model, untrained.
"""

import sys

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok import Spec, read_image
from quadtok.images.fit import fit_image
from quadtok.models import adapt


class Segmenter(nn.Module):
    """A ViT, what it says of each finest cell after two of its blocks, and one convolution to classes."""

    def __init__(self, vit: nn.Module, spec: Spec, classes: int) -> None:
        super().__init__()
        self.backbone = adapt(vit, spec, "blur").eval().requires_grad_(False)
        self.head = nn.Conv2d(2 * vit.num_features, classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` → `[B, classes, H, W]`."""
        maps = self.backbone.forward_intermediates(images, indices=[-3, -1], norm=True, intermediates_only=True)
        return F.interpolate(self.head(torch.cat(maps, dim=1)), images.shape[2:], mode="bilinear")


def main(photograph: str, name: str | None = None) -> None:
    """Learns dark, middle and light of one photograph: a task whose labels need no data set."""
    torch.manual_seed(0)
    vit = timm.create_model(name or "vit_tiny_patch16_224", pretrained=name is not None)
    size = vit.patch_embed.patch_size[0]
    spec = Spec(height=16 * size, width=16 * size, min_patch=size, max_patch=4 * size, num_tokens=100)
    images = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels[None]
    light = F.avg_pool2d(images.float().mean(dim=1, keepdim=True), 33, stride=1, padding=16)[:, 0]
    labels = torch.bucketize(light, light.quantile(torch.tensor([1 / 3, 2 / 3])))  # [1, H, W]

    model = Segmenter(vit, spec, classes=3)
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-2)
    for step in range(31):
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        if step % 10 == 0:
            right = (logits.argmax(dim=1) == labels).float().mean()
            print(f"step {step}: loss {loss:.3f}, {right:.0%} of the pixels are right")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
