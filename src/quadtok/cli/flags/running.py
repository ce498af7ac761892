"""Where the work is done, by how many, and how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok.cli.flags.base import FLAGS, RUN
from quadtok.cli.grouped import Group
from quadtok.errors import InputError
from quadtok.jobs.device import check_device_name, resolve_device
from quadtok.jobs.engines.address import check_address
from quadtok.jobs.engines.base import MOST_WORKERS, check_ray, default_workers
from quadtok.names import DEFAULT_BATCH_SIZE, DEFAULT_DEVICE, DEFAULT_ENGINE, EngineName

if TYPE_CHECKING:
    from quadtok.jobs.base import Engine
    from quadtok.jobs.engines.threads import Threads

DryRun = Annotated[
    bool, typer.Option("--dry-run", rich_help_panel=RUN, help="Show what would be written; write nothing.")
]


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


@dataclass(frozen=True)
class Engines(Decoding):
    """Who works, besides how many and until when."""

    chosen: Annotated[
        EngineName,
        typer.Option(
            "--engine", rich_help_panel=RUN,
            help="threads: those of this process. ray: processes of Ray, here or on a cluster; -j says how many.",
        ),
    ] = DEFAULT_ENGINE  # fmt: skip
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address", metavar="HOST:PORT|auto", rich_help_panel=RUN,
            help="The cluster that works, with --engine ray; without, this machine alone.",
        ),
    ] = None  # fmt: skip

    def check(self, context: typer.Context) -> None:
        """What is of Ray goes with Ray, which must be there, and has processes, that decode themselves."""
        super().check(context)
        if self.chosen == "ray":
            check_ray(FLAGS)
            if self.ray_address is not None:
                check_address(self.ray_address)
            if self.workers == 0:
                raise InputError("--workers 0 does one thing after another here: with --engine ray give at least 1")
            if self.decoders:
                raise InputError("--decoders are of threads: processes of Ray decode, and are replaced, themselves")
        elif self.ray_address is not None:
            raise InputError("--ray-address goes with --engine ray: give both")

    @property
    def module(self) -> str:
        """Of the engine."""
        return f"jobs.engines.{self.chosen}"

    def on(self, device: str, batch_size: int, same_size: bool) -> Engine:
        """Who does work that scores on this device; see `Threads` and `Ray`."""
        from quadtok.jobs.engines.choice import engine_of

        numbers = (self.workers, batch_size, self.decoders)
        return engine_of(self.chosen, *numbers, same_size, self.fail_fast, device, self.ray_address)
