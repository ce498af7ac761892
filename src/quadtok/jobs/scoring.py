"""Scorers as jobs use them: what each image brings along, how a batch is scored, what is recorded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.jobs.map_scoring import MapScoring
from quadtok.jobs.own_scorer import description_of, imported
from quadtok.jobs.points import Box, PointScoring
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import DEFAULT_SEED, WITHOUT_OPTIONS
from quadtok.own_code import ours_only
from quadtok.scorers import SCORERS, ScorerFunction, get_scorer, on_device
from quadtok.scorers.feature import FeatureScorer
from quadtok.scorers.nets import NetScorer
from quadtok.spec import Spec


class Scoring(Protocol):
    """A scorer and what it needs to know of each image. Nothing of it changes when it scores."""

    @property
    def name(self) -> str:
        """What the scorer is called."""

    @property
    def in_parallel(self) -> bool:
        """Whether several threads may score at once. Not with a user's own scorer, which may keep what it likes."""

    @property
    def common(self) -> dict[str, Any]:
        """The scorer as JSON values, without what each image brings along."""

    def prepare(self, source: Source, num_scales: int) -> Any:
        """What this image brings along (a seed, a map); fails for this image alone."""

    def place(self, extra: Any, frame: Box) -> Any:
        """What the image brings along, once it is fitted: `frame` is what of the upright photograph is scored.

        Args:
            extra: what `prepare` gave.
            frame: (left, top, right, bottom) in pixels of the photograph; see `Fitted.crop_box`.
        """

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch; the extras are placed."""

    def describe(self, extra: Any) -> dict[str, Any]:
        """The scorer as JSON values, as it was for one image."""


@dataclass(frozen=True)
class SharedScoring:
    """One scorer for all images, which bring nothing along.

    Attributes:
        scorer: on the device of the images.
        name: what it is called.
        description: what is recorded of it, as JSON values.
        is_own: whether it is a user's.
    """

    scorer: ScorerFunction
    name: str
    description: dict[str, Any]
    is_own: bool

    @classmethod
    def of(cls, scorer: ScorerFunction, name: str, device: str, is_own: bool) -> SharedScoring:
        """A scorer of quadtok's or of a user's.

        Raises:
            InputError: where a user's scorer does not describe itself as JSON values.
        """
        return cls(on_device(scorer, torch.device(device)), name, description_of(scorer, name), is_own)

    @property
    def in_parallel(self) -> bool:
        """See `Scoring`."""
        return not self.is_own

    @property
    def common(self) -> dict[str, Any]:
        """The scorer's own description."""
        return self.description

    def prepare(self, source: Source, num_scales: int) -> None:
        """Nothing is brought along."""

    def place(self, extra: Any, frame: Box) -> None:
        """Nor placed."""

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch; whatever a user's scorer raises becomes one sentence."""
        if not self.is_own:
            return self.scorer(images, spec)
        before = images.clone()  # a user's own may write to them through `images.numpy()`, which leaves no trace
        with ours_only(f"scorer {self.name} failed"):
            saliency = self.scorer(images, spec)
        if not torch.equal(images, before):
            raise InputError(f"scorer {self.name} changed the images that it was given: it must work on a copy")
        return saliency

    def describe(self, extra: Any) -> dict[str, Any]:
        """The scorer's own description."""
        return self.description


@dataclass(frozen=True)
class RandomScoring:
    """Each image's seed is a hash of one seed and its relative name: no other image and no order plays a part."""

    seed: int
    in_parallel: bool = True
    name: str = "random"

    @property
    def common(self) -> dict[str, Any]:
        """Name and seed."""
        return {"name": "random", "seed": self.seed}

    def prepare(self, source: Source, num_scales: int) -> int:
        """The image's own 63-bit seed."""
        name = os.fsencode(source.relative.as_posix())
        digest = hashlib.sha256(f"{self.seed}/".encode() + name).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def place(self, extra: int, frame: Box) -> int:
        """A seed is the same everywhere."""
        return extra

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch, each image by its seed."""
        return get_scorer("random", seed=list(extras))(images, spec)

    def describe(self, extra: Any) -> dict[str, Any]:
        """Name, seed, and the image's own seed."""
        return {"name": "random", "seed": self.seed, "image_seed": extra}


def make_scoring(
    name: str,
    *,
    maps: Path | None = None,
    points: Path | None = None,
    seed: int = DEFAULT_SEED,
    options: Mapping[str, Any] | None = None,
    sources: Sequence[Source] = (),
    device: str = "cpu",
    tell: Callable[[str], None] = lambda message: None,
    words: Words = ARGUMENTS,
) -> Scoring:
    """The scoring of this name: one of quadtok's, or `module:attribute` for a user's own.

    Args:
        name: of the scorer.
        maps: a file or folder, for precomputed.
        points: a file, for point; see `PointScoring`.
        seed: for random.
        options: of the scorer.
        sources: the inputs, in the order of the rows of a file of maps.
        device: where the images will lie.
        tell: hears which weights were loaded, if any.
        words: what sentences call these.

    Raises:
        QuadtokError: for what does not fit together, and whatever loading the scorer raises.
    """
    if (name == "precomputed") != (maps is not None):
        raise InputError(f"{words.maps} and {words.precomputed} go together: give both")
    if (name == "point") != (points is not None):
        raise InputError(f"{words.points} and {words.point} go together: give both")
    chosen = dict(options or {})
    if name in WITHOUT_OPTIONS and chosen:
        raise InputError(f"the {name} scorer has no options, and was given {', '.join(chosen)}")
    if name == "random":
        return RandomScoring(seed)
    if maps is not None:
        return MapScoring.of(maps, sources, words)
    if points is not None:
        return PointScoring.of(points, words)
    if ":" in name:
        return SharedScoring.of(imported(name, chosen), name, device, is_own=True)
    scorer = get_scorer(name, **chosen)
    if isinstance(scorer, NetScorer):
        tell(f"{scorer.kind} scorer: weights {scorer.weights}, sha256 {scorer.weights_sha256[:12]}…")
    return SharedScoring.of(scorer, name, device, is_own=False)


def scoring_of(scorer: ScorerFunction, device: str = "cpu") -> Scoring:
    """The scoring by a scorer that is there already: quadtok's, or any function (images, spec) → saliency.

    Raises:
        InputError: where it is none, or does not describe itself as JSON values.
    """
    if not callable(scorer):
        raise InputError(f"scorer {scorer!r} is neither a name nor a function of (images, spec)")
    if type(scorer) in SCORERS.values():
        # A net of the user's may keep what it likes, too: hooks that leave features in an attribute often do.
        is_own = isinstance(scorer, FeatureScorer) and scorer.has_own_net
        return SharedScoring.of(scorer, description_of(scorer, "")["name"], device, is_own)
    name = getattr(scorer, "__qualname__", type(scorer).__qualname__)
    module = getattr(scorer, "__module__", type(scorer).__module__)
    return SharedScoring.of(scorer, f"{module}:{name}", device, is_own=True)
