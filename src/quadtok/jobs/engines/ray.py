"""A job done by Ray's processes, on this machine or on the machines of a cluster.

Ray Data gives chunks of inputs to actors, each of which does them with `Threads` (see away.py), and gives back what
they became in the order of the inputs. The calling thread writes and talks; where the sink's files are apart from each
other and all machines see their disk, the actors write, and what travels is a word for each input.

Nothing of Ray's own is needed to go on after a kill: what the sink has is not done again. A process that dies is
replaced by Ray, and its chunk is done again; over which input it died, and how often, the ledger knows.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from quadtok import __version__
from quadtok.errors import InputError, QuadtokError, UnexpectedError, described
from quadtok.images import no_stderr
from quadtok.jobs.base import Ending, Job, Listener, P, R, Sink, StopRequest
from quadtok.jobs.engines.address import check_address, check_answers, why_not
from quadtok.jobs.engines.away import Actors, Chunk, Given, Row, ShareableSink, Worker, as_sentence
from quadtok.jobs.engines.base import MOST_WORKERS, default_workers
from quadtok.jobs.engines.finish import Finish
from quadtok.jobs.engines.ledger import Attempt, Ledger
from quadtok.jobs.engines.pump import Pump
from quadtok.jobs.engines.signals import handlers_kept
from quadtok.jobs.engines.threads import Threads
from quadtok.jobs.engines.witness import is_seen, witness
from quadtok.jobs.sources import Source
from quadtok.quiet import silenced

# Deaths of processes are printed to stdout; what not to print is looked up when it is loaded.
try:
    with silenced((), {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}):
        import pyarrow as pa
        import ray
        import ray.data
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as problem:
    raise InputError("the engine ray needs Ray: pip install 'quadtok[ray]'") from problem

LEAST_CHUNK = 32  # inputs; giving one away takes some milliseconds
_BATCHES_ON_A_GPU = 8  # of a chunk, so that some are read while one is scored
_PATIENCE = 30  # seconds, for what is in flight when a run ends early
_MOST_LOADS = 64  # by processes of which none comes to its first chunk
_LOGGERS = ("ray", "ray.data")
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@dataclass(frozen=True)
class Ray:
    """How many actors, and where.

    A Ray that runs in this process already is used, and left running.

    Attributes:
        workers: actors; None: one for each core, or each GPU. At most as many as there are of these.
        batch_size: how many photos of one spec are run at once, at most.
        address: of a cluster: `HOST:PORT`, or `"auto"` on one of its machines; None: this machine alone.
        uses_gpus: each actor has a GPU to itself.
        fail_fast: end at the first input that fails. Others that were begun are finished.

    Raises:
        InputError: where there are no workers, or no photos in a batch.
    """

    workers: int | None = None
    batch_size: int = 1
    address: str | None = None
    uses_gpus: bool = False
    fail_fast: bool = False

    def __post_init__(self) -> None:
        for name, number in (("workers", 1 if self.workers is None else self.workers), ("batch_size", self.batch_size)):
            if not isinstance(number, int) or number < 1:
                raise InputError(f"{name} must be an integer of at least 1, got {number!r}")
        if self.address is not None:
            check_address(self.address)

    def run(
        self, job: Job[P, R], sources: Sequence[Source], sink: Sink, hear: Listener, stop: StopRequest | None = None
    ) -> Ending:
        """Do the job for each source; see `Engine`.

        Raises:
            InputError: where Ray cannot be reached or has no such processors, the sink is none that can be shared, or
                a machine does not see the folders of this one.
        """
        if not isinstance(sink, ShareableSink):
            raise InputError(f"the engine ray needs a sink that can be shared, which {type(sink).__name__} cannot")
        if not sources:
            return "done"
        stop, pickled = stop or StopRequest(), _pickled(job)
        finish = Finish(sink, hear, self.batch_size, self.fail_fast, sources)
        with _running(self.address, self.workers), witness(sink.shared) as seen:
            if stop.asked:
                return "stopped"
            actors = self._actors()
            given = Given(pickled, self.batch_size, actors.threads, seen, os.getcwd(), __version__)
            return _Run(sources, sink, actors, given).over(finish, stop)

    def _actors(self) -> Actors:
        """How many, and how many threads of each."""
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores = sum(int(one.get("CPU", 0)) for one in machines)
        if not self.uses_gpus:
            return Actors(max(1, min(self.workers or cores, cores)), 0, 0)
        with_gpus = [(int(one["GPU"]), int(one.get("CPU", 1))) for one in machines if one.get("GPU", 0) >= 1]
        if not with_gpus:
            raise InputError("no machine of this Ray has a GPU")
        gpus = sum(count for count, _ in with_gpus)
        threads = min(cpus // count for count, cpus in with_gpus)
        return Actors(min(self.workers or gpus, gpus), 1, max(1, min(MOST_WORKERS, threads)))


class _Actor:
    """A process that does chunks. What stands in the way of all is given back as if it were a row."""

    def __init__(self, given: list[ray.ObjectRef[Given]], ledger: Any) -> None:
        self._ledger = ledger
        self._worker: Worker | None = None
        self._problem: QuadtokError | None = None
        try:
            self._worker = self._made(ray.get(given[0]))
        except Exception as problem:
            self._problem = as_sentence(problem, "a machine of Ray cannot begin")

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        for data in table["chunk"].to_pylist():
            for found in self._found(data):
                yield pa.table({"row": pa.array([pickle.dumps(found)], pa.large_binary())})

    def _found(self, data: bytes) -> Iterator[Row | QuadtokError]:
        if self._worker is None:
            assert self._problem is not None  # or there is a worker
            yield self._problem
            return
        try:
            yield from self._worker.rows(pickle.loads(data))
        except Exception as problem:
            yield as_sentence(problem, "a process of Ray failed")

    def _made(self, given: Given) -> Worker:
        here = platform.node()
        if given.version != __version__:
            raise InputError(f"{here} has quadtok {__version__}, and this machine {given.version}: install one version")
        try:
            os.chdir(given.folder)
        except OSError:
            raise InputError(f"{here} does not see {given.folder}, where paths begin: run in a shared folder") from None
        if given.witness is not None and not is_seen(given.witness):
            raise InputError(f"{here} does not see {given.witness.parent} as this machine does: write to a shared disk")
        if (loads := ray.get(self._ledger.load.remote())) > _MOST_LOADS:
            raise InputError(f"{loads - 1} processes died while they loaded the job: see if memory suffices")
        sys.path.append(given.folder)  # a scorer of one's own lies in the working folder
        job = pickle.loads(given.job)
        engine = Threads(given.threads, given.batch_size, ahead=given.batch_size if given.threads else 0)
        return Worker(job, engine, _Remote(self._ledger), writes=given.witness is not None)


class _Remote:
    """The ledger, as an actor has it."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def begin(self, chunk: int) -> Attempt | None:
        found: Attempt | None = ray.get(self._ledger.begin.remote(chunk))
        return found

    def at(self, chunk: int, place: int) -> None:
        ray.get(self._ledger.at.remote(chunk, place))

    def end(self, chunk: int) -> None:
        ray.get(self._ledger.end.remote(chunk))


