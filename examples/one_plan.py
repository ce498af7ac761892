"""The reference's third notebook: the implementations choose the same patches; how long each takes.

`python examples/one_plan.py [IMAGES]`: random saliency for so many images, 32 if not told. `quadtok bench` measures
with more care.
"""

import sys
from time import perf_counter

import torch

from quadtok import Spec, get_quadtree

NAMES = ("dict", "tensor", "zcurve", "parallel")
REPEATS = 3


def main(images: str = "32") -> None:
    """Compare the plans, then print the best of some runs of each."""
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)
    generator = torch.Generator().manual_seed(0)
    saliency = [torch.rand(int(images), *spec.grid(scale), generator=generator) for scale in range(1, spec.num_scales)]

    plans, seconds = {}, {}
    for name in NAMES:
        quadtree, runs = get_quadtree(name), []
        for _ in range(REPEATS):
            started = perf_counter()
            plans[name] = quadtree(saliency, spec)
            runs.append(perf_counter() - started)
        seconds[name] = min(runs)

    for name in NAMES:
        answer = "the plan of dict" if plans[name] == plans["dict"] else "ANOTHER PLAN"
        print(f"{name:8} {seconds[name] * 1000:8.2f} ms  {answer}")


if __name__ == "__main__":
    main(*sys.argv[1:])
