"""Images decoded in processes of their own: one that dies is replaced, and costs at most the file that it died of.

Why a process and no `ProcessPoolExecutor`: there one death fails everything that was handed in, without a word on whose
it was. Here a process is asked by one thread at a time, for one file: so a death has a file. Still it may be another's
fault, since whoever kills a process for want of memory takes any. So the file is tried once more, alone: while it is,
no other is decoded. What dies twice is named.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from quadtok.decoders.child import READY, receive, send
from quadtok.decoders.room import Room
from quadtok.errors import ImageError, InputError, QuadtokError
from quadtok.preprocess import Photo, Preprocess

_GRACE = 2.0  # seconds to end by itself


class DiedError(Exception):
    """A process ended in the middle of its work; says how."""


class _NeverBeganError(DiedError):
    """A process ended before its work; says how."""


class Processes:
    """Several processes that decode; a context that starts and ends them.

    Args:
        count: how many.
        room: for pixels.

    Raises:
        InputError: where a process cannot even begin.
    """

    def __init__(self, count: int, room: Room) -> None:
        self._count, self._room = count, room
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._asked: set[_Process] = set()
        self._is_over = False
        self._changing = threading.Lock()  # who is asked, and whether it is over
        self._turns = _Turns()

    def decode(self, preprocess: Preprocess, data: bytes, path: Path) -> Photo:
        """See `Decoder`."""
        with suppress(DiedError), self._turns.with_others():
            return self._once(preprocess, data, path)
        try:
            with self._turns.alone():
                return self._once(preprocess, data, path)
        except _NeverBeganError as problem:
            raise InputError(
                f"{path}: a process that decodes ended before it began ({problem}); decode without"
            ) from None
        except DiedError as problem:
            raise ImageError(
                f"{path}: two processes that decoded it died of it, the last one alone ({problem})"
            ) from None

    def __enter__(self) -> Processes:
        for _ in range(self._count):
            process = _Process()
            process.start()  # all at once, while torch is loaded or the first files are read
            self._idle.put(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # threads may still wait for answers that nobody wants
            with self._changing:
                self._is_over = True
                for process in self._asked:
                    process.stop()
        for process in [self._idle.get() for _ in range(self._count)] if kind is None else self._all_idle():
            process.end()

    def _all_idle(self) -> Iterator[_Process]:
        while not self._idle.empty():
            yield self._idle.get()

    def _once(self, preprocess: Preprocess, data: bytes, path: Path) -> Photo:
        process = self._taken()
        try:
            photo = process.decode(preprocess, data, path, self._room)
        except QuadtokError:
            self._give_back(process, process)
            raise
        except BaseException:  # who knows what it would answer next
            self._give_back(process, _Process())
            process.kill()
            raise
        self._give_back(process, process)
        return photo

    def _taken(self) -> _Process:
        process = self._idle.get()
        try:
            with self._changing:
                if self._is_over:
                    raise InputError("the run is over")  # heard by nobody
                process.start()
                self._asked.add(process)
        except BaseException:
            self._idle.put(process)
            raise
        return process

    def _give_back(self, process: _Process, next_one: _Process) -> None:
        with self._changing:
            self._asked.remove(process)
        self._idle.put(next_one)


class _Process:
    """One process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    def start(self) -> None:
        """Begin, if it has not; nothing is waited for.

        Raises:
            InputError: where there can be no further process.
        """
        if self._process is not None:
            return
        try:
            with heedless():
                process = subprocess.Popen(
                    _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
        except OSError as problem:
            raise InputError(f"a process that decodes cannot be begun ({problem.strerror})") from problem
        assert process.stdin is not None and process.stdout is not None
        self._process, self._questions, self._answers = process, process.stdin, process.stdout

    def decode(self, preprocess: Preprocess, data: bytes, path: Path, room: Room) -> Photo:
        """Ask it, once it is started; see `Preprocess.decode`.

        Raises:
            DiedError: where it ends meanwhile.
        """
        if not self._is_ready:
            self._wait_until_ready()
        try:
            send(self._questions, (preprocess, data, path))
            with room.of(receive(self._answers)):
                send(self._questions, None)
                went_well, answer = receive(self._answers)
        except (OSError, EOFError):
            raise DiedError(self._how_it_ended()) from None
        if went_well:
            photo: Photo = answer
            return photo
        raise answer

    def end(self) -> None:
        """It has nothing more to do."""
        if self._process is None:
            return
        with suppress(OSError):
            self._questions.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._answers.close()

    def stop(self) -> None:
        """It is not wanted any more; whoever waits for its answer hears that it died."""
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        """It is not wanted any more, and nobody waits for it."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._questions, self._answers):
            with suppress(OSError):
                stream.close()

    def _wait_until_ready(self) -> None:
        for line in self._answers:
            if line.endswith(READY):
                self._is_ready = True
                return
        raise _NeverBeganError(self._how_it_ended())

    def _how_it_ended(self) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.poll()
        if code is None:
            return "it does not answer"
        if code >= 0:
            return f"exit code {code}"
        names = {number.value: number.name for number in signal.Signals}
        return f"signal {names.get(-code, -code)}"


def _command() -> list[str]:
    """Another one of this interpreter, which finds modules where this one does."""
    told = [("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-S", sys.flags.no_site)]
    home = str(Path(__file__).parents[2])  # the working folder may have changed since it was found
    folders = [*(folder for folder in sys.path if isinstance(folder, str)), home]
    code = f"import sys; sys.path[:] = {folders!r}; from quadtok.decoders.child import serve; serve()"
    return [sys.executable or "", *(flag for flag, is_set in told if is_set), "-c", code]


@contextmanager
def heedless() -> Iterator[None]:
    """What is begun in the block does not hear of SIGINT and SIGTERM, from its first moment.

    Both are sent to all processes of a terminal or a job; the one that asks decides.
    """
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:  # Windows
        yield
        return
    before = mask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


class _Turns:
    """Many at once, or one alone."""

    def __init__(self) -> None:
        self._at_work = 0
        self._one_waits = 0
        self._changed = threading.Condition()

    @contextmanager
    def with_others(self) -> Iterator[None]:
        """Beside others, but for one who wants to be alone, and so waits for all."""
        with self._changed:
            self._changed.wait_for(lambda: not self._one_waits)
            self._at_work += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While nobody else is at work; those who want to be alone come one after another."""
        with self._changed:
            self._one_waits += 1
            self._changed.wait_for(lambda: not self._at_work)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._one_waits -= 1
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()
