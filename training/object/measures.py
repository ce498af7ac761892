"""What a net is worth: `python measures.py RUN/importance_net.pt --held-out FOLDER`, on photographs kept apart.

Three tables: agreement with the teacher on the held-out examples, stability on their photographs, and figures on the
scenes that `training/bundled/measure.py` makes. `--oracle FOLDER` adds coverage of importance maps of photographs: of
Grad-CAM, each `NAME.jpg` with a `NAME.pt` beside it, and in `FOLDER/masks` of masks, each `NAME.png` likewise. They are
not part of the repository.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import bundled  # noqa: F401  # finds the measures that both share
from examples import MAKERS
from measure import as_jpeg, brighter, held_out, kendall, report
from quadtok import Plan, Spec, get_quadtree, get_scorer
from quadtok.scorers import Scorer
from teacher import SPEC, apart

CANVAS, SHOWN, MOVE = 512, 256, 64  # a photograph that moves: the canvas's side, its own, and how far
NOISE = 12  # grey levels
Table = dict[str, Tensor]  # each figure an image


def agreement(score: Scorer, folder: Path) -> Table:
    """With the teacher: the share of equal boxes at 64 and 100 tokens, and Kendall's τ of all 80 nodes.

    Of photographs and collages alone: what was pasted, the teacher only sees as the rest.
    """
    images, rows = photographs(folder)
    taught = torch.from_numpy(np.load(folder / "classes.npy")[rows])
    found, wanted = score(images, SPEC), apart(taught)
    boxes = {f"boxes, {n} tokens": same_boxes(found, wanted, n) for n in (64, 100)}
    return boxes | {"τ of the nodes": kendall(found, wanted)}


def stability(score: Scorer, folder: Path) -> Table:
    """Kendall's τ between the scores of a photograph and of the same one changed; and of noise, how even it is."""
    images = photographs(folder)[0]
    before = score(images, SPEC)
    mirrored = [each.flip(-1) for each in score(images.flip(-1), SPEC)]
    changed = {"10 % brighter": brighter(images, 1.1), "10 % darker": brighter(images, 0.9), "JPEG 75": as_jpeg(images)}
    figures = {"τ, mirrored": kendall(before, mirrored)}
    figures |= {f"τ, {name}": kendall(before, score(other, SPEC)) for name, other in changed.items()}
    figures["τ, moved on a canvas"] = kendall(*(on_canvas(score, images[:40], at) for at in (128, 128 + MOVE)))
    return figures | {"nothing but noise: spread ÷ mean": noise_spread(score)}


