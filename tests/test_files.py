import errno
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
import torch

from quadtok.errors import DiskFull, ImageError, OutputError, WeightsError
from quadtok.files import (
    TEMPORARY_PREFIX,
    load_safely,
    open_regular,
    read_regular,
    remove_abandoned,
    write_atomically,
)


def test_a_file_is_written_with_the_folders_on_its_way(tmp_path):
    path = tmp_path / "a" / "b" / "tokens.pt"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["tokens.pt"]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "tokens.pt"
    path.write_bytes(b"something longer, and old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["tokens.pt"]


def test_a_file_is_readable_for_whom_the_umask_allows(tmp_path):
    path, plain = tmp_path / "tokens.pt", tmp_path / "plain"
    write_atomically(path, b"new")
    plain.write_bytes(b"new")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path):
    path = tmp_path / ("x" * 252 + ".pt")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    longer = tmp_path / ("x" * 253 + ".pt")
    with pytest.raises(OutputError) as refused:
        write_atomically(longer, b"new")
    assert str(refused.value) == f"{longer}: the name is too long for this disk"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("below", ["tokens.pt", "deeper/tokens.pt"])
def test_a_file_in_the_place_of_a_folder_is_named_as_the_reason(below, tmp_path):
    (tmp_path / "file").write_bytes(b"untouched")
    path = tmp_path / "file" / below
    with pytest.raises(OutputError) as refused:
        write_atomically(path, b"new")
    assert str(refused.value) == f"{path}: a file stands where one of its folders should be"
    assert (tmp_path / "file").read_bytes() == b"untouched"


def held_by(kind, path):
    """Makes something at a path that is no regular file; gives what the sentence calls it."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to("/dev/full")  # only root may make a device node
    return path


OTHER_THAN_FILES = ["folder", "pipe", "socket", "device"]


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "through a link"])
@pytest.mark.parametrize("kind", OTHER_THAN_FILES)
def test_what_is_no_regular_file_is_refused_and_stays(kind, linked, tmp_path):
    path = held_by(kind, tmp_path / "x")
    if linked:
        path = tmp_path / "link"
        path.symlink_to("x")
    before = os.lstat(path).st_ino
    with pytest.raises(OutputError) as refused:
        write_atomically(path, b"new")
    assert str(refused.value) == f"{path}: is a {kind}, not a regular file"
    assert os.lstat(path).st_ino == before
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device node")
def test_a_device_node_is_not_replaced(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make device nodes")
    with pytest.raises(OutputError, match="is a device, not a regular file"):
        write_atomically(path, b"new")
    assert stat.S_ISCHR(path.stat().st_mode)


def test_stdout_is_no_file_even_where_it_is_one(tmp_path):
    code = (
        "from pathlib import Path; from quadtok.files import write_atomically\n"
        "for path in ('/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'):\n"
        "    try: write_atomically(Path(path), b'new')\n"
        "    except Exception as problem: print(problem)"
    )
    with (tmp_path / "out").open("w") as stdout:
        subprocess.run([sys.executable, "-c", code], stdout=stdout, check=True)
    said = (tmp_path / "out").read_text().splitlines()
    assert [line.split(": ")[1] for line in said] == ["is what a process holds open, not the name of a file"] * 3


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_a_link_is_written_through(there, tmp_path):
    real = tmp_path / "elsewhere" / "deeper" / "real.pt"
    link, second = tmp_path / "link.pt", tmp_path / "second.pt"
    link.symlink_to(real)
    second.symlink_to("link.pt")
    if there:
        real.parent.mkdir(parents=True)
        real.write_bytes(b"old")
    write_atomically(second, b"new")
    assert (link.is_symlink(), second.is_symlink()) == (True, True)
    assert (real.is_symlink(), real.read_bytes()) == (False, b"new")
    assert os.listdir(real.parent) == ["real.pt"]


def test_a_link_that_leads_nowhere_but_to_itself_is_refused(tmp_path):
    path = tmp_path / "loop.pt"
    path.symlink_to("loop.pt")
    with pytest.raises(OutputError, match="is a link that leads back to itself"):
        write_atomically(path, b"new")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_the_old_file_alone(number, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "tokens.pt"
    path.write_bytes(b"old")
    with pytest.raises(DiskFull) as refused:
        write_atomically(path, b"new")
    told = "no space left on device; what is written so far is complete, run the same command to go on"
    assert str(refused.value) == f"{path}: {told}"
    assert refused.value.__cause__.errno == number
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["tokens.pt"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    path, seen = tmp_path / "tokens.pt", []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: seen.append(("sync", os.fstat(descriptor).st_size)) or sync(descriptor)
    )
    monkeypatch.setattr(os, "replace", lambda *names: seen.append(("name", 0)) or replace(*names))
    write_atomically(path, b"new")
    assert seen == [("sync", 3), ("name", 0)]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_whatever_goes_wrong_no_temporary_file_is_left(broken, error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = tmp_path / "tokens.pt"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises((OutputError, KeyboardInterrupt)) as refused:
        write_atomically(path, b"new")
    if isinstance(error, OSError):
        assert str(refused.value) == f"{path}: cannot be written (Input/output error)"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["tokens.pt"]


def test_a_process_killed_at_any_moment_leaves_no_torn_file(tmp_path):
    script = """
