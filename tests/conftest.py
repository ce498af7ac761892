"""Fixtures that follow the code's own tables: a new quadtree or scorer is tested by adding its name there."""

import os
import signal

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch counts the cores; commands inherit it too
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import pytest

from helpers import DEVICES
from quadtok.quadtrees import QUADTREES
from shard_kinds import KINDS, kind_of

# A shell lets what it starts in the background ignore Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=sorted(QUADTREES))
def quadtree(request):
    return QUADTREES[request.param]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    """What files shards are."""
    return kind_of(request.param)


class Store:
    """A store in memory, or on this disk by URLs; what is put there is gone after the test."""

    def __init__(self, scheme, top):
        self.files, self.url = fsspec_of(scheme), f"{scheme}://{top}"

    def put(self, name, data=b"data"):
        """The URL of a new file."""
        folder = f"{self.url}/{name}".rpartition("/")[0]
        self.files.makedirs(folder, exist_ok=True)
        self.files.pipe_file(f"{self.url}/{name}", data)
        return f"{self.url}/{name}"

    def put_all(self, folder, name):
        """The URL of a copy of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.url}/{name}"

    def names(self, below=""):
        """All files there."""
        self.files.invalidate_cache()
        top = f"{self.url}/{below}".removeprefix("file://").replace("memory://", "/").rstrip("/")
        return sorted(path[len(top) + 1 :] for path in self.files.find(top)) if self.files.exists(top) else []

    def read(self, name):
        return self.files.cat_file(f"{self.url}/{name}")


def fsspec_of(scheme):
    return pytest.importorskip("fsspec", reason="URLs are its; the extra fsspec has it").filesystem(scheme)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path_factory):
    on_disk = request.param == "file"
    made = Store(request.param, tmp_path_factory.mktemp("bucket") if on_disk else f"quadtok-{os.getpid()}")
    yield made
    if made.names():
        made.files.rm(made.url, recursive=True)
