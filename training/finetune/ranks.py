"""The processes of one run: those that `torchrun` starts, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from quadtok.jobs.device import check_device_name, resolve_device


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: of this process.
        world: how many there are.
        device: of this process.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """While the block runs, the processes hear each other. `torchrun` says by the environment who they are.

    Raises:
        InputError: for a device that is not there.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    check_device_name(device)
    kind = torch.device(resolve_device(device))
    if kind.type == "cuda" and kind.index is None:
        kind = torch.device(resolve_device(f"cuda:{local}"))
        torch.cuda.set_device(kind)
    if world == 1:
        yield Ranks(0, 1, kind)
        return
    dist.init_process_group("nccl" if kind.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, kind)
        dist.barrier()  # the first still writes: none leaves while another may be waiting for it
    finally:
        dist.destroy_process_group()
