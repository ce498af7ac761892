"""Train the bundled weights: first where objects are, then the error maps themselves.

Stage 1 trains the gate of the net alone, on pictures and the share of object in every cell of 16 pixels. It is cheap
and learns what an object looks like. Stage 2 trains what is deployed: the features of a picture against those of its
smaller copies, by the scorer's own steps. A split of a node is worth what it brings an object nearer to full
resolution, times the root of the detail that is lost there; the saliencies of all nodes of both scales, as shares of
their sum, are to match the shares of that worth.

`python train.py POOL.npz … --out FOLDER` writes `object_net.pt` (half precision, batch norms folded), `log.csv` and,
with matplotlib, `curves.png`. The same pools, seed and number of threads give the same weights on the same machine.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quadtok import Spec, get_scorer
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD
from quadtok.scorers.base import resize
from quadtok.scorers.feature.object_net import ObjectNet, normalised, tie_mirrored_weights

BATCH = 32
SPEC = Spec(256, 256, 16, 64, 256)  # what the error maps are trained for; the number of tokens plays no part
NUM_SCALES = SPEC.num_scales
NO_PRIOR = torch.full(SPEC.grid(0), 0.5)


class Pools:
    """Pictures `[M, 256, 256, 3]` uint8 and their cells `[M, 16, 16]` uint8, from files of pool.py."""

    def __init__(self, paths: list[Path]) -> None:
        parts = [np.load(path) for path in paths]
        self.pixels = [part["pixels"] for part in parts]
        self.cells = [part["cells"] for part in parts]
        self.places = [(pool, row) for pool, cells in enumerate(self.cells) for row in range(len(cells))]

    def prior(self) -> Tensor:
        """`[16, 16]`: how often each cell shows an object: in the middle more often than at the border."""
        shares = np.mean([cells.mean(axis=0) for cells in self.cells], axis=0) / 255
        return torch.from_numpy(shares).float().clamp(0.01, 0.99)

    def batches(self, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`steps` batches of varied images `[B, 3, 256, 256]` in 0 … 1 and cells `[B, 16, 16]` in 0 … 1."""
        rng = np.random.default_rng(seed)
        order: list[int] = []
        for _ in range(steps):
            if len(order) < BATCH:
                order = list(rng.permutation(len(self.places)))
            chosen = [self.places[order.pop()] for _ in range(min(BATCH, len(order)))]
            pairs = [varied(rng, self.pixels[pool][row], self.cells[pool][row]) for pool, row in chosen]
            pixels, cells = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
            gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(pairs), 3, 1, 1))).float()
            yield (pixels.permute(0, 3, 1, 2).float() / 255 * gain).clamp(0, 1), cells.float() / 255


def varied(rng: np.random.Generator, pixels: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirrored or turned by a right angle, its colours exchanged now and then."""
    turns = rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])
    pixels, cells = np.rot90(pixels, turns), np.rot90(cells, turns)
    if rng.random() < 0.5:
        pixels, cells = pixels[:, ::-1], cells[:, ::-1]
    if rng.random() < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(cells)


def as_scored(images: Tensor) -> Tensor:
    """Images in 0 … 1 as the scorer gets them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def gate_loss(net: ObjectNet, images: Tensor, cells: Tensor, prior: Tensor) -> Tensor:
    """How badly the gate tells objects from what stands behind them, with what is known of the place told to it.

    The log odds of the prior are added here and nowhere else, so that the net has nothing to gain from knowing where in
    the picture it is.
    """
    odds = net.objectness(normalised(as_scored(images)))[:, 0] + prior.logit() - prior.mean().logit()
    every_cell = F.binary_cross_entropy_with_logits(odds, cells)
    shares = cells.flatten(1) / cells.sum((1, 2)).clamp(min=1)[:, None]
    ranking = -(shares * odds.flatten(1).log_softmax(1)).sum(1).mean()
    return every_cell + 0.1 * ranking


def saliency(net: nn.Module, images: Tensor) -> list[Tensor]:
    """What the feature scorer computes, with gradients: `[B, H/P, W/P]` for P = 32 and 64."""
    pixels = as_scored(images)
    side = pixels.shape[2]
    copies = [pixels, *(resize(resize(pixels, side >> k, side >> k), side, side) for k in range(1, NUM_SCALES))]
    sharp, *blurry = (net(copy) for copy in copies)
    lost = [(features - sharp).square().mean(1) for features in blurry]
    return [F.avg_pool2d(error[:, None], 1 << k)[:, 0] for k, error in enumerate(lost, start=1)]


def worth(images: Tensor, cells: Tensor) -> list[Tensor]:
    """How much detail of an object is lost in each node: its share of object, and the root of what its pixels lose.

    For the same share a split brings twice as much a scale up. The pixels' loss is that of the blur scorer, which grows
    by the root of 2 a scale on its own.
    """
    lost = get_scorer("blur")(as_scored(images), SPEC)
    return [
        2 ** (0.75 * k) * F.avg_pool2d(cells[:, None], 1 << k)[:, 0] * detail.sqrt()
        for k, detail in enumerate(lost, start=1)
    ]


def map_loss(net: nn.Module, images: Tensor, cells: Tensor, prior: Tensor) -> Tensor:
    """Cross-entropy between the shares of worth and the shares of saliency, over all nodes of an image.

    Objects count for more where they are rare: on the whole no place is worth more than another.
    """
    levelled = cells / (prior / prior.mean())
    found, wanted = (
        torch.cat([part.flatten(1) for part in parts], dim=1)
        for parts in (saliency(net, images), worth(images, levelled))
    )
    wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-6)
    found = (found + 1e-7) / (found + 1e-7).sum(1, keepdim=True)
    return -(wanted * found.log()).sum(1).mean()


