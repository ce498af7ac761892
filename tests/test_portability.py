"""What only Linux or only Unix has is taken away: all commands run, and write the same bytes.

Nobody has run quadtok on macOS or Windows for us. This is as near as Linux comes to them.
"""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import quadtok
from helpers import MANIFEST, SAMPLE_IMAGES
from quadtok.files import TEMPORARY_PREFIX, remove_abandoned, sync_folders, write_atomically

SOURCES = sorted(Path(quadtok.__file__).parent.rglob("*.py"))
NOT_EVERYWHERE = {
    "os": {
        "O_CLOEXEC",
        "O_DIRECT",
        "O_DIRECTORY",
        "O_DSYNC",
        "O_NOATIME",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "O_PATH",
        "O_SYNC",
        "O_TMPFILE",
        "chown",
        "copy_file_range",
        "fchmod",
        "fchown",
        "fork",
        "forkpty",
        "geteuid",
        "getgid",
        "getloadavg",
        "getpgid",
        "getuid",
        "kill",
        "killpg",
        "memfd_create",
        "mkfifo",
        "mknod",
        "nice",
        "posix_fadvise",
        "posix_fallocate",
        "pread",
        "pwrite",
        "sched_getaffinity",
        "sched_setaffinity",
        "sendfile",
        "setsid",
        "splice",
        "statvfs",
        "sysconf",
        "uname",
    },
    "signal": {"SIGHUP", "SIGKILL", "SIGPIPE", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "alarm", "pthread_sigmask"},
    "time": {"clock_gettime"},
    "socket": {"AF_UNIX"},
}
MODULES_NOT_EVERYWHERE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}

# Also what Windows forbids: to rename or remove a file that is open, and to open a folder.
# Torch comes first: Linux's build may use what Linux has.
BARE_SYSTEM = f"""
import os, sys
import torch, torchvision
names, modules = {NOT_EVERYWHERE["os"]!r}, {MODULES_NOT_EVERYWHERE!r}
for name in names:
    if hasattr(os, name):
        delattr(os, name)
for name in modules:
    sys.modules[name] = None

def refused_while_open(function):
    def careful(path, *others, **options):
        held = [os.path.realpath("/proc/self/fd/" + number) for number in os.listdir("/proc/self/fd")]
        real = os.path.realpath(path)
        if real in held and real.startswith(os.getcwd()):  # compilers of torch's may do as they like in theirs
            raise PermissionError(13, "a file that is open", os.fspath(path))
        return function(path, *others, **options)
    return careful

os.replace, os.rename, os.unlink, os.remove = map(refused_while_open, (os.replace, os.rename, os.unlink, os.remove))
open_file = os.open

def open_no_folder(path, *others, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "a folder", os.fspath(path))
    return open_file(path, *others, **options)

os.open = open_no_folder
"""


def run_bare(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", BARE_SYSTEM + code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def guarded(tree):
    """The imports that stand where an ImportError is expected."""
    tries = (node for node in ast.walk(tree) if isinstance(node, ast.Try) and node.handlers)
    return {node for block in tries for statement in block.body for node in ast.walk(statement)}


def missing_elsewhere(source):
    """What a module takes for granted although some systems lack it."""
    tree = ast.parse(source)
    expected = guarded(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in NOT_EVERYWHERE.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import) and node not in expected:
            yield from (name.name for name in node.names if name.name in MODULES_NOT_EVERYWHERE)
        elif isinstance(node, ast.ImportFrom) and node not in expected:
            names = NOT_EVERYWHERE.get(node.module, ())
            yield from (f"{node.module}.{name.name}" for name in node.names if name.name in names)
            yield from [node.module] * (node.module in MODULES_NOT_EVERYWHERE)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(SOURCES[0].parent).as_posix())
def test_nothing_is_taken_for_granted_that_some_systems_lack(path):
    assert list(missing_elsewhere(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import os\nlen(os.sched_getaffinity(0))", ["os.sched_getaffinity"]),
        ("import fcntl", ["fcntl"]),
        ("from fcntl import flock", ["fcntl"]),
        ("from os import uname", ["os.uname"]),
        ("import signal\nsignal.signal(signal.SIGHUP, f)", ["signal.SIGHUP"]),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", []),
        ("import os\ngetattr(os, 'sched_getaffinity', None)", []),
    ],
)
def test_what_is_taken_for_granted_is_seen(source, named):
    assert list(missing_elsewhere(source)) == named


COMMANDS = [
    ["tokenize", "photo.jpg", "sub", "-o", "tokens", "--scorer", "blur"],
    ["tokenize", "photo.jpg", "sub", "-o", "tokens", "--scorer", "blur"],  # goes on: nothing to do
    ["tokenize", "photo.jpg", "--output", "default.pt"],
    ["visualize", "tokens/photo.pt", "-o", "pictures", "--image", "photo.jpg"],
    ["reverse", "tokens/photo.pt", "--output", "restored.png"],
    ["info", "--check", "tokens"],
    ["bench", "--batch-sizes", "1", "--min-time", "0.01", "--scorer", "blur", "--csv", "rows.csv"],
]


def test_all_commands_run_without_what_only_linux_has(tmp_path):
    bare, whole = tmp_path / "bare", tmp_path / "whole"
    for folder in (bare, whole):
        (folder / "sub").mkdir(parents=True)
        (folder / "photo.jpg").write_bytes((SAMPLE_IMAGES / "chelsea.jpg").read_bytes())
        (folder / "sub" / "other.jpg").write_bytes((SAMPLE_IMAGES / "coffee.jpg").read_bytes())
    code = f"from quadtok.cli import run\nfor command in {COMMANDS!r}: assert run(command) == 0, command"
    run_bare(code, bare)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=whole, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert {path.relative_to(bare) for path in bare.rglob("*") if path.is_file()} == made
    for path in made - {Path("rows.csv"), Path("tokens", MANIFEST)}:  # these hold times
        assert (bare / path).read_bytes() == (whole / path).read_bytes(), path


def test_without_locks_what_was_left_is_removed_after_a_day_and_not_before(tmp_path):
    write_atomically(tmp_path / "x", b"")
    left = [tmp_path / f"{TEMPORARY_PREFIX}{digits}0123456789ab.tmp" for digits in ("", "00000000-")]
    for path in left:
        path.write_bytes(b"half")
    code = "from pathlib import Path\nfrom quadtok.files import *\nremove_abandoned([Path('.')])"
    run_bare(code, tmp_path)
    assert all(path.exists() for path in left)
    for path in left:
        os.utime(path, (time.time() - 90_000,) * 2)
    run_bare(code, tmp_path)
    assert os.listdir(tmp_path) == ["x"]


def test_without_locks_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    code = """
from pathlib import Path
from quadtok.files import write_atomically
def fail(*_):
    raise OSError(5, "Input/output error")
os.fsync = fail
try:
    write_atomically(Path("x"), b"new")
except Exception as problem:
    print(problem)
"""
    assert run_bare(code, tmp_path) == "x: cannot be written (Input/output error)\n"
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("able", [True, False], ids=["a disk that can", "a disk that cannot"])
def test_macos_is_asked_to_empty_the_disks_own_memory(able, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="is what macOS is asked by")
    asked, synced, sync = [], [], os.fsync

    def control(descriptor, command):
        asked.append(command)
        if not able:
            raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(descriptor) or sync(descriptor))
    write_atomically(tmp_path / "x", b"new")
    assert (asked, len(synced)) == ([51], not able)
    assert (tmp_path / "x").read_bytes() == b"new"
    sync_folders([tmp_path])
    remove_abandoned([tmp_path])
