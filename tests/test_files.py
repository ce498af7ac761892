import errno
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quadtok.errors import OutputError
from quadtok.files import TEMPORARY_PREFIX, write_atomically


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


def test_a_folder_is_not_replaced(tmp_path):
    path = tmp_path / "folder.pt"
    path.mkdir()
    with pytest.raises(OutputError) as refused:
        write_atomically(path, b"new")
    assert str(refused.value) == f"{path}: cannot be written (Is a directory)"
    assert os.listdir(tmp_path) == ["folder.pt"]


def test_a_full_disk_is_named_and_leaves_the_old_file_alone(tmp_path, monkeypatch):
    # The temporary file leads to the kernel's own full disk.
    monkeypatch.setattr(secrets, "token_hex", lambda _: "known")
    (tmp_path / f"{TEMPORARY_PREFIX}known.tmp").symlink_to("/dev/full")
    path = tmp_path / "tokens.pt"
    path.write_bytes(b"old")
    with pytest.raises(OutputError) as refused:
        write_atomically(path, b"new")
    told = "no space left on device; what is written so far is complete, run the same command to go on"
    assert str(refused.value) == f"{path}: {told}"
    assert refused.value.__cause__.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["tokens.pt"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("broken", ["write", "replace"])
def test_whatever_goes_wrong_no_temporary_file_is_left(broken, error, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def half_a_write(path, data):
        write_bytes(path, data[: len(data) // 2])
        raise error

    def no_replace(source, target):
        assert Path(source).read_bytes() == b"new"
        raise error

    path = tmp_path / "tokens.pt"
    path.write_bytes(b"old")
    if broken == "write":
        monkeypatch.setattr(Path, "write_bytes", half_a_write)
    else:
        monkeypatch.setattr(os, "replace", no_replace)
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
        for name in left:
            (tmp_path / name).unlink()
