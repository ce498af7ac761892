"""Scorers as the command line uses them: what each image brings along, how a batch is scored, what is recorded."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from quadtok.errors import InputError, QuadtokError, described
from quadtok.jobs.sources import Source
from quadtok.jobs.tensors import load_tensors
from quadtok.scorers import ScorerFunction, get_scorer, on_device
from quadtok.scorers.feature import FeatureScorer
from quadtok.spec import Spec


class Scoring(Protocol):
    """A scorer and what it needs to know of each image."""

    def prepare(self, source: Source, num_scales: int) -> Any:
        """What this image brings along (a seed, a map); fails for this image alone."""

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch."""

    def describe(self, extra: Any) -> dict[str, Any]:
        """The scorer as JSON values, as it was for one image."""


class SharedScoring:
    """One scorer for all images, which bring nothing along.

    Raises:
        InputError: where a user's scorer does not describe itself as JSON values.
    """

    def __init__(self, scorer: ScorerFunction, name: str) -> None:
        self._scorer = scorer
        self._name = name
        self._description = _description(scorer, name)

    def prepare(self, source: Source, num_scales: int) -> None:
        """Nothing."""

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch; whatever a user's scorer raises becomes one sentence."""
        self._scorer = on_device(self._scorer, images.device)  # once: all batches lie on one device
        # A user's own may write to them through `images.numpy()`, which leaves no trace but the numbers.
        before = images.clone() if ":" in self._name else None
        with ours_only(f"scorer {self._name} failed"):
            saliency = self._scorer(images, spec)
        if before is not None and not torch.equal(images, before):
            raise InputError(f"scorer {self._name} changed the images that it was given: it must work on a copy")
        return saliency

    def describe(self, extra: Any) -> dict[str, Any]:
        """The scorer's own description."""
        return self._description


@contextmanager
def ours_only(doing: str) -> Iterator[None]:
    """Somebody else's code runs in the block: whatever it raises, `SystemExit` included, becomes one sentence.

    What it prints goes to stderr.
    """
    try:
        with _stdout_kept_for_data():
            yield
    except (QuadtokError, KeyboardInterrupt):
        raise
    except BaseException as problem:
        raise InputError(f"{doing}: {described(problem)}") from problem


@contextmanager
def _stdout_kept_for_data() -> Iterator[None]:
    """Somebody else's code runs in the block: what it prints goes to stderr, so that stdout holds our lines alone."""
    with redirect_stdout(sys.stderr), ExitStack() as undo:
        with suppress(OSError):  # and so for what does not print through Python
            kept = os.dup(1)
            undo.callback(os.close, kept)
            os.dup2(2, 1)
            undo.callback(os.dup2, kept, 1)
        yield


def _description(scorer: ScorerFunction, name: str) -> dict[str, Any]:
    """What a scorer says of itself, or its name."""
    describe: Callable[[], dict[str, Any]] | None = getattr(scorer, "describe", None)
    if describe is None:
        return {"name": name}
    with ours_only(f"scorer {name} cannot describe itself"):
        found = describe()
        json.dumps(found, allow_nan=False)
    if not isinstance(found, dict):
        raise InputError(f"scorer {name} describes itself with a {type(found).__name__}: it must be a dict")
    return {"name": name, **found}


class RandomScoring:
    """Each image's seed is a hash of `--seed` and its relative name: no other image and no order plays a part."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def prepare(self, source: Source, num_scales: int) -> int:
        """The image's own 63-bit seed."""
        name = os.fsencode(source.relative.as_posix())
        digest = hashlib.sha256(f"{self._seed}/".encode() + name).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch, each image by its seed."""
        return get_scorer("random", seed=list(extras))(images, spec)

    def describe(self, extra: Any) -> dict[str, Any]:
        """Name, `--seed`, and the image's own seed."""
        return {"name": "random", "seed": self._seed, "image_seed": extra}


