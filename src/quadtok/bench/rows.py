"""What comes out: one row for each quadtree on each workload."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from quadtok.spec import Spec

STAGES = ("score", "select", "extract")


class Timed:
    """What was run several times, in stages."""

    batch: int
    times: tuple[tuple[float, ...], ...]

    @property
    def median(self) -> float | None:
        """Seconds for a batch."""
        return statistics.median(map(sum, self.times)) if self.times else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """Seconds for a batch: half of the repetitions lie between these two."""
        if not self.times:
            return None
        lower, _, upper = statistics.quantiles(map(sum, self.times), n=4, method="inclusive")
        return lower, upper

    @property
    def images_per_second(self) -> float | None:
        """Images in a batch by its median time."""
        return self.batch / self.median if self.median else None

    @property
    def seconds(self) -> list[float]:
        """Medians of the stages; empty where nothing was timed."""
        return list(map(statistics.median, zip(*self.times, strict=True)))


@dataclass(frozen=True)
class Row(Timed):
    """One contender on one workload.

    Attributes:
        implementation: the quadtree's name.
        compiled: whether quadtree and patch extraction went through `torch.compile`; the scorer never does.
        scorer: its name.
        device: where the images lay.
        dtype: their type, such as `float32`.
        batch: how many they were.
        spec: the integers of the run.
        times: seconds of each repetition's stages (score, select, extract); empty where `mismatch` or `failure` is set.
        peak_bytes: see memory.py; None where it cannot be told.
        compile_seconds: what the first run of compiled code took beyond the scorer: compilation and that run itself.
        speedup: how many times as fast as the slowest contender of this workload.
        mismatch: how its result differs from the first contender's, in a sentence; then it is not timed.
        failure: why `torch.compile` would not have it, in a sentence.
    """

    implementation: str
    compiled: bool
    scorer: str
    device: str
    dtype: str
    batch: int
    spec: Spec
    times: tuple[tuple[float, ...], ...] = ()
    peak_bytes: int | None = None
    compile_seconds: float | None = None
    speedup: float | None = None
    mismatch: str | None = None
    failure: str | None = None

    @property
    def label(self) -> str:
        """The implementation, and whether it is compiled."""
        return label(self.implementation, self.compiled)

    @property
    def stages(self) -> dict[str, float | None]:
        """Median seconds of each stage. They need not add up to the median of the sums."""
        return dict(zip(STAGES, self.seconds, strict=True)) if self.times else dict.fromkeys(STAGES)

    def describe(self) -> dict[str, Any]:
        """The row as JSON values: flat, times in milliseconds."""
        lower, upper = self.quartiles or (None, None)
        return {
            "implementation": self.implementation,
            "compiled": self.compiled,
            "scorer": self.scorer,
            "device": self.device,
            "dtype": self.dtype,
            "batch": self.batch,
            "height": self.spec.height,
            "width": self.spec.width,
            "min_patch": self.spec.min_patch,
            "max_patch": self.spec.max_patch,
            "tokens": self.spec.num_tokens,
            "repetitions": len(self.times),
            "median_ms": _milliseconds(self.median),
            "lower_quartile_ms": _milliseconds(lower),
            "upper_quartile_ms": _milliseconds(upper),
            **{f"{stage}_ms": _milliseconds(seconds) for stage, seconds in self.stages.items()},
            "images_per_second": _rounded(self.images_per_second),
            "speedup": _rounded(self.speedup),
            "peak_bytes": self.peak_bytes,
            "compile_ms": _milliseconds(self.compile_seconds),
            "mismatch": self.mismatch,
            "failure": self.failure,
        }


@dataclass(frozen=True)
class ModelRow(Timed):
    """A ViT that reads one workload in one way.

    Attributes:
        way: what it reads: `"full grid"`, `"uniform grid"` or `"quadtree"`.
        model: its name.
        scorer: the scorer's.
        quadtree: the quadtree's.
        device: where the images lay.
        dtype: of its weights.
        batch: how many images.
        spec: the integers of the run.
        grid: (rows, columns) that it reads; None for the tokens of a plan.
        times: seconds of each repetition's stages (prepare, forward).
        flops: of each stage, for the batch.
        break_even: the most tokens at which the quadtree is no slower than the full grid; see model.py.
    """

    way: str
    model: str
    scorer: str
    quadtree: str
    device: str
    dtype: str
    batch: int
    spec: Spec
    grid: tuple[int, int] | None
    times: tuple[tuple[float, ...], ...]
    flops: tuple[int, int]
    break_even: int | None = None

    @property
    def tokens(self) -> int:
        """How many the model reads of an image, besides its own."""
        return self.grid[0] * self.grid[1] if self.grid else self.spec.num_tokens

    def describe(self) -> dict[str, Any]:
        """The row as JSON values: flat, times in milliseconds for a batch, FLOPs for an image."""
        lower, upper = self.quartiles or (None, None)
        prepare, forward = self.seconds
        return {
            "model": self.model,
            "reads": self.way,
            "tokens": self.tokens,
            "scorer": self.scorer,
            "quadtree": self.quadtree,
            "device": self.device,
            "dtype": self.dtype,
            "batch": self.batch,
            "height": self.spec.height,
            "width": self.spec.width,
            "min_patch": self.spec.min_patch,
            "max_patch": self.spec.max_patch,
            "repetitions": len(self.times),
            "median_ms": _milliseconds(self.median),
            "lower_quartile_ms": _milliseconds(lower),
            "upper_quartile_ms": _milliseconds(upper),
            "prepare_ms": _milliseconds(prepare),
            "forward_ms": _milliseconds(forward),
            "images_per_second": _rounded(self.images_per_second),
            "prepare_flops": self.flops[0] // self.batch,
            "forward_flops": self.flops[1] // self.batch,
            "break_even_tokens": self.break_even,
        }


def label(name: str, compiled: bool) -> str:
    """What a row is called."""
    return f"{name}, compiled" if compiled else name


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds * 1000)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
