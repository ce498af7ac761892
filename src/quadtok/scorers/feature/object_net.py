"""The small net whose weights ship with quadtok: where an object is, times what there is to see.

Its features are a product. One factor is a gate, computed from the picture at half its size with a view of the whole:
is this part of an object, or of what stands behind it? The other is fine structure, which a smaller copy of the picture
loses. So the feature scorer's question, how far the features of the copy are from those of the picture, is answered by
"as far as detail of an object is lost here"; grass, gravel and noise are detail as well, but their gate is shut.

Every image is first brought to zero mean and unit variance: exposure does not matter. Borders are padded with what is
there: zeros would tell the net where the border is, and it would learn that objects are not. Convolutions with a stride
have even sides: so the middle of what a place of the features sees is the middle of its 16 pixels, and left and right
are alike. With odd sides it lies half a patch to the left and above.

Every layer's channels come in two halves, each of which does to a picture what the other does to its mirror image. So
the features of a mirrored picture are the mirrored features with the halves exchanged, and the errors of a mirrored
picture are the mirrored errors. It costs nothing: half of the weights follow from the others.

docs/bundled-weights.md tells how it was trained and what it is worth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ObjectNet(nn.Module):
    """`[B, 3, H, W]` → `[B, 32, ⌈H/16⌉, ⌈W/16⌉]`, about 0.4 million weights.

    Args:
        norms: with batch norms, as it is trained; without, as it ships: they are folded into the convolutions.
    """

    STRIDE = 16

    def __init__(self, norms: bool = False) -> None:
        super().__init__()
        self.where = nn.Sequential(
            _conv(3, 24, 4, norms, stride=2),  # 1/4
            _Residual(24, norms),
            _conv(24, 48, 4, norms, stride=2),  # 1/8
            _Residual(48, norms),
            _Residual(48, norms),
            _conv(48, 96, 4, norms, stride=2),  # 1/16
            _Residual(96, norms),
            _Overview(96),
            _Residual(96, norms, dilation=2),
            _Overview(96),
            _Residual(96, norms, dilation=4),
        )
        self.gate = nn.Conv2d(96, 1, 1)
        self.what = nn.Sequential(
            _conv(3, 24, 8, norms, stride=4),
            _conv(24, 32, 4, norms, stride=2),
            _conv(32, 32, 4, norms, stride=2),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features at a stride of 16."""
        images = normalised(images)
        return torch.sigmoid(self.objectness(images)) * self.what(_to_multiple(images, self.STRIDE))

    def objectness(self, images: Tensor) -> Tensor:
        """`[B, 1, ⌈H/16⌉, ⌈W/16⌉]`: the gate of normalised images before its sigmoid, the log odds of an object."""
        half = F.avg_pool2d(_to_multiple(images, self.STRIDE), 2)
        return self.gate(self.where(half))


@torch.no_grad()
def tie_mirrored_weights(net: nn.Module) -> None:
    """Make each half of the channels do to a picture what the other does to its mirror image, in place.

    The nearest weights that do: the mean of what is there and of its mirror image.
    """
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.add_(_mirrored(value)).div_(2)


def _mirrored(weights: Tensor) -> Tensor:
    """The halves of inputs and outputs exchanged, and each kernel turned left to right."""
    for dim in range(min(2, weights.ndim)):
        if weights.shape[dim] % 2 == 0:  # not the three colours, nor the one gate
            weights = weights.roll(weights.shape[dim] // 2, dim)
    return weights.flip(-1) if weights.ndim == 4 else weights


def normalised(images: Tensor) -> Tensor:
    """Every image with zero mean and unit variance over all its values."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    spread = images.std(dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / (spread + 1e-3)


def _to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Edges repeated on the right and at the bottom until both sides are multiples."""
    below, right = (-side % multiple for side in images.shape[2:])
    return F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def _conv(inputs: int, outputs: int, side: int, norms: bool, stride: int) -> nn.Sequential:
    padding = (side - stride) // 2
    conv = nn.Conv2d(inputs, outputs, side, stride, padding, padding_mode="replicate", bias=not norms)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs) if norms else nn.Identity(), nn.ReLU())


class _Residual(nn.Module):
    """A convolution and what it adds to."""

    def __init__(self, width: int, norms: bool, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            width, width, 3, padding=dilation, dilation=dilation, padding_mode="replicate", bias=not norms
        )
        self.norm = nn.BatchNorm2d(width) if norms else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


class _Overview(nn.Module):
    """Tells every place what the whole picture looks like: an object is what differs from the rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.mix(x.mean(dim=(2, 3)))[..., None, None])
