"""Files in object stores, and wherever else fsspec leads by a URL: all that is asked of it.

Its errors are those of a dozen libraries, and each becomes one sentence. What failed is tried again as often as the
store's own library does, and no oftener.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from quadtok.errors import (
    ImageError,
    InputError,
    OutputError,
    QuadtokError,
    Unwritable,
    cannot_write,
    described,
    is_no_space,
)
from quadtok.files import written_whole

try:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem
except ImportError as problem:
    raise InputError("an input or output by a URL needs fsspec: pip install 'quadtok[fsspec]'") from problem

_TIMES = ("LastModified", "mtime", "updated", "last_modified", "created")  # stores call it by these names

_WITH_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}  # elsewhere the first folder is made as others are


@dataclass(frozen=True)
class Facts:
    """What a listing tells of a file.

    Attributes:
        bytes: its size; -1 where that is not told.
        time: when it was written, in whole seconds, as some stores tell no more; 0 where that is not told.
    """

    bytes: int
    time: int


def listing(url: str, deepest: int | None = None) -> dict[str, Facts]:
    """All files below a URL, by their own URLs; where it is a file, that one; where nothing is there, none.

    Args:
        url: of a folder, or a file.
        deepest: levels of folders that are looked into; None: all.

    Raises:
        InputError: where it cannot be listed.
    """
    with _in_words(InputError):
        store, top = _at(url)
        store.invalidate_cache()  # it keeps what it listed; others write there, too
        try:
            found = store.find(top, maxdepth=deepest, detail=True)
        except FileNotFoundError:
            return {}
    base, length = url.rstrip("/"), len(top.rstrip("/"))
    base = f"{base}//" if base.endswith(":") else base
    return {f"{base}{path[length:]}": _facts(told) for path, told in found.items() if told.get("type") != "directory"}


def files_in(url: str) -> dict[str, Facts]:
    """The files in a folder, by their names, in one listing; nothing where there is no such folder.

    Raises:
        OutputError: where it cannot be listed.
    """
    with _in_words(OutputError):
        store, folder = _at(url)
        try:
            found = store.ls(folder, detail=True, refresh=True) if _keeps(store) else store.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
    return {told["name"].rpartition("/")[2]: _facts(told) for told in found if told["type"] == "file"}


def facts_of(url: str) -> Facts:
    """What the store tells of a file.

    Raises:
        InputError: where it is not there.
    """
    with _in_words(InputError):
        store, path = _at(url)
        return _facts(store.info(path))


def is_file(url: str) -> bool:
    """Whether there is a file of this name.

    Raises:
        InputError: where that cannot be asked.
    """
    with _in_words(InputError):
        store, path = _at(url)
        try:
            return bool(store.info(path)["type"] == "file")
        except (FileNotFoundError, NotADirectoryError):
            return False


def check_place(url: str) -> None:
    """Refuse a place of results that cannot be reached, or whose bucket is not there; asks, and writes nothing.

    Raises:
        OutputError: why not.
    """
    with _in_words(OutputError):
        store, path = _at(url)
        kinds = {store.protocol} if isinstance(store.protocol, str) else {*store.protocol}
        bucket = path.lstrip("/").partition("/")[0]
        try:
            store.info(bucket if kinds & _WITH_BUCKETS else path)
        except FileNotFoundError:
            if kinds & _WITH_BUCKETS:
                raise OutputError(f"there is no bucket {bucket}: make it first") from None
        except NotADirectoryError:
            return


def read(url: str, most: int | None = None) -> bytes:
    """The bytes of a file, or the first of them.

    Raises:
        ImageError: why not, for `about` to put the URL before.
    """
    with _in_words(ImageError):
        store, path = _at(url)
        data: bytes = store.cat_file(path) if most is None else store.cat_file(path, start=0, end=most)
        return data


def read_all(urls: Sequence[str]) -> list[bytes]:
    """The bytes of files, as many at once as the store's library asks for.

    Raises:
        OutputError: where one cannot be read.
    """
    if not urls:
        return []
    with _in_words(OutputError):
        store = _at(urls[0])[0]
        paths = [_at(url)[1] for url in urls]
        found = store.cat(paths)
        return [found[path] for path in paths] if isinstance(found, dict) else [found]


def fetch(url: str, file: Path) -> None:
    """Copy a file to a local one.

    Raises:
        OutputError: where it cannot be read.
    """
    with _in_words(OutputError):
        store, path = _at(url)
        store.get_file(path, str(file))


def write(url: str, data: bytes) -> None:
    """Put a file whole, in place of what was there.

    Raises:
        OutputError: with the URL and the reason. `DiskFull` where no space is left.
    """
    with _written(url):
        store, path = _at(url)
        if isinstance(store, LocalFileSystem):  # it would write into the file that a reader opens
            with written_whole(Path(path)) as stream:
                stream.write(data)
        else:
            store.pipe_file(path, data)


def put(file: Path, url: str) -> None:
    """Put a copy of a local file, as `write` does."""
    with _written(url):
        store, path = _at(url)
        if isinstance(store, LocalFileSystem):
            with file.open("rb") as source, written_whole(Path(path)) as stream:
                shutil.copyfileobj(source, stream)
        else:
            store.put_file(str(file), path)


def _at(url: str) -> tuple[Any, str]:
    """The file system, which fsspec makes once, and the path in it."""
    store, path = fsspec.core.url_to_fs(url)
    return store, path


def _keeps(store: Any) -> bool:
    """Whether it answers from what it listed before, unless told otherwise."""
    return bool(getattr(store, "dircache", None) is not None)


def _facts(told: dict[str, Any]) -> Facts:
    size = told.get("size")
    time = next((told[name] for name in _TIMES if told.get(name)), 0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return Facts(-1 if size is None else int(size), int(seconds))


@contextmanager
def _written(url: str) -> Iterator[None]:
    try:
        with _in_words(Unwritable, "no such bucket or folder"):
            yield
    except OSError as problem:
        raise cannot_write(url, problem) from problem
    except Unwritable as problem:
        raise type(problem)(f"{url}: cannot be written ({problem})") from problem


@contextmanager
def _in_words(error: type[QuadtokError], missing: str = "no such file") -> Iterator[None]:
    """Whatever a library raises as a sentence; that no space is left is for whoever writes."""
    try:
        yield
    except (QuadtokError, KeyboardInterrupt):
        raise
    except FileNotFoundError as problem:
        raise error(missing) from problem
    except ImportError as problem:
        raise error(f"{problem} (with pip)") from problem
    except Exception as problem:
        if is_no_space(problem):
            raise
        raise error(described(problem)) from problem
