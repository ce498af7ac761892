"""Saliency → plan: `parallel` against quadtok's own `zcurve` (goal 1)."""

from dataclasses import replace

from common import WORKS, interleaved, ms, print_machine, print_table, random_saliency, times, work_name

from quadtok import Spec
from quadtok.quadtrees import QUADTREES

GOALS = ["≥ 8×", "≥ 60×", "≥ 60×", "≥ 6×"]  # of WORKS


def main() -> None:
    """Print the tables."""
    print_machine()
    rows = []
    for (batch, spec), goal in zip(WORKS, GOALS, strict=True):
        saliency = random_saliency(batch, spec)
        contenders = {
            name: lambda name=name, saliency=saliency, spec=spec: QUADTREES[name](saliency, spec)
            for name in ("tensor", "zcurve", "parallel")
        }
        found = interleaved(contenders, seconds=0.5)
        ratio = times(found["zcurve"], found["parallel"])
        rows.append([work_name(batch, spec), *(ms(found[key]) for key in contenders), ratio, goal])
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
