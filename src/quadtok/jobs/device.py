"""A name of a device to one that is there; an absent one is an error, never a silent fallback."""

from __future__ import annotations

import re

from quadtok.errors import InputError
from quadtok.jobs.words import ARGUMENTS, Words


def check_device_name(name: str, words: Words = ARGUMENTS) -> None:
    """Refuse a name that is no device; loads nothing.

    Raises:
        InputError: with the names that are.
    """
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise InputError(f"{words.device} {name!r} is none of auto, cpu, cuda and cuda:N")


def resolve_device(name: str, words: Words = ARGUMENTS) -> str:
    """`auto` to `cuda` where there is one, else `cpu`; other names as they are.

    Raises:
        InputError: where the device is not there, naming those that are.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    index = int(name.partition(":")[2] or 0)
    if name.startswith("cuda") and index >= count:
        there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
        raise InputError(f"{words.device} {name}: there is no such device here; there is {there}")
    return name
