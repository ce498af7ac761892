"""The work of `quadtok tokenize`: read, score, choose, write, a batch at a time. A bad file costs only itself."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from quadtok.artifact import VERSION, decode_tokens, encode_tokens, looks_like_ours
from quadtok.cli.output import Report
from quadtok.cli.outputs import Task
from quadtok.cli.scoring import Scoring
from quadtok.cli.settings import Geometry
from quadtok.errors import InputError, OutputError, QuadtokError, TokenFileError
from quadtok.files import write_atomically
from quadtok.images import CROP_FRACTION, Fitted, ImageFile, decode_image, fit_image, fit_native, read_bytes
from quadtok.names import IfExistsName, PixelDtypeName, QuadtreeName
from quadtok.patches import Tokens
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD
from quadtok.spec import Spec
from quadtok.tokenizers import tokenize


@dataclass(frozen=True)
class Settings:
    """What decides the content of the files, and how they are written."""

    geometry: Geometry
    quadtree: QuadtreeName
    dtype: PixelDtypeName
    device: str
    batch_size: int
    if_exists: IfExistsName
    fail_fast: bool
    max_pixels: int
    background: str
    exif: bool

    def describe(self) -> dict[str, Any]:
        """What a file's content depends on, besides the scorer and the input."""
        return {
            **self.geometry.describe(),
            "dtype": self.dtype,
            "background": self.background,
            "exif": self.exif,
            "version": VERSION,
        }


@dataclass(frozen=True)
class Prepared:
    """An image that is ready to be scored."""

    task: Task
    file: ImageFile
    fitted: Fitted
    spec: Spec
    extra: Any
    fingerprint: str
    started: float


@dataclass
class StopRequest:
    """Set by the first SIGINT or SIGTERM: finish the batch in flight, then stop. The second leaves at once."""

    signal: int | None = None


