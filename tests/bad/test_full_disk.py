"""Case 38 on a disk that is really full: one sentence, exit 1, nothing torn; and with room the same command goes on."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bad.inputs import small
from quadtok import PlanStore
from quadtok.storage.plan_format import INDEX

COUNT = 24
IMAGES = [f"{number:02}.png" for number in range(COUNT)]

# A disk of its own, in names that end with the process: mounting needs no rights there, and nothing is left.
SCRIPT = """
mount -t tmpfs -o size=600k tmpfs disk || exit 77
head -c {filled} /dev/zero > disk/filled
{command} > first.out 2> first.err; echo $? > first.code
cp -a disk full
rm disk/filled; mount -o remount,size=100M disk
{command} > then.out 2> then.err; echo $? > then.code
cp -a disk roomy
"""


@dataclass(frozen=True)
class Disk:
    """What two runs said, and what they left: on the full disk, and when there was room."""

    codes: tuple[int, int]
    errors: tuple[list[str], list[str]]
    full: Path
    roomy: Path

    def files(self, ending: str) -> tuple[set[str], set[str]]:
        return tuple({path.name for path in disk.rglob(f"*{ending}")} for disk in (self.full, self.roomy))


@pytest.fixture
def fill(tmp_path):
    """Tokenize onto a disk with so many kB left."""
    (tmp_path / "disk").mkdir()
    for name in IMAGES:
        small(tmp_path / "in", name)

    def run(kilobytes: int, *flags: str) -> Disk:
        command = " ".join([sys.executable, "-m", "quadtok", "tokenize", "in", "--scorer", "blur", "-b", "1", *flags])
        script = SCRIPT.format(command=command, filled=(600 - kilobytes) * 1024)
        try:
            shell = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script]
            ended = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            pytest.skip("there is no unshare here, to mount a small disk")
        if not (tmp_path / "first.code").exists():
            pytest.skip(f"a small disk cannot be mounted here: {ended.stderr.strip()}")
        texts = [(tmp_path / f"{name}.err").read_text().splitlines() for name in ("first", "then")]
        codes = [int((tmp_path / f"{name}.code").read_text()) for name in ("first", "then")]
        return Disk((codes[0], codes[1]), (texts[0], texts[1]), tmp_path / "full", tmp_path / "roomy")

    return run


def check(disk: Disk) -> None:
    """One sentence and the summary; then all is done, and nothing lies about."""
    full, roomy = disk.errors
    assert disk.codes == (1, 0), (full, roomy)
    assert len(full) == 2 and "no space left on device" in full[0]
    assert full[1].startswith("quadtok: stopped: ") and full[1].endswith(" left")
    assert len(roomy) == 1 and roomy[0].startswith("quadtok: done: ") and ", 0 failed" in roomy[0]
    assert not [*disk.full.rglob(".quadtok-*.tmp"), *disk.roomy.rglob(".quadtok-*.tmp")]


def test_files(fill, quadtok):
    disk = fill(600, "-o", "disk/out")
    check(disk)
    full, roomy = disk.files(".pt")
    assert 0 < len(full) < len(roomy) == COUNT
    assert quadtok("info", "--check", disk.full).out.splitlines()[-1] == f"{len(full)} good, 0 bad"


def test_plans(fill):
    disk = fill(4, "--store", "plans", "--minima", "float32", "--output", "disk/x.qts")
    check(disk)
    assert 0 < len(PlanStore(disk.full / "x.qts")) < COUNT
    assert sorted(PlanStore(disk.roomy / "x.qts")) == IMAGES


def test_plans_whose_index_alone_has_no_room(quadtok, tmp_path, monkeypatch):
    """All are written, and read without it: but it is said, and the next run writes it."""
    small(tmp_path / "in")
    command = ["tokenize", tmp_path / "in", "--store", "plans", "--output", tmp_path / "x.qts", "--scorer", "blur"]
    with monkeypatch.context() as patch:
        really_write = os.write

        def write(descriptor, data):
            if bytes(data[: len(INDEX)]) == INDEX:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return really_write(descriptor, data)

        patch.setattr(os, "write", write)
        result = quadtok(*command)
    assert (result.code, len(result.lines)) == (1, 2)
    assert "no space left on device" in result.lines[0] and "done: 1 written" in result.lines[1]
    assert list(PlanStore(tmp_path / "x.qts")) == ["small.png"]
    size = (tmp_path / "x.qts").stat().st_size
    assert quadtok(*command).code == 0
    assert (tmp_path / "x.qts").stat().st_size > size


@pytest.mark.parametrize(
    ("kilobytes", "flags"), [(600, ["--shard-size", "2"]), (24, ["--store", "plans", "--shard-size", "4"])]
)
def test_shards(fill, quadtok, kilobytes, flags, kind):
    disk = fill(kilobytes, "-o", "disk/shards", "--format", kind.format, *flags)
    check(disk)
    full, _ = disk.files(kind.suffix)
    assert len(full) > 0
    assert quadtok("info", "--check", disk.full / "shards").out.splitlines()[-1] == f"{len(full)} good, 0 bad"
    names = {path.name for path in (disk.full / "shards").glob("shard-*.json")}
    assert names <= {name.replace(kind.suffix, ".json") for name in full}, "an index of a shard that is not there"
    assert json.loads((disk.roomy / "shards" / "index.json").read_text())["samples"] == COUNT


def test_a_manifest(fill):
    disk = fill(4, "-o", "out", "--manifest", "disk/manifest.jsonl")
    check(disk)
    lines = (disk.roomy / "manifest.jsonl").read_text().splitlines()
    whole = [json.loads(line)["input"] for line in lines if line.endswith("}")]
    assert set(whole) == set(IMAGES)
    assert len(lines) - len(whole) <= 1, "of one line a part, which counts for nothing"