import sys
from pathlib import Path
from quadtok.files import write_atomically
assert "torch" not in sys.modules
while True:
    for letter in b"ab":
        write_atomically(Path(sys.argv[1]), bytes([letter]) * 3_000_000)
"""
    path = tmp_path / "tokens.pt"
    whole = {b"a" * 3_000_000, b"b" * 3_000_000}
    delays = random.Random(0)
    for _ in range(20):
        path.unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", script, str(path)])
        deadline = time.monotonic() + 30
        while not path.exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(delays.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert path.read_bytes() in whole
        left = [name for name in os.listdir(tmp_path) if name != path.name]
        assert len(left) <= 1
        assert all(name.startswith(TEMPORARY_PREFIX) and name.endswith(".tmp") for name in left)
        remove_abandoned([tmp_path])
        assert os.listdir(tmp_path) == [path.name]


class TestAbandoned:
    """What a run that was killed leaves, and the next one finds."""

    def temporary_of_another(self, folder, machine):
        write_atomically(folder / "x", b"")
        path = folder / f"{TEMPORARY_PREFIX}{machine}0123456789ab.tmp"
        path.write_bytes(b"half")
        return path

    def test_what_a_living_process_writes_is_left_to_it(self, tmp_path, monkeypatch):
        seen, sync = [], os.fsync

        def look(descriptor):
            remove_abandoned([tmp_path])
            seen.extend(os.listdir(tmp_path))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", look)
        write_atomically(tmp_path / "x", b"new")
        assert len(seen) == 1 and seen[0].startswith(TEMPORARY_PREFIX)
        assert (tmp_path / "x").read_bytes() == b"new"

    @pytest.mark.parametrize("machine", ["00000000-", ""], ids=["another machine's", "an older quadtok's"])
    def test_what_another_machine_may_be_writing_is_left_for_a_day(self, tmp_path, machine):
        path = self.temporary_of_another(tmp_path, machine)
        remove_abandoned([tmp_path])
        assert path.exists()
        os.utime(path, (time.time() - 90_000,) * 2)
        remove_abandoned([tmp_path])
        assert not path.exists()

    @pytest.mark.parametrize("name", [".quadtok-notes.tmp", "quadtok-00000000-0123456789ab.tmp", ".hidden.tmp"])
    def test_what_is_not_named_like_ours_is_nobodys_business(self, tmp_path, name):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
        remove_abandoned([tmp_path, tmp_path / "gone"])
        assert os.listdir(tmp_path) == [name]

    def test_a_name_that_is_no_file_is_left(self, tmp_path):
        path = tmp_path / f"{TEMPORARY_PREFIX}00000000-0123456789ab.tmp"
        path.symlink_to(tmp_path / "precious")
        (tmp_path / "precious").touch()
        os.utime(path, (1, 1), follow_symlinks=False)
        os.utime(tmp_path / "precious", (1, 1))
        remove_abandoned([tmp_path])
        assert sorted(os.listdir(tmp_path)) == sorted([path.name, "precious"])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path, mode):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


class TestReading:
    """Of regular files alone; whoever reads says which error it is."""

    def test_a_file_is_read_whole_through_links_too(self, tmp_path):
        (tmp_path / "x").write_bytes(b"content")
        (tmp_path / "link").symlink_to("x")
        assert read_regular(tmp_path / "x", ImageError) == read_regular(tmp_path / "link", ImageError) == b"content"

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda path: None, "no such file"),
            (lambda path: path.symlink_to("nowhere"), "no such file"),
            (lambda path: path.mkdir(), "is a folder"),
            (os.mkfifo, "not a regular file"),
            (lambda path: held_by("socket", path), "not a regular file"),
            (lambda path: held_by("device", path), "not a regular file"),
            (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        ],
        ids=["nothing", "a link to nothing", "a folder", "a pipe", "a socket", "a device", "a circle"],
    )
    @pytest.mark.parametrize("error", [ImageError, WeightsError])
    def test_what_cannot_be_read_is_the_readers_own_error_with_the_reason(self, tmp_path, error, make, reason):
        make(tmp_path / "x")
        for read in (read_regular, lambda path, error: load_safely(path, error, "odd")):
            with pytest.raises(error) as refused:
                read(tmp_path / "x", error)
            assert str(refused.value) == reason

    @pytest.mark.parametrize("name", ["a\0b", "\ud800"])
    def test_names_that_no_file_can_have_are_refused_like_missing_files(self, tmp_path, name):
        with pytest.raises(ImageError, match="no file can have this name"):
            read_regular(tmp_path / name, ImageError)

    def test_a_pipe_is_not_even_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=lambda: open(tmp_path / "pipe", "wb").close())
        writer.start()  # and waits for somebody to read
        with pytest.raises(ImageError):
            read_regular(tmp_path / "pipe", ImageError)
        writer.join(0.3)
        assert writer.is_alive()
        open(tmp_path / "pipe", "rb").close()
        writer.join()

    def test_a_file_that_becomes_a_pipe_meanwhile_is_refused_and_closed(self, tmp_path, monkeypatch):
        (tmp_path / "x").touch()
        before, look = len(os.listdir("/proc/self/fd")), os.stat

        def look_too_early(path, **options):
            seen = look(path, **options)
            path.unlink()
            os.mkfifo(path)
            return seen

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", look_too_early)
            with pytest.raises(OSError, match="not a regular file"):
                open_regular(tmp_path / "x")
        assert len(os.listdir("/proc/self/fd")) == before


class TestLoading:
    """What torch saved, without running anything in it."""

    def test_tensors_and_plain_values_come_back_on_the_cpu(self, tmp_path):
        content = {"a": torch.arange(3), "b": [1, "two", None]}
        torch.save(content, tmp_path / "x.pt")
        found = load_safely(tmp_path / "x.pt", WeightsError, "not a state dict")
        assert torch.equal(found.pop("a"), content.pop("a")) and found == content

    def test_code_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "ran"),))

        torch.save({"a": Evil()}, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match="^not a state dict$"):
            load_safely(tmp_path / "x.pt", WeightsError, "not a state dict")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("data", [b"", b"text", b"PK\3\4" + bytes(50), bytes(1000)], ids=repr)
    def test_anything_else_gets_the_readers_sentence(self, tmp_path, data):
        (tmp_path / "x.pt").write_bytes(data)
        with pytest.raises(WeightsError, match="^not a state dict$"):
            load_safely(tmp_path / "x.pt", WeightsError, "not a state dict")

    def test_one_cut_anywhere_gets_it_too(self, tmp_path):
        torch.save({"a": torch.zeros(100_000)}, tmp_path / "x.pt")
        whole = (tmp_path / "x.pt").read_bytes()
        for end in range(0, len(whole), 10_000):  # of one that is cut at 10 kB torch seeks to before its beginning
            (tmp_path / "x.pt").write_bytes(whole[:end])
            with pytest.raises(WeightsError, match="^not a state dict$"):
                load_safely(tmp_path / "x.pt", WeightsError, "not a state dict")