def on_canvas(score: Scorer, images: Tensor, at: int) -> list[Tensor]:
    """The scores of photographs where they stand on a plain canvas, `at` pixels from its top and left."""
    canvas = torch.full((len(images), 3, CANVAS, CANVAS), 124, dtype=torch.uint8)
    canvas[..., at : at + SHOWN, at : at + SHOWN] = images
    scores = score(canvas, Spec(CANVAS, CANVAS, SPEC.min_patch, SPEC.max_patch, SPEC.num_tokens))
    begin, count = ([length // SPEC.patch_size(k) for k in (1, 2)] for length in (at, SHOWN))
    return [
        grid[:, first : first + side, first : first + side]
        for grid, first, side in zip(scores, begin, count, strict=True)
    ]


def noise_spread(score: Scorer, count: int = 16) -> Tensor:
    """`[M]`: of pictures of nothing but noise, the standard deviation of the finest scores over their mean."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, SPEC.height, SPEC.width, generator=generator)
    finest = score((120 + NOISE * noise).round().clamp(0, 255).byte(), SPEC)[0].flatten(1)
    return finest.std(1) / finest.mean(1)


def coverage(score: Scorer, paths: list[Path]) -> Tensor:
    """`[M]`: how much of each importance map 64 tokens resolve: 1 all of it, 0.25 none above the coarsest."""
    images = torch.stack([_as_256(path) for path in paths])
    maps = torch.stack([torch.load(path.with_suffix(".pt"), weights_only=True) for path in paths])
    share = maps - maps.amin((1, 2), keepdim=True)
    share = share / share.sum((1, 2), keepdim=True)
    plan = plan_of(score(images, SPEC), 64)
    owner = plan.cell_to_token.flatten(1)
    return (share.flatten(1) * (SPEC.min_patch / plan.size).gather(1, owner)).sum(1)


def photographs(folder: Path) -> tuple[Tensor, np.ndarray]:
    """Images `[M, 3, 256, 256]` uint8 of the crops and collages in a folder of examples, and their rows."""
    kinds = np.load(folder / "kinds.npy")
    rows = np.flatnonzero(np.isin(kinds, [list(MAKERS).index(kind) for kind in ("crop", "collage")]))
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")[rows]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), rows


def plan_of(saliency: list[Tensor], num_tokens: int) -> Plan:
    """The tokens that this saliency asks for."""
    spec = Spec(SPEC.height, SPEC.width, SPEC.min_patch, SPEC.max_patch, num_tokens)
    return get_quadtree()([scores.contiguous() for scores in saliency], spec)


def same_boxes(first: list[Tensor], second: list[Tensor], num_tokens: int) -> Tensor:
    """`[M]`: the share of tokens that both choose."""
    plans = [plan_of(saliency, num_tokens) for saliency in (first, second)]
    sizes = [plan.size.gather(1, plan.cell_to_token.flatten(1)) for plan in plans]
    # A cell whose token has the same size in both plans lies in the same token.
    same = (sizes[0] == sizes[1]) * (SPEC.min_patch / sizes[0]).square()
    return same.sum(1) / num_tokens


def _as_256(path: Path) -> Tensor:
    """`[3, 256, 256]` uint8: the short side to 292 and the middle cut out, where it is not so already."""
    image = Image.open(path).convert("RGB")
    if image.size != (SPEC.width, SPEC.height):
        short = 292 / min(image.size)
        width, height = (max(292, round(side * short)) for side in image.size)
        left, top = (width - SPEC.width) // 2, (height - SPEC.height) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + SPEC.width, top + SPEC.height))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def on_scenes(score: Scorer, count: int = 48) -> Table:
    """The figures of training/bundled/measure.py."""
    return {name: torch.tensor([figure]) for name, figure in report(score, *held_out(count)).items()}


def on_maps(score: Scorer, folder: Path) -> Table:
    """Coverage of the maps of each folder in this one, itself included."""
    sets = {"coverage, Grad-CAM": folder.glob("*.jpg"), "coverage, masks": (folder / "masks").glob("*.png")}
    return {name: coverage(score, sorted(paths)) for name, paths in sets.items()}


def tables(held_out_folder: Path, oracle: Path | None) -> Iterator[Callable[[Scorer], Table]]:
    """All that is measured."""
    yield lambda score: agreement(score, held_out_folder)
    yield lambda score: stability(score, held_out_folder)
    yield on_scenes
    if oracle:
        yield lambda score: on_maps(score, oracle)


def said(values: Tensor) -> str:
    """The mean, and its standard error where there are several."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {values.std() / len(values) ** 0.5:.3f}"


def contenders(weights: list[Path]) -> dict[str, Scorer]:
    """The files, the first one with two views too, and what they are to be better than."""
    files: dict[str, Scorer] = {
        f"{path.parent.name}/{path.stem}": get_scorer("object", weights=path) for path in weights
    }
    first = f"{next(iter(files))}, two views"
    return files | {
        first: get_scorer("object", weights=weights[0], views=2),
        "feature": get_scorer("feature"),
        "blur": get_scorer("blur"),
    }


def main() -> None:
    """Print one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--held-out", type=Path, required=True, help="the folder that examples.py and teacher.py left")
    parser.add_argument(
        "--oracle", type=Path, help="a folder of NAME.jpg and NAME.pt, and masks/ of NAME.png and NAME.pt"
    )
    options = parser.parse_args()
    scorers = contenders(options.weights)
    print("| | " + " | ".join(scorers) + " |\n|---" + "|---" * len(scorers) + "|")
    for measured in tables(options.held_out, options.oracle):
        columns = [measured(score) for score in scorers.values()]
        for name in columns[0]:
            print(f"| {name} | " + " | ".join(said(column[name]) for column in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
