"""What only a GPU can tell: the fused kernel and its programs, what launches cost, and ViTs in bfloat16. Needs timm.

Here a time is the GPU's own: of many launches in one CUDA graph (`triton.testing.do_bench_cudagraph`), so that none
is waited for; small images stay in its cache. In the last three tables calls are launched one behind another, as in
the other scripts, or recorded in a graph that is replayed. The bandwidth is that of a copy of 1 GiB, counting what is
read and what is written.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from unittest import mock

import timm
import torch
import triton
from common import DEVICE, WORKS, interleaved, ms, print_machine, print_table, random_saliency, times, work_name
from torch import Tensor

from models import MODELS, SPEC, several_lengths
from quadtok import Plan, Spec, extract_patches, get_quadtree, get_scorer, normalize
from quadtok.models import adapt
from quadtok.patches import fused, gather_indexed

LARGER = ("vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224")
DTYPES = (torch.uint8, torch.bfloat16, torch.float32)
SIZES = {  # of the kernel's programs: what is tried beside what ships
    "MAX_ELEMENTS": (256, 512, 1024, 2048),
    "MIN_ELEMENTS": (256, 512, 1024, 2048),
    "ELEMENTS_PER_THREAD": (1, 2, 4, 8),
}


def main() -> None:
    """Print the tables; where there is no GPU, say so."""
    print_machine()
    if DEVICE.type != "cuda":
        print("Nothing to measure here: there is no GPU.")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    with torch.no_grad():
        for name in parser.parse_args().tables:
            TABLES[name]()


def print_kernel() -> None:
    """The kernel against the gathers that it stands for."""
    bandwidth = copy_bandwidth()
    rows = []
    for (batch, spec), dtype in itertools.product(WORKS, DTYPES):
        images, plan = work(batch, spec, dtype)
        kernel = gpu_ms(partial(fused.gather_fused, images, plan))
        gathers = gpu_ms(partial(gather_indexed, images, plan))
        moved = bytes_moved(images, plan) / kernel / 1e6
        dtype_name = str(dtype).removeprefix("torch.")
        ratio, share = times(gathers, kernel), f"{moved / bandwidth:.0%}"
        rows.append([work_name(batch, spec), dtype_name, ms(gathers), ms(kernel), ratio, f"{moved:.0f}", share])
    heading = ["work", "images", "four gathers", "fused", "", "GB/s", f"of a copy's {bandwidth:.0f}"]
    print_table("Plan → pixels, time on the GPU", heading, rows)


def print_sizes() -> None:
    """Each size of a program by itself; the others as they ship."""
    works = {
        "128 × 256², p = 16, float32": work(128, Spec(256, 256, 16, 64, 100), torch.float32),
        "128 × 256², p = 16, uint8": work(128, Spec(256, 256, 16, 64, 100), torch.uint8),
        "32 × 1024², p = 32, float32": work(32, Spec(1024, 1024, 32, 128, 400), torch.float32),
        "128 × 224², p = 14, float32": work(128, Spec(224, 224, 14, 56, 100), torch.float32),
        "128 × 256², p = 4, float32": work(128, Spec(256, 256, 4, 64, 1000), torch.float32),
    }
    rows = []
    for name, values in SIZES.items():
        for value in values:
            with mock.patch.object(fused, name, value):
                found = [gpu_ms(partial(fused.gather_fused, *given)) for given in works.values()]
            ships = " (ships)" if value == getattr(fused, name) else ""
            rows.append([f"{name} = {value}{ships}", *map(ms, found)])
    print_table("Sizes of the kernel's programs, time on the GPU", ["", *works], rows)


def print_launches() -> None:
    """Images → tokens, blur: as it is called, compiled, and as a graph that is replayed."""
    rows = []
    for batch, spec in WORKS:
        images = torch.rand(batch, 3, spec.height, spec.width, device=DEVICE)
        run = whole(spec)
        ways: dict[str, Callable[[], object]] = {
            "eager": partial(run, images),
            "compiled": partial(torch.compile(run, fullgraph=True, dynamic=False), images),
            "graph": graph_of(run, images).replay,
        }
        found = interleaved(ways, seconds=0.5)
        rows.append([work_name(batch, spec), *(ms(found[way]) for way in ways), times(found["eager"], found["graph"])])
    heading = ["work", "eager", "`torch.compile(fullgraph=True)`", "CUDA graph", "eager ÷ graph"]
    print_table("Images → tokens, blur scorer: launches", heading, rows)


def print_models() -> None:
    """What tokens save a ViT in bfloat16, and what choosing them costs."""
    images = torch.randint(256, (128, 3, 256, 256), dtype=torch.uint8, device=DEVICE)
    full = Plan.uniform(Spec.full(256, 256, 16, 64), 0, len(images), device=DEVICE)
    lengths = several_lengths(160, len(images))
    fixed = get_quadtree()(random_saliency(len(images), SPEC), SPEC)
    rows = []
    for name in MODELS:
        vit = timm.create_model(name, img_size=256).eval().to(DEVICE, torch.bfloat16)
        pixels = normalize(images).to(torch.bfloat16)
        ways = {way: adapt(vit, SPEC, "random", check=False, attention=way) for way in ("padded", "packed")}
        scored = {scorer: adapt(vit, SPEC, scorer, check=False) for scorer in ("blur", "object")}
        found = interleaved(
            {
                "itself": partial(vit, pixels),
                "full grid": partial(ways["padded"], images, plan=full),
                "100 tokens": partial(ways["padded"], images, plan=fixed),
                "padded": partial(ways["padded"], images, plan=lengths),
                "packed": partial(ways["packed"], images, plan=lengths),
                **{scorer: partial(model, images) for scorer, model in scored.items()},
            },
            seconds=0.5,
        )
        rows.append([name, *map(ms, found.values())])
    heading = ["bfloat16", "the model itself", "full grid", "100 tokens", "mean of 100, padded", "packed"]
    print_table("ViTs, 128 × 256²", [*heading, "100 tokens by blur, from bytes", "by object"], rows)


def print_graphs() -> None:
    """What tokens save larger ViTs in bfloat16: as they are called, and as graphs that are replayed."""
    images = torch.randint(256, (128, 3, 256, 256), dtype=torch.uint8, device=DEVICE)
    full = Plan.uniform(Spec.full(256, 256, 16, 64), 0, len(images), device=DEVICE)
    fixed = get_quadtree()(random_saliency(len(images), SPEC), SPEC)
    rows = []
    for name in LARGER:
        vit = timm.create_model(name, img_size=256).eval().to(DEVICE, torch.bfloat16)
        model = adapt(vit, SPEC, "blur", check=False)
        ways: dict[str, Callable[..., object]] = {
            "full grid": partial(model, plan=full),
            "100 tokens": partial(model, plan=fixed),
            "by blur, from bytes": model,
            "by object in bfloat16": adapt(vit, SPEC, get_scorer("object", precision="bfloat16"), check=False),
        }
        for run in ways.values():
            run(images)  # what a scorer makes on first use is made outside of the graph
        graphs = {f"{way}, graph": graph_of(run, images).replay for way, run in ways.items()}
        found = interleaved({**{way: partial(run, images) for way, run in ways.items()}, **graphs}, seconds=0.5)
        rows.append([name, *map(ms, found.values())])
    print_table("Larger ViTs, 128 × 256²", ["bfloat16", *found], rows)


def whole(spec: Spec) -> Callable[[Tensor], Tensor]:
    """Images → patches, with blur."""
    score, select = get_scorer("blur"), get_quadtree()
    return lambda images: extract_patches(images, select(score(images, spec), spec))


def graph_of(run: Callable[[Tensor], Tensor], images: Tensor) -> torch.cuda.CUDAGraph:
    """The run on these images, recorded."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(images)  # what is made on first use is made outside
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(images)
    return graph


