"""A user's own scorer: found by its name, and asked to describe itself, whatever it may raise, print or return."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any

from quadtok.errors import InputError, QuadtokError, described
from quadtok.scorers import ScorerFunction


def imported(name: str, options: dict[str, Any]) -> ScorerFunction:
    """A user's scorer: a function (images, spec) → saliency, or a class that makes one from the options."""
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does: a scorer of one's own lies in the working folder
    try:
        with ours_only(f"scorer {name} cannot be loaded"):
            found = getattr(importlib.import_module(module_name), attribute)
            scorer = found(**options) if isinstance(found, type) or options else found
    finally:
        with suppress(ValueError):  # the module may have changed the list itself
            sys.path.remove(here)
    if not callable(scorer):
        raise InputError(f"scorer {name} is no function of (images, spec)")
    return scorer


@contextmanager
def ours_only(doing: str) -> Iterator[None]:
    """Somebody else's code runs in the block: whatever it raises, `SystemExit` included, becomes one sentence.

    What it prints goes to stderr.
    """
    try:
        with _stdout.turned_to_stderr():
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


def description_of(scorer: ScorerFunction, name: str) -> dict[str, Any]:
    """What a scorer says of itself, or its name."""
    describe: Callable[[], dict[str, Any]] | None = getattr(scorer, "describe", None)
    if describe is None:
        return {"name": name}
    with ours_only(f"scorer {name} cannot describe itself"):
        found = describe()
        json.dumps(found, allow_nan=False)
    if not isinstance(found, dict):
        raise InputError(f"scorer {name} describes itself with a {type(found).__name__}: it must be a dict")
    return {"name": name, **found}
