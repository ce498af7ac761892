"""Where an image shows a thing: two maps of importance, from one pass over a small view of the image.

The net is the first eleven blocks of EfficientNet-Lite0 (docs/object-scorer.md says which weights it started from) and
a small head. The head reads the blocks at strides of 8 and 16 of the view and the mean of the last block, which tells
every place what the whole picture looks like. It gives the logarithm of two importances for every 8 pixels of the view:
of what a classifier looks at, and of what belongs to a thing.

The view is half the image, as long as that is no more than 256 pixels a side; a quarter, an eighth … of a larger one,
so that a photograph of many megapixels costs no more than a small one; and small images are seen whole or enlarged, for
things in them are as large in the view as in training. A power of two lies between the two where that gives whole
strides of the net: then whole patches of the image are whole pixels of the view, and what moves by a few patches is
seen as before. Else a side is stretched to the next whole stride.

Three things differ from EfficientNet-Lite0, each so that no place of an image is preferred:

- Convolutions with a stride have even sides, 4 and 6 in place of 3 and 5. So the middle of what a place of the maps
  sees is the middle of its 16 pixels. With odd sides it lies up to 15 pixels to the right and below, and a mirrored
  image gets other scores.
- Borders are padded with what is there. Zeros would tell the net where the border is.
- Every view is brought to zero mean and to one spread: exposure and contrast do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.scorers.base import pool_to_grid, resize

LEAST_VIEW, LARGEST_VIEW = 90, 256  # pixels a side of a square view: trained on 128 and, now and then, on 256
VIEW_STRIDE = 16  # of the last block: the view's sides are multiples of it
SPREAD = 0.5  # of the values in a view, as EfficientNet-Lite0 is used to
BOUND = 12.0  # of the logarithm of an importance
EPS = 0.02  # of the detail, in the image's own spread: what is flat is not worth nothing

STEM = 32  # channels


class Stage(NamedTuple):
    """A row of EfficientNet's table.

    Attributes:
        expansion: how many times wider the middle of a block is than its input.
        width: channels that come out.
        side: of the kernels.
        stride: of the first block.
        blocks: how many.
    """

    expansion: int
    width: int
    side: int
    stride: int
    blocks: int


STAGES = (
    Stage(1, 16, 3, 1, 1),
    Stage(6, 24, 3, 2, 2),
    Stage(6, 40, 5, 2, 2),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 5, 1, 3),
)
FINE, COARSE = 2, 4  # the stages that the head reads
HEAD = 64  # channels
NUM_MAPS = 2  # of importance: to a classifier, and as a thing


class ImportanceNet(nn.Module):
    """Views of images, `[B, 3, h, w]`, to logarithms of importance, `[B, 2, h/8, w/8]`.

    Args:
        norms: with batch norms, as it is trained; without, as it ships: they are folded into the convolutions.

    Attributes:
        power: `[2]`, of the detail in the saliency of each kind of importance.
        step: `[2]`, added to the logarithm of the saliency a scale up.
    """

    def __init__(self, norms: bool = False) -> None:
        super().__init__()
        self.stem = _Conv(3, STEM, 3, norms, stride=2)
        self.stages = nn.ModuleList()
        width = STEM
        for stage in STAGES:
            self.stages.append(_stage(width, stage, norms))
            width = stage.width
        self.head = _Head(STAGES[FINE].width, STAGES[COARSE].width)
        self.power = nn.Parameter(torch.tensor([0.4, 0.4]))
        self.step = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, view: Tensor) -> Tensor:
        """A view `[B, 3, h, w]` of `seen` to the maps `[B, 2, h/8, w/8]`."""
        x = self.stem(view)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        maps: Tensor = self.head(features[FINE], features[COARSE])
        return maps.clamp(-BOUND, BOUND)


def view_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the view of an image: a half, or as little of it as is needed, brought to whole strides."""
    side, factor = math.sqrt(height * width), 2.0
    while side / factor > LARGEST_VIEW:
        factor *= 2
    while side / factor < LEAST_VIEW:
        factor /= 2
    down, across = (math.ceil(length / (factor * VIEW_STRIDE)) * VIEW_STRIDE for length in (height, width))
    return down, across


