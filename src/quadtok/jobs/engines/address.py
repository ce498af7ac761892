"""Where a cluster is: refused at once, where Ray would try for minutes."""

from __future__ import annotations

import socket

from quadtok.errors import InputError, described

_PATIENCE = 10  # seconds


def check_address(address: str) -> None:
    """Refuse what is no address of a Ray; asks nobody.

    Raises:
        InputError: with what one is.
    """
    _, colon, port = address.rpartition(":")
    if address != "auto" and ("/" in address or not colon or not port.isdigit() or int(port) >= 1 << 16):
        raise InputError(f"{address!r} is no address of a Ray, HOST:PORT, nor auto, on a machine of the cluster")


def check_answers(address: str) -> None:
    """Refuse an address where nothing listens.

    Raises:
        InputError: with the reason.
    """
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as problem:
        raise InputError(f"no Ray answers at {address} ({problem.strerror or problem})") from problem


def why_not(address: str | None, problem: Exception) -> str:
    """The sentence about a Ray that cannot be joined, or, without an address, started."""
    if address == "auto" and isinstance(problem, ConnectionError):  # before it asks for a token
        return "no Ray runs on this machine: ray start joins it to a cluster, and without an address it works alone"
    where = f"at {address} cannot be joined (its token, RAY_AUTH_MODE?)" if address else "cannot be started"
    return f"a Ray {where}: {described(problem)}"
