"""The paper's scorer: how far a small network's features move when a patch is kept at token resolution.

By default it computes as the reference does, operation by operation: on one machine the same digits. A `precision` by
name is quicker and changes the last digits (in half precision more than those). Then the batch norms of the trunk are
folded into its convolutions, once, in the scorer's own copy; the channels lie last in memory, and stay there through
the shuffles; and each image goes through the net in one pass with all its blurred copies. Either way a few images
are scored at a time, so that memory does not grow with the batch. A net of the user's own is never folded.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from quadtok.errors import InputError, WeightsError
from quadtok.names import ErrorName
from quadtok.pixels import as_floats, check_images
from quadtok.scorers.base import full_precision, pool_to_grid, resize
from quadtok.spec import Spec

# The stages of ShuffleNetV2 up to each stride (docs/reference.md section 3); the classifier head is never used.
STAGES = {
    8: ("conv1", "maxpool", "stage2"),
    16: ("conv1", "maxpool", "stage2", "stage3"),
    32: ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
}
_HEAD = "fc."

EXACT = "exact"
PRECISIONS = {EXACT: torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# How many pixels the net sees in one pass, all copies together: 24 of 256² on a CPU, where more leave the cache and
# fewer leave the cores idle; 128 of 256² elsewhere, to bound the memory of a large batch.
PIXELS_A_PASS = {"cpu": 3 * 2**19}
PIXELS_A_PASS_ELSEWHERE = 2**23


class FeatureScorer:
    """Features of the image against features of its blurred copies (docs/reference.md section 3).

    Args:
        weights: `"imagenet"`, downloaded by torchvision at first use, or the path of a state dict of torchvision's
            ShuffleNetV2 x0.5, with or without its classifier. Ignored where `net` is given.
        net: any module that maps `[B, C, H, W]` to features `[B, D, h, w]`. It is copied: the scorer's copy stays
            frozen and in eval mode, and the caller's module is left as it is.
        stride: 32, 16 or 8: where the trunk is cut, and the map's resolution where `high_res_fraction` < 1.
        error: `"mse"`, the mean squared difference over the features, or `"cosine_distance"`, the negated cosine.
        high_res_fraction: the features are computed on images resized to this share of their size.
        precision: `"exact"` computes as the reference does. `"float32"` rounds in another order and is about twice as
            fast; `"bfloat16"` and `"float16"` are what the net computes in, are quicker still, and move boxes
            (docs/performance.md says how many; float16 is meant for CUDA and slow on most CPUs). The pixels are
            resized and the features compared in float32 all the same, and the saliency is float32.

    Raises:
        InputError: for an option out of range.
        WeightsError: where the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        weights: str | Path = "imagenet",
        *,
        net: nn.Module | None = None,
        stride: int = 32,
        error: ErrorName = "mse",
        high_res_fraction: float = 1.0,
        precision: str = EXACT,
    ) -> None:
        if stride not in STAGES:
            raise InputError(f"stride {stride} is none of {', '.join(map(str, STAGES))}")
        if error not in get_args(ErrorName):
            raise InputError(f"error {error!r} is none of {', '.join(get_args(ErrorName))}")
        if not 0 < high_res_fraction <= 1:
            raise InputError(f"high_res_fraction {high_res_fraction} is outside 0 < f ≤ 1")
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
        self.weights = str(weights) if net is None else "net"
        self.stride = stride
        self.error = error
        self.high_res_fraction = high_res_fraction
        self.precision = precision
        trunk = copy.deepcopy(net) if net is not None else shufflenet_trunk(stride, weights)
        trunk = trunk.float().eval().requires_grad_(False)
        self.weights_sha256 = weights_digest(trunk.state_dict())  # of the weights as they were given
        folded = net is None and precision != EXACT
        self._net = (fold_trunk(trunk) if folded else trunk).to(PRECISIONS[precision])
        self._channels = None if net is not None else 3
        self._layout = torch.channels_last if folded else torch.contiguous_format

    @torch.no_grad()
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        check_images(images, spec)
        if self._channels not in (None, images.shape[1]):
            raise InputError(
                f"the feature scorer's net takes {self._channels} channels, the images have {images.shape[1]}"
            )
        self._net.to(images.device)
        with full_precision(images.device):
            parts = [self._score(part, spec) for part in torch.split(images, self._images_a_pass(images, spec))]
        return [torch.cat(scores) for scores in zip(*parts, strict=True)]

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
        budget = PIXELS_A_PASS.get(images.device.type, PIXELS_A_PASS_ELSEWHERE)
        return max(1, budget // (height * width * spec.num_scales))

    def _score(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """The scores of a few images `[B, C, H, W]`."""
        pixels = as_floats(images).contiguous()  # torch resizes three channels quicker where they lie first
        copies = [pixels, *(resize(pixels, spec.height >> k, spec.width >> k) for k in range(1, spec.num_scales))]
        seen = [self._as_seen(copy, pixels) for copy in copies]  # S × [B, C, h', w']
        if self.precision == EXACT:
            sharp, *blurry = (self._features(copy) for copy in seen)  # each [B, D, h, w]
        else:
            sharp, *blurry = self._features(torch.cat(seen)).chunk(len(seen))
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
        features = self._net(seen.to(PRECISIONS[self.precision], memory_format=self._layout))
        if features.ndim != 4:
            raise InputError(f"the net must give features [B, D, h, w], it gave {list(features.shape)}")
        return features.float()


def _mse(blurry: Tensor, sharp: Tensor) -> Tensor:
    return (blurry - sharp).square().mean(dim=1)


def _cosine_distance(blurry: Tensor, sharp: Tensor) -> Tensor:
    # Near -1 the last digits decide: the channels are added in the reference's order, which is that of maps in memory.
    return -F.cosine_similarity(blurry.contiguous(), sharp.contiguous(), dim=1)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": _mse, "cosine_distance": _cosine_distance}


def shufflenet_trunk(stride: int, weights: str | Path) -> nn.Sequential:
    """torchvision's ShuffleNetV2 x0.5 up to this stride, with these weights.

    Raises:
        WeightsError: where torchvision does not import, or the weights cannot be had or do not fit.
    """
    try:
        from torchvision.models import shufflenet_v2_x0_5
    except (ImportError, RuntimeError) as problem:  # RuntimeError: built for another torch
        raise WeightsError(_torchvision_sentence(problem)) from problem
    net = shufflenet_v2_x0_5(weights=None)
    state = imagenet_state() if str(weights) == "imagenet" else read_state(Path(weights))
    _load_strictly(net, state, str(weights))
    return nn.Sequential(*(getattr(net, stage) for stage in STAGES[stride]))


def fold_trunk(trunk: nn.Module) -> nn.Sequential:
    """The same function as a `shufflenet_trunk` in eval mode, with fewer passes over the memory.

    Args:
        trunk: left as it is.

    Returns:
        A frozen net of its own, whose weights lie channels last.
    """
    from torchvision.models.shufflenetv2 import InvertedResidual

    parts: list[Any] = list(trunk.children())
    conv1, maxpool, *stages = parts
    conv, relu = _fold_norms(conv1)
    layers = [conv, maxpool, relu]  # rectify after the pooling: the same numbers, a quarter of the work
    for stage in stages:
        if isinstance(stage[0], InvertedResidual):
            layers += [_ShuffleUnit(block) for block in stage]
        else:
            layers += _fold_norms(stage)
    return nn.Sequential(*copy.deepcopy(layers)).to(memory_format=torch.channels_last).eval().requires_grad_(False)


class _ShuffleUnit(nn.Module):
    """One of torchvision's `InvertedResidual`, folded."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        # A block of stride 1 lets half of the channels pass; the others have two branches over all of them.
        self.kept = nn.Sequential(*_fold_norms(block.branch1)) if block.stride > 1 else None
        self.moved = nn.Sequential(*_fold_norms(block.branch2))

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            kept, moved = x.chunk(2, dim=1)
            return interleave(kept, self.moved(moved))
        return interleave(self.kept(x), self.moved(x))


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """The channels of the two in turn, `[B, D, h, w]` twice → `[B, 2 · D, h, w]`; they stay last in memory."""
    if first.device.type == "cpu":
        return F.channel_shuffle(torch.cat((first, second), dim=1), 2)
    return interleave_last(first, second)


def interleave_last(first: Tensor, second: Tensor) -> Tensor:
    """`interleave` where torch's own shuffle would bring the channels to the front: on any device but the CPU."""
    pairs = torch.stack((first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)), dim=-1)  # [B, h, w, D, 2]
    return pairs.flatten(3).permute(0, 3, 1, 2)


def _fold_norms(layers: Iterable[Any]) -> list[Any]:
    """The layers, each batch norm folded into the convolution before it."""
    folded: list[Any] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    return folded


def imagenet_state() -> Mapping[str, Tensor]:
    """torchvision's ImageNet weights: from its cache, or downloaded with a progress bar on stderr, digest checked."""
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    weights = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub announces the download on stdout, which is for data
            return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as problem:  # URLError is an OSError; a wrong digest is a RuntimeError
        raise WeightsError(
            f"the ImageNet weights could not be fetched from {weights.url} ({_first_line(problem)}): "
            "download that file elsewhere and give its path as weights (--weights FILE), or use a scorer "
            "that needs none (--scorer blur)"
        ) from problem


def read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file, loaded without running anything in it.

    Raises:
        WeightsError: where there is no such file or it is no state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file; give imagenet or the path of a state dict") from None
    except Exception as problem:  # torch.load raises half a dozen types, in paragraphs
        raise WeightsError(f"weights {path}: not a state dict that can be loaded safely") from problem
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"weights {path}: not a state dict (a mapping of names to tensors)")
    return state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, the same however the file around them was written."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_strictly(net: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Every trunk weight must be there and fit; a classifier may be there or not."""
    wanted = {key: value for key, value in net.state_dict().items() if not key.startswith(_HEAD)}
    given = {key: value for key, value in state.items() if not key.startswith(_HEAD)}
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    misshapen = sorted(key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape)
    for label, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen)):
        if keys:
            raise WeightsError(
                f"weights {name}: not a ShuffleNetV2 x0.5: "
                f"{len(keys)} of {len(wanted)} tensors {label}, first {keys[0]}"
            )
    net.load_state_dict(given, strict=False)


def _torchvision_sentence(problem: Exception) -> str:
    if isinstance(problem, ModuleNotFoundError) and problem.name == "torchvision":
        return "the feature scorer needs torchvision: pip install torch torchvision from one index"
    return (
        f"torchvision does not fit torch {torch.__version__} ({_first_line(problem)}): "
        "reinstall both from one index; the other scorers work without it"
    )


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
