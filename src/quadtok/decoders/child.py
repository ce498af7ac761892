"""What a decoding process does: it is asked over its stdin, and answers over its stdout. Loads no torch.

Messages are pickles with their length before them. The process that asks started this one and sends nothing but its
own: neither reads what came from elsewhere. To each image the first answer is how many pixels it has; it is decoded
when the other side has room for them, and says so.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from quadtok.errors import as_ours
from quadtok.preprocess import Preprocess

LENGTH = struct.Struct("<Q")
READY = b"quadtok decodes\n"  # comes first; what is before it was printed while Python began
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def send(stream: IO[bytes], message: Any) -> None:
    """Write a message."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read a message.

    Raises:
        EOFError: where there is no whole one.
    """
    head = stream.read(LENGTH.size)
    data = stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
    if not data or len(data) < LENGTH.unpack(head)[0]:
        raise EOFError
    return pickle.loads(data)


def serve() -> None:
    """Decode whatever comes, until nothing more can come: then whoever asked is gone, or has all."""
    for number in (signal.SIGINT, signal.SIGTERM):  # as in `heedless`, which Windows has not
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent()
    questions, answers = _streams()
    answers.write(READY)
    answers.flush()
    try:
        while True:
            preprocess, data, path = receive(questions)
            send(answers, preprocess.pixels(data))
            receive(questions)
            send(answers, _decoded(preprocess, data, path))
    except (EOFError, BrokenPipeError):
        os._exit(0)  # nothing is open that would have to be closed


def _end_with_parent() -> None:
    """Linux then ends this process with the thread that began it, also where it is stopped or a codec hangs."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_END_WITH_PARENT, getattr(signal, "SIGKILL", 9))


def _streams() -> tuple[IO[bytes], IO[bytes]]:
    """stdin and stdout; whatever a library prints goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, answers


def _decoded(preprocess: Preprocess, data: bytes, path: Path) -> tuple[bool, Any]:
    """Whether it went well, and the photo or the error."""
    try:
        return True, preprocess.decode(data, path)
    except Exception as problem:
        return False, as_ours(problem, path)
