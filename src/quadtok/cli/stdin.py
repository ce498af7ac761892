"""The list of inputs on stdin, in place of the argument `-`."""

from __future__ import annotations

import os
import sys

from quadtok.errors import InputError


def read_list(null_separated: bool) -> list[str]:
    """The entries of the list, which is read to its end.

    Args:
        null_separated: whether they end in NUL, not in a newline.

    Raises:
        InputError: where it cannot be read, or is separated by the other.
    """
    try:
        data = b"" if sys.stdin is None else sys.stdin.buffer.read()
    except OSError as problem:
        reason = (problem.strerror or "no reason given").lower()
        raise InputError(f"the list on stdin cannot be read: {reason}") from problem
    if b"\0" in data and not null_separated:
        raise InputError("the list on stdin holds NUL bytes: use -0 with find -print0")
    if null_separated and b"\0" not in data and b"\n" in data and not os.path.lexists(data):
        raise InputError("the list on stdin holds no NUL byte: leave out -0, or use find -print0")
    entries = data.split(b"\0") if null_separated else [line for line in data.splitlines() if line.strip()]
    return [os.fsdecode(entry) for entry in entries if entry]