class _Run:
    """One run of an engine."""

    def __init__(self, sources: Sequence[Source], sink: ShareableSink, actors: Actors, given: Given) -> None:
        self._sources, self._sink, self._actors = sources, sink, actors
        self._size = max(LEAST_CHUNK, given.batch_size) * (_BATCHES_ON_A_GPU if actors.gpus else 1)
        self._given = ray.put(given)  # kept, as an actor that is made anew asks for it again
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._ledger = ray.remote(num_cpus=0, scheduling_strategy=here)(Ledger).remote()
        self._place = 0  # of the next input to be heard of

    def over(self, finish: Finish, stop: StopRequest) -> Ending:
        """Until all is done; or, where it ends early, until what was begun is done."""
        end = None
        with Pump(self._rows) as pump:
            try:
                for row in pump.items():
                    if row is not None:
                        self._take(row, finish, is_ending=end is not None)
                    if end is None and (stop.asked or finish.ending):
                        end = self._begun()
                    if end is not None and (self._place >= end or (row is not None and row.place >= end)):
                        break
            finally:
                self._ledger.close.remote()
        if end is None and self._place < len(self._sources):
            raise self._lost()
        return finish.ending or ("stopped" if stop.asked else "done")

    def _take(self, row: Row, finish: Finish, is_ending: bool) -> None:
        if row.made is None or row.place < self._place:  # not begun; or done once more, as its machine was lost
            return
        if row.place > self._place and not is_ending:
            raise self._lost()
        self._place = row.place + 1
        if not finish.ending:
            finish(row.made)

    def _lost(self) -> UnexpectedError:
        return UnexpectedError(f"Ray lost what became of {self._sources[self._place].path}: run it again")

    def _begun(self) -> int:
        """The place behind the last chunk that was begun; none is from now on."""
        try:
            last = int(ray.get(self._ledger.close.remote(), timeout=_PATIENCE))
        except ray.exceptions.RayError:  # it is not there yet, or not any more
            return 0
        return min(len(self._sources), self._size * (1 + last))

    def _rows(self) -> Generator[Row, None, None]:
        """What actors give back, in the order of the inputs."""
        chunks = [{"chunk": pickle.dumps(chunk)} for chunk in self._chunks()]
        given = ray.data.from_items(chunks, override_num_blocks=len(chunks))
        settings = given.context
        settings.execution_options.preserve_order = True
        settings.enable_progress_bars = settings.print_on_execution_start = False
        made = given.map_batches(
            _Actor,
            fn_constructor_args=([self._given], self._ledger),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=self._actors.count),
            num_cpus=max(1, self._actors.threads),
            num_gpus=self._actors.gpus or None,
        )
        for table in made.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in map(pickle.loads, table["row"].to_pylist()):
                if isinstance(row, QuadtokError):
                    raise row
                yield row

    def _chunks(self) -> Iterator[Chunk]:
        for number, first in enumerate(range(0, len(self._sources), self._size)):
            some = self._sources[first : first + self._size]
            yield Chunk(number, first, some, self._sink.part(some))


@contextmanager
def _running(address: str | None, workers: int | None) -> Iterator[None]:
    """A Ray to work with."""
    with silenced(_LOGGERS, _QUIET):
        if ray.is_initialized():
            yield
            return
        # By another thread: in the main one Ray would take the handlers of signals, and end this process by its own.
        # That thread stays: what Ray starts is ended by the system when the thread ends that started it.
        with ThreadPoolExecutor(1, "quadtok-ray") as pool:
            try:
                _start(pool, address, None if address else workers or default_workers())
                yield
            finally:
                ray.shutdown()


def _start(pool: Executor, address: str | None, cores: int | None) -> None:
    if address is not None:
        check_answers(address)
    here = {} if address else {"num_cpus": cores, "include_dashboard": False}
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        with handlers_kept(), no_stderr():  # there it says how much it will say
            pool.submit(partial(ray.init, address or "local", **quiet, **here)).result()
    except Exception as problem:
        raise InputError(why_not(address, problem)) from problem


def _pickled(job: Job[Any, Any]) -> bytes:
    try:
        data: bytes = ray.cloudpickle.dumps(job)
    except Exception as problem:
        sentence = f"the job cannot be sent to other processes ({described(problem)}): see its scorer"
        raise InputError(sentence) from problem
    return data
