"""The work of `quadtok tokenize`: read, score, choose, write, a batch at a time. A bad file costs only itself.

The calling thread scores, writes and talks, strictly in the order of the tasks. Around it, a few threads read the next
images and make the bytes of the last: Pillow and zlib work outside Python's lock. Nothing that is written or said
depends on how many threads there are. What is in flight is bounded: a batch, and the images that are read ahead, all
of them brought to size already; no decoded photograph outlives its reading.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from quadtok.cli.running import StopRequest, Trial, stop_on_signals
from quadtok.cli.terminal import Report
from quadtok.errors import DiskFull, ScorerError, as_ours, scorer_failed
from quadtok.files import write_atomically
from quadtok.images import CROP_FRACTION, Fitted, own_stderr, read_bytes
from quadtok.jobs.preprocess import Reading
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sinks.existing import Judge, outstanding, overlay_of, stays_unread, token_file_of
from quadtok.jobs.sinks.naming import Task
from quadtok.marks import Mark, is_passed_over, read_mark
from quadtok.names import IfExistsName, PixelDtypeName, QuadtreeName
from quadtok.pictures.encode import encode_picture
from quadtok.pictures.render import render
from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD
from quadtok.spec import Spec
from quadtok.storage.token_file import VERSION, encode_tokens
from quadtok.tokens import Tokens, tokenize

T = TypeVar("T")
NothingToDo = Literal["skipped", "passed over"]


@dataclass(frozen=True)
class Settings:
    """What decides the content of the files, and how they are written."""

    reading: Reading
    quadtree: QuadtreeName
    dtype: PixelDtypeName
    device: str
    batch_size: int
    workers: int
    if_exists: IfExistsName
    fail_fast: bool

    def describe(self) -> dict[str, Any]:
        """What a token file's content depends on, besides the scorer and the input."""
        return {**self.reading.describe(), "dtype": self.dtype, "version": VERSION}


@dataclass(frozen=True)
class Prepared:
    """A photograph on its way, with what its scorer and its file need. The decoded image itself is gone."""

    task: Task
    to_write: frozenset[Path]
    fitted: Fitted
    spec: Spec
    source: dict[str, Any]
    draft: int
    notes: list[str]
    left_out: int
    extra: Any
    fingerprint: str
    started: float


@dataclass(frozen=True)
class Content:
    """The bytes of a task's files that are still to be written."""

    files: dict[Path, bytes]
    scales: list[int]


