"""Times the quadtrees against each other, and compares their results while it does. Returns rows; prints nothing.

**Fair.** All contenders get the same images and the same scorer. They run in turns: the time each is given is cut into
rounds, so that whatever else the machine does in the meantime hits all of them alike. Each repetition goes through the
three stages, *score*, *select* and *extract*, on new memory, as a user's does.

**Measured.** On a CPU by the wall clock; on CUDA by events on the current stream, after the device has become idle. The
numbers of a row are medians over its repetitions, with the quartiles as the spread. Warm-up runs come first and do
not count; nor do the comparisons, which follow each repetition.

**Peak memory** is how far the bytes of live tensors rise during one batch, in an extra run that is not timed. Images,
weights and whatever else was there before do not count; the tokens that come out do. On CUDA the caching allocator
tells. On a CPU it is the tensors that operations return, which leaves out what a kernel takes for itself while it
runs, Python's own objects (the `dict` quadtree's heap), and compiled code, which allocates behind our back.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quadtok.errors import InputError
from quadtok.patches import extract_patches
from quadtok.pixels import check_images
from quadtok.plan import Plan
from quadtok.quadtrees import get_quadtree
from quadtok.scorers import ScorerFunction
from quadtok.spec import Spec
from quadtok.tokens import Tokens

STAGES = ("score", "select", "extract")
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


@dataclass(frozen=True)
class Row:
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
        peak_bytes: see the module's first lines; None where it cannot be told.
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
        return _label(self.implementation, self.compiled)

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
    def stages(self) -> dict[str, float | None]:
        """Median seconds of each stage. They need not add up to the median of the sums."""
        if not self.times:
            return dict.fromkeys(STAGES)
        return dict(zip(STAGES, map(statistics.median, zip(*self.times, strict=True)), strict=True))

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
    referee = _Referee()
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

    def repeat_until(self, seconds: float, repetitions: int, referee: _Referee) -> None:
        """Repeat until as many seconds were timed, and as many repetitions, since the beginning."""
        while not (self._mismatch or self._failure):
            if len(self._times) >= repetitions and self._seconds >= seconds:
                return
            tokens, times = self._run()
            self._times.append(times)
            self._seconds += sum(times)
            self._mismatch = referee.objection(_label(self._name, self._compiled), tokens)

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
        clock = _clock(images.device)
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


class _Referee:
    """Holds the first result that it is shown; all others must equal it, bit for bit."""

    def __init__(self) -> None:
        self._first: tuple[str, Tokens] | None = None

    def objection(self, label: str, tokens: Tokens) -> str | None:
        """How these tokens differ from the first, in a sentence; None where they do not."""
        if self._first is None:
            self._first = label, tokens
        first_label, first = self._first
        difference = _difference(tokens, first)
        who = f"{label} and {first_label} disagree" if label != first_label else f"{label} disagrees with itself"
        return f"{who}: {difference}" if difference else None


def _difference(ours: Tokens, theirs: Tokens) -> str | None:
    """Where the first of two plans and their pixels differs from the second; None where it does not."""
    boxes, expected = _boxes(ours.plan), _boxes(theirs.plan)
    if boxes.shape != expected.shape:
        return f"plans for {_counts(boxes)} and for {_counts(expected)}"
    if not torch.equal(boxes, expected):
        image, token, _ = (boxes != expected).nonzero()[0].tolist()
        found, wanted = _box(boxes[image, token]), _box(expected[image, token])
        return f"token {token} of image {image} is {found}, not {wanted}"
    assert ours.patches is not None and theirs.patches is not None  # a contender always extracts
    if not torch.equal(ours.patches, theirs.patches):
        image, token = (ours.patches != theirs.patches).nonzero()[0, :2].tolist()
        return f"token {token} of image {image} has other pixels"
    return None


def _boxes(plan: Plan) -> Tensor:
    """`[B, N, 3]`: left, top, size."""
    return torch.stack([plan.left, plan.top, plan.size], dim=-1)


def _box(box: Tensor) -> str:
    left, top, size = box.tolist()
    return f"{size} px at ({left}, {top})"


def _counts(boxes: Tensor) -> str:
    return f"{boxes.shape[0]} images of {boxes.shape[1]} tokens"


class _CpuClock:
    """Wall-clock seconds between marks, the first of which is its birth."""

    def __init__(self) -> None:
        self._marks = [time.perf_counter()]

    def mark(self) -> None:
        """A stage ends here."""
        self._marks.append(time.perf_counter())

    def intervals(self) -> tuple[float, ...]:
        """Seconds between the marks."""
        return tuple(end - start for start, end in zip(self._marks, self._marks[1:], strict=False))


class _CudaClock:
    """The same by events on the device's current stream, which is idle at first. Waits only when it is read."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        torch.cuda.synchronize(device)
        self._marks: list[torch.cuda.Event] = []
        self.mark()

    def mark(self) -> None:
        """A stage ends here."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch does not annotate it
        event.record(self._stream)
        self._marks.append(event)

    def intervals(self) -> tuple[float, ...]:
        """Seconds between the marks."""
        self._marks[-1].synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return tuple(start.elapsed_time(end) / 1000 for start, end in pairs)


def _clock(device: torch.device) -> _CpuClock | _CudaClock:
    return _CudaClock(device) if device.type == "cuda" else _CpuClock()


def peak_bytes(run: Callable[[], object]) -> int:
    """How far the bytes of live CPU tensors rise while `run` runs, its result included; see the top of this file."""
    with _Allocations() as allocations:
        run()
    return allocations.peak


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Follows the bytes of the storages that operations return while they live; storages they are given are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.peak = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count what is new in its result."""
        for storage in _storages((args, kwargs)):
            self._count(storage, 0)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._count(storage, storage.nbytes())
        self.peak = max(self.peak, self._alive)
        return result

    def _count(self, storage: UntypedStorage, size: int) -> None:
        address = storage._cdata
        if address not in self._known:
            self._known.add(address)
            self._alive += size
            weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._alive -= size


def _storages(values: Any) -> list[UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _with_speedups(rows: list[Row]) -> list[Row]:
    slowest = max((row.median for row in rows if row.median), default=0.0)
    return [replace(row, speedup=slowest / row.median if row.median else None) for row in rows]


def _label(name: str, compiled: bool) -> str:
    return f"{name}, compiled" if compiled else name


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds * 1000)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)
