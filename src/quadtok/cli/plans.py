"""`quadtok plans`: files that hold the plans of every budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quadtok.cli.flags import FLAGS, OUTPUT, Answer
from quadtok.cli.given import check_ending
from quadtok.cli.grouped import Group, grouped
from quadtok.cli.running import load
from quadtok.cli.terminal import printable, write_data, write_json
from quadtok.errors import InputError
from quadtok.names import PLANS_SUFFIX

plans = typer.Typer(no_args_is_help=True, help="Files of plans (tokenize --store plans).")


@dataclass(frozen=True)
class Parts(Group):
    """Files to merge, and what they become."""

    inputs: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Files of plans, of one scorer and size.")]
    output: Annotated[Path, typer.Option("--output", metavar="FILE", rich_help_panel=OUTPUT, help="The file of all.")]
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace a file that is there.")
    ] = False

    def check(self, context: typer.Context) -> None:
        """A name of its own."""
        check_ending("--output", self.output, (PLANS_SUFFIX,), "a file of plans")

    def check_output(self) -> None:
        """Refuse to replace a part, and without a word for it anything else.

        Raises:
            InputError: in one sentence.
        """
        if not self.output.exists():
            return
        if not self.overwrite:
            raise InputError(f"--output {self.output} exists; use --overwrite, or another name")
        if any(part.exists() and part.samefile(self.output) for part in self.inputs):
            raise InputError(f"--output {self.output} is an input: choose another name")


@grouped
def merge(context: typer.Context, parts: Parts, say: Answer) -> int:
    """Make one file of several, as parts of a job array leave them; the parts stay."""
    parts.check_output()
    load("storage.plan_writer", "jobs.sinks.existing")
    from quadtok.jobs.sinks.existing import check_place
    from quadtok.storage.plan_writer import merge_plans

    check_place(parts.output, "overwrite", FLAGS)
    count = merge_plans(parts.inputs, parts.output)
    if say.as_json:
        write_json({"type": "merged", "output": str(parts.output), "images": count, "parts": len(parts.inputs)})
    elif not say.quiet:
        write_data(f"{printable(str(parts.output))}: {count} images of {len(parts.inputs)} files")
    return 0


plans.command(epilog="quadtok plans merge part-*.qts --output plans.qts")(merge)
