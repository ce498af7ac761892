"""Signals ask a run to stop: the first one tidily. And while modules are loaded, one that asks ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from quadtok.jobs.base import StopRequest


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the block runs, the first SIGINT or SIGTERM only leaves a note; then the usual handlers are back.

    One that the process was told to ignore (`nohup`, `&` in a script) stays ignored. Only the main thread may do this.
    """
    stop = StopRequest()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal, stop.asked = number, True
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """While the block loads modules, SIGINT ends the process, as nothing is begun that would have to be ended tidily.

    As an exception it might come where Python swallows it, in the locks of the import system: then half a module stays,
    or a lock that is never released. One that is ignored stays ignored. Only the main thread may do this.
    """
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """What the block does to the handlers is undone, also where it did not ask Python.

    Nothing is done in another thread than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # one that Python did not set, it cannot set again
                signal.signal(number, handler)
