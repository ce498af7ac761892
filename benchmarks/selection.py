"""Saliency → plan: `parallel` against quadtok's own `zcurve` (goal 1)."""

from dataclasses import replace

from common import interleaved, ms, print_machine, print_table, random_saliency, times

from quadtok import Spec
from quadtok.quadtrees import QUADTREES

CASES = [
    (128, Spec(256, 256, 16, 64, 100), "4×"),
    (8, Spec(1024, 1024, 16, 64, 1024), "12×"),
    (1, Spec(1024, 1024, 16, 128, 1024), "40×"),
    (1, Spec(256, 256, 16, 64, 100), ""),
]


def main() -> None:
    """Print the tables."""
    print_machine()
    rows = []
    for batch, spec, goal in CASES:
        saliency = random_saliency(batch, spec)
        contenders = {
            name: lambda name=name, saliency=saliency, spec=spec: QUADTREES[name](saliency, spec)
            for name in ("tensor", "zcurve", "parallel")
        }
        found = interleaved(contenders)
        name = f"{batch} × {spec.height}², {spec.min_patch}–{spec.max_patch}, {spec.num_tokens} tokens"
        rows.append([name, *(ms(found[key]) for key in contenders), times(found["zcurve"], found["parallel"]), goal])
    print_table("Selection alone", ["work", "tensor", "zcurve", "parallel", "zcurve ÷ parallel", "goal"], rows)

    spec = Spec(1024, 1024, 16, 128, 64)
    saliency = random_saliency(8, spec)
    budgets = [64, 256, 1024, 2560, 4096]
    specs = {budget: replace(spec, num_tokens=budget) for budget in budgets}
    found = interleaved(
        {
            f"{name} {budget}": lambda name=name, budget=budget: QUADTREES[name](saliency, specs[budget])
            for name in ("zcurve", "parallel")
            for budget in budgets
        }
    )
    rows = [[name, *(ms(found[f"{name} {budget}"]) for budget in budgets)] for name in ("zcurve", "parallel")]
    print_table("8 × 1024², 16–128: time against the number of tokens", ["", *map(str, budgets)], rows)


if __name__ == "__main__":
    main()
