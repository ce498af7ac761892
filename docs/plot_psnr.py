"""Plot what tokens keep of the sample photographs against their number: `python docs/plot_psnr.py`.

Writes docs/pictures/psnr.png and prints the table of docs/choosing-the-number-of-tokens.md. Needs the `plot` extra.
"""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import matplotlib as mpl
import torch
from torch import Tensor

from quadtok import Spec, extract_patches, get_quadtree, get_scorer, read_image, reverse_patches
from quadtok.images import fit_image
from quadtok.reversal import psnr
from quadtok.scorers import Scorer

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
SPEC = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=256)
COUNTS = range(16, 257, 12)
TABLE = (40, 64, 100, 148, 196, 256)


def main() -> None:
    """Measure, plot, print."""
    images = torch.stack(
        [
            fit_image(read_image(path).image, 256, 256, "crop").pixels
            for path in sorted((ROOT / "sample_images").glob("*.jpg"))
        ]
    )
    curves = {name: curve(scorer, images) for name, scorer in scorers().items()}
    plot(curves)
    print_table(curves)


def scorers() -> dict[str, Scorer]:
    """Those that need no maps."""
    return {
        "object": get_scorer("object"),
        "blur": get_scorer("blur"),
        "feature": get_scorer("feature"),
        "random": get_scorer("random", seed=list(range(5))),
    }


def curve(scorer: Scorer, images: Tensor) -> dict[int, float]:
    """Tokens → mean PSNR in dB over the images, each token spread smoothly over its box; the full grid is exact."""
    saliency = scorer(images, SPEC)
    return {
        count: mean(decibels(images, saliency, count)) for count in sorted({*COUNTS, *TABLE}) if count < SPEC.num_cells
    }


def decibels(images: Tensor, saliency: list[Tensor], count: int) -> list[float]:
    """The PSNR of each image at this number of tokens."""
    plan = get_quadtree()(saliency, replace(SPEC, num_tokens=count))
    shown = reverse_patches(extract_patches(images, plan), plan, smooth=True).round().clamp(0, 255)
    return [psnr(one, other) for one, other in zip(shown, images, strict=True)]


def plot(curves: dict[str, dict[int, float]]) -> None:
    """One line a scorer."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in curves.items():
        axes.plot(points.keys(), points.values(), marker="o", markersize=3, label=name)
    axes.axvline(100, color="0.7", linewidth=1)
    axes.set(
        xlabel="tokens per image (of 256)", ylabel="PSNR in dB", title="What the tokens keep, mean of five photographs"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(ROOT / "docs" / "pictures" / "psnr.png", dpi=110, metadata={"Software": None})


def print_table(curves: dict[str, dict[int, float]]) -> None:
    """The table of the page, in Markdown."""
    print("| tokens | " + " | ".join(map(str, TABLE)) + " |\n|---|" + "---|" * len(TABLE))
    for name, points in curves.items():
        cells = [f"{points[count]:.1f}" if count in points else "exact" for count in TABLE]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
