"""What to work on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quadtok.cli.flags.base import FLAGS, RUN
from quadtok.cli.grouped import Group
from quadtok.cli.stdin import read_list
from quadtok.errors import InputError
from quadtok.jobs.parts import Part, parse_part
from quadtok.jobs.sources import Found, find_sources
from quadtok.places import place_of


@dataclass(frozen=True)
class Listed(Group):
    """Files, folders and globs."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUTS...",
            help="Image files, folders or quoted globs, or URLs of them (s3://…); - reads one per line from stdin.",
        ),
    ]
    null: Annotated[bool, typer.Option("--null", "-0", help="Paths on stdin end in NUL (for find -print0).")] = False

    def check(self, context: typer.Context) -> None:
        """`--null` needs a list."""
        if self.null and "-" not in (self.inputs or []):
            raise InputError("--null is about a list on stdin: give - as an input, too")

    def find(self, suffixes: frozenset[str]) -> Found:
        """The files that the inputs name; of folders those with these endings."""
        return find_sources(self.inputs or [], suffixes, self._listed())

    def _listed(self) -> list[str] | None:
        """What stands in the place of `-`, if that was given."""
        return read_list(self.null) if "-" in (self.inputs or []) else None


@dataclass(frozen=True)
class Inputs(Listed):
    """Files, folders and globs of which each file has outputs."""

    relative_to: Annotated[
        Path | None,
        typer.Option(
            "--relative-to", metavar="DIR", parser=place_of,
            show_default="each input's folder; of a list, the folder that holds all of it",
            help="Name outputs by the inputs' paths below DIR; they mirror them, as do maps and random seeds.",
        ),
    ] = None  # fmt: skip

    def find(self, suffixes: frozenset[str]) -> Found:
        """The files that the inputs name, with the names that their outputs go by."""
        return find_sources(self.inputs or [], suffixes, self._listed(), self.relative_to, FLAGS)


@dataclass(frozen=True)
class PartedInputs(Inputs):
    """As above, or a part of them."""

    part: Annotated[
        str | None,
        typer.Option(
            "--part", metavar="I/N", rich_help_panel=RUN, envvar="QUADTOK_PART",
            help="Only the I-th of N parts of the inputs, for several processes; auto: by the variables of a SLURM "
            "array, auto/N: or of an indexed Kubernetes Job.",
        ),
    ] = None  # fmt: skip

    def check(self, context: typer.Context) -> None:
        """As above; there is such a part."""
        super().check(context)
        self.the_part()

    def the_part(self) -> Part | None:
        """Which part, if it is not everything."""
        return parse_part(self.part, os.environ, "--part") if self.part else None

    def find(self, suffixes: frozenset[str]) -> Found:
        """As above; of a part, what is in it."""
        found, part = super().find(suffixes), self.the_part()
        return found if part is None else part.of(found)
