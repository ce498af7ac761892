"""Teach the net: `python distil.py FOLDER --out RUN` with what examples.py and teacher.py left in FOLDER/training.

A step shows 16 examples, each once as it is and once mirrored, either through a camera of its own (light, colour,
noise, compression); some are rolled round before. Three losses: the shares of all nodes by the first kind of importance
are to be the classifier's (`classes`), those by the second kind the truth where something was pasted and else the guess
(`things`); and both views are to get the same scores (`agreement`), which is what makes a mirrored or compressed image
keep its tokens.

What ships is a running mean of the weights. Everything a step does depends on the seed and its number alone, and every
`KEEP` steps all is written down: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor, nn

from examples import MAKERS
from quadtok import get_scorer
from quadtok.pixels import normalize
from quadtok.scorers.object.net import ImportanceNet, log_saliency, seen, view_size
from student import fresh, pretrained, save
from teacher import SCALES, SPEC, apart, joined, mirrored, shares

EXAMPLES, PARTS = 16, 2  # of a step, and how many parts they go through the net in: more at once leave the cache
STEPS = 3600
CLOSE = 8  # every so many steps, some examples are seen at their full size: things are as large in a large image
WARM_UP = 0.03  # of the steps
RATES = {"pretrained": (8e-4, 2e-3), "fresh": (2e-3, 2e-3)}  # of the blocks and of the head
WEIGHTS = {"classes": 1.0, "things": 0.7, "agreement": 12.0}
SQUARES = 0.05  # of the squared error of the logarithms, beside the cross-entropy
SHARPENED = 2.0  # power of the classifier's shares: those of things are as uneven, and both weigh alike in the mean
LEAST_SHARE = 1e-5
LEAST_VARIANCE = 0.05  # of a view's scores, below which they may differ: noise has next to none
ROLLED = 0.3  # of the examples
SIDES = [SPEC.patch_size(k) for k in SCALES]  # of the nodes
DECAY = 1e-3  # of weights
MEAN_OVER = 500  # steps that the running mean of the weights reaches back, or a tenth of all so far
KEEP, LOG = 250, 50  # steps


@dataclass(frozen=True)
class Options:
    """What a run is.

    Attributes:
        start: `"pretrained"` or `"fresh"`.
        steps, seed: how long, and which.
        without: names of what is left out, for ablations: `"detail"` (the blur factor), `"photographs"` (crops and
            collages) and `"truth"` (of pasted things).
    """

    start: str = "pretrained"
    steps: int = STEPS
    seed: int = 0
    without: tuple[str, ...] = ()


class Lessons:
    """Examples with what is to be learned of them."""

    def __init__(self, folder: Path, without: tuple[str, ...] = ()) -> None:
        names = ("pixels", "kinds", "classes", "things", "truth")
        self.pixels, kinds, self.classes, self.things, truth = (
            np.load(folder / f"{name}.npy", mmap_mode="r" if name == "pixels" else None) for name in names
        )
        self.classes = shares(torch.from_numpy(self.classes) ** SHARPENED).numpy()
        if "truth" not in without:
            known = truth.sum(1) > 0
            self.things = np.where(known[:, None], truth, self.things)
        left_out = [list(MAKERS).index(kind) for kind in ("crop", "collage") if "photographs" in without]
        self.places = np.flatnonzero(~np.isin(kinds, left_out))

    def batch(self, step: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images `[2·B, 3, 256, 256]`, as they are and then mirrored, and two targets `[2·B, 80]`."""
        rng = np.random.default_rng([seed, step])
        chosen = self._chosen(step, seed)
        turns = [rolling(rng) for _ in chosen]
        pixels = [np.roll(self.pixels[row], turn, (0, 1)) for row, turn in zip(chosen, turns, strict=True)]
        views = [varied(rng, image) for image in pixels] + [varied(rng, image[:, ::-1]) for image in pixels]
        images = normalize(torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous())
        targets = [rolled(torch.from_numpy(wanted[chosen]), turns) for wanted in (self.classes, self.things)]
        classes, things = (torch.cat([wanted, mirrored(wanted)]) for wanted in targets)
        return images, classes, things

    def _chosen(self, step: int, seed: int) -> np.ndarray:
        """Every example once before any comes again."""
        an_epoch = len(self.places) // EXAMPLES or 1
        epoch, number = divmod(step, an_epoch)
        order = np.random.default_rng([seed, epoch, 1]).permutation(self.places)
        return order[number * EXAMPLES : (number + 1) * EXAMPLES]


