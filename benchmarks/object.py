"""What the object scorer costs: 32 images of 256 × 256 against the feature scorer's ways and blur, all in one run.

On a CPU a process for one thread and one for all cores, since torch's threads cannot be told apart afterwards.
`paper's net` is ShuffleNetV2 x0.5 with the goldens' random weights, which cost as much as ImageNet's. The boxes are
compared on crops of the sample photographs.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import torch
from common import DEVICE, interleaved, ms, print_machine, print_table
from feature import NET, SPEC, Score, crops, same_boxes

from quadtok import get_scorer, normalize
from quadtok.scorers import on_device

ONE = "--one-thread"
GOALS = {"feature, bundled weights": 0.35, "feature, paper's net, float32": 0.6}


def contenders() -> dict[str, Score]:
    """The object scorer's ways first."""
    scorers = {
        "object": get_scorer("object"),
        "object, two views": get_scorer("object", views=2),
        "object, bfloat16": get_scorer("object", precision="bfloat16"),
        "feature, bundled weights": get_scorer("feature"),
        "feature, paper's net, exact": get_scorer("feature", weights=NET),
        "feature, paper's net, float32": get_scorer("feature", weights=NET, precision="float32"),
        "blur": get_scorer("blur"),
    }
    return {name: partial(on_device(score, DEVICE), spec=SPEC) for name, score in scorers.items()}


def main() -> None:
    """Measure and print; then once more in one thread."""
    if ONE in sys.argv:
        torch.set_num_threads(1)
    print_machine()
    runs = contenders()
    images, compared = (normalize(crops(count, seed)).to(DEVICE) for count, seed in ((32, 0), (64, 1)))
    found = interleaved({name: partial(score, images) for name, score in runs.items()}, rounds=9)
    same = same_boxes({name: runs[name] for name in runs if name.startswith("object")}, compared)
    rows = [
        (
            name,
            ms(each),
            f"{found['object'] / each:.2f}",
            f"≤ {GOALS[name]}" if name in GOALS else "",
            same.get(name, ""),
        )
        for name, each in found.items()
    ]
    print_table(
        f"Scoring 32 × 256², {torch.get_num_threads()} threads, on {DEVICE.type}",
        ["scorer", "time", "object ÷ it", "goal", "object's boxes"],
        rows,
    )
    if ONE not in sys.argv and DEVICE.type == "cpu":
        subprocess.run([sys.executable, __file__, ONE], check=True)


if __name__ == "__main__":
    main()
