"""The loop: steps, their schedule, what is kept, and how a run goes on.

A step depends on the weights, the optimiser's state, the seed and its number; on nothing that was drawn before it. So
what is kept is those, and a run that was interrupted has the weights that it would have had.
"""

from __future__ import annotations

import csv
import io
import math
import operator
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from data import Batch, InTurn, Order, Photographs, Planned, batches_of, sow, training_data, validation_data
from evaluation import Score, evaluate, half
from goals import Labels
from low_rank import merged
from nets import choose_learned, made, without_fused_attention
from quadtok.errors import InputError, QuadtokError, about, writing
from quadtok.files import load_safely, read_regular, remove_abandoned, write_atomically
from quadtok.models import Adapted
from ranks import Ranks
from self_teacher import SelfTeacher
from settings import NONE, SELF, Settings

KEPT, WEIGHTS, LOG, SCORES = "kept.pt", "model.pt", "log.csv", "scores.csv"
UNUSABLE = "is no checkpoint that this run can go on from: remove it, or give another --out"


class Run:
    """A model, what it learns, and how far it is.

    Args:
        settings: of the run.
        ranks: the processes that it runs in.
    """

    def __init__(self, settings: Settings, ranks: Ranks) -> None:
        self.settings, self.ranks = settings, ranks
        self.training, self.validation = training_data(settings), validation_data(settings)
        _check_classes(self.training, self.validation)
        num_classes = 0 if settings.teacher == SELF else len(self.training.classes)
        sow(settings.seed)
        self.model = made(settings, num_classes)
        self.goal = SelfTeacher(self.model, settings) if num_classes == 0 else Labels(self.model, settings, num_classes)
        choose_learned(self.model, settings)
        if settings.amp != NONE and ranks.device.type == "cpu":
            without_fused_attention(self.model)
        self.goal.to(ranks.device).train()
        self.shared = DistributedDataParallel(self.goal) if ranks.world > 1 else self.goal
        self.ema = None if settings.ema is None else ModelEmaV3(self.model, decay=settings.ema, use_warmup=True)
        self.optimizer = _optimizer(self.model, settings)
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=settings.steps,
            lr_min=settings.lr / 100,
            warmup_t=int(settings.warmup * settings.steps),
            warmup_lr_init=settings.lr / 100,
            t_in_epochs=False,
        )
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.amp == "float16")
        self.step, self.seconds = 0, 0.0

    @property
    def measured(self) -> Adapted:
        """What is measured, and in the end written: the running mean, where there is one."""
        return self.model if self.ema is None else self.ema.module

    def learn(self, batches: Sequence[Batch]) -> float:
        """One update; what the loss was in this process."""
        began, settings = time.monotonic(), self.settings
        self.schedule.step_update(self.step)
        sow(settings.seed, self.step, self.ranks.rank)  # of what the model drops
        num_tokens, total = settings.num_tokens(self.step), 0.0
        self.optimizer.zero_grad()
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            with nullcontext() if is_last or self.ranks.world == 1 else self.shared.no_sync():
                with half(settings.amp, self.ranks.device):
                    loss = self.shared(batch.to(self.ranks.device), num_tokens) / len(batches)
                self.scaler.scale(loss).backward()
            total += loss.item()
        if math.isnan(total):
            raise QuadtokError(f"the loss of step {self.step} is no number: give a smaller --lr, or --amp bfloat16")
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, step=self.step)
        self.seconds += time.monotonic() - began
        return total

    def score(self) -> list[Score]:
        """At each number of tokens that the settings name."""
        batches = batches_of(
            self.validation,
            InTurn(len(self.validation), self.settings.batch_size, self.ranks),
            self.settings.workers,
        )
        return evaluate(self.measured, self.goal, batches, self.settings.measured, self.ranks, self.settings.amp)

    def keep(self, path: Path) -> None:
        """Write all down that the rest depends on; the file is whole or the old one."""
        if not self.ranks.is_first:
            return
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        state = {name: part.state_dict() for name, part in parts.items()}
        if self.ema is not None:
            state["ema"] = self.ema.module.state_dict()
        state |= {"step": self.step, "seconds": self.seconds, "settings": self._learned()}
        _write(path, state)

    def go_on(self, path: Path) -> None:
        """Be where the file was written.

        Raises:
            InputError: where it is of another run, or damaged.
        """
        with about(path):
            state = load_safely(path, InputError, UNUSABLE)
            if not isinstance(state, dict) or not isinstance(state.get("settings"), dict):
                raise InputError(UNUSABLE)
            self._check_same_run(state["settings"])
            try:
                self._take(state)
            except (LookupError, RuntimeError, TypeError, ValueError) as problem:  # torch's, of weights that do not fit
                raise InputError(UNUSABLE) from problem

    def _learned(self) -> dict[str, Any]:
        """What a run that goes on must have alike."""
        return self.settings.learned() | {"processes": self.ranks.world, "images": len(self.training)}

    def _check_same_run(self, theirs: dict[str, Any]) -> None:
        ours = self._learned()
        other = [name for name in ours if theirs.get(name, ours[name]) != ours[name]]  # what older files lack is alike
        if other:
            named = ", ".join(f"{name} {theirs[name]} (now {ours[name]})" for name in other)
            raise InputError(f"is of a run with {named}: give another --out")

    def _take(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.step, self.seconds = operator.index(state["step"]), float(state["seconds"])
        if not 0 <= self.step <= self.settings.steps:
            raise ValueError(f"step {self.step}")


def train(settings: Settings, ranks: Ranks) -> Run:
    """From wherever the folder has got to, to the end: leaves `model.pt`, `log.csv` and `scores.csv` in it."""
    run, out = Run(settings, ranks), settings.out
    if ranks.is_first:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        remove_abandoned([out])
    ranks.wait()
    if (out / KEPT).exists():
        run.go_on(out / KEPT)
    log, scores = (_Table(out / name, run.step, ranks.is_first) for name in (LOG, SCORES))
    last = min(settings.steps, settings.stop_after or settings.steps)
    size, accumulate = settings.batch_size, settings.accumulate
    order = Order(len(run.training), size, accumulate, ranks, (run.step, last), settings.seed)
    batches = batches_of(run.training, order, settings.workers)
    while run.step < last:
        num_tokens = settings.num_tokens(run.step)
        loss = run.learn([next(batches) for _ in range(accumulate)])
        if run.step % settings.log_every == 0 or run.step == last:
            rate = run.optimizer.param_groups[-1]["lr"]
            log.add(
                step=run.step, tokens=num_tokens, loss=f"{loss:.4f}", lr=f"{rate:.2e}", seconds=f"{run.seconds:.0f}"
            )
        if run.step == settings.steps or (settings.eval_every and run.step % settings.eval_every == 0):
            for score in run.score():
                scores.add(step=run.step, **score.row())
        if run.step % settings.keep_every == 0 or run.step == last:
            log.write()  # first: of rows without their step the next run makes new ones, but never the reverse
            scores.write()
            run.keep(out / KEPT)
    if ranks.is_first and run.step == settings.steps:
        _write(out / WEIGHTS, merged(run.measured.state_dict()))
    return run


def _optimizer(model: Adapted, settings: Settings) -> Optimizer:
    """timm's: no decay of biases and norms, and slower blocks where the settings say so."""
    if settings.opt not in list_optimizers():
        raise InputError(f"timm has no --opt {settings.opt}: {', '.join(list_optimizers('adam*'))}, …")
    decays = {"weight_decay": settings.weight_decay, "layer_decay": settings.layer_decay}
    optimizer: Optimizer = create_optimizer_v2(model, opt=settings.opt, lr=settings.lr, **decays)
    return optimizer


def _check_classes(training: Photographs | Planned, validation: Photographs | Planned) -> None:
    if len(training.classes) == 1 and training.classes[0]:
        raise InputError(f"train/ has one class, {training.classes[0]}: to learn without labels give --teacher self")
    unknown = sorted(set(validation.classes) - set(training.classes))
    if unknown:
        raise InputError(f"val/ has classes that train/ has not: {', '.join(unknown[:5])}")
    order = [training.classes.index(name) for name in validation.classes]  # one may be missing in the smaller part
    validation.labels = [order[label] for label in validation.labels]


class _Table:
    """Rows of a CSV file; those behind a step that was not kept are made again."""

    def __init__(self, path: Path, step: int, is_ours: bool) -> None:
        self.path, self.is_ours = path, is_ours
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            with about(path):
                self.rows = _rows(read_regular(path, InputError), step)

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        if self.is_ours:
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    def write(self) -> None:
        if not self.is_ours or not self.rows:
            return
        if any(row.keys() != self.rows[-1].keys() for row in self.rows):
            raise InputError(f"{self.path}: has other columns than this run's: remove it, or give another --out")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self.rows[0]))
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode())


def _rows(data: bytes, step: int) -> list[dict[str, Any]]:
    """Those up to a step, of a table that somebody may have edited."""
    try:
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
        whole = all(None not in row and None not in row.values() for row in rows)
        kept = [row for row in rows if int(row["step"]) <= step]
    except (LookupError, TypeError, ValueError, csv.Error):
        whole, kept = False, []
    if not whole:
        raise InputError("is no table that this run wrote: remove it, or give another --out")
    return kept


def _write(path: Path, state: dict[str, Any]) -> None:
    data = io.BytesIO()  # torch hides what the system says against a file of its own
    torch.save(state, data)
    write_atomically(path, data.getvalue())
