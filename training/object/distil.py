"""Teach the net: `python distil.py FOLDER --out RUN` with what examples.py and teacher.py left in FOLDER/training.

A step shows what `lessons.py` gives for it: examples and their mirror images, each through a camera of its own (light,
colour, noise, compression). Three losses: the shares of all nodes by the first kind of importance
are to be the classifier's (`classes`), those by the second kind the truth where something was pasted and else the guess
(`things`); and both views are to get the same scores (`agreement`), which is what makes a mirrored or compressed image
keep its tokens.

What ships is a running mean of the weights. Everything a step does depends on the seed and its number alone, and every
`KEEP` steps all is written down: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lessons import Lessons
from quadtok import get_scorer
from quadtok.scorers.object.net import ImportanceNet, log_saliency, seen, view_size
from student import fresh, pretrained, save
from teacher import LEAST_SHARE, SPEC, mirrored

PARTS = 2  # of a step's examples, which go through the net one after the other: more at once leave the cache
STEPS = 3600
CLOSE = 8  # every so many steps, some examples are seen at their full size: things are as large in a large image
WARM_UP = 0.03  # of the steps
RATES = {"pretrained": (8e-4, 2e-3), "fresh": (2e-3, 2e-3)}  # of the blocks and of the head
WEIGHTS = {"classes": 1.0, "things": 0.7, "agreement": 12.0}
SQUARES = 0.05  # of the squared error of the logarithms, beside the cross-entropy
LEAST_VARIANCE = 0.05  # of a view's scores, below which they may differ: noise has next to none
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
        theirs, ours = state.get("options"), asdict(self.options)
        if theirs not in (None, ours):  # older files do not say
            sys.exit(f"error: {path} is of a run with {theirs}, and this one has {ours}; give another folder")
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
    """From wherever the folder has got to, to the end; leaves `importance_net.pt` and `log.csv` in it."""
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
    save(run.mean, out / "importance_net.pt")
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
