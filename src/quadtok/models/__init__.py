"""What stands between tokens and a Vision Transformer: patch embedding, positions, tokenizers, and the ViT itself.

Names are loaded on first use, so that who needs one part does not pay for the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_HOME = {
    "Adapted": "adapted",
    "adapt": "families",
}

__all__ = [*_HOME]

if TYPE_CHECKING:
    from quadtok.models.adapted import Adapted
    from quadtok.models.families import adapt


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'quadtok.models' has no attribute {name!r}")
    return getattr(import_module(f"quadtok.models.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
