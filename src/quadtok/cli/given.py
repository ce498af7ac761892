"""Flags that contradict each other, or of which one would be ignored without a word: told by what was typed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import typer

from quadtok.errors import InputError
from quadtok.names import IMAGE_SUFFIXES
from quadtok.places import url_meant

_OTHER_IMAGES = frozenset((".heic", ".heif", ".jxl", ".svg", ".ico", ".psd"))
IMAGE_ENDINGS = IMAGE_SUFFIXES | _OTHER_IMAGES


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, rather than being a default or from the environment."""
    source = context.get_parameter_source(name)
    # By its name: typer brings its own click, whose home has moved between versions.
    return source is not None and source.name == "COMMANDLINE" and context.params.get(name) is not None


def given(context: typer.Context, names: Sequence[str]) -> list[str]:
    """Those of the parameters that stand on the command line, as flags; of `--exif/--no-exif` the one that does."""
    parameters = {parameter.name: parameter for parameter in context.command.params}
    typed = [(parameters[name], context.params[name]) for name in names if is_given(context, name)]
    return [max(one.opts if value or not one.secondary_opts else one.secondary_opts, key=len) for one, value in typed]


def refuse_together(context: typer.Context, name: str, others: Sequence[str], why: str) -> None:
    """Refuse one flag beside any of the others.

    Raises:
        InputError: names both, and says why.
    """
    first, rest = given(context, [name]), given(context, others)
    if first and rest:
        raise InputError(f"{first[0]} and {rest[0]}: {why}")


def refuse_stdout(context: typer.Context, names: Sequence[str]) -> None:
    """Refuse `-` as the name of an output.

    Raises:
        InputError: for the first of the parameters that is so.
    """
    for name in names:
        if str(context.params.get(name)) == "-":
            raise InputError(f"{given(context, [name])[0]} -: nothing is written to stdout: give a name")


def refuse_half_urls(context: typer.Context, names: Sequence[str]) -> None:
    """Refuse a place whose URL lacks a slash: it would be a folder here.

    Raises:
        InputError: for the first of the parameters that is so, with the URL.
    """
    for name in names:
        value = context.params.get(name)
        if value is not None and (url := url_meant(str(value))):
            raise InputError(f"{given(context, [name])[0]} {value}: a URL has two slashes: {url}")


def check_ending(flag: str, path: Path, allowed: Collection[str], what: str) -> None:
    """Refuse a name that does not end in what is written there.

    Raises:
        InputError: with the endings to choose from.
    """
    if path.suffix.lower() not in allowed:
        raise InputError(f"{flag} {path}: {what} ends in {', '.join(allowed)}")


def refuse_image_ending(flag: str, path: Path, what: str, ending: str) -> None:
    """Refuse a name that belongs to an image.

    Raises:
        InputError: with the ending to use.
    """
    if path.suffix.lower() in IMAGE_ENDINGS:
        raise InputError(f"{flag} {path}: that is the name of an image; {what} ends in {ending}")