def rolling(rng: Generator) -> tuple[int, int]:
    """How far down and right an example is rolled round, in pixels: by whole root patches, most not at all.

    What is in the middle of a photograph comes to stand elsewhere, and is as much worth there: so the net does not
    learn that the middle is.
    """
    if rng.random() >= ROLLED:
        return 0, 0
    down, right = (int(SPEC.max_patch * rng.integers(side // SPEC.max_patch)) for side in (SPEC.height, SPEC.width))
    return down, right


def rolled(nodes: Tensor, turns: Sequence[tuple[int, int]]) -> Tensor:
    """`[B, 80]`: what is to be learned of each example where it is rolled round."""
    examples = []
    for one, turn in zip(nodes.split(1), turns, strict=True):
        grids = zip(SIDES, apart(one), strict=True)
        examples.append(joined([grid.roll([pixels // side for pixels in turn], (1, 2)) for side, grid in grids]))
    return torch.cat(examples)


def varied(rng: Generator, pixels: np.ndarray) -> np.ndarray:
    """The same view `[h, w, 3]` uint8 through another camera."""
    picture = pixels.astype(np.float32) / 255
    picture = picture * (rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)) + rng.normal(0, 0.03)
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.random() * 0.05, picture.shape)
    shown = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        file = io.BytesIO()
        Image.fromarray(shown).save(file, "JPEG", quality=int(rng.integers(50, 96)))
        shown = np.asarray(Image.open(file))
    return shown


def nodes(net: ImportanceNet, images: Tensor, detail: bool = True, enlarged: int = 1) -> Tensor:
    """`[B, 2, 80]`: the logarithm of the saliency of all nodes by either kind of importance."""
    view, spread = seen(images, *(enlarged * side for side in view_size(SPEC.height, SPEC.width)))
    lost = get_scorer("blur")(images, SPEC)
    details = [each / spread[:, None, None] if detail else torch.zeros_like(each) for each in lost]
    maps = net(view.contiguous(memory_format=torch.channels_last))
    return torch.cat([scores.flatten(2) for scores in log_saliency(maps, details, net.power, net.step)], dim=2)


def losses(found: Tensor, classes: Tensor, things: Tensor) -> dict[str, Tensor]:
    """What each of `WEIGHTS` stands for, for `nodes` of images followed by their mirrored views."""
    logs = found.log_softmax(2)
    wanted = classes.clamp(min=LEAST_SHARE).log()
    squares = (centred(found[:, 0]) - centred(wanted)).square().mean()
    both = centred(found.mean(1))
    here, there = both.chunk(2)
    return {
        "classes": -(classes * logs[:, 0]).sum(1).mean() + SQUARES * squares,
        "things": -(things * logs[:, 1]).sum(1).mean(),
        "agreement": apart_by((here - mirrored(there)), here),
    }


def apart_by(difference: Tensor, scores: Tensor) -> Tensor:
    """How large the difference is, as a share of the variance: scores that are alike everywhere earn nothing."""
    return (difference.square().mean(1) / (scores.square().mean(1) + LEAST_VARIANCE)).mean()


def centred(values: Tensor) -> Tensor:
    """Each row with zero mean."""
    return values - values.mean(-1, keepdim=True)


class Run:
    """A net, its running mean, its optimiser, and how far they are."""

    def __init__(self, options: Options) -> None:
        make = {"pretrained": pretrained, "fresh": fresh}[options.start]
        self.options = options
        self.net = make(options.seed).to(memory_format=torch.channels_last).train()
        self.mean = make(options.seed).requires_grad_(False)
        if "detail" in options.without:
            self.net.power.requires_grad_(False).zero_()
        slow, fast = RATES[options.start]
        head = [*self.net.head.parameters(), self.net.power, self.net.step]
        blocks = [*self.net.stem.parameters(), *self.net.stages.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": blocks, "lr": slow}, {"params": head, "lr": fast}], weight_decay=DECAY
        )
        self.rates = (slow, fast)
        self.step, self.seconds = 0, 0.0

    def learn(self, lessons: Lessons) -> dict[str, float]:
        """One step; what the losses were."""
        began = time.monotonic()
        factor = rate_factor(self.step, self.options.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        batch = lessons.batch(self.step, self.options.seed)
        close = self.step % CLOSE == CLOSE - 1
        parts = in_parts(*batch)[: 1 if close else PARTS]
        seen_losses = dict.fromkeys(WEIGHTS, 0.0)
        self.optimizer.zero_grad()
        for images, *lessons_of in parts:
            found = nodes(self.net, images, "detail" not in self.options.without, enlarged=1 + close)
            each = losses(found, *lessons_of)
            sum(WEIGHTS[name] * loss for name, loss in each.items()).div(len(parts)).backward()
            for name, loss in each.items():
                seen_losses[name] += loss.item() / len(parts)
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        self.seconds += time.monotonic() - began
        return seen_losses

    @torch.no_grad()
    def _follow(self) -> None:
        share = 1 / max(1, min(MEAN_OVER, self.step / 10))
        for mean, now in zip(self.mean.state_dict().values(), self.net.state_dict().values(), strict=True):
            mean.lerp_(now, share) if mean.is_floating_point() else mean.copy_(now)

    def keep(self, path: Path) -> None:
        """Write everything down; the file is whole or the old one."""
        parts = {"net": self.net, "mean": self.mean, "optimizer": self.optimizer}
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"step": self.step, "seconds": self.seconds, "options": asdict(self.options)}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def go_on(self, path: Path) -> None:
        """Be where the file was written, by a run with the same options."""
        state = torch.load(path, weights_only=True)
        if state.get("options", ours := asdict(self.options)) != ours:  # older files do not say
            sys.exit(f"error: {path} is of a run with {state['options']}, and this one has {ours}; give another folder")
        for name in ("net", "mean", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]


def in_parts(images: Tensor, classes: Tensor, things: Tensor) -> list[tuple[Tensor, ...]]:
    """Some examples with their mirrored views at a time."""
    halves = [tensor.unflatten(0, (2, -1)).chunk(PARTS, dim=1) for tensor in (images, classes, things)]
    return [tuple(part.flatten(0, 1) for part in parts) for parts in zip(*halves, strict=True)]


def rate_factor(step: int, steps: int) -> float:
    """A warm-up and half a cosine."""
    if step < WARM_UP * steps:
        return (step + 1) / (WARM_UP * steps + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP * steps) / (steps * (1 - WARM_UP)))) + 0.003


def train(options: Options, lessons: Lessons, out: Path) -> Run:
    """From wherever the folder has got to, to the end; leaves `object_net.pt` and `log.csv` in it."""
    out.mkdir(parents=True, exist_ok=True)
    run, kept, log = Run(options), out / "kept.pt", out / "log.csv"
    if kept.exists():
        run.go_on(kept)
    rows = [row for row in _rows(log) if int(row["step"]) <= run.step]
    window: list[dict[str, float]] = []
    while run.step < options.steps:
        window.append(run.learn(lessons))
        if run.step % LOG == 0 or run.step == options.steps:
            means = {name: f"{np.mean([row[name] for row in window]):.4f}" for name in WEIGHTS}
            rows.append({"step": str(run.step), **means, "seconds": f"{run.seconds:.0f}"})
            print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
            window = []
        if run.step % KEEP == 0 or run.step == options.steps:
            _write(log, rows)
            run.keep(kept)
    save(run.mean, out / "object_net.pt")
    return run


def _rows(log: Path) -> list[dict[str, str]]:
    if not log.exists():
        return []
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(log: Path, rows: list[dict[str, str]]) -> None:
    with log.with_suffix(".new").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *WEIGHTS, "seconds"])
        writer.writeheader()
        writer.writerows(rows)
    log.with_suffix(".new").replace(log)


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", choices=RATES, default="pretrained")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", nargs="*", choices=("detail", "photographs", "truth"), default=())
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = Options(options.start, options.steps, options.seed, tuple(options.without))
    train(chosen, Lessons(options.folder / "training", chosen.without), options.out)


if __name__ == "__main__":
    main()