LOSSES = {"gate": gate_loss, "maps": map_loss}


def train(
    net: ObjectNet,
    pools: Pools,
    stage: str,
    steps: int,
    rate: float,
    seed: int,
    log: Any,
    out: Path,
    prior: Tensor = NO_PRIOR,
) -> None:
    """One stage: AdamW with a warm-up and a cosine, in place."""
    if steps == 0:
        return
    net.train()
    # What an object is, stage 1 has learned; stage 2 is mostly about which detail counts.
    rates = [rate if stage == "gate" else rate / 10, rate]
    groups = [{"params": [*net.where.parameters(), *net.gate.parameters()]}, {"params": net.what.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.05)
    began, window = time.monotonic(), []
    for step, (images, cells) in enumerate(pools.batches(steps, seed), start=1):
        images = images.contiguous(memory_format=torch.channels_last)
        loss = LOSSES[stage](net, images, cells, prior)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        tie_mirrored_weights(net)
        schedule.step()
        window.append(loss.item())
        if step % 50 == 0 or step == steps:
            log.writerow([stage, step, f"{np.mean(window):.4f}", f"{time.monotonic() - began:.0f}"])
            print(f"{stage} {step}/{steps}: {np.mean(window):.4f}, {time.monotonic() - began:.0f} s", flush=True)
            window = []
        if step % 500 == 0:
            save(net, out / f"{stage}-{step}.pt")


def without_norms(net: ObjectNet) -> ObjectNet:
    """The same function in eval mode, every batch norm folded into the convolution before it."""
    state, folded = dict(net.state_dict()), ObjectNet()
    for name, layer in net.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            conv = _conv_before(name)
            scale = layer.weight.detach() / (layer.running_var + layer.eps).sqrt()
            state[f"{conv}.weight"] = state[f"{conv}.weight"] * scale[:, None, None, None]
            state[f"{conv}.bias"] = layer.bias.detach() - layer.running_mean * scale
    folded.load_state_dict({name: state[name] for name in folded.state_dict()})
    return folded.eval()


def _conv_before(norm: str) -> str:
    """`where.1.norm` → `where.1.conv`; in a sequence `what.0.1` → `what.0.0`."""
    stem, _, last = norm.rpartition(".")
    return f"{stem}.conv" if last == "norm" else f"{stem}.{int(last) - 1}"


def save(net: ObjectNet, path: Path) -> None:
    """What ships: half precision, without norms."""
    torch.save({name: value.half() for name, value in without_norms(net).state_dict().items()}, path)


def plot(log: Path, out: Path) -> None:
    """The loss curves of both stages, where matplotlib is installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    with log.open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(1, len(LOSSES), figsize=(9, 3.2), layout="constrained")
    for axis, stage in zip(axes, LOSSES, strict=True):
        points = [(int(row["step"]), float(row["loss"])) for row in rows if row["stage"] == stage]
        axis.plot(*zip(*points, strict=True))
        axis.set(title=stage, xlabel="step", ylabel="loss")
    figure.savefig(out, dpi=110)


def main() -> None:
    """Both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gate-steps", type=int, default=3200)
    parser.add_argument("--maps-steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3, help="of stage 1; half of it in stage 2")
    parser.add_argument("--start", type=Path, help="after-gate.pt or after-maps.pt of an earlier run")
    parser.add_argument("--level", action="store_true", help="unlearn that objects are more often in the middle")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    net, pools = ObjectNet(norms=True).to(memory_format=torch.channels_last), Pools(options.pools)
    prior = pools.prior() if options.level else NO_PRIOR
    if options.start:
        net.load_state_dict(torch.load(options.start, weights_only=True))
    with (options.out / "log.csv").open("w", buffering=1) as file:
        log = csv.writer(file)
        log.writerow(["stage", "step", "loss", "seconds"])
        train(net, pools, "gate", options.gate_steps, options.rate, options.seed, log, options.out, prior)
        torch.save(net.state_dict(), options.out / "after-gate.pt")
        train(net, pools, "maps", options.maps_steps, options.rate / 2, options.seed + 1, log, options.out, prior)
    torch.save(net.state_dict(), options.out / "after-maps.pt")
    save(net, options.out / "object_net.pt")
    plot(options.out / "log.csv", options.out / "curves.png")


if __name__ == "__main__":
    main()
