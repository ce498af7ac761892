"""Who hears what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from quadtok.cli.flags.base import SAY
from quadtok.cli.grouped import Group
from quadtok.cli.terminal import Report
from quadtok.errors import InputError


@dataclass(frozen=True)
class Json(Group):
    """Whether a program reads along."""

    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=SAY, help="JSON lines on stdout: one per input, then a summary."),
    ] = False


@dataclass(frozen=True)
class Answer(Json):
    """How much is said of each file."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=SAY, help="Errors only.")] = False


@dataclass(frozen=True)
class Reporting(Answer):
    """How much is said of each input."""

    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, rich_help_panel=SAY, help="A line per input.")
    ] = 0

    def check(self, context: typer.Context) -> None:
        """Not more and less at once."""
        if self.quiet and self.verbose:
            raise InputError("--quiet and --verbose contradict each other: give one")

    def report(self, total: int) -> Report:
        """Who is told what becomes of so many inputs."""
        return Report(total, as_json=self.as_json, quiet=self.quiet, verbose=self.verbose)
