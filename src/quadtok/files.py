"""Files appear whole or not at all: written under a temporary name, put on the disk, then renamed.

What a run that was killed leaves is a temporary file, never a torn one. Whoever writes a temporary file holds its lock,
which ends with the process, however that ends: so the next run can tell what nobody will finish. Where a system has no
such locks (Windows), it is told by age alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from quadtok.errors import OutputError, QuadtokError, cannot_write
from quadtok.places import is_elsewhere
from quadtok.quiet import without_warnings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY_PREFIX = ".quadtok-"
_TEMPORARY = re.compile(r"\.quadtok-(?:([0-9a-f]{8})-)?[0-9a-f]{12}\.tmp")
_A_DAY = 86400
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MAX_LINKS = 40  # as many as Linux follows
_OPEN_FILES = ("/proc", "/dev/fd")  # where names stand for what a process holds open: Linux, macOS


def _flags(*names: str) -> int:
    """Those of these flags of `os.open` that the system has."""
    return sum(getattr(os, name, 0) for name in names)


_READ = _flags("O_RDONLY", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
_READ_FOLDER = _flags("O_RDONLY", "O_DIRECTORY", "O_CLOEXEC")
_LOCK = _flags("O_RDWR", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part. Creates missing folders.

    The content is on the disk before the name is: after a power cut the name stands for the old content or the new
    too. A link is written through: it stays, and what it leads to is replaced. The temporary name is short and does not
    hold the file's own, which may be as long as a name can be.

    Raises:
        OutputError: with the path and the reason; nothing is left behind. `DiskFull` where no space is left.
    """
    with written_whole(path) as stream:
        stream.write(data)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A stream that becomes the file when the block ends, and nothing where it raises; see `write_atomically`."""
    target = destination(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _renamed_at_the_end(target) as stream:
            yield stream
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def destination(path: Path) -> Path:
    """The regular file that a path leads to, which need not be there yet: through links, or the path itself.

    Raises:
        OutputError: where the path leads to what is no regular file: a folder, a pipe, a device, a socket, or what a
            process holds open (`/dev/stdout`). Such a thing is not opened.
    """
    if not os.path.lexists(path):  # unlike Path.exists, says no to a name that is too long
        if is_elsewhere(path):
            raise OutputError(f"{path}: is a URL, and this is written to disks alone: write it here, and copy it")
        return path
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:  # a link to nothing
        return Path(os.path.realpath(path))
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file")
    if _belongs_to_a_process(path):
        raise OutputError(f"{path}: is what a process holds open, not the name of a file")
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def read_regular(path: Path, error: type[QuadtokError]) -> bytes:
    """All bytes of a regular file; see `reading`."""
    with reading(path, error) as stream:
        return stream.read()


@contextlib.contextmanager
def reading(path: Path, error: type[QuadtokError]) -> Iterator[BinaryIO]:
    """Open a regular file and read it in the block. Pipes, sockets and devices are not opened.

    Raises:
        error: of this type, where there is no such file or it cannot be read: the reason alone, for `about` to put the
            path before.
    """
    try:
        with open_regular(path) as stream:
            yield stream
    except FileNotFoundError:
        in_store = "is a URL, and a file on a disk is needed here: copy it"
        raise error(in_store if is_elsewhere(path) else "no such file") from None
    except PermissionError:
        raise error("permission denied") from None
    except OSError as problem:
        raise error(problem.strerror or "cannot be read") from problem


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read it; anything else is not opened: a pipe would wait, and a tape be wound back.

    Raises:
        OSError: where it cannot be opened, or is something else.
    """
    try:
        _check_regular(os.stat(path).st_mode)
    except ValueError as problem:  # a NUL, or characters that the system has no bytes for
        raise OSError(errno.EINVAL, "no file can have this name") from problem
    descriptor = os.open(path, _READ)
    try:
        _check_regular(os.fstat(descriptor).st_mode)  # it may be another by now
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a folder" if stat.S_ISDIR(mode) else "not a regular file")


