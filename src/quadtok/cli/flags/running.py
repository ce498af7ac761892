"""Where the work is done, by how many, and how long."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated

import typer

from quadtok.cli.flags.base import RUN
from quadtok.cli.grouped import Group
from quadtok.errors import InputError
from quadtok.names import DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Device(Group):
    """Where to score."""

    device: Annotated[
        str,
        typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=RUN, envvar="QUADTOK_DEVICE", help="Where to score."),
    ] = "auto"

    def check(self, context: typer.Context) -> None:
        """A name that is no device is refused at once; whether it is there, only torch knows."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise InputError(f"--device {self.device!r} is none of auto, cpu, cuda and cuda:N")

    def resolve(self) -> str:
        """`auto` to `cuda` where there is one, else `cpu`; other names as they are. Loads torch.

        Raises:
            InputError: where the device is not there, naming those that are: never a silent fallback.
        """
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "auto":
            return "cuda" if count else "cpu"
        index = int(self.device.partition(":")[2] or 0)
        if self.device.startswith("cuda") and index >= count:
            there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
            raise InputError(f"--device {self.device}: there is no such device here; there is {there}")
        return self.device


@dataclass(frozen=True)
class Batches(Device):
    """Where to score, and how much at once."""

    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, rich_help_panel=RUN, help="Images scored at once.")
    ] = DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Stopping(Group):
    """When to end."""

    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", rich_help_panel=RUN, help="Stop at the first bad input.")
    ] = False


@dataclass(frozen=True)
class Running(Stopping):
    """When to end, and how many threads work until then."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-j", min=0, rich_help_panel=RUN, show_default="the cores there are, at most 8",
            help="Threads that read images and make files; 0: one thing after another. The files are the same.",
        ),
    ] = None  # fmt: skip

    @property
    def threads(self) -> int:
        """How many threads work besides the calling one."""
        return default_workers() if self.workers is None else self.workers


def default_workers() -> int:
    """A thread for each core that this process may use, up to 8: then one thread that scores is the slower part."""
    may_use = getattr(os, "sched_getaffinity", None)  # Linux tells which; elsewhere all of them are
    return min(8, len(may_use(0)) if may_use else os.cpu_count() or 1)