class Pipeline:
    """Takes tasks one after another and reports on each.

    Args:
        settings: see `Settings`.
        scoring: the scorer, and what it needs of each image.
        report: hears of every input exactly once, in order.
    """

    def __init__(self, settings: Settings, scoring: Scoring, report: Report) -> None:
        self._settings = settings
        self._scoring = scoring
        self._report = report
        self._stop = StopRequest()
        # Two batches and, where those are small, some more: the first images of a folder may be odd ones.
        self._trial = Trial(report, patience=max(16, 2 * settings.batch_size))
        self._readers: Executor = InThisThread()
        self._encoders: Executor = InThisThread()

    def run(self, tasks: Sequence[Task]) -> StopRequest:
        """Do the tasks; afterwards the report knows how each went."""
        workers = self._settings.workers
        with (
            stop_on_signals() as self._stop,
            half_of_the_cores_score(),
            # Two pools, so that a batch need not wait behind the images that are read ahead.
            worker_threads(workers) as self._readers,
            worker_threads(workers) as self._encoders,
        ):
            for batch in self._batches(tasks):
                self._finish(batch)
                if self._must_end():
                    break
        return self._stop

    def _must_end(self) -> bool:
        failed = self._settings.fail_fast and self._report.counts["failed"] > 0
        return self._stop.signal is not None or self._trial.is_lost or failed

    def _batches(self, tasks: Sequence[Task]) -> Iterator[list[Prepared]]:
        """Neighbours of one spec, up to the batch size."""
        batch: list[Prepared] = []
        for task, reading in ahead(self._readers, self._read, tasks, self._look_ahead()):
            if self._must_end():
                break
            prepared = self._prepared(task, reading)
            if prepared is None:
                continue
            if batch and (prepared.spec != batch[0].spec or len(batch) == self._settings.batch_size):
                yield batch
                batch = []
            batch.append(prepared)
        if batch and not (self._settings.fail_fast and self._report.counts["failed"]):
            yield batch

    def _look_ahead(self) -> int:
        """How many images are read ahead: enough to keep the threads at work while a batch is scored and written."""
        settings = self._settings
        if settings.workers == 0:
            return 0
        # Images of native sizes may be large, and seldom make batches.
        return 2 * settings.workers + (settings.batch_size if settings.reading.geometry.size else 0)

    def _prepared(self, task: Task, reading: Future[Prepared | NothingToDo]) -> Prepared | None:
        """Await one image; None where there is nothing to do or it failed, which is then reported."""
        try:
            prepared = reading.result()
        except Exception as problem:
            self._fail(task, problem)
            return None
        if not isinstance(prepared, Prepared):
            self._say(prepared, task)
            return None
        for note in prepared.notes:
            self._note(f"{task.source.path}: {note}")
        return prepared

    def _read(self, task: Task) -> Prepared | NothingToDo:
        """Read one image and bring it to size, in any thread."""
        started, settings, path = time.perf_counter(), self._settings, task.source.path
        if stays_unread(task, settings.if_exists):
            return "skipped"
        data = read_bytes(path)
        if task.source.found and is_passed_over(read_mark(data)):
            return "passed over"
        extra = self._scoring.prepare(task.source, settings.reading.geometry.num_scales)
        fingerprint = self._fingerprint(hashlib.sha256(data).hexdigest(), extra)
        to_write = outstanding(task, settings.if_exists, _judges(task, fingerprint))
        if not to_write:
            return "skipped"
        photo = settings.reading.decode(data, path)
        return Prepared(
            task,
            to_write,
            photo.fitted,
            photo.spec,
            photo.file.describe(),
            photo.file.draft.divisor if photo.file.draft else 1,
            photo.file.notes,
            photo.file.left_out,
            extra,
            fingerprint,
            started,
        )

    def _fingerprint(self, input_sha256: str, extra: Any) -> str:
        facts = {
            "settings": self._settings.describe(),
            "scorer": self._scoring.describe(extra),
            "input": input_sha256,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _finish(self, batch: list[Prepared]) -> None:
        """Score a batch and write its files. Whatever goes wrong with one image, the others are written."""
        contents = [(item, self._encoders.submit(self._encode, item, tokens)) for item, tokens in self._scored(batch)]
        for item, content in contents:
            try:
                made = content.result()
                self._write(item, made)
            except DiskFull as problem:
                self._fail(item.task, problem)
                self._stop.signal = self._stop.signal or 0
                return
            except Exception as problem:
                self._fail(item.task, problem)
            else:
                self._say_written(item, made)

    def _scored(self, batch: list[Prepared]) -> list[tuple[Prepared, Tokens]]:
        """The images of a batch with their tokens, less those that the scorer fails for."""
        try:
            tokens = self._tokenize(batch)
        except Exception as problem:
            if len(batch) == 1:
                with own_stderr():
                    self._trial.failed(batch[0].task, scorer_failed(batch[0].task.source.path, problem))
                return []
        else:
            self._trial.worked()
            return [(item, tokens[row]) for row, item in enumerate(batch)]
        # One by one, so that only the culprit is lost. Outside of the handler, whose error holds the batch's memory.
        return [scored for item in batch if not self._must_end() for scored in self._scored([item])]

    def _tokenize(self, batch: list[Prepared]) -> Tokens:
        images = torch.stack([item.fitted.pixels for item in batch]).to(self._settings.device)
        extras = [item.extra for item in batch]
        tokens = tokenize(
            images,
            batch[0].spec,
            lambda images, spec: self._scoring.saliency(images, spec, extras),
            self._settings.quadtree,
        ).to("cpu")
        if any(bool(scores.isnan().any()) for scores in tokens.saliency or []):
            raise ScorerError("its saliency holds NaN")
        # Copied: a user's scorer may give the same memory again for the next image.
        return replace(tokens, saliency=tokens.saliency and [scores.clone() for scores in tokens.saliency])

    def _encode(self, item: Prepared, tokens: Tokens) -> Content:
        """Make the bytes of one image's files, in any thread."""
        task, files = item.task, {}
        if task.target in item.to_write:
            files[task.target] = encode_tokens(tokens, self._settings.dtype, metadata=self._metadata(item))
        if task.overlay in item.to_write:
            mark = Mark("picture of a plan", item.fingerprint)
            files[task.overlay] = encode_picture(render(item.fitted.pixels, tokens.plan), mark=mark)
        scales = torch.bincount(tokens.plan.scale[0], minlength=item.spec.num_scales).tolist()
        return Content(files, scales)

    def _write(self, item: Prepared, content: Content) -> None:
        for path, data in content.files.items():
            write_atomically(path, data)

    def _say_written(self, item: Prepared, content: Content) -> None:
        facts = {
            "tokens": item.spec.num_tokens,
            "scales": content.scales,
            "left_out": item.left_out,
            "ms": round((time.perf_counter() - item.started) * 1000, 1),
        }
        self._say("written", item.task, **facts)

    def _metadata(self, item: Prepared) -> dict[str, Any]:
        reading = self._settings.reading
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
                "draft": item.draft,
                "crop_box": list(item.fitted.crop_box),
            },
            "source": {"name": item.task.source.relative.as_posix(), **item.source},
            "fingerprint": item.fingerprint,
        }

    def _fail(self, task: Task, problem: Exception) -> None:
        self._say("failed", task, error=as_ours(problem, task.source.path))

    def _say(self, status: str, task: Task, **facts: Any) -> None:
        with own_stderr():
            self._report.file(status, str(task.source.path), output=str(task.target), **facts)

    def _note(self, message: str) -> None:
        with own_stderr():
            self._report.note(message)


