"""The default scorer: where an image shows a thing, times the detail that a token would lose there.

One small net sees a view of the image, once; no blurred copy goes through it. So it is several times as fast as the
feature scorer, and its tokens resolve more of what a classifier looks at (docs/object-scorer.md has figures).
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import WeightsError
from quadtok.names import FEATURE_WEIGHTS
from quadtok.pixels import as_floats
from quadtok.precision import exact_products, full_precision
from quadtok.scorers.base import score_in_parts
from quadtok.scorers.blur import BlurScorer
from quadtok.scorers.nets import (
    NetScorer,
    build_net,
    chosen,
    device_of,
    made_where_torch_lets,
    name_of_weights,
    read_state,
    weights_digest,
)
from quadtok.scorers.object.net import ImportanceNet, log_saliency, seen, view_size
from quadtok.spec import Spec
from quadtok.tracing import without_gradients

BUNDLED = "bundled"
BUNDLED_FILE = resources.files("quadtok.scorers.object") / "importance_net.pt"
CHANNELS = 3
VIEWS = (1, 2)
FLOAT32 = "float32"
PRECISIONS = {FLOAT32: torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Pixels of the images that are scored at a time, where those of their views count four times: 8 of 256² on a CPU, where
# more leave the cache; elsewhere as many as bound the memory of a large batch.
PIXELS_A_PASS = {"cpu": 2**19}
PIXELS_A_PASS_ELSEWHERE = 2**24


class ObjectScorer(NetScorer):
    """Saliency of a patch: how much it shows of a thing, times a power of the detail that it would lose.

    Args:
        weights: `"bundled"`, which come with quadtok (docs/object-scorer.md), or the path of a state dict of
            `ImportanceNet`.
        views: 1, or 2: the mean of the image and its mirror image, so that a mirrored image gets mirrored scores to
            the last digits but few, for nearly twice the time.
        precision: what the net computes in: `"float32"`, or `"bfloat16"` and `"float16"`, which are quicker where the
            machine has them, and move a few boxes. All else is float32.

    Takes RGB images of any size from one root patch up. A scorer is on the CPU; `to` gives one that is elsewhere.
    Nothing of a scorer changes when it scores, so threads may share it.

    Attributes:
        weights: their name or path.
        weights_sha256: of their names and values.

    Raises:
        InputError: for an option out of range.
        WeightsError: where the weights cannot be had or do not fit.
    """

    kind = "object"
    _net: ImportanceNet

    def __init__(self, weights: str | Path = BUNDLED, *, views: int = 1, precision: str = FLOAT32) -> None:
        self.weights = name_of_weights(weights)
        self.views = chosen("views", views, VIEWS)
        self.precision = chosen("precision", precision, PRECISIONS)
        with made_where_torch_lets("an object scorer"):
            whole = _loaded(self.weights)
            self.weights_sha256 = weights_digest(whole.state_dict())
            for part in (whole.stem, whole.stages, whole.head):
                part.to(dtype=PRECISIONS[self.precision]).to(memory_format=torch.channels_last)
        self._net = whole
        self._channels = CHANNELS
        self.device = device_of(self._net)

    @without_gradients
    def __call__(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """Score the images; see `Scorer`."""
        self._check(images, spec)
        budget = PIXELS_A_PASS.get(images.device.type, PIXELS_A_PASS_ELSEWHERE)
        size = budget // max(spec.height * spec.width, 4 * math.prod(view_size(spec.height, spec.width)))
        with full_precision(images.device), exact_products(images.device):
            return score_in_parts(lambda part: self._score(as_floats(part).contiguous(), spec), images, size)

    def describe(self) -> dict[str, Any]:
        """Name, options, and the digest of the weights; the precision where it is not float32."""
        facts = {
            "name": self.kind,
            "weights": Path(self.weights).name,
            "weights_sha256": self.weights_sha256,
            "views": self.views,
        }
        return facts if self.precision == FLOAT32 else facts | {"precision": self.precision}

    def _score(self, images: Tensor, spec: Spec) -> list[Tensor]:
        """The scores of a few images `[B, 3, H, W]`."""
        view, spread = seen(images, *view_size(spec.height, spec.width))
        maps = self._maps(view)
        if self.views == 2:
            maps = (maps + self._maps(view.flip(-1)).flip(-1)) / 2
        details = [lost / spread[:, None, None] for lost in BlurScorer()(images, spec)]
        return [kinds.mean(1).exp() for kinds in log_saliency(maps, details, self._net.power, self._net.step)]

    def _maps(self, view: Tensor) -> Tensor:
        maps: Tensor = self._net(view.to(PRECISIONS[self.precision]))
        return maps.float()


def _loaded(weights: str) -> ImportanceNet:
    if weights == BUNDLED:
        with resources.as_file(BUNDLED_FILE) as path:
            state = read_state(path)
    elif weights in FEATURE_WEIGHTS:
        raise WeightsError(f"weights {weights} are the feature scorer's: give {BUNDLED} or the path of a state dict")
    else:
        state = read_state(Path(weights))
    return build_net(ImportanceNet, state, weights, "an ImportanceNet").eval()
