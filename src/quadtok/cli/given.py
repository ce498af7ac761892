"""Flags that contradict each other, or of which one would be ignored without a word: told by what was typed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import typer

from quadtok.errors import InputError
from quadtok.names import IMAGE_SUFFIXES

_OTHER_IMAGES = frozenset((".heic", ".heif", ".jxl", ".svg", ".ico", ".psd"))
_WITHOUT_OPTIONS = ("random", "precomputed")
IMAGE_ENDINGS = IMAGE_SUFFIXES | _OTHER_IMAGES


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, rather than being a default or from the environment."""
    source = context.get_parameter_source(name)
    # By its name: typer brings its own click, whose home has moved between versions.
    return source is not None and source.name == "COMMANDLINE" and context.params.get(name) is not None


def given(context: typer.Context, names: Sequence[str]) -> list[str]:
    """Those of the parameters that stand on the command line, as flags."""
    flags = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
    return [flags[name] for name in names if is_given(context, name)]


def refuse_together(context: typer.Context, name: str, others: Sequence[str], why: str) -> None:
    """Refuse one flag beside any of the others.

    Raises:
        InputError: names both, and says why.
    """
    first, rest = given(context, [name]), given(context, others)
    if first and rest:
        raise InputError(f"{first[0]} and {rest[0]}: {why}")


def check_flags(context: typer.Context) -> None:
    """Refuse what no command can do: the flags that commands share, as far as this one has them.

    Raises:
        InputError: for the first contradiction.
    """
    values = context.params
    if is_given(context, "if_exists") and values.get("overwrite") and values["if_exists"] != "overwrite":
        raise InputError(f"--if-exists {values['if_exists']} and --overwrite contradict each other: give one")
    refuse_together(context, "output", ["output_dir"], "one names the file and the other its folder: give one")
    refuse_together(context, "output", ["keep_ext"], "--output is the whole name already: leave --keep-ext out")
    if values.get("quiet") and values.get("verbose"):
        raise InputError("--quiet and --verbose contradict each other: give one")
    listed = values.get("inputs") or values.get("tokens") or values.get("files") or []
    if values.get("null") and "-" not in listed:
        raise InputError("--null is about a list on stdin: give - as an input, too")
    for name in ("output", "output_dir", "animate", "html", "csv_file", "plot"):
        if str(values.get(name)) == "-":
            raise InputError(f"{given(context, [name])[0]} -: nothing is written to stdout: give a name")


def check_scorer_options(context: typer.Context, names: Sequence[str]) -> None:
    """Refuse options that no scorer of the run takes.

    Raises:
        InputError: naming the scorers.
    """
    takers = [name for name in names if name == "feature" or (len(names) == 1 and name not in _WITHOUT_OPTIONS)]
    if is_given(context, "scorer_option") and not takers:
        several = "; with several scorers it is for feature alone" if len(names) > 1 else ""
        raise InputError(f"--scorer-option: {', '.join(names)} would not get it{several}")


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
