"""The paper's scorer: how far a small network's features move when a patch is kept at token resolution.

By default it computes as the reference does, operation by operation: on one machine the same digits. A `precision` by
name is quicker and changes the last digits (in half precision more than those). Then the batch norms of the trunk are
folded into its convolutions, once, in the scorer's own copy; the channels lie last in memory, and stay there through
the shuffles; and each image goes through the net in one pass with all its blurred copies. Either way a few images
are scored at a time, so that memory does not grow with the batch. A net of the user's own is never folded.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok.errors import InputError
from quadtok.names import ErrorName
from quadtok.pixels import as_floats
from quadtok.precision import exact_products, full_precision
from quadtok.scorers.base import pool_to_grid, resize
from quadtok.scorers.feature.weights import BUNDLED, Trunk, load_trunk, weights_digest
from quadtok.scorers.nets import NetScorer, chosen, device_of, made_where_torch_lets, name_of_weights
from quadtok.spec import Spec
from quadtok.tracing import in_parts, without_gradients

STRIDES = (8, 16, 32)
PAPERS_STRIDE = 32
EXACT = "exact"
PRECISIONS = {EXACT: torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# How many pixels the net sees in one pass, all copies together: 24 of 256² on a CPU, where more leave the cache and
# fewer leave the cores idle; 128 of 256² elsewhere, to bound the memory of a large batch.
PIXELS_A_PASS = {"cpu": 3 * 2**19}
PIXELS_A_PASS_ELSEWHERE = 2**23


class FeatureScorer(NetScorer):
    """Features of the image against features of its blurred copies (docs/reference.md section 3).

    Args:
        weights: `"bundled"`, a small net that comes with quadtok (docs/bundled-weights.md); `"imagenet"`, the paper's
            ShuffleNetV2 x0.5, downloaded by torchvision at first use; `"lite0"`, EfficientNet-Lite0, trained on
            ImageNet, from packages of the extra `lite0`; or the path of a state dict of one of them, the last two with
            or without their classifier. Ignored where `net` is given.
        net: any module that maps `[B, C, H, W]` to features `[B, D, h, w]`. It is copied: the scorer's copy stays
            frozen and in eval mode, and the caller's module is left as it is.
        stride: 32, 16 or 8: where ShuffleNetV2 is cut, and the map's resolution where `high_res_fraction` < 1. By
            default 32, the paper's, which is lite0's only one; 16 for the bundled net, which has no other.
        error: `"mse"`, the mean squared difference over the features, or `"cosine_distance"`, the negated cosine.
        high_res_fraction: the features are computed on images resized to this share of their size.
        precision: `"exact"` computes as the reference does. `"float32"` rounds in another order and is about twice as
            fast with ShuffleNetV2, no faster with the bundled net; `"bfloat16"` and `"float16"` are what the net
            computes in, are quicker still, and move boxes (docs/performance.md says how many; float16 is meant for CUDA
            and slow on most CPUs). The pixels are resized and the features compared in float32 all the same, and the
            saliency is float32.

    A scorer is on the CPU, or where the `net` lies that was given, and scores images there; `to` gives one that is
    elsewhere. Nothing of a scorer changes when it scores, so threads may share it.

    Attributes:
        device: where its net is; None for a net without weights, which is everywhere.

    Raises:
        InputError: for an option out of range.
        WeightsError: where the weights cannot be had or do not fit.
    """

    kind = "feature"

    def __init__(
        self,
        weights: str | Path = BUNDLED,
        *,
        net: nn.Module | None = None,
        stride: int | None = None,
        error: ErrorName = "mse",
        high_res_fraction: float = 1.0,
        precision: str = EXACT,
    ) -> None:
        name = name_of_weights(weights)
        stride = None if stride is None else chosen("stride", stride, STRIDES)
        self.error = chosen("error", error, ERRORS)
        if not _is_fraction(high_res_fraction):
            raise InputError(f"high_res_fraction {high_res_fraction} is outside 0 < f ≤ 1")
        self.high_res_fraction = float(high_res_fraction)
        self.precision = chosen("precision", precision, PRECISIONS)
        if net is not None:
            _check_net(net)
        self.weights = name if net is None else "net"
        with made_where_torch_lets("a feature scorer"):
            self._make_net(name, net, stride)
        self.device = device_of(self._net)
        self._channels = None if net is not None else 3

    def _make_net(self, weights: str, net: nn.Module | None, stride: int | None) -> None:
        trunk = load_trunk(weights, stride) if net is None else Trunk(copy.deepcopy(net), stride or PAPERS_STRIDE, None)
        self.stride = trunk.stride
        self._pixels_a_pass = trunk.pixels_a_pass or PIXELS_A_PASS["cpu"]
        whole = trunk.net.eval()
        if net is not None:  # ours are float32 and frozen, and inside a transform of torch.func no net can be changed
            whole = whole.float().requires_grad_(False)
        self.weights_sha256 = weights_digest(whole.state_dict())  # of the weights as they were given
        quick = trunk.quick if self.precision != EXACT else None
        self._net = (
            whole if self.precision == EXACT else (quick(whole) if quick else whole).to(PRECISIONS[self.precision])
        )
        self._channels_last = quick is not None  # torch's own name for a layout cannot be pickled by protocol 2

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        self._check(images, spec)
        with full_precision(images.device), exact_products(images.device):
            parts = [self._score(part, spec) for part in in_parts(images, self._images_a_pass(images, spec))]
        return [torch.cat(scores) for scores in zip(*parts, strict=True)]

    @property
    def has_own_net(self) -> bool:
        """Whether the net is the caller's, of which nothing is known, rather than one of quadtok's."""
        return self._channels is None

    def describe(self) -> dict[str, Any]:
        """Name, options, and the digest of the weights.

        The precision is named where it is not exact: files of before there was a choice say nothing, and mean that.
        """
        facts = {
            "name": "feature",
            "weights": Path(self.weights).name,
            "weights_sha256": self.weights_sha256,
            "stride": self.stride,
            "error": self.error,
            "high_res_fraction": self.high_res_fraction,
        }
        return facts if self.precision == EXACT else facts | {"precision": self.precision}

    def _images_a_pass(self, images: Tensor, spec: Spec) -> int:
        height, width = self._seen_size(images)
        budget = self._pixels_a_pass if images.device.type == "cpu" else PIXELS_A_PASS_ELSEWHERE
        return max(1, budget // (height * width * spec.num_scales))

    def _score(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """The scores of a few images `[B, C, H, W]`."""
        pixels = as_floats(images).contiguous()  # torch resizes three channels quicker where they lie first
        copies = [pixels, *(resize(pixels, spec.height >> k, spec.width >> k) for k in range(1, spec.num_scales))]
        seen = [self._as_seen(copy, pixels) for copy in copies]  # S × [B, C, h', w']
        if self.precision == EXACT:
            sharp, *blurry = (self._features(copy) for copy in seen)  # each [B, D, h, w]
        else:
            sharp, *blurry = torch.unflatten(self._features(torch.cat(seen)), 0, (len(seen), images.shape[0]))
        return [
            pool_to_grid(self._lost(features, sharp, spec), *spec.grid(k)) for k, features in enumerate(blurry, start=1)
        ]

    def _lost(self, blurry: Tensor, sharp: Tensor, spec: Spec) -> Tensor:
        lost = ERRORS[self.error](blurry, sharp)  # [B, h, w]
        if self.high_res_fraction == 1:
            return lost
        rows, cols = (math.ceil(side / self.stride) for side in (spec.height, spec.width))
        return resize(lost[:, None], rows, cols)[:, 0]

    def _seen_size(self, images: Tensor) -> tuple[int, int]:
        """The height and width at which the net sees the images: `high_res_fraction` of their own."""
        height, width = (max(1, int(side * self.high_res_fraction)) for side in images.shape[2:])
        return height, width

    def _as_seen(self, copy: Tensor, pixels: Tensor) -> Tensor:
        """A copy of the pixels, of whatever size, at the size at which the net sees them."""
        size = self._seen_size(pixels)
        return copy if copy.shape[2:] == size else resize(copy, *size)

    def _features(self, seen: Tensor) -> Tensor:
        """`[B, C, h', w']` → `[B, D, h, w]`, in float32."""
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        features = self._net(seen.to(PRECISIONS[self.precision], memory_format=layout))
        if not isinstance(features, Tensor) or features.is_complex():
            found = features.dtype if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"the net must give one tensor of real features [B, D, h, w], it gave {found}")
        if features.ndim != 4:
            raise InputError(f"the net must give features [B, D, h, w], it gave {list(features.shape)}")
        return features.float()


def _check_net(net: nn.Module) -> None:
    if not isinstance(net, nn.Module):
        raise InputError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if any(tensor.is_meta for tensor in itertools.chain(net.parameters(), net.buffers())):
        raise InputError("net has weights on the device meta, which are no numbers: load them before")


def _is_fraction(value: object) -> bool:
    return isinstance(value, Real) and 0 < float(value) <= 1


def _mse(blurry: Tensor, sharp: Tensor) -> Tensor:
    return (blurry - sharp).square().mean(dim=1)


def _cosine_distance(blurry: Tensor, sharp: Tensor) -> Tensor:
    # Near -1 the last digits decide: the channels are added in the reference's order, which is that of maps in memory.
    return -F.cosine_similarity(blurry.contiguous(), sharp.contiguous(), dim=1)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": _mse, "cosine_distance": _cosine_distance}
