"""Arguments from Python that no command line could give: of another type, or no paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quadtok.errors import InputError
from quadtok.places import is_elsewhere, is_url, place_of, url_meant

Name = str | os.PathLike[str]


def check_types(**given: tuple[object, Any, str]) -> None:
    """Refuse what is of another type.

    Args:
        **given: the arguments by their names: what was given, its type, and what that is called.

    Raises:
        InputError: with what was given.
    """
    for argument, (value, kind, called) in given.items():
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise InputError(f"{argument} must be {called}, got {value!r}")


def path_of(argument: str, name: Name | None) -> Path | None:
    """The path, None for None.

    Raises:
        InputError: where it is none, or nothing can have this name.
    """
    return None if name is None else place_of(_text(argument, name))


def texts_of(inputs: Name | Iterable[Name]) -> list[str]:
    """Inputs as the command line has them.

    Raises:
        InputError: where one is no path.
    """
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise InputError(f"inputs {inputs!r}: give paths as str or Path, or one of them")
    return [_text("inputs", name, is_input=True) for name in inputs]


def _text(argument: str, name: object, is_input: bool = False) -> str:
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else None
    if not isinstance(text, str):
        raise InputError(f"{argument} {name!r}: give a path as str or Path")
    if "\0" in text and not is_input:  # as an input it fails alone
        raise InputError(f"{argument} {name!r}: nothing can have a name with a NUL")
    if isinstance(name, os.PathLike) and is_elsewhere(name) and not is_url(text):
        raise InputError(f"{argument} {text}: a Path of a URL lacks one of its slashes: give it as a str")
    if not is_input and (url := url_meant(text)):  # as an input it fails alone
        raise InputError(f"{argument} {text}: a URL has two slashes: {url}")
    return text
