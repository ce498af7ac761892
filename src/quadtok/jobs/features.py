"""Features of tokens in a file of the user's: a row for each token file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from quadtok.errors import InputError, TokenFileError, about
from quadtok.jobs.sources import Source
from quadtok.jobs.tensors import load_tensors
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.reversal import check_features
from quadtok.storage.token_file import load_tokens


def load_features(path: Path, sources: Sequence[Source], words: Words = ARGUMENTS) -> dict[Source, Tensor]:
    """The features `[N, D]` of each token file, checked against its plan.

    Args:
        path: of a tensor `[N, D]` for one token file, or `[B, N, D]` for B of them in their order.
        sources: the token files. One that cannot be read is left to fail on its own, later.
        words: what sentences call these.

    Raises:
        InputError: where the file holds no such tensor, or one of another N.
    """
    what = f"{words.features} {path}"
    features = load_tensors(path, what)
    if isinstance(features, list):
        raise InputError(f"{what}: holds a list of tensors, not one tensor [N, D] or [B, N, D]")
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or len(features) != len(sources):
        raise InputError(
            f"{what} has shape {list(features.shape)}, there are {len(sources)} token files: "
            f"expected [{len(sources)}, N, D]"
        )
    rows = dict(zip(sources, features, strict=True))
    for source, row in rows.items():
        with contextlib.suppress(TokenFileError):
            plan = load_tokens(source.path).plan
            with about(source.path):
                check_features(row[None], plan)
    return rows