def seen(images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What the net sees of images `[B, 3, H, W]`, in so many pixels.

    Returns:
        The view `[B, 3, height, width]`, of zero mean and one spread an image; and the spread of each before, `[B]`.
    """
    view = _resized(images, height, width)
    moved = view - _mean(view)
    spread = _mean(moved.square()).sqrt() + 1e-3  # torch's std warns of a batch of none
    return moved * (SPREAD / spread), spread[:, 0, 0, 0]


def _mean(view: Tensor) -> Tensor:
    """`[B, 1, 1, 1]`. Of each channel first: torch shares a long sum among its threads, which moves last digits."""
    return view.mean(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True)


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    """Smaller: each new pixel is the mean of the old ones that it covers. Larger on both sides: bilinear."""
    down, across = images.shape[2] // height, images.shape[3] // width
    if (down * height, across * width) == tuple(images.shape[2:]):
        return F.avg_pool2d(images, (down, across))
    if down == across == 0:
        return resize(images, height, width)
    return F.adaptive_avg_pool2d(images, (height, width))


def log_saliency(maps: Tensor, details: Sequence[Tensor], power: Tensor, step: Tensor) -> list[Tensor]:
    """The logarithm of what each node is worth, by each kind of importance.

    The mean of the importance over a node, times a power of the detail that the node loses when it is kept at token
    resolution, times a factor for each scale up.

    Args:
        maps: `[B, 2, h, w]`, what the net gave.
        details: `[B, rows, cols]` a splittable scale, the finest first; none negative, in the image's own spread.
        power: `[2]`, the net's.
        step: `[2]`, the net's.

    Returns:
        `[B, 2, rows, cols]` a scale.
    """
    importance = maps.exp().flatten(0, 1)  # [B·2, h, w]
    saliency = []
    for scale, detail in enumerate(details, start=1):
        mean = torch.unflatten(pool_to_grid(importance, *detail.shape[1:]), 0, maps.shape[:2])
        lost = (detail + EPS).log()[:, None] * power[:, None, None]
        saliency.append(mean.log() + lost + step[:, None, None] * scale)
    return saliency


def _stage(inputs: int, stage: Stage, norms: bool) -> nn.Sequential:
    widths = [inputs, *[stage.width] * (stage.blocks - 1)]
    strides = [stage.stride, *[1] * (stage.blocks - 1)]
    blocks = [_Block(width, stage, stride, norms) for width, stride in zip(widths, strides, strict=True)]
    return nn.Sequential(*blocks)


class _Conv(nn.Module):
    """A convolution that keeps the middle in the middle, a norm, and ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        norms: bool,
        stride: int = 1,
        depthwise: bool = False,
        act: bool = True,
    ) -> None:
        super().__init__()
        side += stride - 1  # even for a stride of 2
        self.padding = (side - stride + 1) // 2
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, side, stride, groups=groups, bias=not norms)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3) if norms else nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        if self.padding:
            x = F.pad(x, (self.padding,) * 4, mode="replicate")
        x = self.norm(self.conv(x))
        if not self.act:
            return x
        return F.relu6(x) if torch.is_grad_enabled() else x.clamp_(0, 6)


class _Block(nn.Module):
    """An inverted residual: wider, a convolution in each channel alone, narrower."""

    def __init__(self, inputs: int, stage: Stage, stride: int, norms: bool) -> None:
        super().__init__()
        middle = inputs * stage.expansion
        self.expand = _Conv(inputs, middle, 1, norms) if stage.expansion > 1 else nn.Identity()
        self.depthwise = _Conv(middle, middle, stage.side, norms, stride, depthwise=True)
        self.project = _Conv(middle, stage.width, 1, norms, act=False)
        self.adds = stride == 1 and inputs == stage.width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return y + x if self.adds else y


class _Head(nn.Module):
    """Features at two strides to the maps at the finer one."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(fine, HEAD, 1)
        self.coarse = nn.Conv2d(coarse, HEAD, 1)
        self.overview = nn.Linear(coarse, HEAD)
        self.mix = nn.Conv2d(HEAD, HEAD, 3)
        self.out = nn.Conv2d(HEAD, NUM_MAPS, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        near = F.interpolate(self.coarse(coarse), size=fine.shape[2:], mode="bilinear", align_corners=False)
        # By sums of each image's own: a matrix product rounds by how many images there are.
        mean = coarse.mean(dim=(2, 3))[:, None]  # [B, 1, C]
        overview = (mean * self.overview.weight).sum(2) + self.overview.bias
        x = F.relu(self.fine(fine) + near + overview[..., None, None])
        x = F.relu(x + self.mix(F.pad(x, (1, 1, 1, 1), mode="replicate")))
        maps: Tensor = self.out(x)
        return maps
