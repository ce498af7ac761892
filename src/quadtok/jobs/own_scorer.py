"""A user's own scorer: found by its name, and asked to describe itself, whatever it may raise, print or return."""

from __future__ import annotations

import importlib
import json
import os
import sys
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
        with _stdout_kept_for_data():
            yield
    except (QuadtokError, KeyboardInterrupt):
        raise
    except BaseException as problem:
        raise InputError(f"{doing}: {described(problem)}") from problem


@contextmanager
def _stdout_kept_for_data() -> Iterator[None]:
    """Somebody else's code runs in the block: what it prints goes to stderr, so that stdout holds our lines alone."""
    with redirect_stdout(sys.stderr), ExitStack() as undo:
        with suppress(OSError):  # and so for what does not print through Python
            kept = os.dup(1)
            undo.callback(os.close, kept)
            os.dup2(2, 1)
            undo.callback(os.dup2, kept, 1)
        yield


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
