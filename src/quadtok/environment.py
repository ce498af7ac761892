"""What runs here: versions, devices, threads. torch is loaded when it is asked."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from quadtok import __version__

_PACKAGES = ("torch", "torchvision", "pillow", "numpy", "typer", "rich")


def environment() -> dict[str, Any]:
    """Versions, devices and threads: what a bug report needs."""
    from importlib.metadata import PackageNotFoundError, version  # not at import, which every command pays

    facts: dict[str, Any] = {
        "quadtok": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    import torch

    facts["cuda"] = f"{torch.version.cuda} built in, {torch.cuda.device_count()} devices"
    facts["devices"] = [
        "cpu",
        *(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())),
    ]
    facts["threads"] = torch.get_num_threads()
    try:
        import torchvision  # noqa: F401  # whether it fits this torch shows only on import
    except (ImportError, RuntimeError) as problem:
        facts["torchvision"] += f" (does not import: {str(problem).splitlines()[0]})"
    return facts


def machine(device: str) -> dict[str, Any]:
    """The environment, and what numbers are measured on: `processor`, the GPU's name or the CPU's with its threads."""
    return {**environment(), "processor": _processor(device)}


def _processor(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' * (threads > 1)}"
