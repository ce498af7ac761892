"""Somebody else's code: found by `module:attribute`, and run, whatever it may raise or print."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any, TypeVar

from quadtok.errors import InputError, QuadtokError, described

T = TypeVar("T")


def found_by_name(name: str, what: str, make: Callable[[Any], T]) -> T:
    """What is made of the attribute of a module, which may lie in the working folder.

    Args:
        name: `module:attribute`.
        what: it is, for sentences: "scorer".
        make: the thing from the attribute.

    Raises:
        InputError: whatever their code raises.
    """
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does: code of one's own lies in the working folder
    try:
        with ours_only(f"{what} {name} cannot be loaded"):
            return make(getattr(importlib.import_module(module_name), attribute))
    finally:
        with suppress(ValueError):  # the module may have changed the list itself
            sys.path.remove(here)


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """What anything in the block prints goes to stderr: stdout holds our lines alone."""
    with _stdout.turned_to_stderr():
        yield


@contextmanager
def ours_only(doing: str) -> Iterator[None]:
    """Somebody else's code runs in the block: whatever it raises, `SystemExit` included, becomes one sentence.

    What it prints goes to stderr.
    """
    try:
        with printing_to_stderr():
            yield
    except (QuadtokError, KeyboardInterrupt):
        raise
    except BaseException as problem:
        raise InputError(f"{doing}: {described(problem)}") from problem


class _Stdout:
    """What is printed goes to stderr while any thread is in a `turned_to_stderr` block, so that stdout holds our lines.

    The first one in turns it, and the last one out turns it back: each for itself, two would leave it turned for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    @contextmanager
    def turned_to_stderr(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._turn()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._undo.close()

    def _turn(self) -> None:
        self._undo.enter_context(redirect_stdout(sys.stderr))
        with suppress(OSError):  # and so for what does not print through Python
            kept = os.dup(1)
            self._undo.callback(os.close, kept)
            os.dup2(2, 1)
            self._undo.callback(os.dup2, kept, 1)


_stdout = _Stdout()
