"""What a run is: each setting once, with its default, and the command line that is made of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from quadtok import Spec
from quadtok.errors import InputError, about

NEW, ALL, LOW_RANK = "new", "all", "low-rank"
PRETRAINED, NONE, SELF = "pretrained", "none", "self"

RANGES = (  # of settings, both ends included
    (("steps", "batch_size", "accumulate", "tokens", "rank", "image_size", "min_patch", "max_patch"), 1, inf),
    (("eval_every", "keep_every", "log_every", "stop_after"), 1, inf),
    (("clip", "seed", "workers"), 0, inf),
    (("lr", "weight_decay", "mixup", "cutmix"), 0, 1000),  # or all becomes infinite in the first step
    (("layer_decay", "warmup", "ema", "smoothing", "drop_path", "flip", "least_area"), 0, 1),
)


def _setting(default: Any, words: str, **argument: Any) -> Any:
    return field(default=default, metadata={"help": words, **argument})


@dataclass(frozen=True)
class Settings:
    """A run; see each setting's `help`."""

    data: Path = field(
        metadata={"help": "folder with train/ and val/, each with a folder for each class", "type": Path}
    )
    out: Path = _setting(Path("run"), "folder of the run; the same command goes on in it", type=Path)

    # The model.
    model: str = _setting("vit_small_patch16_224", "of timm; or MODULE:FUNCTION, called with num_classes=")
    model_args: str = _setting("{}", 'JSON for the model\'s maker, e.g. {"depth": 6, "embed_dim": 192}')
    weights: str = _setting(PRETRAINED, "pretrained (timm's, may download), none (from scratch), or a file")
    detail: bool = _setting(False, "a coarse token also reads its own fine pixels")
    scale_embedding: bool = _setting(False, "a learned vector for each scale")
    train: str = _setting(ALL, "which weights", choices=(ALL, NEW, LOW_RANK))
    rank: int = _setting(8, "of --train low-rank", type=int)

    # The tokens.
    image_size: int = _setting(256, "side in pixels", type=int)
    min_patch: int = _setting(16, "the model's own patch", type=int)
    max_patch: int = _setting(64, "the largest", type=int)
    scorer: str = _setting("object", "quadtok's name of it")
    tokens: int | None = _setting(None, "a fixed number; with --threshold the most", type=int)
    budgets: tuple[int, int] | None = _setting(
        None, "the fewest and the most: another number in each step", nargs=2, type=int
    )
    threshold: float | None = _setting(None, "split only what has a larger saliency", type=float)
    uniform: bool = _setting(
        False, "no quadtree, and no stored plan: the image shrunk to the nearest square number of patches"
    )
    plans: Path | None = _setting(None, "quadtok tokenize --store plans of DATA/train: nothing is scored", type=Path)
    val_plans: Path | None = _setting(None, "likewise of DATA/val", type=Path)

    # What is learned.
    teacher: str = _setting(
        NONE, "self: without labels, the features of the model's own full grid", choices=(NONE, SELF)
    )
    steps: int = _setting(1000, "updates of the weights", type=int)
    batch_size: int = _setting(32, "images of one process at once", type=int)
    accumulate: int = _setting(1, "batches of one update", type=int)
    opt: str = _setting("adamw", "timm's name of an optimiser")
    lr: float = _setting(1e-4, "learning rate, after the warm-up", type=float)
    weight_decay: float = _setting(0.05, "of weights, not of biases and norms", type=float)
    layer_decay: float | None = _setting(None, "each block learns by so much slower than the next", type=float)
    warmup: float = _setting(0.05, "share of the steps", type=float)
    clip: float = _setting(1.0, "largest norm of the gradient", type=float)
    ema: float | None = _setting(
        None, "decay of a running mean of the weights, which is then what is measured", type=float
    )
    amp: str = _setting("none", "half precision of a step", choices=("none", "bfloat16", "float16"))
    smoothing: float = _setting(0.1, "of labels", type=float)
    mixup: float = _setting(0.0, "timm's mixup_alpha; not with plans", type=float)
    cutmix: float = _setting(0.0, "timm's cutmix_alpha; not with plans", type=float)
    drop_path: float = _setting(0.0, "timm's drop_path_rate", type=float)
    flip: float = _setting(0.5, "how often left and right are exchanged", type=float)
    least_area: float = _setting(0.35, "of a random crop; not with plans", type=float)
    augment: str | None = _setting(None, "timm's auto_augment, e.g. rand-m9-mstd0.5-inc1; not with plans")
    seed: int = _setting(0, "of everything that is drawn", type=int)

    # The machine.
    eval_tokens: tuple[int, ...] = _setting(
        (), "numbers of tokens to measure at; else those of the run", nargs="*", type=int
    )
    eval_every: int | None = _setting(None, "updates; it is measured at the end in any case", type=int)
    keep_every: int = _setting(200, "updates from one checkpoint to the next", type=int)
    log_every: int = _setting(20, "updates", type=int)
    workers: int = _setting(2, "processes that load images, for each process that trains", type=int)
    device: str = _setting("auto", "auto, cpu, cuda or cuda:N")
    stop_after: int | None = _setting(None, "leave after this update, as if interrupted", type=int)

    def __post_init__(self) -> None:
        for names, least, most in RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not least <= value <= most:
                    raise InputError(f"--{name.replace('_', '-')} {value} is not from {least} to {most}")
        for wrong, sentence in self._contradictions():
            if wrong:
                raise InputError(sentence)
        _ = self.spec  # of other flags
        for what, numbers in (("--budgets", self.budgets or ()), ("--eval-tokens", self.eval_tokens)):
            with about(what):
                for number in numbers:
                    self._spec(number)

    def _contradictions(self) -> Sequence[tuple[bool, str]]:
        given = [name for name in ("tokens", "budgets", "threshold") if getattr(self, name) is not None]
        mixed = self.mixup > 0 or self.cutmix > 0
        unlike, new = self.augment is not None or mixed, self.detail or self.scale_embedding
        return (
            (not given, "how many tokens? give --tokens, --budgets or --threshold"),
            ("budgets" in given and len(given) > 1, "--budgets draws the number: leave --tokens and --threshold out"),
            (self.uniform and self.threshold is not None, "--uniform has no threshold: give --tokens or --budgets"),
            (self.uniform and self.detail, "--uniform has no coarse tokens: leave --detail out"),
            (self.plans is not None and unlike, "plans are of unchanged images: leave --augment and mixing out"),
            (mixed and self.batch_size % 2 == 1, "timm mixes pairs of images: give an even --batch-size"),
            (self.teacher == SELF and mixed, "--teacher self has no labels to mix: leave --mixup and --cutmix out"),
            (self.train == NEW and not new, "--train new needs --detail or --scale-embedding"),
            (self.detail and self.min_patch == self.max_patch, "--detail is of coarse tokens: raise --max-patch"),
            (self.clip == 0, "--clip 0 lets nothing be learned: give --clip inf to leave gradients as they are"),
            (self.budgets is not None and self.budgets[0] > self.budgets[1], "--budgets are the fewest, then the most"),
        )  # fmt: skip

    @property
    def spec(self) -> Spec:
        """Of an image; `num_tokens` is the fixed number, or the most."""
        most = self.tokens or (self.budgets[1] if self.budgets else (self.image_size // self.min_patch) ** 2)
        return self._spec(most)

    def _spec(self, most: int) -> Spec:
        return Spec.at_most(self.image_size, self.image_size, self.min_patch, self.max_patch, most)

    @property
    def measured(self) -> tuple[int, ...]:
        """The numbers of tokens at which the model is measured: those named, or the next smaller that there are."""
        named = self.eval_tokens or self.budgets or (self.spec.num_tokens,)
        return tuple(dict.fromkeys(self._spec(number).num_tokens for number in named))

    @property
    def arguments_of_model(self) -> dict[str, Any]:
        """For timm's `create_model`."""
        with about(f"--model-args {self.model_args}"):
            try:
                arguments = json.loads(self.model_args)
            except (ValueError, RecursionError):
                arguments = None
            if not isinstance(arguments, dict):
                raise InputError('is no JSON of the form {"depth": 6}')
            return arguments

    def num_tokens(self, step: int) -> int:
        """Of all images of one update: the same in every process, and however often the run was interrupted."""
        if self.budgets is None:
            return self.spec.num_tokens
        splits = (self.spec.num_tokens - self.budgets[0]) // 3  # each adds three tokens
        drawn = np.random.default_rng([self.seed, step]).integers(max(0, splits) + 1)
        return self.spec.num_tokens - 3 * int(drawn)

    def learned(self) -> dict[str, Any]:
        """What decides on the weights, as plain values: a run that goes on must have the same."""
        without = ("out", "stop_after", "eval_tokens", "eval_every", "keep_every", "log_every", "workers", "device")
        return {name: str(value) for name, value in asdict(self).items() if name not in without}


def parse(words: Sequence[str] | None = None) -> Settings:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Fine-tune a ViT on mixed-resolution tokens.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for one in fields(Settings):
        argument = dict(one.metadata)
        if one.default is MISSING:
            parser.add_argument(one.name, **argument)
            continue
        if isinstance(one.default, bool):
            argument["action"] = "store_true"
        parser.add_argument(f"--{one.name.replace('_', '-')}", default=one.default, **argument)
    values = vars(parser.parse_args(words))
    return Settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
