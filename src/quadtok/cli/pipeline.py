"""The work of `quadtok tokenize`: read, score, choose, write, a batch at a time. A bad file costs only itself."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from quadtok.artifact import VERSION, decode_tokens, encode_tokens, looks_like_ours
from quadtok.cli.existing import is_done, stays_unread
from quadtok.cli.output import Report
from quadtok.cli.outputs import Task
from quadtok.cli.reading import Photograph, Reading
from quadtok.cli.running import StopRequest, stop_on_signals
from quadtok.cli.scoring import Scoring
from quadtok.errors import InputError, OutputError, QuadtokError, TokenFileError
from quadtok.files import write_atomically
from quadtok.images import CROP_FRACTION, read_bytes
from quadtok.names import IfExistsName, PixelDtypeName, QuadtreeName
from quadtok.patches import Tokens
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD
from quadtok.rendering import render
from quadtok.sheets import encode_png
from quadtok.tokenizers import tokenize


@dataclass(frozen=True)
class Settings:
    """What decides the content of the files, and how they are written."""

    reading: Reading
    quadtree: QuadtreeName
    dtype: PixelDtypeName
    device: str
    batch_size: int
    if_exists: IfExistsName
    fail_fast: bool
    overlay: bool

    def describe(self) -> dict[str, Any]:
        """What a token file's content depends on, besides the scorer and the input."""
        return {**self.reading.describe(), "dtype": self.dtype, "version": VERSION}


@dataclass(frozen=True)
class Prepared:
    """A photograph on its way, with what its scorer and its file need."""

    task: Task
    photo: Photograph
    extra: Any
    fingerprint: str
    started: float


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
        with stop_on_signals() as self._stop:
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
            if batch and (prepared.photo.spec != batch[0].photo.spec or len(batch) == self._settings.batch_size):
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
        return None

    def _read(self, task: Task) -> Prepared | None:
        started, settings, path = time.perf_counter(), self._settings, task.source.path
        if stays_unread(task, settings.if_exists):
            self._skip(task)
            return None
        data = read_bytes(path)
        extra = self._scoring.prepare(task.source, settings.reading.geometry.num_scales)
        fingerprint = self._fingerprint(hashlib.sha256(data).hexdigest(), extra)
        is_this_run = partial(_was_made_by, fingerprint)
        if is_done(task, settings.if_exists, is_this_run) and self._has_overlay(task):
            self._skip(task)
            return None
        photo = settings.reading.decode(data, path)
        for note in photo.file.notes:
            self._report.note(f"{path}: {note}")
        return Prepared(task, photo, extra, fingerprint, started)

    def _has_overlay(self, task: Task) -> bool:
        return not self._settings.overlay or os.path.exists(overlay_path(task.target))

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
        images = torch.stack([item.photo.fitted.pixels for item in batch]).to(self._settings.device)
        extras = [item.extra for item in batch]
        tokens = tokenize(
            images,
            batch[0].photo.spec,
            lambda images, spec: self._scoring.saliency(images, spec, extras),
            self._settings.quadtree,
        )
        return tokens.to("cpu")

    def _write(self, item: Prepared, tokens: Tokens) -> None:
        if any(bool(scores.isnan().any()) for scores in tokens.saliency or []):
            raise InputError(f"{item.task.source.path}: its saliency holds NaN")
        data = encode_tokens(tokens, self._settings.dtype, metadata=self._metadata(item))
        write_atomically(item.task.target, data)
        if self._settings.overlay:
            picture = render(item.photo.fitted.pixels, tokens.plan)
            write_atomically(overlay_path(item.task.target), encode_png(picture))
        spec = item.photo.spec
        self._report.file(
            "written",
            str(item.task.source.path),
            output=str(item.task.target),
            tokens=spec.num_tokens,
            scales=torch.bincount(tokens.plan.scale[0], minlength=spec.num_scales).tolist(),
            ms=round((time.perf_counter() - item.started) * 1000, 1),
        )

    def _metadata(self, item: Prepared) -> dict[str, Any]:
        reading, photo = self._settings.reading, item.photo
        cropped = reading.geometry.size and reading.geometry.fit == "crop"
        return {
            "scorer": self._scoring.describe(item.extra),
            "tokens_requested": str(reading.geometry.budget),
            "normalize": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "applied": False},
            "preprocess": {
                "image_size": reading.geometry.describe()["image_size"],
                "fit": reading.geometry.fit,
                "crop_fraction": CROP_FRACTION if cropped else None,
                "resample": "bilinear",
                "background": reading.background,
                "exif": reading.exif,
                "crop_box": list(photo.fitted.crop_box),
            },
            "source": {"name": item.task.source.relative.as_posix(), **photo.file.describe()},
            "fingerprint": item.fingerprint,
        }

    def _skip(self, task: Task) -> None:
        self._report.file("skipped", str(task.source.path), output=str(task.target))

    def _fail(self, task: Task, problem: QuadtokError) -> None:
        self._report.file("failed", str(task.source.path), output=str(task.target), error=problem)


def overlay_path(target: Path) -> Path:
    """Where `--overlay` draws the tokens of this file: NAME.overlay.png beside it."""
    return target.with_suffix(".overlay.png")


def _was_made_by(fingerprint: str, data: bytes) -> bool | None:
    """See `is_done`."""
    try:
        return decode_tokens(data).metadata.get("fingerprint") == fingerprint
    except TokenFileError:
        return None if looks_like_ours(data) else False


def _disk_is_full(problem: OutputError) -> bool:
    return "no space left" in str(problem)
