"""Where results go: names, collisions, and what happens to a file that is already there. Nothing is written here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from quadtok.cli.inputs import Source
from quadtok.errors import InputError, OutputError


@dataclass(frozen=True)
class Task:
    """One input and the file it becomes."""

    source: Source
    target: Path


def plan_outputs(
    sources: list[Source], *, folder: Path | None, file: Path | None, keep_ext: bool, suffix: str
) -> list[Task]:
    """The output of each input: beside it, mirrored below `folder`, or exactly `file`.

    Raises:
        InputError: before anything is written, where two inputs would write one file, an output is an input, or the
            place cannot be written to.
    """
    if file is not None:
        tasks = [Task(_only(sources), file)]
    else:
        tasks = [Task(source, _target(source, folder, keep_ext, suffix)) for source in sources]
    _refuse_collisions(tasks, keep_ext)
    _refuse_inputs_as_outputs(tasks)
    _refuse_unwritable(file.parent if file is not None else folder, file)
    return tasks


def _only(sources: list[Source]) -> Source:
    if len(sources) != 1:
        raise InputError(f"--output names one file and there are {len(sources)} inputs: use --output-dir")
    return sources[0]


def _target(source: Source, folder: Path | None, keep_ext: bool, suffix: str) -> Path:
    base = source.path if folder is None else folder / source.relative
    return base.with_name(base.name + suffix) if keep_ext else base.with_suffix(suffix)


def _refuse_collisions(tasks: list[Task], keep_ext: bool) -> None:
    folded = {folder: ignores_case(folder) for folder in {task.target.parent for task in tasks}}
    taken: dict[str, Task] = {}
    for task in tasks:
        name = os.path.abspath(task.target)
        key = name.casefold() if folded[task.target.parent] else name
        other = taken.setdefault(key, task)
        if other is not task:
            differ = other.source.path.suffix != task.source.path.suffix
            way_out = "use --keep-ext" if differ and not keep_ext else "give them separate output folders"
            raise InputError(f"{other.source.path} and {task.source.path} would both write {task.target}; {way_out}")


def _refuse_inputs_as_outputs(tasks: list[Task]) -> None:
    inputs = {os.path.realpath(task.source.path) for task in tasks}
    for task in tasks:
        if os.path.realpath(task.target) in inputs:
            raise InputError(f"output {task.target} is an input: choose another name or folder")


def _refuse_unwritable(folder: Path | None, file: Path | None) -> None:
    if file is not None and file.is_dir():
        raise OutputError(f"output {file} is a folder: use --output-dir")
    if folder is None:
        return
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise OutputError(f"{folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write")


def ignores_case(folder: Path) -> bool:
    """Whether names that differ only in case are one file on the disk of this folder."""
    existing = Path(os.path.abspath(_nearest_existing(folder)))
    swapped = existing.with_name(existing.name.swapcase()) if existing.name else existing
    if swapped == existing:
        return False
    try:
        return os.path.samefile(existing, swapped)
    except OSError:
        return False


def _nearest_existing(folder: Path) -> Path:
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
