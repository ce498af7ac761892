"""An engine by its name, or one that is there already."""

from __future__ import annotations

from typing import get_args

from quadtok.errors import InputError
from quadtok.jobs.base import Engine
from quadtok.jobs.engines.base import check_ray, default_workers
from quadtok.jobs.engines.threads import Threads
from quadtok.names import EngineName


def engine_of(
    engine: EngineName | Engine, workers: int | None, batch_size: int, decoders: int, same_size: bool, fail_fast: bool,
    device: str, address: str | None = None,
) -> Engine:  # fmt: skip
    """Who does a job.

    Args:
        engine: a name, or an engine, to which nothing of the rest applies.
        workers: threads or processes; None: one for each core, or each GPU.
        batch_size: see `Threads`.
        decoders: see `Threads`; processes of Ray decode themselves.
        same_size: whether all images are brought to one. Those of native sizes may be large, and seldom make batches.
        fail_fast: end at the first input that fails.
        device: where images are scored.
        address: of a Ray; see `Ray`.

    Raises:
        InputError: where there is no such engine, or what it needs is not installed.
    """
    if engine == "threads":
        ahead = batch_size if same_size else 0
        return Threads(default_workers() if workers is None else workers, batch_size, ahead, fail_fast, decoders)
    if engine == "ray":
        check_ray()
        from quadtok.jobs.engines.ray import Ray

        return Ray(workers, batch_size, address, device != "cpu", fail_fast)
    if isinstance(engine, str | type) or not hasattr(engine, "run"):
        raise InputError(f"engine {engine!r} is none of {', '.join(get_args(EngineName))}, nor an engine")
    return engine
