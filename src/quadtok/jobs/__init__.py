"""Work over files, from Python as from the command line: what is read, what is made of it, who does it, where it goes.

    from quadtok.jobs import tokenize_files
    summary = tokenize_files("photos", "tokens", num_tokens=100)

Knows no flags and prints nothing. Names are loaded on first use: the command line looks for inputs without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quadtok.jobs.base import Outcome
    from quadtok.jobs.from_python import tokenize_files
    from quadtok.jobs.summary import Summary

_HOME = {"Outcome": "base", "Summary": "summary", "tokenize_files": "from_python"}

__all__ = ["Outcome", "Summary", "tokenize_files"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"quadtok.jobs.{_HOME[name]}"), name)
