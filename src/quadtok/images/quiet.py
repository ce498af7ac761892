"""Pillow without its manners: a global limit, and complaints straight to file descriptor 2."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

from PIL import Image

_limit = threading.Lock()  # held while Pillow's pixel limit (and for a TIFF, file descriptor 2) is ours
logging.getLogger("PIL").addHandler(logging.NullHandler())  # logged errors are raised too; unhandled, they are printed


@contextlib.contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Pillow's pixel limit is a global: it is ours for a moment, under a lock."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def own_stderr() -> Iterator[None]:
    """While the block runs, what is written to file descriptor 2 arrives, whatever other threads read.

    Reading a TIFF turns the descriptor away for a moment (see `tiff_manners`), for the whole process.
    """
    with _limit:
        yield


@contextlib.contextmanager
def tiff_manners(image_format: str | None, max_pixels: int) -> Iterator[None]:
    """Pillow checks the size of a TIFF again while loading it, and libtiff complains straight to file descriptor 2.

    What matters of the complaints is in the exception.
    """
    if image_format != "TIFF":
        yield
        return
    with pixel_limit(max_pixels), _turned_away():
        yield


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """What is written to file descriptor 2 in the block is lost. Meanwhile no TIFF is read."""
    with _limit, _turned_away():
        yield


@contextlib.contextmanager
def _turned_away() -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):  # a process without a stderr has none to keep clean
            kept = os.dup(2)
            undo.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            undo.callback(os.close, nowhere)
            undo.callback(os.dup2, kept, 2)
            os.dup2(nowhere, 2)
        yield
