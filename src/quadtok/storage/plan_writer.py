"""Appending plan streams to a file (see plan_format.py), by one process at a time; and several files made one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from quadtok.errors import InputError, OutputError, about, cannot_write, writing
from quadtok.files import destination, new_temporary, remove_abandoned, sync_folders
from quadtok.storage.plan_format import (
    DONE,
    HEAD,
    INDEX,
    MAGIC,
    PLAN,
    WORD,
    Entry,
    Header,
    Index,
    encode_block,
    encode_entry,
    index_of,
    map_file,
    read_header,
    scanned_index,
    stored_index,
)
from quadtok.storage.plan_store import PlanStore
from quadtok.storage.plan_stream import stream_size
from quadtok.storage.torn import is_all_zeros

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSIONS = ("quadtok", "torch")  # may differ between those who append


class PlanWriter:
    """Appends to a file of plans, which is made where there is none; while it is open no other process may.

    What is added is in the file at once: a process that is killed loses nothing. `close` puts it on the disk, and
    an index behind it; a block of `with` does.

    Args:
        path: where to; missing folders are made.
        header: what all plans have in common; that of a file that is there must be the same, but for versions.

    Raises:
        InputError: where the file holds plans that were made otherwise.
        TokenFileError: where the file is something else, or damaged.
        OutputError: where it cannot be written, or another process is at it. `DiskFull` where no space is left.
    """

    def __init__(self, path: str | Path, header: Header) -> None:
        self.path, self._header = Path(path), header
        self._file = _opened(self.path)
        try:
            with writing(path), about(path):
                self._end, self._index, self._is_indexed = _begun(self._file, header)
        except BaseException:
            _close(self._file)
            raise
        self._added: dict[str, int] = {}
        self._has_failed = False

    def add(self, entry: Entry) -> None:
        """Append the plans of an image; those of this name that are there count no more.

        Raises:
            InputError: where its stream is not of the header's patch sizes, or minima.
            OutputError: where it cannot be written; what there was stays.
        """
        _check_fits(entry, self._header)
        begin = self._end
        self._append(encode_block(PLAN, encode_entry(entry)))
        self._added[entry.name] = begin

    def close(self) -> None:
        """Write the index where there is anything new, and put all on the disk.

        Where an image could not be written there is no index either: the file is read without, and the next one to
        append writes it.
        """
        if self._file < 0:
            return
        try:
            if not self._has_failed and (self._added or not self._is_indexed):
                begin = self._end
                body = self._whole_index().encode(begin)
                self._append(encode_block(INDEX, body) + encode_block(DONE, WORD.pack(begin)))
            with writing(self.path):
                os.fsync(self._file)
            sync_folders([destination(self.path).parent])
        finally:
            _close(self._file)
            self._file = -1

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        try:
            with writing(self.path):
                _write_all(self._file, data, self._end)
        except OutputError:
            self._has_failed = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)

    def _whole_index(self) -> Index:
        new = index_of(self._added)
        if not len(self._index.begins):
            return new
        kept = ~np.isin(self._index.begins, self._replaced())
        hashes = np.concatenate([self._index.hashes[kept], new.hashes])
        begins = np.concatenate([self._index.begins[kept], new.begins])
        order = np.argsort(hashes, kind="stable")
        return Index(hashes[order], begins[order])

    def _replaced(self) -> list[int]:
        """Where the blocks begin whose names were added anew."""
        known = np.isin(index_of(self._added).hashes, self._index.hashes)
        if not known.any():
            return []
        store = PlanStore(self.path)
        return [begin for name in self._added for begin in self._index.candidates(name) if store.name_at(begin) == name]


def merge_plans(parts: Sequence[str | Path], path: str | Path) -> int:
    """One file of the plans of several, which stay; it appears whole or not at all.

    Args:
        parts: in any number; made alike.
        path: of the new file; one that is there is replaced.

    Returns:
        How many images it holds.

    Raises:
        InputError: where there are no parts, they were made otherwise, or two differ about an image.
        TokenFileError: where one is damaged.
        OutputError: where the new one cannot be written, or another process appends to one of its name.
    """
    if not parts:
        raise InputError("there are no plans to merge: name at least one file")
    stores = [PlanStore(part) for part in parts]
    for store in stores[1:]:
        with about(store.path):
            _check_alike(store.header, stores[0].header, str(stores[0].path))
    target = destination(Path(path))
    remove_abandoned([target.parent])
    temporary = new_temporary(target.parent)
    try:
        with _kept_from_others(target), writing(target):
            with PlanWriter(temporary, stores[0].header) as writer:
                count = sum(_take_over(store, stores[:number], writer) for number, store in enumerate(stores))
            os.replace(temporary, target)
            sync_folders([target.parent])
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return count


@contextlib.contextmanager
def _kept_from_others(target: Path) -> Iterator[None]:
    """Nobody appends to a file that is to be replaced: what was added to it would be gone."""
    if not target.exists():
        yield
        return
    descriptor = _opened(target)
    try:
        yield
    finally:
        _close(descriptor)


def _take_over(store: PlanStore, earlier: Sequence[PlanStore], writer: PlanWriter) -> int:
    """Add what no earlier one has; how many those are."""
    count = 0
    for entry in store.entries():
        known = next((other for other in earlier if entry.name in other), None)
        if known is None:
            writer.add(entry)
            count += 1
        elif known.entry(entry.name).told() != entry.told():
            raise InputError(f"{store.path}: its plans of {entry.name} are others than those in {known.path}")
    return count


def _opened(path: Path) -> int:
    """A descriptor of the file, locked."""
    target = destination(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OutputError(
                f"{path}: another process is writing it; give each its own file, and merge them"
            ) from None
        except OSError:  # a disk without locks
            pass
    return descriptor


def _close(descriptor: int) -> None:
    """Unlock and close. A view of the file that an error's traceback still holds would keep the lock."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _begun(descriptor: int, header: Header) -> tuple[int, Index, bool]:
    """Where to go on in a file, the index of what it holds, and whether that is in it; a new file gets its header."""
    data = map_file(descriptor)
    first = MAGIC + encode_block(HEAD, header.encode())
    begun = bytes(data[: len(first)]).rstrip(b"\0")
    if begun != first and first.startswith(begun) and is_all_zeros(data, len(begun)):  # new, or torn in its header
        os.ftruncate(descriptor, 0)
        _write_all(descriptor, first, 0)
        return len(first), index_of({}), False
    found, begin = read_header(data)
    _check_alike(found, header, "this run")
    if index := stored_index(data):
        return len(data), Index(index.hashes.copy(), index.begins.copy()), True
    index, end = scanned_index(data, begin)
    os.ftruncate(descriptor, end)  # what was torn
    return end, index, False


