"""quadtok: mixed-resolution tokens for Vision Transformers, chosen by a saliency-based quadtree.

Names are loaded on first use, so that `quadtok --help` does not pay for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "IMAGENET_MEAN": "pixels",
    "IMAGENET_STD": "pixels",
    "Plan": "plan",
    "PlanStore": "storage.plan_store",
    "PlanStream": "storage.plan_stream",
    "QuadtokError": "errors",
    "QuadtreeTokenizer": "models.tokenizers",
    "ShardDataset": "storage.shard_dataset",
    "Spec": "spec",
    "TokenDataset": "storage.dataset",
    "Tokens": "tokens",
    "VanillaTokenizer": "models.tokenizers",
    "calibrate": "calibration",
    "collate": "batches",
    "denormalize": "pixels",
    "extract_patches": "patches",
    "get_quadtree": "quadtrees",
    "get_scorer": "scorers",
    "levels_of": "calibration",
    "load_tokens": "storage.token_file",
    "normalize": "pixels",
    "plan_streams": "storage.plan_stream",
    "read_image": "images",
    "render": "pictures.render",
    "render_tokens": "pictures.render",
    "reverse": "reversal",
    "reverse_patches": "reversal",
    "save_tokens": "storage.token_file",
    "tokenize": "tokens",
}

_PARTS = ("models",)  # used as `quadtok.models.adapt`

__all__ = ["__version__", *_HOME, *_PARTS]

if TYPE_CHECKING:
    from quadtok import models
    from quadtok.batches import collate
    from quadtok.calibration import calibrate, levels_of
    from quadtok.errors import QuadtokError
    from quadtok.images import read_image
    from quadtok.models.tokenizers import QuadtreeTokenizer, VanillaTokenizer
    from quadtok.patches import extract_patches
    from quadtok.pictures.render import render, render_tokens
    from quadtok.pixels import IMAGENET_MEAN, IMAGENET_STD, denormalize, normalize
    from quadtok.plan import Plan
    from quadtok.quadtrees import get_quadtree
    from quadtok.reversal import reverse, reverse_patches
    from quadtok.scorers import get_scorer
    from quadtok.spec import Spec
    from quadtok.storage.dataset import TokenDataset
    from quadtok.storage.plan_store import PlanStore
    from quadtok.storage.plan_stream import PlanStream, plan_streams
    from quadtok.storage.shard_dataset import ShardDataset
    from quadtok.storage.token_file import load_tokens, save_tokens
    from quadtok.tokens import Tokens, tokenize


def __getattr__(name: str) -> object:
    if name in _PARTS:
        return import_module(f"quadtok.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'quadtok' has no attribute {name!r}")
    return getattr(import_module(f"quadtok.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