def work(batch: int, spec: Spec, dtype: torch.dtype) -> tuple[Tensor, Plan]:
    """Images of noise, and a plan of a random scorer."""
    images = (torch.rand(batch, 3, spec.height, spec.width, device=DEVICE) * 255).to(dtype)
    return images, get_quadtree()(random_saliency(batch, spec), spec)


def bytes_moved(images: Tensor, plan: Plan) -> int:
    """What the kernel asks for: one pixel a number of finest tokens, four of coarser ones, and each number written."""
    numbers = plan.scale.numel() * images.shape[1] * plan.spec.min_patch**2
    coarse = (plan.scale > 0).float().mean().item()
    written = torch.empty(0, dtype=torch.float32 if images.dtype == torch.uint8 else images.dtype).element_size()
    return int(numbers * ((1 + 3 * coarse) * images.element_size() + written))


def copy_bandwidth() -> float:
    """GB/s."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / gpu_ms(lambda: target.copy_(source)) / 1e6


def gpu_ms(run: Callable[[], object]) -> float:
    """Median milliseconds on the GPU."""
    return triton.testing.do_bench_cudagraph(run, return_mode="median")


TABLES = {
    "kernel": print_kernel,
    "sizes": print_sizes,
    "launches": print_launches,
    "models": print_models,
    "graphs": print_graphs,
}


if __name__ == "__main__":
    main()