class MapScoring:
    """Each image brings its importance map: from a folder that mirrors the inputs, or its row of one file.

    Raises:
        InputError: where one file for all does not hold maps, or not as many as there are inputs.
    """

    def __init__(self, maps: Path, sources: Sequence[Source]) -> None:
        self._path = maps
        self._row = {source: row for row, source in enumerate(sources)}
        self._all = None if maps.is_dir() else load_tensors(maps, f"--maps {maps}")
        if isinstance(self._all, Tensor) and self._all.ndim > 2 and len(self._all) != len(sources):
            raise InputError(
                f"--maps {maps} holds maps for {len(self._all)} images and there are {len(sources)} inputs"
            )
        if self._all is not None:
            rows = isinstance(self._all, Tensor) and self._all.ndim > 2
            _entries(self._all[0] if rows and len(self._all) else self._all, f"--maps {maps}")

    def prepare(self, source: Source, num_scales: int) -> list[Tensor]:
        """One map `[1, h, w]` a splittable scale, checked for shape and NaN."""
        path = self._path
        if self._all is None:
            path = self._path / source.relative.with_suffix(".pt")
            maps = load_tensors(path, f"{source.path}: map {path}")
        elif isinstance(self._all, Tensor) and self._all.ndim > 2:
            maps = self._all[self._row[source]]
        else:
            maps = self._all
        return _one_a_scale(maps, num_scales - 1, f"{source.path}: map {path}")

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Pool each image's maps, which may differ in size."""
        scored = [get_scorer("precomputed", maps=maps)(images[row : row + 1], spec) for row, maps in enumerate(extras)]
        return [torch.cat(scores) for scores in zip(*scored, strict=True)]

    def describe(self, extra: Any) -> dict[str, Any]:
        """Name, and a digest of the image's maps."""
        digest = hashlib.sha256()
        for entry in extra:
            digest.update(f"{list(entry.shape)}".encode() + entry.numpy().tobytes())
        return {"name": "precomputed", "maps_sha256": digest.hexdigest()}


def make_scoring(
    name: str,
    *,
    weights: str | None,
    maps: Path | None,
    seed: int,
    options: dict[str, Any],
    sources: Sequence[Source],
    tell: Callable[[str], None],
) -> Scoring:
    """The scoring that the flags ask for; `name` is one of quadtok's, or `module:attribute` for a user's own.

    `tell` hears which weights were loaded, if any.

    Raises:
        QuadtokError: for flags that do not fit together, and whatever loading the scorer raises.
    """
    if (name == "precomputed") != (maps is not None):
        raise InputError("--maps and --scorer precomputed go together: give both")
    if name == "random":
        return RandomScoring(seed)
    if maps is not None:
        return MapScoring(maps, sources)
    if ":" in name:
        return SharedScoring(_imported(name, options), name)
    if name == "feature" and weights is not None:
        options = {"weights": weights, **options}
    scorer = get_scorer(name, **options)
    if isinstance(scorer, FeatureScorer):
        tell(f"feature scorer: weights {scorer.weights}, sha256 {scorer.weights_sha256[:12]}…")
    return SharedScoring(scorer, name)


def _imported(name: str, options: dict[str, Any]) -> ScorerFunction:
    """A user's scorer: a function (images, spec) → saliency, or a class that makes one from the options."""
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does: a scorer of one's own lies in the working folder
    try:
        with ours_only(f"scorer {name} cannot be loaded"):
            found = getattr(importlib.import_module(module_name), attribute)
            scorer = found(**options) if isinstance(found, type) or options else found
    finally:
        with suppress(ValueError):  # the module may have changed the list itself
            sys.path.remove(here)
    if not callable(scorer):
        raise InputError(f"scorer {name} is no function of (images, spec)")
    return scorer


def _one_a_scale(maps: Tensor | list[Tensor], num_scales: int, where: str) -> list[Tensor]:
    """`[h, w]`, `[1, h, w]`, `[K, h, w]` or a list of K `[h, w]` → K tensors `[1, h, w]`."""
    entries = _entries(maps, where)
    if len(entries) == 1:
        entries *= num_scales
    if len(entries) != num_scales:
        raise InputError(f"{where}: holds {len(entries)} scales, {num_scales} can be split")
    floats = [entry.float() for entry in entries]
    if any(bool(entry.isnan().any()) for entry in floats):
        raise InputError(f"{where}: holds NaN")
    return [entry[None] for entry in floats]


def _entries(maps: Tensor | list[Tensor], where: str) -> list[Tensor]:
    """The maps `[h, w]` of one image."""
    entries = list(maps) if isinstance(maps, list) or maps.ndim == 3 else [maps]
    if not entries or not all(entry.ndim == 2 and entry.numel() for entry in entries):
        shapes = [list(entry.shape) for entry in entries] if isinstance(maps, list) else list(maps.shape)
        raise InputError(f"{where}: must be [h, w], or [K, h, w] with one map a scale; it is {shapes}")
    if any(entry.is_complex() for entry in entries):
        raise InputError(f"{where}: holds complex numbers, which have no order; save .abs() or .real of them")
    return entries
