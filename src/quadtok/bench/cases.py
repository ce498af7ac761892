"""What a benchmark times: scorers and images for every size and batch, and the rows that come of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from quadtok.bench.model import time_model
from quadtok.bench.rows import ModelRow, Row
from quadtok.bench.timing import Workload, random_pixels, time_quadtrees
from quadtok.errors import InputError, as_ours
from quadtok.geometry import Geometry
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sources import Source
from quadtok.names import DEFAULT_QUADTREE, QuadtreeName
from quadtok.pixels import normalize
from quadtok.preprocess import Preprocess
from quadtok.scorers import ScorerFunction
from quadtok.spec import Spec


@dataclass(frozen=True)
class Case:
    """One table of the benchmark: one size, one batch size, one scorer.

    Attributes:
        geometry: the size, and how many tokens of which.
        batch: the number of images.
        scorer: its name.
        pixels: `[n, 3, H, W]` uint8, the different images there are, repeated to fill the batch.
    """

    geometry: Geometry
    batch: int
    scorer: str
    pixels: Tensor

    def __str__(self) -> str:
        """For who waits."""
        height, width = self.size
        return f"{self.scorer}, a batch of {self.batch}, {height}×{width}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return _size(self.geometry)


@dataclass(frozen=True)
class Benchmark:
    """What to time, and how.

    Attributes:
        implementations: names of quadtrees.
        sizes: how images are read, for each size and budget; no native sizes.
        batches: numbers of images.
        scorings: scorers by their names.
        sources: image files, repeated to fill a batch; none: random images.
        seed: of random images; for the random scorer, image i of a batch has the seed `seed + i`.
        dtype: of the images: float32, float16, bfloat16 or uint8.
        device: where they lie.
        compiled: see `time_quadtrees`.
        warmup: likewise.
        min_time: likewise.
        model: a ViT to time, too; see `time_model`.
    """

    implementations: Sequence[QuadtreeName]
    sizes: Sequence[Preprocess]
    batches: Sequence[int]
    scorings: dict[str, Scoring]
    sources: Sequence[Source]
    seed: int
    dtype: str
    device: str
    compiled: bool
    warmup: int
    min_time: float
    model: str | None = None

    def cases(self) -> Iterator[Case]:
        """Every size with every batch size and every scorer; the images of a size are read once, when it is its turn.

        Raises:
            QuadtokError: for an image that cannot be read.
        """
        for preprocess in self.sizes:
            pixels = self._pixels(preprocess)
            for batch, scorer in product(self.batches, self.scorings):
                yield Case(preprocess.geometry, batch, scorer, pixels)

    def workload(self, case: Case) -> Workload:
        """What every quadtree is given: the images on the device, in the type to time."""
        images = self._bytes(case)
        if self.dtype != "uint8":
            images = normalize(images).to(getattr(torch, self.dtype))
        return Workload(images, case.geometry.spec(*case.size), case.scorer, self._score(case))

    def rows(self, case: Case) -> list[Row]:
        """Time all quadtrees on one case.

        Raises:
            QuadtokError: for a batch that does not fit into memory, and whatever a scorer raises.
        """
        with self._in_memory(case):
            return time_quadtrees(
                self.workload(case),
                self.implementations,
                compiled=self.compiled,
                warmup=self.warmup,
                min_time=self.min_time,
            )

    def model_rows(self, case: Case) -> list[ModelRow]:
        """Time the model on one case, from bytes on; none where there is no model.

        Raises:
            QuadtokError: as above, and for a model that cannot be made or adapted.
        """
        if self.model is None:
            return []
        quadtree = DEFAULT_QUADTREE if DEFAULT_QUADTREE in self.implementations else self.implementations[0]
        weights = torch.float32 if self.dtype == "uint8" else getattr(torch, self.dtype)
        with self._in_memory(case):
            workload = Workload(self._bytes(case), case.geometry.spec(*case.size), case.scorer, self._score(case))
            return time_model(workload, self.model, quadtree, dtype=weights, warmup=self.warmup, min_time=self.min_time)

    @contextmanager
    def _in_memory(self, case: Case) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as problem:
            raise InputError(
                f"{case}: does not fit into the memory of {self.device}; use smaller batches or images"
            ) from problem

    def _bytes(self, case: Case) -> Tensor:
        """`[B, 3, H, W]` uint8 on the device."""
        return case.pixels[torch.arange(case.batch, device="cpu") % len(case.pixels)].to(self.device)

    def _pixels(self, preprocess: Preprocess) -> Tensor:
        """As many different images as the largest batch takes, or as there are."""
        count = max(self.batches)
        if not self.sources:
            return random_pixels(count, *_size(preprocess.geometry), self.seed)
        return torch.stack([_read(source, preprocess) for source in self.sources[:count]])

    def _score(self, case: Case) -> ScorerFunction:
        scoring, seeds = self.scorings[case.scorer], range(self.seed, self.seed + case.batch)

        def score(images: Tensor, spec: Spec) -> Sequence[Tensor]:
            return scoring.saliency(images, spec, seeds)  # only the random scorer looks at the seeds

        return score


def _size(geometry: Geometry) -> tuple[int, int]:
    if geometry.size is None:
        raise InputError("the images of a batch have one size: native sizes cannot be timed")
    return geometry.size


def _read(source: Source, preprocess: Preprocess) -> Tensor:
    """`[3, H, W]` uint8."""
    try:
        return preprocess.decode(source.read(), source.path).fitted.pixels
    except Exception as problem:
        raise as_ours(problem, source.path) from problem
