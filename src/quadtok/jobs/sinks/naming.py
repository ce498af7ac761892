"""What results in a folder are called: names, clashes, and which inputs are no inputs. Nothing is written here.

Outputs that cannot be are *refused*: their input fails on its own when its turn comes, before anything of it is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from quadtok.errors import InputError, OutputError, QuadtokError, about
from quadtok.files import destination, remove_abandoned, sync_folders
from quadtok.jobs.sinks.writable import nearest_existing
from quadtok.jobs.sources import Source, map_in
from quadtok.jobs.store_inputs import Stored
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.marks import Mark, holds_nothing, is_passed_over, mark_of_file, read_mark
from quadtok.places import Url, folder_above


@dataclass(frozen=True)
class Outputs:
    """The files that one input becomes.

    Attributes:
        source: the input.
        files: their paths by their endings; the first is the result, the others stand beside it.
        refused: why they cannot be, if so.
    """

    source: Source
    files: Mapping[str, Path]
    refused: QuadtokError | None = field(default=None, compare=False)

    @property
    def result(self) -> Path:
        """The first file."""
        return next(iter(self.files.values()))


@dataclass(frozen=True)
class Naming:
    """How outputs are called.

    Attributes:
        suffixes: of the files that an input becomes; the first is the result's.
        folder: below which the input tree is mirrored; None: outputs stand beside their input.
        file: exactly this result, of one input.
        keep_ext: `cat.jpg` becomes `cat.jpg.pt`.
        words: what sentences call these.
    """

    suffixes: tuple[str, ...]
    folder: Path | None = None
    file: Path | None = None
    keep_ext: bool = False
    words: Words = ARGUMENTS

    def outputs(self, source: Source) -> Outputs:
        """Those of one input."""
        result = self.file or self._result(source)
        beside = {suffix: result.with_suffix(suffix) for suffix in self.suffixes[1:]}
        return Outputs(source, {self.suffixes[0]: result, **beside})

    def _result(self, source: Source) -> Path:
        base, suffix = source.path if self.folder is None else self.folder / source.relative, self.suffixes[0]
        return base.with_name(base.name + suffix) if self.keep_ext else base.with_suffix(suffix)


def plan_outputs(
    sources: Sequence[Source], naming: Naming, *, look_at_all: bool = False, also_read: Collection[Path] = ()
) -> tuple[list[Outputs], list[Source]]:
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
        way_out = f"use {naming.words.output_dir}" if naming.words.output_dir else "give one of them"
        raise InputError(f"{naming.words.output} names one file and there are {len(sources)} inputs: {way_out}")
    _refuse_unwritable(naming)
    planned = [naming.outputs(source) for source in sources]
    conflicts = _conflicts(planned, also_read)
    sources, in_the_way = _without(sources, {source for conflict in conflicts for source in conflict.made_by_us()})
    if in_the_way:
        planned = [naming.outputs(source) for source in sources]
        conflicts = _conflicts(planned, also_read)
    planned = _refused(planned, conflicts, naming)
    if naming.file is not None and planned and planned[0].refused:
        raise planned[0].refused
    return planned, passed_over + in_the_way


def without_our_pictures(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Of the sources: what is to be read, and what is passed over. Opens all that were found in folders."""
    ours = {source for source in sources if source.found and is_passed_over(_mark_of(source))}
    return _without(sources, ours)


@contextmanager
def tended(planned: Sequence[Outputs]) -> Iterator[None]:
    """Clear the output folders of what killed runs left; after the block put the names in them on the disk."""
    names = {written_in(path) for one in planned for path in one.files.values() if not isinstance(path, Url)}
    folders = {Path(name) for name in names}
    remove_abandoned(folders)
    try:
        yield
    finally:
        sync_folders(folders | {folder.parent for folder in folders})


def written_in(path: Path) -> str:
    """The folder of an output, or of what a link in its place leads to."""
    name = os.fspath(path)
    return os.path.dirname(os.path.realpath(name) if os.path.islink(name) else name)


def ignores_case(folder: Path) -> bool:
    """Whether names that differ only in case are one file on the disk of this folder."""
    existing = Path(os.path.abspath(nearest_existing(folder)))
    swapped = existing.with_name(existing.name.swapcase()) if existing.name else existing
    if swapped == existing:
        return False
    try:
        return os.path.samefile(existing, swapped)
    except OSError:
        return False


