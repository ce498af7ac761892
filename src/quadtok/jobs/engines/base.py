"""What engines share. Loads no torch: how many workers there are is shown by `--help`."""

from __future__ import annotations

import os

MOST_WORKERS = 16  # each holds a batch and what it takes to score one


def default_workers() -> int:
    """A worker for each core that this process may use, up to 16."""
    may_use = getattr(os, "sched_getaffinity", None)  # Linux tells which; elsewhere all of them are
    return min(MOST_WORKERS, len(may_use(0)) if may_use else os.cpu_count() or 1)
