"""What engines share, and which there are. Loads no torch: how many workers there are is shown by `--help`."""

from __future__ import annotations

import importlib.util
import os

from quadtok.errors import InputError
from quadtok.jobs.words import ARGUMENTS, Words

MOST_WORKERS = 16  # each holds a batch and what it takes to score one


def default_workers() -> int:
    """A worker for each core that this process may use, up to 16."""
    may_use = getattr(os, "sched_getaffinity", None)  # Linux tells which; elsewhere all of them are
    return min(MOST_WORKERS, len(may_use(0)) if may_use else os.cpu_count() or 1)


def check_ray(words: Words = ARGUMENTS) -> None:
    """Refuse the engine ray where there is no Ray; loads none.

    Raises:
        InputError: with what to install.
    """
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise InputError(f"{words.ray} needs Ray: pip install 'quadtok[ray]'")