@dataclass(frozen=True)
class _Conflict:
    """One file that several inputs become, or that is written and is an input."""

    writers: list[tuple[Outputs, Path]]
    readers: list[Outputs]
    also_read: bool

    def made_by_us(self) -> set[Source]:
        """The inputs that are pictures made by quadtok, and so give way to the others.

        One that was named itself gives way only where another input would write it. So does what a power cut left
        without a mark: it holds nothing that could be lost.
        """
        theirs = {reader.source for reader in self.readers if any(one is not reader for one, _ in self.writers)}
        suspects = theirs | {one.source for one, _ in self.writers if one.source.found}
        ours = {source for source in suspects if is_passed_over(_mark_of(source))}
        return ours | {source for source in theirs if _is_blank(source.path)}

    def refusal(self, outputs: Outputs, path: Path, naming: Naming) -> InputError:
        """Why one of the writers is refused."""
        if self.readers or self.also_read:
            return InputError(f"{outputs.source.path}: output {path} is an input: choose another name or folder")
        other = next((one for one, _ in self.writers if one is not outputs), outputs)
        way_out = _way_out(outputs, other, naming)
        return InputError(f"{outputs.source.path} and {other.source.path} would both write {path}; {way_out}")


def _mark_of(source: Source) -> Mark | None:
    if not isinstance(source.inside, Stored):
        return mark_of_file(source.path)
    try:
        return read_mark(source.read())
    except QuadtokError:
        return None


def _is_blank(path: Path) -> bool:
    try:
        return holds_nothing(path)
    except OSError:
        return False


def _way_out(outputs: Outputs, other: Outputs, naming: Naming) -> str:
    """How two inputs that would become one file can both be done."""
    mine, others, words = outputs.source, other.source, naming.words
    mirrored = outputs.result.parent != mine.path.parent
    if mirrored and mine.relative.parent == others.relative.parent and mine.path.parent != others.path.parent:
        above = folder_above(mine.path.parent, others.path.parent)
        if above is not None:
            spelled = above if isinstance(above, Url) or mine.path.is_absolute() else os.path.relpath(above)
            return f"use {words.relative_to} {spelled} (or another folder above both)"
    if naming.keep_ext or mine.path.suffix == others.path.suffix:
        return "give them separate output folders"
    if ".pt" in {mine.path.suffix.lower(), others.path.suffix.lower()}:
        return f"give the photograph or its token file alone, or use {words.keep_ext}"
    return f"use {words.keep_ext}"


def _conflicts(planned: list[Outputs], also_read: Collection[Path]) -> list[_Conflict]:
    key_of = _KeyOf()
    others = {key_of(path) for place in also_read for path in _files_of(place, planned)}
    inputs = others | {key_of(outputs.source.path) for outputs in planned}
    taken: set[str] = set()
    contested = set()
    for outputs in planned:
        for key in map(key_of, outputs.files.values()):
            if key in inputs or key in taken:
                contested.add(key)
            taken.add(key)
    if not contested:  # as a rule, and there may be a million of them
        return []
    conflicts = {key: _Conflict([], [], key in others) for key in contested}
    for outputs in planned:
        if (key := key_of(outputs.source.path)) in contested:
            conflicts[key].readers.append(outputs)
        for path in outputs.files.values():
            if (key := key_of(path)) in contested:
                conflicts[key].writers.append((outputs, path))
    return list(conflicts.values())


def _files_of(place: Path, planned: list[Outputs]) -> Iterator[Path]:
    """The file itself, or the map of each input in a folder of maps."""
    if place.is_dir():
        yield from (map_in(place, outputs.source) for outputs in planned)
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


def _refused(planned: list[Outputs], conflicts: list[_Conflict], naming: Naming) -> list[Outputs]:
    """The outputs, those that stand in each other's way with the reason."""
    why: dict[int, InputError] = {}
    for conflict in conflicts:
        for outputs, path in conflict.writers:
            why.setdefault(id(outputs), conflict.refusal(outputs, path, naming))
    return [replace(outputs, refused=why[id(outputs)]) if id(outputs) in why else outputs for outputs in planned]


def _without(sources: Sequence[Source], some: set[Source]) -> tuple[list[Source], list[Source]]:
    return [source for source in sources if source not in some], [source for source in sources if source in some]


def _refuse_unwritable(naming: Naming) -> None:
    file = naming.file
    place = file.parent if file is not None else naming.folder
    if isinstance(place, Url):
        from quadtok.stores import check_place

        with about(place):
            check_place(str(place))  # what cannot be reached should be said before hours of work
        return
    if file is not None and file.is_dir():
        way_out = f"use {naming.words.output_dir}" if naming.words.output_dir else "name a file in it"
        raise OutputError(f"output {file} is a folder: {way_out}")
    if file is not None:
        destination(file)
    if place is None:
        return
    existing = nearest_existing(place)
    if not existing.is_dir():
        raise OutputError(f"{place}: {existing} is not a folder")
    # In a folder that is there all may be done already: then nothing is to be written.
    if existing != place and not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{place}: no permission to write")
