"""What stands between tokens and a Vision Transformer: patch embedding, positions, tokenizers, and the ViT itself.

    from quadtok.models import adapt, naflex, to_naflex

Names are loaded on first use, and a framework only where one of its models is given.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quadtok.models.adapted import Adapted
    from quadtok.models.families import adapt
    from quadtok.models.naflexvit import check_naflex, naflex, to_naflex

_HOME = {
    "Adapted": "adapted",
    "adapt": "families",
    "check_naflex": "naflexvit",
    "naflex": "naflexvit",
    "to_naflex": "naflexvit",
}

__all__ = ["Adapted", "adapt", "check_naflex", "naflex", "to_naflex"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"quadtok.models.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
