"""`quadtok info`: what a token file holds, or the environment."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from quadtok import __version__
from quadtok.cli import options
from quadtok.cli.given import check_flags, given
from quadtok.cli.inputs import Source, find_sources
from quadtok.cli.output import printable, say_problem, write_data, write_json
from quadtok.errors import InputError, QuadtokError, as_ours
from quadtok.names import TOKEN_SUFFIXES

_PACKAGES = ("torch", "torchvision", "pillow", "numpy", "typer", "rich")


def info(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILES...]", help="Token files, folders or globs; none: the environment."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only verify: checksum, tiling, shapes. Exit 1 if any file is bad."),
    ] = False,
    null: options.Null = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Describe token files, or the environment."""
    check_flags(context)
    if not files:
        if ignored := given(context, ["check", "quiet"]):
            raise InputError(f"{ignored[0]} is about token files: give some")
        facts = environment()
        if as_json:
            write_json({"type": "environment", **facts})
        else:
            write_data("\n".join(f"{key:<12} {value}" for key, value in facts.items()))
        return 0
    found = find_sources(files, TOKEN_SUFFIXES, null)
    for refusal in found.refused:
        _say_bad(refusal.path, refusal.problem, as_json)
    bad = sum(not _inspect(source, check, as_json, quiet) for source in found.sources) + len(found.refused)
    good = len(found.sources) + len(found.refused) - bad
    if as_json:
        write_json({"type": "summary", "good": good, "bad": bad, "version": __version__})
    elif check and not quiet:
        write_data(f"{good} good, {bad} bad")
    return 1 if bad else 0


def environment() -> dict[str, Any]:
    """Versions, devices and threads: what a bug report needs."""
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


def _inspect(source: Source, check: bool, as_json: bool, quiet: bool) -> bool:
    """Report on one file; whether it is good. Loading verifies everything."""
    from quadtok.artifact import describe_tokens, load_tokens

    try:
        facts = describe_tokens(load_tokens(source.path))
        text = _as_text(source, facts)
    except Exception as problem:
        _say_bad(source.path, as_ours(problem, source.path), as_json)
        return False
    if as_json:
        write_json(
            {
                "type": "file",
                "input": str(source.path),
                "status": "good",
                **({} if check else facts),
                "error": None,
            }
        )
    elif not quiet:
        write_data(f"{printable(str(source.path))}: ok" if check else text)
    return True


def _say_bad(path: Path, problem: QuadtokError, as_json: bool) -> None:
    say_problem(problem)
    if as_json:
        write_json({"type": "file", "input": str(path), "status": "bad", "error": str(problem)})


def _as_text(source: Source, facts: dict[str, Any]) -> str:
    height, width = facts["image_size"]
    cells = facts["grid"][0] * facts["grid"][1]
    lines = {
        "tokens": f"{facts['num_tokens']} of {cells} ({facts['num_tokens'] / cells:.0%}) for {width}×{height} pixels"
        + (f", {facts['tokens_requested']} requested" if "tokens_requested" in facts else ""),
        "patches": ", ".join(f"{scale['patch_size']} px: {scale['tokens']}" for scale in facts["scales"]),
        "pixels": _pixels(facts),
        "scorer": _pairs(facts.get("scorer", {})),
        "source": _source(facts),
        "made by": f"quadtok {facts['quadtok']}, torch {facts['torch']}",
    }
    return "\n".join([printable(str(source.path)), *(f"  {key:<8} {printable(value)}" for key, value in lines.items())])


def _pixels(facts: dict[str, Any]) -> str:
    if facts["channels"] is None:
        return "none, the layout alone"
    shape = [facts["num_tokens"], facts["channels"], facts["min_patch"], facts["min_patch"]]
    return f"{facts['dtype']} {shape}, 0 to 255"


def _source(facts: dict[str, Any]) -> str:
    source = facts.get("source")
    if not source:
        return "not recorded"
    left, top, right, bottom = facts["preprocess"]["crop_box"]
    frame = f"{left:g}, {top:g} to {right:g}, {bottom:g}"
    size = f"{source['size'][0]}×{source['size'][1]}"
    return f"{source['name']}, {source['format']} {size}, shown {frame} ({facts['preprocess']['fit']})"


def _pairs(facts: dict[str, Any]) -> str:
    others = ", ".join(f"{key} {value}" for key, value in facts.items() if key != "name")
    return f"{facts.get('name', 'not recorded')}{f' ({others})' if others else ''}"
