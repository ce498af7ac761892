"""A file from the network: whole and with the digest in its name, or a reason. Never a wait without end.

A socket's own time limit is not enough: it holds for each address of a server in turn, and not at all for asking what
those are. So the first answer is awaited in a thread, and left alone there when it does not come.
"""

from __future__ import annotations

import hashlib
import queue
import re
import sys
import threading
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import build_opener

from quadtok.files import write_atomically

PATIENCE = 20.0  # seconds
LARGEST = 2**28  # bytes, held in memory until their digest is known
PART = 2**16


def fetch(url: str, folder: Path, patience: float = PATIENCE, largest: int = LARGEST) -> Path:
    """The file at this address, in a folder: the one that lies there, or else downloaded, with a word on stderr.

    Args:
        url: http or https. A name such as `net-f707e7126e.pth` says how the file's sha256 begins, and is held to it.
        folder: where the file goes under its own name, in one step when it is complete; made where missing.
        patience: seconds to wait for the first answer, and then for each next part; the whole may take longer.
        largest: bytes that the file may have.

    Raises:
        OSError: with the reason: no answer, cut short, too large, another digest. Nothing is left behind.
        OutputError: where the file cannot be written.
    """
    path = folder / PurePosixPath(urlsplit(url).path).name
    if not path.exists():
        data = _download(url, patience, largest)
        _check_digest(data, path.name)
        write_atomically(path, data)
    return path


def _download(url: str, patience: float, largest: int) -> bytes:
    with _first_answer(url, patience) as answer:
        size = answer.length or 0  # bytes still to come, where the server says
        _say(f"downloading {url}" + (f" ({size / 1e6:.1f} MB)" if size else ""))
        data = bytearray()
        while part := _next_part(answer, patience, len(data), size):
            data += part
            if len(data) > largest:
                raise OSError(f"it is larger than the {largest} bytes that it may have")
    if len(data) < size:
        raise OSError(f"the connection ended after {len(data)} of {size} bytes")
    return bytes(data)


def _first_answer(url: str, patience: float) -> HTTPResponse:
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(build_opener().open(url, timeout=patience))  # `urlopen` would keep the first call's proxies
        except Exception as problem:  # raised again below, where somebody waits
            answers.put(problem)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, Exception):
        raise OSError(_reason(answer, f"no answer within {patience:g} seconds")) from answer
    return answer


def _next_part(answer: HTTPResponse, patience: float, done: int, size: int) -> bytes:
    """What has arrived, empty at the end."""
    try:
        return answer.read1(PART)
    except (OSError, HTTPException) as problem:
        late = f"nothing more came for {patience:g} seconds, after {done} of {size or 'unknown'} bytes"
        raise OSError(_reason(problem, late)) from problem


def _reason(problem: Exception, late: str) -> str:
    cause: object = problem
    if isinstance(problem, URLError) and not isinstance(problem, HTTPError):
        cause = problem.reason
    if isinstance(cause, TimeoutError):
        return late
    if isinstance(cause, HTTPException) and not isinstance(cause, OSError):
        return f"no answer that can be read, {type(cause).__name__}"
    return str(cause)


def _check_digest(data: bytes, name: str) -> None:
    if expected := re.search(r"-([0-9a-f]{8,64})\.", name):
        found = hashlib.sha256(data).hexdigest()[: len(expected[1])]
        if found != expected[1]:
            raise OSError(f"the sha256 of the {len(data)} bytes begins {found}, not {expected[1]}")


def _say(line: str) -> None:
    if sys.stderr:
        print(line, file=sys.stderr, flush=True)
