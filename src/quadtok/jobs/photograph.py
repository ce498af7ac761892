"""The photograph that tokens were made from, given again: brought to their size, and told from another."""

from __future__ import annotations

import hashlib
from pathlib import Path

from quadtok.errors import InputError
from quadtok.images import Fitted, fit_image, fit_native, read_bytes, read_image
from quadtok.storage.record import Record
from quadtok.tokens import Tokens


def read_like(path: Path, tokens: Tokens) -> Fitted:
    """An image file brought to the size of tokens that were made from it, by the steps that their file records.

    Steps that it does not record are taken to be those of `quadtok tokenize` without flags.

    Raises:
        InputError: where that does not lead to the tokens' size.
    """
    spec, record = tokens.plan.spec, Record.of(tokens.metadata)
    file = read_image(path, background=record.background, exif=record.exif, draft=lambda height, width: record.draft)
    if record.native:
        fitted = fit_native(file.image, spec.max_patch, record.fit)
    else:
        fitted = fit_image(file.image, spec.height, spec.width, record.fit, file.draft)
    height, width = fitted.pixels.shape[1:]
    if (height, width) != (spec.height, spec.width):
        raise InputError(f"{path}: becomes {height}×{width}, the tokens are of {spec.height}×{spec.width} pixels")
    return fitted


def other_photograph(path: Path, tokens: Tokens) -> str:
    """A sentence where tokens record that they were made from another file than this; empty where they do not."""
    record = Record.of(tokens.metadata)
    if not record.source_sha256 or record.source_sha256 == hashlib.sha256(read_bytes(path)).hexdigest():
        return ""
    made_from = ", ".join([record.source_name or "unnamed", f"sha256 {record.source_sha256[:12]}…"])
    return f"{path}: is another file than the tokens were made from ({made_from})"
