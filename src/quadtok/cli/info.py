"""`quadtok info`: what a token file, a shard or a file of plans holds, or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quadtok import __version__
from quadtok.cli.flags import Answer, Listed
from quadtok.cli.given import given
from quadtok.cli.grouped import grouped
from quadtok.cli.terminal import printable, say_problem, write_data, write_json
from quadtok.environment import environment
from quadtok.errors import InputError, QuadtokError, TokenFileError, about, as_ours
from quadtok.jobs.sources import Source
from quadtok.names import PARQUET_SUFFIX, PLANS_SUFFIX, TAR_SUFFIX, TOKEN_SUFFIXES

if TYPE_CHECKING:
    from quadtok.storage.record import Record
    from quadtok.tokens import Tokens

_LONGEST_LINE = 1000
Described = tuple[dict[str, Any], dict[str, str]]  # facts as JSON values, and lines to read


@dataclass(frozen=True)
class Files(Listed):
    """Token files, shards and files of plans, or none."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES...]", help="Token files, shards, files of plans, folders, globs; none: the environment."
        ),
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
    """Describe token files, shards and files of plans, or the environment."""
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
    found = files.find(TOKEN_SUFFIXES | {PLANS_SUFFIX, TAR_SUFFIX, PARQUET_SUFFIX})
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
    """Report on one file; whether it is good."""
    describe = {PLANS_SUFFIX: _plans, TAR_SUFFIX: _shard, PARQUET_SUFFIX: _shard}.get(
        source.path.suffix.lower(), _tokens
    )
    try:
        facts, lines = describe(source.path, check)
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
        write_data(f"{printable(str(source.path))}: ok" if check else _as_text(source.path, lines))
    return True


def _say_bad(path: Path, problem: QuadtokError, as_json: bool) -> None:
    say_problem(problem)
    if as_json:
        write_json({"type": "file", "input": str(path), "status": "bad", "error": str(problem)})


def _as_text(path: Path, lines: Mapping[str, str]) -> str:
    return "\n".join([printable(str(path)), *(f"  {key:<8} {printable(_cut(value))}" for key, value in lines.items())])


def _plans(path: Path, check: bool) -> Described:
    """A file of plans; each image's are read where it is checked."""
    from quadtok.storage.plan_store import PlanStore
    from quadtok.storage.record import Record

    store = PlanStore(path)
    if check:
        for _ in store.entries():
            pass
    header, record = store.header, Record.of(store.header.made)
    own = {"images": len(store), "min_patch": header.min_patch, "max_patch": header.max_patch, "minima": header.minima}
    size = f"{path.stat().st_size} bytes"
    return {**header.made, **own}, {
        "images": f"{len(store)} in {size}, the plans of every number of tokens",
        "patches": f"{header.min_patch} to {header.max_patch} px",
        "minima": "none, so no threshold" if header.minima == "none" else f"{header.minima}, so every threshold, too",
        "scorer": _scorer(record),
        "made by": _made_by(record),
    }


def _shard(path: Path, check: bool) -> Described:
    """A shard; each sample is read where it is checked, and else the first."""
    from quadtok.storage.container import Held
    from quadtok.storage.record import Record
    from quadtok.storage.sample import metadata_of
    from quadtok.storage.shards import places_in, read_sample

    places, held = places_in(path), Held()
    with about(path):
        if check and not places:  # an archive that is all NUL is one of nothing, to readers of tar files
            raise TokenFileError("holds no sample")
        facts = [metadata_of(read_sample(place, held=held)) for place in (places if check else places[:1])]
    record = Record.of(facts[0] if facts else {})
    return {"samples": len(places), "first": facts[0] if facts else None}, {
        "samples": f"{len(places)} in {path.stat().st_size} bytes",
        "members": ", ".join(places[0].endings) if places else "none",
        "scorer": _scorer(record),
        "made by": _made_by(record),
    }


def _tokens(path: Path, check: bool) -> Described:
    """A token file. Loading verifies everything."""
    from quadtok.storage.content import describe_tokens
    from quadtok.storage.token_file import load_tokens

    tokens = load_tokens(path)
    return describe_tokens(tokens), _lines(tokens)


def _lines(tokens: Tokens) -> dict[str, str]:
    from quadtok.storage.record import Record

    spec, record = tokens.plan.spec, Record.of(tokens.metadata)
    requested = f", {record.tokens_requested} requested" if record.tokens_requested else ""
    if record.threshold is not None:
        requested = f", above threshold {record.threshold:g}, at most {record.tokens_requested or '?'}"
    share = f"{spec.num_tokens} of {spec.num_cells} ({spec.num_tokens / spec.num_cells:.0%})"
    counts = tokens.plan.counts[0].tolist()
    return {
        "tokens": f"{share} for {spec.width}×{spec.height} pixels{requested}",
        "patches": ", ".join(f"{spec.patch_size(scale)} px: {count}" for scale, count in enumerate(counts)),
        "pixels": _pixels(tokens, record.dtype),
        "scorer": _scorer(record),
        "source": _source(record),
        "made by": _made_by(record),
    }


def _made_by(record: Record) -> str:
    return ", ".join(f"{package} {version or '?'}" for package, version in record.made_by.items())


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
