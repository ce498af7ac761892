"""Times the quadtrees against each other, and compares their results while it does. Returns rows; prints nothing.

**Fair.** All contenders get the same images and the same scorer. They run in turns: the time each is given is cut into
rounds, so that whatever else the machine does in the meantime hits all of them alike. Each repetition goes through the
three stages, *score*, *select* and *extract*, on new memory, as a user's does.

**Measured.** On a CPU by the wall clock; on CUDA by events on the current stream, after the device has become idle. The
numbers of a row are medians over its repetitions, with the quartiles as the spread. Warm-up runs come first and do
not count; nor do the comparisons, which follow each repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quadtok.bench.clocks import clock_of
from quadtok.bench.memory import peak_bytes
from quadtok.bench.referee import Referee
from quadtok.bench.rows import Row, label
from quadtok.errors import InputError
from quadtok.patches import extract_patches
from quadtok.pixels import check_images
from quadtok.plan import Plan
from quadtok.quadtrees import get_quadtree
from quadtok.scorers import ScorerFunction
from quadtok.spec import Spec
from quadtok.tokens import Tokens

MIN_REPETITIONS = 3
ROUNDS = 10


@dataclass(frozen=True)
class Workload:
    """What every contender is given.

    Attributes:
        images: `[B, C, H, W]`, floating or uint8, on the device to be timed.
        spec: the integers of the run, with two scales or more.
        scorer: the scorer's name, for the rows.
        score: the scorer itself.
    """

    images: Tensor
    spec: Spec
    scorer: str
    score: ScorerFunction


def time_quadtrees(
    workload: Workload,
    implementations: Sequence[str],
    *,
    compiled: bool = False,
    warmup: int = 3,
    min_time: float = 1.0,
) -> list[Row]:
    """Time quadtrees on one workload and compare each result with the first contender's.

    Args:
        workload: what they are given.
        implementations: names for `get_quadtree`; the others are compared with the first.
        compiled: also time each with `torch.compile` around quadtree and patch extraction, as one graph each. Clears
            what torch has compiled so far in this process.
        warmup: untimed runs of each before the clock starts, besides the one that measures memory.
        min_time: seconds that each is timed for, at least; never fewer than 3 repetitions.

    Returns:
        One row for each implementation, in their order, then one for each compiled. A row whose `mismatch` is set has
        found a bug: its quadtree chose other patches, or other pixels were read, than the first's.

    Raises:
        InputError: for an unknown name, images that do not fit the spec, or a spec that leaves nothing to choose.
    """
    check_images(workload.images, workload.spec)
    if not implementations:
        raise InputError("there is nothing to time: name at least one quadtree")
    if workload.spec.num_scales == 1:
        size = workload.spec.max_patch
        raise InputError(f"min_patch and max_patch are both {size}: nothing is to choose; use max_patch {2 * size}")
    if compiled:
        torch.compiler.reset()
    variants = [False, True] if compiled else [False]
    contenders = [_Contender(workload, name, variant) for variant in variants for name in implementations]
    referee = Referee()
    for contender in contenders:
        contender.prepare(warmup)
    for share in range(1, ROUNDS + 1):
        for contender in contenders:
            contender.repeat_until(min_time * share / ROUNDS, min(share, MIN_REPETITIONS), referee)
    return _with_speedups([contender.row() for contender in contenders])


def random_pixels(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """`[batch, 3, height, width]` uint8 noise on the CPU, the same for the same seed."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randint(256, (batch, 3, height, width), generator=generator, dtype=torch.uint8, device="cpu")


class _Contender:
    """A quadtree at work: its functions, and what was measured so far."""

    def __init__(self, workload: Workload, name: str, compiled: bool) -> None:
        self._workload = workload
        self._compiled = compiled
        self._name = name
        self._select: Callable[[Sequence[Tensor], Spec], Plan] = get_quadtree(name)
        self._extract: Callable[[Tensor, Plan], Tensor] = extract_patches
        self._times: list[tuple[float, ...]] = []
        self._seconds = 0.0
        self._peak_bytes: int | None = None
        self._compile_seconds: float | None = None
        self._mismatch: str | None = None
        self._failure: str | None = None

    def prepare(self, warmup: int) -> None:
        """What is not timed: compile, measure memory, warm up."""
        if self._compiled and not self._compile():
            return
        self._peak_bytes = self._measure_peak()
        for _ in range(warmup):
            self._run()

    def repeat_until(self, seconds: float, repetitions: int, referee: Referee) -> None:
        """Repeat until as many seconds were timed, and as many repetitions, since the beginning."""
        while not (self._mismatch or self._failure):
            if len(self._times) >= repetitions and self._seconds >= seconds:
                return
            tokens, times = self._run()
            self._times.append(times)
            self._seconds += sum(times)
            self._mismatch = referee.objection(label(self._name, self._compiled), tokens)

    def row(self) -> Row:
        """What was measured. A quadtree that is wrong has no time."""
        images = self._workload.images
        return Row(
            implementation=self._name,
            compiled=self._compiled,
            scorer=self._workload.scorer,
            device=str(images.device),
            dtype=str(images.dtype).removeprefix("torch."),
            batch=images.shape[0],
            spec=self._workload.spec,
            times=() if self._mismatch else tuple(self._times),
            peak_bytes=self._peak_bytes,
            compile_seconds=self._compile_seconds,
            mismatch=self._mismatch,
            failure=self._failure,
        )

    @torch.no_grad()
    def _run(self) -> tuple[Tokens, tuple[float, ...]]:
        """Once from images to patches; the tokens, and the seconds of the stages."""
        images, spec = self._workload.images, self._workload.spec
        clock = clock_of(images.device)
        saliency = self._workload.score(images, spec)
        clock.mark()
        plan = self._select(saliency, spec)
        clock.mark()
        patches = self._extract(images, plan)
        clock.mark()
        return Tokens(plan, patches), clock.intervals()

    def _compile(self) -> bool:
        """Compile by running once; False where torch will not, which is then noted."""
        try:
            self._select = torch.compile(self._select, fullgraph=True, dynamic=False)
            self._extract = torch.compile(self._extract, fullgraph=True, dynamic=False)
            self._compile_seconds = sum(self._run()[1][1:])
        except Exception as problem:  # from "no compiler here" to "this Python cannot be traced": many types, all fine
            self._failure = f"torch.compile failed for {self._name}: {_first_line(problem)}"
        return self._failure is None

    def _measure_peak(self) -> int | None:
        device = self._workload.images.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            self._run()
            return torch.cuda.max_memory_allocated(device) - before
        if self._compiled:
            return None
        return peak_bytes(self._run)


def _with_speedups(rows: list[Row]) -> list[Row]:
    slowest = max((row.median for row in rows if row.median), default=0.0)
    return [replace(row, speedup=slowest / row.median if row.median else None) for row in rows]


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)
