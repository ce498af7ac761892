"""What the benchmarks share: fair timing, tables in Markdown, and the reference's way of doing things, plainly.

They run on the GPU where there is one, else on the CPU. On a GPU a time is that of many calls from the first to the end
of the last, by the number of calls: what a loop would see that never waits, launches included.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from quadtok import Plan, Spec, get_quadtree, get_scorer
from quadtok.bench.memory import peak_of_all

ROUNDS = 9
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# What selection, gathering and the blur scorer are timed on: images and their spec.
WORKS = [
    (128, Spec(256, 256, 16, 64, 100)),
    (8, Spec(1024, 1024, 16, 64, 1024)),
    (1, Spec(1024, 1024, 16, 128, 1024)),
    (1, Spec(256, 256, 16, 64, 100)),
]


def interleaved(
    contenders: dict[str, Callable[[], object]], rounds: int = ROUNDS, seconds: float = 0.2
) -> dict[str, float]:
    """Median milliseconds of each contender. They run in turns, so that whatever disturbs hits all alike."""
    repetitions = {}
    for name, run in contenders.items():
        _seconds(run, 1)
        repetitions[name] = max(1, int(seconds / (_seconds(run, 1) + 1e-9) / rounds))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(_seconds(run, repetitions[name]) / repetitions[name] * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def _seconds(run: Callable[[], object], repetitions: int) -> float:
    begin = time.perf_counter()
    for _ in range(repetitions):
        run()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_memory(run: Callable[[], object]) -> int:
    """How far memory rises while `run` runs, its result included: the GPU's, or the CPU's with numpy's arrays."""
    if DEVICE.type == "cpu":
        return peak_of_all(run)
    run()  # what is made on first use does not count
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def print_table(title: str, heading: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table under a heading."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(heading) + " |\n|" + "---|" * len(heading))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


def print_machine() -> None:
    """Where the figures come from."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} torch threads, {gpu}; {versions}")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def ms(milliseconds: float) -> str:
    """Three significant digits."""
    return f"{milliseconds:.3g} ms"


def work_name(batch: int, spec: Spec) -> str:
    """How many images, their size, and the sizes and the number of tokens."""
    return f"{batch} × {spec.height}², {spec.min_patch}–{spec.max_patch}, {spec.num_tokens} tokens"


def times(slow: float, fast: float) -> str:
    """A ratio."""
    return f"{slow / fast:.1f}×"


def random_saliency(batch: int, spec: Spec) -> list[Tensor]:
    """Each image with a seed of its own."""
    empty = torch.empty(batch, 1, spec.height, spec.width, device=DEVICE)
    return list(get_scorer("random", seed=list(range(batch)))(empty, spec))


def plain_tokens(images: Tensor, saliency: list[Tensor], spec: Spec) -> tuple[Plan, Tensor]:
    """Saliency to tokens as docs/reference.md describes the reference: all patches of all scales first, then a choice.

    Selection is quadtok's own `zcurve`: one step a split. The patches come in raster order, scale by scale.
    """
    plan = get_quadtree("zcurve")(saliency, spec)
    size, channels = spec.min_patch, images.shape[1]
    patches, chosen = [], []
    for scale in range(spec.num_scales):
        rows, cols = spec.grid(scale)
        small = F.interpolate(images, size=(rows * size, cols * size), mode="bilinear") if scale else images
        cut = small.view(-1, channels, rows, size, cols, size).permute(0, 2, 4, 1, 3, 5)
        patches.append(cut.reshape(len(images), rows * cols, channels, size, size))
        chosen.append(_mask(plan, scale))
    everything, mask = torch.cat(patches, dim=1), torch.cat(chosen, dim=1)
    return plan, everything[mask].view(len(images), spec.num_tokens, channels, size, size)


def _mask(plan: Plan, scale: int) -> Tensor:
    """`[B, n]`: which patches of a scale the plan holds, in raster order."""
    rows, cols = plan.spec.grid(scale)
    size = plan.spec.patch_size(scale)
    # Tokens of other scales all go to one place behind the grid.
    place = torch.where(plan.scale == scale, plan.top // size * cols + plan.left // size, rows * cols)
    mask = torch.zeros(len(plan), rows * cols + 1, dtype=torch.bool, device=place.device)
    return mask.scatter_(1, place, True)[:, :-1]


def plain_blur(images: Tensor, spec: Spec) -> list[Tensor]:
    """The blur scorer as docs/reference.md describes it, over the whole batch at once."""
    saliency = []
    for scale in range(1, spec.num_scales):
        small = F.interpolate(images, size=(spec.height >> scale, spec.width >> scale), mode="bilinear")
        blurry = F.interpolate(small, size=(spec.height, spec.width), mode="bilinear")
        mse = F.avg_pool2d((blurry - images).square().mean(dim=1, keepdim=True), spec.patch_size(scale))
        saliency.append((mse * spec.patch_size(scale)).sqrt().squeeze(1))
    return saliency