def load_safely(path: Path, error: type[QuadtokError], otherwise: str) -> Any:
    """What `torch.save` wrote to a regular file, on the CPU; nothing that the file says is run.

    Raises:
        error: of this type, as `reading`, or with the sentence `otherwise`: where it is no such file, or holds more
            than tensors and plain values.
    """
    with reading(path, error) as stream:
        try:
            return load_plain(stream)
        except Exception as problem:  # torch.load raises half a dozen types, in paragraphs
            # EINVAL is of a zip that was cut short: torch seeks to before its beginning.
            if isinstance(problem, OSError) and problem.errno != errno.EINVAL:
                raise
            raise error(otherwise) from problem


def load_plain(stream: BinaryIO) -> Any:
    """Tensors and plain values that `torch.save` wrote, on the CPU; raises whatever torch does."""
    import torch

    with without_warnings():  # of kinds of tensors that are in beta, and of what damage made of a pickle
        return torch.load(stream, map_location="cpu", weights_only=True)


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove the temporary files in these folders that no process will finish.

    That is: whose lock is free, and that were begun on this machine or more than a day ago. The lock alone does not do,
    as some network disks keep it from other machines. Without locks all are left for a day.
    """
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if found := _TEMPORARY.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        _remove_if_abandoned(entry.path, begun_here=found[1] == this_machine())


def sync_folders(folders: Iterable[Path]) -> None:
    """Put the names of what was written there on the disk, where the disk can."""
    for folder in folders:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, _READ_FOLDER)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def _renamed_at_the_end(target: Path) -> Iterator[BinaryIO]:
    temporary, stream = _open_temporary(target.parent)
    try:
        with stream:
            yield stream
            stream.flush()
            _keep_mode(target, temporary)
            _put_on_disk(stream.fileno())
            if fcntl is not None:
                os.replace(temporary, target)  # the lock is still held
        if fcntl is None:
            os.replace(temporary, target)  # Windows renames no file that is open
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _put_on_disk(descriptor: int) -> None:
    """Not only into the disk's own memory, where macOS would leave it."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        with contextlib.suppress(OSError):  # a disk that cannot
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _keep_mode(target: Path, temporary: Path) -> None:
    """Who may read a file that is replaced may read the new one, and no one else."""
    with contextlib.suppress(OSError):
        os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))


def new_temporary(folder: Path) -> Path:
    """A name for what becomes another file; whoever makes it holds its lock, or `remove_abandoned` removes it."""
    return folder / f"{TEMPORARY_PREFIX}{this_machine()}-{secrets.token_hex(6)}.tmp"


def _open_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file, locked. Another run may find it before it is locked, and take it for abandoned: then once more."""
    while True:
        temporary = new_temporary(folder)
        stream = open(temporary, "xb")  # noqa: SIM115  # the caller closes it
        if fcntl is None:
            return temporary, stream
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        except OSError:  # a disk without locks: nobody takes the file for abandoned there
            return temporary, stream
        if os.fstat(stream.fileno()).st_nlink:
            return temporary, stream
        stream.close()


def _remove_if_abandoned(path: str, begun_here: bool) -> None:
    if fcntl is None:
        if _is_old_file(os.lstat(path)):
            os.unlink(path)
        return
    descriptor = os.open(path, _LOCK)
    try:
        facts = os.fstat(descriptor)
        if _is_old_file(facts) or (begun_here and stat.S_ISREG(facts.st_mode)):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)


def _is_old_file(facts: os.stat_result) -> bool:
    return stat.S_ISREG(facts.st_mode) and time.time() - facts.st_mtime > _A_DAY


def this_machine() -> str:
    """In the name of a temporary file: where it was begun."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _belongs_to_a_process(path: Path) -> bool:
    """Whether the links on the way pass where names stand for what is open and not for what lies on a disk."""
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if any(folder == place or folder.startswith(f"{place}/") for place in _OPEN_FILES):
            return True
        try:
            path = Path(folder, os.readlink(path))
        except OSError:
            return False
    return False
