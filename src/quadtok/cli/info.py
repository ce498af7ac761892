"""`quadtok info`: what a token file holds, or the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quadtok import __version__
from quadtok.cli.flags import Answer, Listed
from quadtok.cli.given import given
from quadtok.cli.grouped import grouped
from quadtok.cli.terminal import printable, say_problem, write_data, write_json
from quadtok.environment import environment
from quadtok.errors import InputError, QuadtokError, as_ours
from quadtok.jobs.sources import Source
from quadtok.names import TOKEN_SUFFIXES

if TYPE_CHECKING:
    from quadtok.storage.record import Record
    from quadtok.tokens import Tokens

_LONGEST_LINE = 1000


@dataclass(frozen=True)
class Files(Listed):
    """Token files, or none."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILES...]", help="Token files, folders or globs; none: the environment."),
    ] = None


@grouped
def info(
    context: typer.Context,
    files: Files,
    say: Answer,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only verify: checksum, tiling, shapes. Exit 1 if any file is bad."),
    ] = False,
) -> int:
    """Describe token files, or the environment."""
    as_json, quiet = say.as_json, say.quiet
    if not files.inputs:
        if ignored := given(context, ["check", "quiet"]):
            raise InputError(f"{ignored[0]} is about token files: give some")
        facts = environment()
        if as_json:
            write_json({"type": "environment", **facts})
        else:
            write_data("\n".join(f"{key:<12} {value}" for key, value in facts.items()))
        return 0
    found = files.find(TOKEN_SUFFIXES)
    for refusal in found.refused:
        _say_bad(refusal.path, refusal.problem, as_json)
    bad = sum(not _inspect(source, check, as_json, quiet) for source in found.sources) + len(found.refused)
    good = len(found.sources) + len(found.refused) - bad
    if as_json:
        write_json({"type": "summary", "good": good, "bad": bad, "version": __version__})
    elif check and not quiet:
        write_data(f"{good} good, {bad} bad")
    return 1 if bad else 0


def _inspect(source: Source, check: bool, as_json: bool, quiet: bool) -> bool:
    """Report on one file; whether it is good. Loading verifies everything."""
    from quadtok.storage.token_file import describe_tokens, load_tokens

    try:
        tokens = load_tokens(source.path)
        facts, text = describe_tokens(tokens), _as_text(source.path, tokens)
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


def _as_text(path: Path, tokens: Tokens) -> str:
    from quadtok.storage.record import Record

    spec, record = tokens.plan.spec, Record.of(tokens.metadata)
    requested = f", {record.tokens_requested} requested" if record.tokens_requested else ""
    if record.threshold is not None:
        requested = f", above threshold {record.threshold:g}, at most {record.tokens_requested or '?'}"
    share = f"{spec.num_tokens} of {spec.num_cells} ({spec.num_tokens / spec.num_cells:.0%})"
    counts = tokens.plan.counts[0].tolist()
    lines = {
        "tokens": f"{share} for {spec.width}×{spec.height} pixels{requested}",
        "patches": ", ".join(f"{spec.patch_size(scale)} px: {count}" for scale, count in enumerate(counts)),
        "pixels": _pixels(tokens, record.dtype),
        "scorer": _scorer(record),
        "source": _source(record),
        "made by": ", ".join(f"{package} {version or '?'}" for package, version in record.made_by.items()),
    }
    return "\n".join([printable(str(path)), *(f"  {key:<8} {printable(_cut(value))}" for key, value in lines.items())])


def _pixels(tokens: Tokens, dtype: str) -> str:
    if tokens.patches is None:
        return "none, the layout alone"
    return f"{dtype} {list(tokens.patches.shape[1:])}, 0 to 255".lstrip()


def _scorer(record: Record) -> str:
    options = ", ".join(f"{key} {value}" for key, value in record.scorer_options.items())
    return (record.scorer or "not recorded") + (f" ({options})" if options else "")


def _source(record: Record) -> str:
    if not record.source_name:
        return "not recorded"
    size = "×".join(map(str, record.source_size or ()))
    shown = ""
    if record.crop_box:
        left, top, right, bottom = record.crop_box
        shown = f"shown {left:g}, {top:g} to {right:g}, {bottom:g} ({record.fit})"
    file = " ".join(part for part in (record.source_format, size) if part)
    return ", ".join(part for part in (record.source_name, file, shown) if part)


def _cut(text: str) -> str:
    """Metadata may hold anything, of any length."""
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"