class Pipeline:
    """Takes tasks one after another and reports on each.

    Args:
        settings: see `Settings`.
        scoring: the scorer, and what it needs of each image.
        report: hears of every input exactly once.
    """

    def __init__(self, settings: Settings, scoring: Scoring, report: Report) -> None:
        self._settings = settings
        self._scoring = scoring
        self._report = report
        self._stop = StopRequest()

    def run(self, tasks: Sequence[Task]) -> StopRequest:
        """Do the tasks; afterwards the report knows how each went."""
        with stop_on_signals(self._stop):
            for batch in self._batches(tasks):
                self._finish(batch)
                if self._must_end():
                    break
        return self._stop

    def _must_end(self) -> bool:
        return self._stop.signal is not None or (self._settings.fail_fast and self._report.counts["failed"] > 0)

    def _batches(self, tasks: Sequence[Task]) -> Iterator[list[Prepared]]:
        """Neighbours of one spec, up to the batch size."""
        batch: list[Prepared] = []
        for task in tasks:
            if self._must_end():
                break
            prepared = self._prepare(task)
            if prepared is None:
                continue
            if batch and (prepared.spec != batch[0].spec or len(batch) == self._settings.batch_size):
                yield batch
                batch = []
            batch.append(prepared)
        if batch and not (self._settings.fail_fast and self._report.counts["failed"]):
            yield batch

    def _prepare(self, task: Task) -> Prepared | None:
        """Read one image; None where there is nothing to do or it failed, which is then reported."""
        try:
            return self._read(task)
        except QuadtokError as problem:
            self._fail(task, problem)
        except OSError as problem:  # the output that is there already cannot be looked at
            self._fail(task, OutputError(f"{task.target}: {problem.strerror}"))
        return None

    def _read(self, task: Task) -> Prepared | None:
        started, settings, path = time.perf_counter(), self._settings, task.source.path
        if self._exists_and_stays(task):
            return None
        data = read_bytes(path)
        extra = self._scoring.prepare(task.source, settings.geometry.num_scales)
        fingerprint = self._fingerprint(hashlib.sha256(data).hexdigest(), extra)
        if settings.if_exists == "resume" and self._is_done(task, fingerprint):
            self._skip(task)
            return None
        file = decode_image(
            data, path, max_pixels=settings.max_pixels, background=settings.background, exif=settings.exif
        )
        for note in file.notes:
            self._report.note(f"{path}: {note}")
        fitted, spec = self._fit(file, path)
        return Prepared(task, file, fitted, spec, extra, fingerprint, started)

    def _fit(self, file: ImageFile, path: Path) -> tuple[Fitted, Spec]:
        geometry = self._settings.geometry
        if geometry.size:
            fitted = fit_image(file.image, *geometry.size, geometry.fit)
        else:
            fitted = fit_native(file.image, geometry.max_patch, geometry.fit)
        try:
            return fitted, geometry.spec(*fitted.pixels.shape[1:])
        except QuadtokError as problem:
            raise type(problem)(f"{path}: {problem}") from problem

    def _exists_and_stays(self, task: Task) -> bool:
        """What can be decided about an output that is there without reading the input."""
        if not os.path.exists(task.target):  # unlike Path.exists, says no to a name that is too long
            return False
        if task.target.is_dir():
            raise OutputError(f"{task.source.path}: output {task.target} is a folder")
        if self._settings.if_exists == "error":
            raise OutputError(f"{task.source.path}: {task.target} exists; use --overwrite")
        if self._settings.if_exists == "skip":
            self._skip(task)
            return True
        return False

    def _is_done(self, task: Task, fingerprint: str) -> bool:
        """Whether the output holds just what this run would write. A damaged token file is written anew."""
        if not os.path.exists(task.target):
            return False
        data = task.target.read_bytes()
        try:
            found = decode_tokens(data).metadata.get("fingerprint")
        except TokenFileError:
            if looks_like_ours(data):
                self._report.note(f"{task.target}: damaged, written anew")
                return False
            raise OutputError(
                f"{task.source.path}: {task.target} exists and is no token file; use --overwrite"
            ) from None
        if found != fingerprint:
            raise OutputError(f"{task.source.path}: {task.target} exists with other settings; use --overwrite")
        return True

    def _fingerprint(self, input_sha256: str, extra: Any) -> str:
        facts = {
            "settings": self._settings.describe(),
            "scorer": self._scoring.describe(extra),
            "input": input_sha256,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _finish(self, batch: list[Prepared]) -> None:
        """Score a batch and write its files."""
        try:
            tokens = self._tokenize(batch)
        except QuadtokError as problem:
            for item in batch:
                self._fail(item.task, type(problem)(f"{item.task.source.path}: {problem}"))
            return
        for row, item in enumerate(batch):
            try:
                self._write(item, tokens[row])
            except OutputError as problem:
                self._fail(item.task, problem)
                if _disk_is_full(problem):
                    self._stop.signal = self._stop.signal or 0
                    return
            except QuadtokError as problem:
                self._fail(item.task, problem)

    def _tokenize(self, batch: list[Prepared]) -> Tokens:
        images = torch.stack([item.fitted.pixels for item in batch]).to(self._settings.device)
        extras = [item.extra for item in batch]
        tokens = tokenize(
            images,
            batch[0].spec,
            lambda images, spec: self._scoring.saliency(images, spec, extras),
            self._settings.quadtree,
        )
        return tokens.to("cpu")

    def _write(self, item: Prepared, tokens: Tokens) -> None:
        if any(bool(scores.isnan().any()) for scores in tokens.saliency or []):
            raise InputError(f"{item.task.source.path}: its saliency holds NaN")
        data = encode_tokens(tokens, self._settings.dtype, metadata=self._metadata(item))
        write_atomically(item.task.target, data)
        counts = torch.bincount(tokens.plan.scale[0], minlength=item.spec.num_scales).tolist()
        self._report.file(
            "written",
            str(item.task.source.path),
            output=str(item.task.target),
            tokens=item.spec.num_tokens,
            scales=counts,
            ms=round((time.perf_counter() - item.started) * 1000, 1),
        )

    def _metadata(self, item: Prepared) -> dict[str, Any]:
        settings = self._settings
        return {
            "scorer": self._scoring.describe(item.extra),
            "tokens_requested": str(settings.geometry.budget),
            "normalize": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "applied": False},
            "preprocess": {
                "image_size": settings.geometry.describe()["image_size"],
                "fit": settings.geometry.fit,
                "crop_fraction": CROP_FRACTION if settings.geometry.size and settings.geometry.fit == "crop" else None,
                "resample": "bilinear",
                "background": settings.background,
                "exif": settings.exif,
                "crop_box": list(item.fitted.crop_box),
            },
            "source": {"name": item.task.source.relative.as_posix(), **item.file.describe()},
            "fingerprint": item.fingerprint,
        }

    def _skip(self, task: Task) -> None:
        self._report.file("skipped", str(task.source.path), output=str(task.target))

    def _fail(self, task: Task, problem: QuadtokError) -> None:
        self._report.file("failed", str(task.source.path), output=str(task.target), error=problem)


@contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """While the block runs, the first SIGINT or SIGTERM only leaves a note; then the usual handlers are back."""
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    for number in watched:
        signal.signal(number, note)
    try:
        yield
    finally:
        restore()


def _disk_is_full(problem: OutputError) -> bool:
    return "no space left" in str(problem)
