"""Where the work is done, by how many, and how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli.flags.base import FLAGS, RUN
from quadtok.cli.grouped import Group
from quadtok.jobs.device import check_device_name, resolve_device
from quadtok.jobs.engines.base import MOST_WORKERS, default_workers
from quadtok.names import DEFAULT_BATCH_SIZE, DEFAULT_DEVICE

if TYPE_CHECKING:
    from quadtok.jobs.engines.threads import Threads


@dataclass(frozen=True)
class Device(Group):
    """Where to score."""

    device: Annotated[
        str,
        typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=RUN, envvar="QUADTOK_DEVICE", help="Where to score."),
    ] = DEFAULT_DEVICE

    def check(self, context: typer.Context) -> None:
        """A name that is no device is refused at once; whether it is there, only torch knows."""
        check_device_name(self.device, FLAGS)

    def resolve(self) -> str:
        """The device that the name stands for. Loads torch.

        Raises:
            InputError: where it is not there, naming those that are.
        """
        return resolve_device(self.device, FLAGS)


@dataclass(frozen=True)
class Batches(Device):
    """Where to score, and how much at once."""

    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, rich_help_panel=RUN, help="Images scored at once.")
    ] = DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Running(Group):
    """How many threads work, and until when."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-j", min=0, rich_help_panel=RUN, show_default=f"the cores there are, at most {MOST_WORKERS}",
            help="Threads that read, score and make files; 0: one thing after another. The files are the same.",
        ),
    ] = None  # fmt: skip
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", rich_help_panel=RUN, help="Stop at the first bad input.")
    ] = False

    def engine(self, batch_size: int = 1, ahead: int = 0) -> Threads:
        """Who does the work; see `Threads`. Loads torch."""
        from quadtok.jobs.engines.threads import Threads

        workers = default_workers() if self.workers is None else self.workers
        return Threads(workers, batch_size, ahead, self.fail_fast)


@dataclass(frozen=True)
class Decoding(Running):
    """How many threads work, and how many processes decode images for them."""

    decoders: Annotated[
        int,
        typer.Option(
            "--decoders", min=0, rich_help_panel=RUN,
            help="Processes that decode images: one that dies is replaced, and costs the file that it died of. "
            "0: the threads decode.",
        ),
    ] = 0  # fmt: skip

    def engine(self, batch_size: int = 1, ahead: int = 0) -> Threads:
        """See `Running`."""
        return replace(super().engine(batch_size, ahead), decoders=self.decoders)
