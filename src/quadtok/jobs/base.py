"""What a job is, and what is heard of each input: all that jobs, engines, sinks and listeners know of each other.

One file goes this way, and is nothing else on it:

    Source → photo → tokens → {suffix: bytes} → Outcome

A *job* says what is done with it, a *sink* where the bytes go, an *engine* who does it and when; whoever started the
run *hears* one outcome for each source, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, runtime_checkable

from quadtok.errors import QuadtokError
from quadtok.jobs.sources import Source
from quadtok.spec import Spec

if TYPE_CHECKING:
    from quadtok.decoders import Decoder

Status = Literal["written", "skipped", "failed", "passed over"]
# What is in a file that a job makes; a sink tells by it whether one that is there was made by the same job. A new kind
# of picture has a mark, too (`marks.py`, and `MARKS` of `sinks/existing.py`); a tensor has none, and is compared: bit
# by bit, or a map by its numbers, which depend a little on what it was made together with.
FileKind = Literal[
    "token file", "overlay", "drawing", "restored image", "picture of a map", "map", "tensor", "levels", "plans",
    "sample",
]  # fmt: skip
# Why a run ended: all was done; it was asked to; an input failed; no space is left; nothing can be written; the scorer
# works for no image.
Ending = Literal["done", "stopped", "failed fast", "disk full", "output fails", "scorer fails"]


def last_ending(suffix: str) -> str:
    """`.sheet.PNG` to `.png`: what a file of this ending is written as."""
    return f".{suffix.rpartition('.')[2].lower()}"


class Photo(Protocol):
    """One input as a job has read it."""

    @property
    def spec(self) -> Spec:
        """Of the pixels: those of one spec may be run together, and by its size an engine knows what they take."""

    @property
    def notes(self) -> Sequence[str]:
        """What a careful user may want to know of the file."""


P = TypeVar("P", bound=Photo)
R = TypeVar("R")


class Job(Protocol[P, R]):
    """What to do with one file.

    A job is frozen and can be pickled: it holds no thread, no report and no open file, and nothing of it changes.
    Whatever its methods raise costs the one input; a `ScorerError` says that it was the scorer.
    """

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """The endings of the files that one input becomes, and what each is; the first is the result."""

    @property
    def in_parallel(self) -> bool:
        """Whether several threads may `run` it at once."""

    @property
    def tells(self) -> bool:
        """Whether its facts are wanted of an input whose files are all there, too."""

    def load(self, source: Source) -> bytes:
        """The bytes of the input."""

    def fingerprint(self, source: Source, data: bytes) -> str:
        """sha256 of all that the files depend on, 64 hex digits; found without decoding anything."""

    def read(self, source: Source, data: bytes, fingerprint: str) -> P:
        """Decode the bytes, in any thread. The fingerprint goes into the files."""

    def run(self, photos: Sequence[P]) -> Sequence[R]:
        """What becomes of photos of one spec, each on its own whatever its neighbours are.

        Raises:
            ScorerError: where the scorer fails for one of them, without saying which.
        """

    def encode(self, photo: P, result: R, wanted: Collection[str]) -> dict[str, bytes]:
        """The bytes of the files with these endings, in any thread."""

    def facts(self, photo: P, result: R) -> dict[str, Any]:
        """What is to be said of this input, as JSON values."""


@runtime_checkable
class DecodingJob(Protocol):
    """A job that decodes images, which an engine may have done elsewhere."""

    def decoded_by(self, decoder: Decoder) -> Self:
        """The same job, whose images this decoder decodes."""


class Sink(Protocol):
    """Where results go. Whoever starts a run opens and closes it.

    An engine asks what is there from any of its threads, also while it writes; it writes from one thread alone.
    """

    def output(self, source: Source) -> str:
        """What the result of this source is called."""

    def is_settled(self, source: Source) -> bool:
        """Whether all of a source's files stay as they are, as far as can be said without reading it.

        Raises:
            QuadtokError: where one cannot be written.
        """

    def outstanding(self, source: Source, fingerprint: str) -> frozenset[str]:
        """The endings of the files that are still to be made.

        Raises:
            OutputError: where one is there that was made otherwise, or there is no place for it. `NoOutput` where there
                is none for any.
        """

    def write(self, source: Source, files: Mapping[str, bytes]) -> bool:
        """Keep the files of a source, by their endings; whether there was anything to write.

        Raises:
            OutputError: where one cannot be written; `DiskFull` or `NoOutput` where no further one can either.
        """


class OpenSink(Sink, Protocol):
    """A sink as whoever starts a run has it."""

    @property
    def sources(self) -> list[Source]:
        """All inputs that results are expected of, in their order."""

    def open(self) -> AbstractContextManager[Any]:
        """While the block runs, results may be written."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        source: the input.
        status: see `Status`.
        output: what its result is called.
        error: why it failed.
        facts: what else is to be said of it, as JSON values.
        notes: see `Photo`.
    """

    source: Source
    status: Status
    output: str
    error: QuadtokError | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


Listener = Callable[[Outcome], None]


@dataclass
class StopRequest:
    """Whoever sets it asks for the end of a run: what is in flight is finished.

    Attributes:
        signal: the number of the signal that asked, if one did.
        asked: whether anybody did.
    """

    signal: int | None = None
    asked: bool = False


class Engine(Protocol):
    """Who does a job, and when: one after another, by threads, on other machines.

    Each source takes these steps, up to the first that says what became of it. What a step raises makes it *failed*,
    in the words of `errors.as_ours` (`scorer_failed` where it was the scorer); a `DiskFull` or `NoOutput` ends the run.

    1. `sink.is_settled`: *skipped*.
    2. `job.load`; *passed over* where it was found in a folder and is a picture of ours (`marks.is_passed_over`).
    3. `job.fingerprint`, `sink.outstanding`: *skipped* where no file is, unless the job `tells`.
    4. `job.read`; `job.run`, for several photos of one spec at once or for one; `job.facts`.
    5. `job.encode` and `sink.write`, where files are outstanding: *written*, or *skipped* where nothing was new.
    """

    def run(
        self, job: Job[P, R], sources: Sequence[Source], sink: Sink, hear: Listener, stop: StopRequest | None = None
    ) -> Ending:
        """Do the job for each source.

        Args:
            job: what to do.
            sources: the inputs.
            sink: where the results go.
            hear: is called in this thread with one outcome for each source, in their order, up to the end of the run.
            stop: asked now and then whether to end early.

        Returns:
            Why the run ended. What was not heard of is left to do.
        """
