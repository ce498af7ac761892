"""Where results go: names, clashes, and which inputs are no inputs. Nothing is written here.

A task whose outputs cannot be is *refused*: it fails on its own when its turn comes, before anything of it is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from quadtok.errors import InputError, OutputError, QuadtokError
from quadtok.files import destination, remove_abandoned, sync_folders
from quadtok.jobs.sources import Source
from quadtok.marks import is_passed_over, mark_of_file


@dataclass(frozen=True)
class Task:
    """One input and the file it becomes.

    Attributes:
        source: the input.
        target: the file.
        overlay: a picture to be drawn beside it, or None.
        refused: why this cannot be done, if so.
    """

    source: Source
    target: Path
    overlay: Path | None = None
    refused: QuadtokError | None = field(default=None, compare=False)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files that this task writes."""
        return (self.target,) if self.overlay is None else (self.target, self.overlay)


@dataclass(frozen=True)
class Naming:
    """How outputs are called.

    Attributes:
        suffix: of an output that is not named by `file`.
        folder: below which the input tree is mirrored; None: each output stands beside its input.
        file: exactly this output, for one input.
        file_flag: which flag named it.
        keep_ext: `cat.jpg` becomes `cat.jpg.pt`.
        overlay: whether each has a picture beside it.
    """

    suffix: str
    folder: Path | None = None
    file: Path | None = None
    file_flag: str = "--output"
    keep_ext: bool = False
    overlay: bool = False

    def task(self, source: Source) -> Task:
        """The outputs of one input."""
        target = self.file or self._target(source)
        return Task(source, target, target.with_suffix(".overlay.png") if self.overlay else None)

    def _target(self, source: Source) -> Path:
        base = source.path if self.folder is None else self.folder / source.relative
        return base.with_name(base.name + self.suffix) if self.keep_ext else base.with_suffix(self.suffix)


def plan_outputs(
    sources: Sequence[Source], naming: Naming, *, look_at_all: bool = False, also_read: Collection[Path] = ()
) -> tuple[list[Task], list[Source]]:
    """The outputs of each input, and the inputs that are passed over: pictures that quadtok made, found in folders.

    To know those, a file has to be opened. Of a million that takes long, so that here only those are looked at that
    stand in the way of another; the others' turn is when they are read.

    Args:
        sources: the inputs.
        naming: see `Naming`.
        look_at_all: look at all that were found in folders.
        also_read: what the run reads besides its inputs: the photograph, features, weights, a file or folder of maps.

    Raises:
        InputError: before anything is written, where the place as a whole cannot be written to, or one name is to be
            that of several outputs.
    """
    passed_over: list[Source] = []
    if look_at_all or naming.file is not None:
        sources, passed_over = without_our_pictures(sources)
    if naming.file is not None and len(sources) != 1:
        way_out = "use --output-dir" if naming.file_flag == "--output" else "give one of them"
        raise InputError(f"{naming.file_flag} names one file and there are {len(sources)} inputs: {way_out}")
    _refuse_unwritable(naming)
    tasks = [naming.task(source) for source in sources]
    conflicts = _conflicts(tasks, also_read)
    sources, in_the_way = _without(sources, {source for conflict in conflicts for source in conflict.made_by_us()})
    if in_the_way:
        tasks = [naming.task(source) for source in sources]
        conflicts = _conflicts(tasks, also_read)
    tasks = _refused(tasks, conflicts, naming.keep_ext)
    if naming.file is not None and tasks and tasks[0].refused:
        raise tasks[0].refused
    return tasks, passed_over + in_the_way