class InThisThread(Executor):
    """Does each job when it is submitted: what remains of a pool without threads."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The finished job."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:
            future.set_exception(problem)
        return future


@contextmanager
def worker_threads(count: int) -> Iterator[Executor]:
    """A pool of `count` threads; afterwards what has not begun is dropped, and nothing is waited for after an error."""
    pool = ThreadPoolExecutor(count, "quadtok-worker") if count else InThisThread()
    finished = False
    try:
        yield pool
        finished = True
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)


@contextmanager
def half_of_the_cores_score() -> Iterator[None]:
    """While the block runs, torch leaves half of the cores to the threads that read.

    With a thread a core, torch's threads spin while they wait for each other on cores that are busy decoding: on two
    cores the same work cost up to half as much again. The number does not go by `workers`, so that no sum does either.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ahead(
    pool: Executor, do: Callable[[Task], T], tasks: Sequence[Task], number: int
) -> Iterator[tuple[Task, Future[T]]]:
    """Each task in order with its job, while those of up to `number` tasks after it are begun already."""
    begun: deque[tuple[Task, Future[T]]] = deque()
    for task in tasks:
        begun.append((task, pool.submit(do, task)))
        if len(begun) > number:
            yield begun.popleft()
    while begun:
        yield begun.popleft()


def _judges(task: Task, fingerprint: str) -> dict[Path, Judge]:
    judges = {task.target: token_file_of(fingerprint)}
    if task.overlay is not None:
        judges[task.overlay] = overlay_of(fingerprint)
    return judges
