"""Libraries without their warnings, whichever thread calls them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence

_lock = threading.Lock()
_blocks = 0
_filters = contextlib.ExitStack()


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Nothing in the block warns. Pillow does of what we refuse ourselves, torch of kinds of tensors that are in beta.

    `warnings.catch_warnings` alone would leave its filters behind when two threads leave it in another order than
    they came: the first to come changes them, and the last to go changes them back.
    """
    global _blocks
    with _lock:
        if not _blocks:
            _filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _filters.close()


@contextlib.contextmanager
def silenced(loggers: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Nothing in the block warns, or is logged by these loggers; of these variables, those that are unset are set."""
    levels = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    added = {name: text for name, text in environment.items() if name not in os.environ}
    os.environ.update(added)
    for logger in levels:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with without_warnings():
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        for logger, level in levels.items():
            logger.setLevel(level)
