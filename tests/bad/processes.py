"""Runs of the table in processes of their own: what signals do, and what two do to each other."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from bad.inputs import small
from bad.runs import Bench
from quadtok import load_tokens

COMMAND = [sys.executable, "-m", "quadtok", "tokenize", "--scorer", "blur"]


@dataclass(frozen=True)
class Ended:
    """What is left of a run in a process of its own."""

    code: int
    err: str


SLOW = """
import time
from quadtok import get_scorer
def slow(images, spec):
    print("scoring", flush=True)
    time.sleep({seconds})
    return get_scorer("blur")(images, spec)
"""


def signalled(bench: Bench, *numbers: int, seconds: float = 1) -> Ended:
    """A run of forty images, which gets these signals while its first batch is scored."""
    for index in range(40):
        small(bench.folder, f"{index:02}.png")
    (bench.folder / "slow.py").write_text(SLOW.format(seconds=seconds))
    arguments = [*COMMAND[:-1], "slow:slow", ".", "-j", "2", "-b", "4"]
    with subprocess.Popen(arguments, cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"scoring\n" in iter(process.stderr.readline, b"")  # what a scorer prints is no data
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.3)
        said = process.communicate(timeout=60)[1].decode()
    for path in bench.folder.glob("*.pt"):
        load_tokens(path)
    return Ended(process.returncode, said)


def interrupted(bench: Bench) -> Ended:
    return signalled(bench, signal.SIGINT)


def interrupted_twice(bench: Bench) -> Ended:
    began = time.monotonic()
    ended = signalled(bench, *[signal.SIGINT] * 5, seconds=50)
    assert time.monotonic() - began < 40
    return ended


def terminated(bench: Bench) -> Ended:
    return signalled(bench, signal.SIGTERM)


def killed(bench: Bench) -> Any:
    """The next run removes what it left, and does the rest."""
    assert signalled(bench, signal.SIGKILL).code == -signal.SIGKILL
    small(bench.folder, "00.pt").write_bytes(b"")  # as a power cut leaves it
    result = bench.tokenize(bench.folder)
    assert len(list(bench.folder.glob("*.pt"))) == 40 and not list(bench.folder.glob(".quadtok-*.tmp"))
    return result


def a_closed_stdout(bench: Bench) -> Ended:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stdout:
        command = [*COMMAND, str(bench.photo), "--json", "-q"]
        ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    return Ended(ended.returncode, ended.stderr)


def two_processes(bench: Bench) -> Ended:
    for index in range(40):
        small(bench.folder, f"{index:02}.png", (300, 300))
    command = [*COMMAND, str(bench.folder), "-o", str(bench.folder / "out"), "-b", "2"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert bench.quadtok("info", "--check", bench.folder / "out").out.splitlines()[-1] == "40 good, 0 bad"
    assert not list((bench.folder / "out").glob(".quadtok-*.tmp"))
    return Ended(max(process.returncode for process in both), "".join(said))
