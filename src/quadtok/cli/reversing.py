"""The work of `quadtok reverse`: one token file to one image, or one row of features to one dense map."""

from __future__ import annotations

import contextlib
import math
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from quadtok.cli.running import Outcome
from quadtok.errors import InputError, TokenFileError, about
from quadtok.jobs.preprocess import other_photograph, read_like
from quadtok.jobs.sinks.existing import stays_unread, write_result
from quadtok.jobs.sinks.naming import Task
from quadtok.jobs.sources import Source
from quadtok.jobs.tensors import load_tensors
from quadtok.marks import Mark
from quadtok.names import IfExistsName
from quadtok.pictures.encode import encode_picture
from quadtok.pictures.render import to_picture
from quadtok.reversal import check_features, reverse, reverse_patches
from quadtok.storage.token_file import load_tokens
from quadtok.tokens import Tokens

RESTORED = Mark("restored image")


class ImageReverser:
    """Token file to picture.

    Args:
        smooth: see `reverse_patches`.
        against: the photograph to compare with, or None.
        if_exists: see `--if-exists`.
    """

    def __init__(self, smooth: bool, against: Path | None, if_exists: IfExistsName) -> None:
        self._smooth = smooth
        self._against = against
        self._if_exists = if_exists

    def __call__(self, task: Task) -> Outcome:
        """Write the image of one token file."""
        if stays_unread(task, self._if_exists):
            return Outcome("skipped")
        tokens = load_tokens(task.source.path)
        if tokens.patches is None:
            raise InputError(f"{task.source.path}: holds no pixels, only the layout (--dtype none)")
        pixels = reverse_patches(tokens.patches, tokens.plan, self._smooth).round().clamp(0, 255)[0]
        facts = {} if self._against is None else self._compared(pixels, tokens, self._against)
        with about(task.source.path):
            picture = encode_picture(to_picture(pixels.byte()), task.target.suffix.lower(), RESTORED)
        written = write_result(task, picture, self._if_exists)
        return Outcome("written" if written else "skipped", facts)

    def _compared(self, pixels: Tensor, tokens: Tokens, photograph: Path) -> dict[str, str]:
        facts = {"psnr": f"{psnr(pixels, read_like(photograph, tokens).pixels):.2f}"}
        warning = other_photograph(photograph, tokens)
        return {**facts, "warning": warning} if warning else facts


class FeatureReverser:
    """Features in token order to a dense map.

    Args:
        path: of a tensor `[N, D]` for one token file, or `[B, N, D]` for B of them in their order.
        sources: the token files.
        if_exists: see `--if-exists`.

    Raises:
        InputError: where the file holds no such tensor, or one of another N.
    """

    def __init__(self, path: Path, sources: list[Source], if_exists: IfExistsName) -> None:
        features = load_tensors(path, f"--features {path}")
        if isinstance(features, list):
            raise InputError(f"--features {path}: holds a list of tensors, not one tensor [N, D] or [B, N, D]")
        if features.ndim == 2:
            features = features[None]
        if features.ndim != 3 or len(features) != len(sources):
            raise InputError(
                f"--features {path} has shape {list(features.shape)}, there are {len(sources)} token files: "
                f"expected [{len(sources)}, N, D]"
            )
        self._rows = dict(zip(sources, features, strict=True))
        self._if_exists = if_exists
        # Before anything is written. A token file that cannot be read fails on its own, later.
        for source, row in self._rows.items():
            with contextlib.suppress(TokenFileError):
                _check_row(row, source)

    def __call__(self, task: Task) -> Outcome:
        """Write the dense map `[D, H/p, W/p]` of one token file."""
        if stays_unread(task, self._if_exists):
            return Outcome("skipped")
        volume = reverse(self._rows[task.source][None], load_tokens(task.source.path).plan)[0]
        buffer = BytesIO()
        torch.save(volume.clone(), buffer)
        written = write_result(task, buffer.getvalue(), self._if_exists)
        return Outcome("written" if written else "skipped", {"shape": list(volume.shape)})


def _check_row(features: Tensor, source: Source) -> None:
    plan = load_tokens(source.path).plan
    with about(source.path):
        check_features(features[None], plan)


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of two images on the scale 0…255; inf where they are equal."""
    mse = (image.double() - reference.double()).square().mean().item()
    return 10 * math.log10(255**2 / mse) if mse else math.inf
