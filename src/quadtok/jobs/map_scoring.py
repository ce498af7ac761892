"""Scoring by importance maps that lie in files: a folder that mirrors the inputs, or one file for all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadtok.errors import InputError
from quadtok.jobs.points import Box
from quadtok.jobs.sources import Source, map_in
from quadtok.jobs.tensors import load_map
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.scorers import get_scorer
from quadtok.spec import Spec


@dataclass(frozen=True)
class MapScoring:
    """Each image brings its importance map: from a folder that mirrors the inputs, or its row of one file.

    Attributes:
        path: the file or folder.
        rows: which row of the one file is an input's.
        maps: what the one file holds; None for a folder.
    """

    path: Path
    rows: Mapping[Source, int]
    maps: Tensor | list[Tensor] | None
    in_parallel: bool = True
    name: str = "precomputed"

    @classmethod
    def of(cls, path: Path, sources: Sequence[Source], words: Words = ARGUMENTS) -> MapScoring:
        """The maps in a file or folder.

        Raises:
            InputError: where one file for all does not hold maps, or not as many as there are inputs.
        """
        what = f"{words.maps} {path}"
        maps = None if path.is_dir() else load_map(path, what)
        first = maps
        if isinstance(maps, Tensor) and maps.ndim > 2:
            if len(maps) != len(sources):
                raise InputError(f"{what} holds maps for {len(maps)} images and there are {len(sources)} inputs")
            first = maps[0] if len(maps) else maps
        if first is not None:
            _entries(first, what)
        return cls(path, {source: row for row, source in enumerate(sources)}, maps)

    @property
    def common(self) -> dict[str, Any]:
        """The name."""
        return {"name": "precomputed"}

    def prepare(self, source: Source, num_scales: int) -> list[Tensor]:
        """One map `[1, h, w]` a splittable scale, checked for shape and NaN."""
        path = self.path
        if self.maps is None:
            path = map_in(self.path, source)
            maps = load_map(path, f"{source.path}: map {path}")
        elif isinstance(self.maps, Tensor) and self.maps.ndim > 2:
            maps = self.maps[self.rows[source]]
        else:
            maps = self.maps
        return _one_a_scale(maps, num_scales - 1, f"{source.path}: map {path}")

    def place(self, extra: list[Tensor], frame: Box) -> list[Tensor]:
        """Maps are of the fitted image."""
        return extra

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