def without_our_pictures(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Of the sources: what is to be read, and what is passed over. Opens all that were found in folders."""
    ours = {source for source in sources if source.found and is_passed_over(mark_of_file(source.path))}
    return _without(sources, ours)


@contextmanager
def tended(tasks: Sequence[Task]) -> Iterator[None]:
    """Clear the output folders of what killed runs left; after the block put the names in them on the disk."""
    folders = {_written_in(path) for task in tasks for path in task.outputs}
    remove_abandoned(folders)
    try:
        yield
    finally:
        sync_folders(folders | {folder.parent for folder in folders})


def _written_in(path: Path) -> Path:
    """The folder of an output, or of what a link in its place leads to."""
    return Path(os.path.realpath(path) if os.path.islink(path) else path).parent


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


@dataclass(frozen=True)
class _Conflict:
    """One file that several tasks write, or that is written and is an input."""

    writers: list[tuple[Task, Path]]
    readers: list[Task]
    also_read: bool

    def made_by_us(self) -> set[Source]:
        """The inputs that are pictures made by quadtok, and so give way to the others.

        One that was named itself gives way only where another input would write it.
        """
        suspects = {reader.source for reader in self.readers if any(task is not reader for task, _ in self.writers)}
        suspects |= {task.source for task, _ in self.writers if task.source.found}
        return {source for source in suspects if is_passed_over(mark_of_file(source.path))}

    def refusal(self, task: Task, path: Path, keep_ext: bool) -> InputError:
        """Why one of the writers is refused."""
        if self.readers or self.also_read:
            return InputError(f"{task.source.path}: output {path} is an input: choose another name or folder")
        other = next((writer for writer, _ in self.writers if writer is not task), task)
        way_out = _way_out(task, other, keep_ext)
        return InputError(f"{task.source.path} and {other.source.path} would both write {path}; {way_out}")


def _way_out(task: Task, other: Task, keep_ext: bool) -> str:
    """How two tasks that would write one file can both be done."""
    mine, others = task.source, other.source
    mirrored = task.target.parent != mine.path.parent
    if mirrored and mine.relative.parent == others.relative.parent and mine.path.parent != others.path.parent:
        above = os.path.commonpath([os.path.abspath(source.path.parent) for source in (mine, others)])
        spelled = above if mine.path.is_absolute() else os.path.relpath(above)
        return f"use --relative-to {spelled} (or another folder above both)"
    if keep_ext or mine.path.suffix == others.path.suffix:
        return "give them separate output folders"
    if ".pt" in {mine.path.suffix.lower(), others.path.suffix.lower()}:
        return "give the photograph or its token file alone, or use --keep-ext"
    return "use --keep-ext"


def _conflicts(tasks: list[Task], also_read: Collection[Path]) -> list[_Conflict]:
    key_of = _KeyOf()
    others = {key_of(path) for place in also_read for path in _files_of(place, tasks)}
    inputs = others | {key_of(task.source.path) for task in tasks}
    taken: set[str] = set()
    contested = set()
    for task in tasks:
        for key in map(key_of, task.outputs):
            if key in inputs or key in taken:
                contested.add(key)
            taken.add(key)
    if not contested:  # as a rule, and there may be a million of them
        return []
    conflicts = {key: _Conflict([], [], key in others) for key in contested}
    for task in tasks:
        if (key := key_of(task.source.path)) in contested:
            conflicts[key].readers.append(task)
        for path in task.outputs:
            if (key := key_of(path)) in contested:
                conflicts[key].writers.append((task, path))
    return list(conflicts.values())


def _files_of(place: Path, tasks: list[Task]) -> Iterator[Path]:
    """The file itself, or the map of each input in a folder of maps."""
    if place.is_dir():
        yield from (place / task.source.relative.with_suffix(".pt") for task in tasks)
    else:
        yield place


class _KeyOf:
    """The same for all names of one file on one disk."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, bool]] = {}

    def __call__(self, path: Path) -> str:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder), ignores_case(Path(folder))
        real, folded = self._folders[folder]
        whole = os.path.join(real, name)
        if os.path.islink(whole):
            whole = os.path.realpath(whole)
        return whole.casefold() if folded else whole


def _refused(tasks: list[Task], conflicts: list[_Conflict], keep_ext: bool) -> list[Task]:
    """The tasks, those that stand in each other's way with the reason."""
    why: dict[int, InputError] = {}
    for conflict in conflicts:
        for task, path in conflict.writers:
            why.setdefault(id(task), conflict.refusal(task, path, keep_ext))
    return [replace(task, refused=why[id(task)]) if id(task) in why else task for task in tasks]


def _without(sources: Sequence[Source], some: set[Source]) -> tuple[list[Source], list[Source]]:
    return [source for source in sources if source not in some], [source for source in sources if source in some]


def _refuse_unwritable(naming: Naming) -> None:
    file = naming.file
    if file is not None and file.is_dir():
        raise OutputError(f"output {file} is a folder: use --output-dir")
    if file is not None:
        destination(file)
    folder = file.parent if file is not None else naming.folder
    if folder is None:
        return
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise OutputError(f"{folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write")


def _nearest_existing(folder: Path) -> Path:
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