def _check_alike(found: Header, wanted: Header, others: str) -> None:
    for what, ours, theirs in (
        ("patches of", f"{found.min_patch} to {found.max_patch}", f"{wanted.min_patch} to {wanted.max_patch}"),
        ("minima", found.minima, wanted.minima),
        *((name, found.made.get(name), wanted.made.get(name)) for name in sorted({*found.made, *wanted.made})),
    ):
        if ours != theirs and what not in VERSIONS:
            raise InputError(f"its plans have {what} {ours}, those of {others} {theirs}: give another file")


def _check_fits(entry: Entry, header: Header) -> None:
    """Refuse what could not be read again."""
    spec, stream = entry.stream.spec, entry.stream
    patches = (spec.min_patch, spec.max_patch)
    if patches != (header.min_patch, header.max_patch):
        raise InputError(
            f"{entry.name}: its plans have patches of {patches[0]} to {patches[1]}, those of the file "
            f"{header.min_patch} to {header.max_patch}: give another file"
        )
    if len(stream.to_bytes()) != stream_size(spec, header.minima):
        kept = "none" if stream.minima is None else stream.minima.dtype
        raise InputError(f"{entry.name}: its plans have minima {kept}, those of the file {header.minima}: make them so")


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    os.lseek(descriptor, at, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
