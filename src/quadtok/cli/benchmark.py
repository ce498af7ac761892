"""The work of `quadtok bench`: images and scorers for every size and batch, and the rows that come of them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quadtok.bench import Row, Workload, random_pixels, time_quadtrees
from quadtok.cli.info import environment
from quadtok.cli.terminal import say
from quadtok.errors import InputError, as_ours
from quadtok.geometry import Geometry
from quadtok.images import MAX_PIXELS, read_bytes
from quadtok.jobs.preprocess import Reading
from quadtok.jobs.scoring import Scoring, make_scoring
from quadtok.jobs.sources import Source
from quadtok.pixels import normalize
from quadtok.scorers import ScorerFunction
from quadtok.spec import Spec


@dataclass(frozen=True)
class Case:
    """One table of the benchmark: one size, one batch size, one scorer."""

    geometry: Geometry
    batch: int
    scorer: str

    def __str__(self) -> str:
        """For who waits."""
        height, width = self.size
        return f"{self.scorer}, a batch of {self.batch}, {height}×{width}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        assert self.geometry.size is not None  # the command refuses native sizes
        return self.geometry.size


@dataclass(frozen=True)
class Benchmark:
    """What to time, and how.

    Attributes:
        implementations: names of quadtrees.
        geometries: sizes and budgets; no native sizes.
        batches: numbers of images.
        scorings: scorers by their names.
        sources: image files, repeated to fill a batch; none: random images.
        seed: of random images; for the random scorer, image i of a batch has the seed `seed + i`.
        dtype: of the images: float32, float16, bfloat16 or uint8.
        device: where they lie.
        compiled: see `time_quadtrees`.
        warmup: likewise.
        min_time: likewise.
    """

    implementations: Sequence[str]
    geometries: Sequence[Geometry]
    batches: Sequence[int]
    scorings: dict[str, Scoring]
    sources: Sequence[Source]
    seed: int
    dtype: str
    device: str
    compiled: bool
    warmup: int
    min_time: float

    def cases(self) -> list[Case]:
        """Every size with every batch size and every scorer."""
        return [Case(*facts) for facts in product(self.geometries, self.batches, self.scorings)]

    def rows(self, case: Case) -> list[Row]:
        """Time all quadtrees on one case.

        Raises:
            QuadtokError: for an image that cannot be read, or a batch that does not fit into memory.
        """
        try:
            workload = Workload(self._images(case), case.geometry.spec(*case.size), case.scorer, self._score(case))
            return time_quadtrees(
                workload,
                self.implementations,
                compiled=self.compiled,
                warmup=self.warmup,
                min_time=self.min_time,
            )
        except torch.OutOfMemoryError as problem:
            raise InputError(
                f"{case}: does not fit into the memory of {self.device}; use smaller --batch-sizes or --image-sizes"
            ) from problem

    def _images(self, case: Case) -> Tensor:
        """`[B, 3, H, W]` on the device: the different images there are, again and again."""
        count = max(self.batches)
        if self.sources:
            pixels = _read_pixels(tuple(self.sources[:count]), case.geometry)
        else:
            pixels = random_pixels(count, *case.size, self.seed)
        images = pixels[torch.arange(case.batch, device="cpu") % len(pixels)].to(self.device)
        return images if self.dtype == "uint8" else normalize(images).to(getattr(torch, self.dtype))

    def _score(self, case: Case) -> ScorerFunction:
        scoring, seeds = self.scorings[case.scorer], range(self.seed, self.seed + case.batch)

        def score(images: Tensor, spec: Spec) -> Sequence[Tensor]:
            return scoring.saliency(images, spec, seeds)  # only the random scorer looks at the seeds

        return score


@lru_cache(maxsize=1)
def _read_pixels(sources: tuple[Source, ...], geometry: Geometry) -> Tensor:
    """`[n, 3, H, W]` uint8; kept while the size stays."""
    reading = Reading(geometry, MAX_PIXELS, background="white", exif=True)
    return torch.stack([_pixels(source.path, reading) for source in sources])


def _pixels(path: Path, reading: Reading) -> Tensor:
    try:
        return reading.decode(read_bytes(path), path).fitted.pixels
    except Exception as problem:
        raise as_ours(problem, path) from problem


def make_scorings(
    names: Sequence[str], *, weights: str | None, seed: int, options: dict[str, Any]
) -> dict[str, Scoring]:
    """The scorers of these names; `weights` are the feature scorer's, `options` go to each."""
    return {
        name: make_scoring(
            name,
            weights=weights if name == "feature" else None,
            maps=None,
            seed=seed,
            options=options,
            sources=[],
            tell=say,
        )
        for name in names
    }


def machine(device: str) -> dict[str, Any]:
    """The environment, and what the numbers were measured on."""
    return {**environment(), "processor": _processor(device)}


def _processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' * (threads > 1)}"
