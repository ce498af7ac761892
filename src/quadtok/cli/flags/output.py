"""Where results go, and what may be replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from quadtok.cli.flags.base import FLAGS, OUTPUT
from quadtok.cli.given import is_given, refuse_half_urls, refuse_stdout, refuse_together
from quadtok.cli.grouped import Group
from quadtok.errors import InputError
from quadtok.jobs.sinks.naming import Naming
from quadtok.names import DEFAULT_IF_EXISTS, MANIFEST, IfExistsName
from quadtok.places import Url, place_of


@dataclass(frozen=True)
class Output(Group):
    """Names of outputs, and a policy for those that exist."""

    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", metavar="DIR", parser=place_of, rich_help_panel=OUTPUT,
            show_default="beside each input",
            help="Where to write, a folder or a URL (s3://…); created; mirrors the input tree.",
        ),
    ] = None  # fmt: skip
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            parser=place_of,
            rich_help_panel=OUTPUT,
            help="Exact output name, for one input.",
        ),
    ] = None
    keep_ext: Annotated[
        bool,
        typer.Option(
            "--keep-ext", rich_help_panel=OUTPUT, help="cat.jpg becomes cat.jpg.pt, so cat.png can stand beside it."
        ),
    ] = False
    if_exists: Annotated[
        IfExistsName,
        typer.Option(
            rich_help_panel=OUTPUT,
            help="resume: skip outputs made from the same input with the same settings, refuse others.",
        ),
    ] = DEFAULT_IF_EXISTS
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", rich_help_panel=OUTPUT,
            help="Short for --if-exists overwrite: replaces any file but an input, and an image that quadtok did not "
            "make.",
        ),
    ] = False  # fmt: skip

    def check(self, context: typer.Context) -> None:
        """One policy, and one name."""
        if is_given(context, "if_exists") and self.overwrite and self.if_exists != "overwrite":
            raise InputError(f"--if-exists {self.if_exists} and --overwrite contradict each other: give one")
        refuse_together(context, "output", ["output_dir"], "one names the file and the other its folder: give one")
        refuse_together(context, "output", ["keep_ext"], "--output is the whole name already: leave --keep-ext out")
        refuse_stdout(context, ["output", "output_dir"])
        refuse_half_urls(context, ["output", "output_dir"])

    def naming(self, *suffixes: str) -> Naming:
        """How outputs are called that end in these; the first is the result, which `--output` names."""
        return Naming(suffixes, self.output_dir, self.output, self.keep_ext, FLAGS)

    @property
    def policy(self) -> IfExistsName:
        """What becomes of an output that exists."""
        return "overwrite" if self.overwrite else self.if_exists


@dataclass(frozen=True)
class RememberedOutput(Output):
    """As above, where a manifest says what was done before."""

    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", metavar="FILE", rich_help_panel=OUTPUT,
            show_default=f"{MANIFEST} in --output-dir",
            help="A line of JSON for each input, and what stands there already is gone by: an input and files of their "
            "sizes and times are done without being opened.",
        ),
    ] = None  # fmt: skip
    no_manifest: Annotated[
        bool, typer.Option("--no-manifest", rich_help_panel=OUTPUT, help="Write none, and open every file.")
    ] = False
    verify: Annotated[
        bool, typer.Option("--verify", rich_help_panel=OUTPUT, help="Open every file, whatever the manifest says.")
    ] = False

    def check(self, context: typer.Context) -> None:
        """As above; nothing of a manifest without one."""
        super().check(context)
        refuse_together(
            context, "no_manifest", ["manifest", "verify"], "without one every file is opened: leave it out"
        )

    @property
    def remembered_in(self) -> Path | None:
        """The manifest, if there is to be one."""
        if self.manifest is not None or self.no_manifest:
            return self.manifest
        return None if self.output_dir is None or isinstance(self.output_dir, Url) else self.output_dir / MANIFEST

    @property
    def believes(self) -> bool:
        """Whether what stands in the manifest counts."""
        return self.policy == "resume" and not self.verify
