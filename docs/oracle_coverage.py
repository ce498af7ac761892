"""How much of published importance maps the tokens resolve: `python docs/oracle_coverage.py FOLDER`.

The folder holds each photograph as NAME.jpg, and NAME.pt, its map. Prints the table of docs/oracle.md. Needs the extra
`lite0`.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from quadtok import Plan, Spec, get_quadtree, get_scorer, normalize, read_image
from quadtok.images import fit_image
from quadtok.oracle import grad_cam
from quadtok.oracle.classifiers import load_classifier
from quadtok.scorers import ScorerFunction

SPEC = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=64)


def main() -> None:
    """Measure and print."""
    paths = sorted(Path(sys.argv[1]).glob("*.jpg"))
    images = torch.stack([fit_image(read_image(path).image, 256, 256, "crop").pixels for path in paths])
    published = torch.stack([torch.load(path.with_suffix(".pt"), weights_only=True) for path in paths])
    classifier = load_classifier("lite0")
    oracle = grad_cam(classifier.model, classifier.inputs(images), size=SPEC.grid(0))
    scorers = {
        "the published maps": get_scorer("precomputed", maps=published),
        "`quadtok oracle`": get_scorer("precomputed", maps=oracle),
        "object": get_scorer("object"),
        "blur": get_scorer("blur"),
        "random": get_scorer("random"),
    }
    print("| tokens chosen by | mean | " + " | ".join(path.stem for path in paths) + " |")
    print("|---|---" + "|---" * len(paths) + "|")
    for name, scorer in scorers.items():
        found = resolved(chosen(scorer, images), published)
        print(f"| {name} | {found.mean():.3f} | " + " | ".join(f"{value:.3f}" for value in found.tolist()) + " |")


def chosen(scorer: ScorerFunction, images: Tensor) -> Plan:
    """The tokens that a scorer asks for."""
    return get_quadtree()(scorer(normalize(images), SPEC), SPEC)


def resolved(plan: Plan, maps: Tensor) -> Tensor:
    """`[M]`: 1 where all importance lies in the finest patches, 0.25 where all lies in the coarsest."""
    share = maps - maps.amin((1, 2), keepdim=True)
    share = (share / share.sum((1, 2), keepdim=True)).flatten(1)
    return (share * (SPEC.min_patch / plan.size).gather(1, plan.cell_to_token.flatten(1))).sum(1)


if __name__ == "__main__":
    main()
