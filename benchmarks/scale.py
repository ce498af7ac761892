"""Twenty thousand photographs: stored as tokens, shards and plans; killed and gone on with; read back to train on.

    python benchmarks/scale.py --images 20000 --folder photographs

Makes the photographs from the samples, 300 to 1000 pixels on the long side, the same ones every time (kept in --folder
for the next run). `--steps` names what to do of `write`, `kill`, `resume` and `read`. Each command is a process of its
own, with the default scorer. `busy` is processor time by wall time, imports included. Memory is the resident set when
1 %, 50 % and all of the images have been reported.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from common import print_machine, print_table
from folder import resident
from photographs import make_jpegs
from torch.utils.data import DataLoader, Dataset

from quadtok import ShardDataset, Spec, TokenDataset, Tokens, collate, load_tokens, tokenize
from quadtok.images import fit_image, read_image

SIDES = (300, 1000)
STEPS = ("write", "kill", "resume", "read")
KILLS = 10
BATCH, WORKERS = 32, 2
SPEC = Spec(256, 256, 16, 64, 100)


def ways(output: Path) -> dict[str, tuple[Path, list[str]]]:
    """What is stored, where, and the flags."""
    tokens, half, shards, plans = (output / name for name in ("tokens", "tokens-uint8", "shards", "plans.qts"))
    return {
        "token files, float16": (tokens, ["-o", str(tokens)]),
        "token files, uint8": (half, ["-o", str(half), "--dtype", "uint8"]),
        "shards, uint8": (shards, ["-o", str(shards), "--format", "shards"]),
        "plans, with minima": (plans, ["--store", "plans", "--minima", "float32", "--output", str(plans)]),
    }


def command(photographs: Path, flags: Sequence[str]) -> list[str]:
    """`quadtok tokenize` of the folder."""
    return [sys.executable, "-m", "quadtok", "tokenize", str(photographs), "--json", "--quiet", *flags]


def write(photographs: Path, output: Path, number: int) -> None:
    """Each way once."""
    rows = []
    for name, (place, flags) in ways(output).items():
        _remove(place)
        start, sizes = time.perf_counter(), []
        process = subprocess.Popen(command(photographs, flags), stdout=subprocess.PIPE)
        assert process.stdout is not None
        for count, _ in enumerate(process.stdout, 1):
            if count in (number // 100, number // 2, number):
                sizes.append(f"{resident(process.pid):.0f}")
        _, status, usage = os.wait4(process.pid, 0)
        wall, worked = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
        size = size_of(place)
        rows.append([name, f"{wall:.0f} s", f"{number / wall:.1f}", f"{worked / wall:.2f}", *sizes,
                     f"{size / 1e6:.1f} MB", f"{size / number:.0f}", status])  # fmt: skip
    heading = ["", "wall", "images/s", "busy", "MB at 1 %", "50 %", "100 %", "on disk", "bytes an image", "exit code"]
    print_table(f"{number} photographs stored", heading, rows)


def kill(photographs: Path, output: Path, number: int) -> None:
    """Kill -9 at random moments, then go on to the end: what is there is checked, and counted."""
    rows, moments = [], random.Random(0)
    for name, (place, flags) in ways(output / "killed").items():
        _remove(place)
        seconds = number / 60
        for _ in range(KILLS):
            process = subprocess.Popen(command(photographs, flags), stdout=subprocess.DEVNULL)
            time.sleep(3 + moments.random() * seconds / KILLS * 2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = subprocess.run(command(photographs, flags), stdout=subprocess.PIPE, check=False)
        summary = json.loads(done.stdout.splitlines()[-1])
        checked = subprocess.run(
            [sys.executable, "-m", "quadtok", "info", "--check", "--json", str(place)],
            stdout=subprocess.PIPE, check=False,
        )  # fmt: skip
        bad = json.loads(checked.stdout.splitlines()[-1])["bad"]
        names = list(names_in(place))
        left = [path.name for path in (place if place.is_dir() else place.parent).rglob("*.tmp*")]
        rows.append([name, summary["skipped"], summary["written"], summary["failed"], len(set(names)),
                     len(names) - len(set(names)), bad, len(left)])  # fmt: skip
        _remove(place)
    heading = ["", "kept from before", "made by the last run", "failed", "images", "twice", "bad", "left over"]
    print_table(f"{number} photographs, killed {KILLS} times", heading, rows)


def resume(photographs: Path, output: Path, number: int) -> None:
    """The same command again, with nothing to do."""
    rows = []
    for name, (_, flags) in ways(output).items():
        start = time.perf_counter()
        done = subprocess.run(command(photographs, flags), stdout=subprocess.PIPE, check=False)
        wall = time.perf_counter() - start
        rows.append([name, f"{wall:.1f} s", json.loads(done.stdout.splitlines()[-1])["skipped"]])
    print_table(f"{number} photographs, nothing to do", ["", "wall", "skipped"], rows)


def read(photographs: Path, output: Path, number: int) -> None:
    """A pass over the data by a loader of two workers, from each."""
    places = {name: place for name, (place, _) in ways(output).items()}
    paths = sorted(photographs.glob("*.jpg"))
    plans = TokenDataset(photographs, places["plans, with minima"], num_tokens=100)
    shards = ShardDataset(places["shards, uint8"])
    datasets: dict[str, tuple[Dataset[Tokens], Callable[..., object], Path]] = {
        "token files, float16": (Files(places["token files, float16"]), collate, places["token files, float16"]),
        "token files, uint8": (Files(places["token files, uint8"]), collate, places["token files, uint8"]),
        "shards, uint8": (shards, shards.collate, places["shards, uint8"]),
        "photographs and plans": (plans, plans.collate, places["plans, with minima"]),
        "photographs, scored anew": (Scored(paths), collate, photographs),
    }
    rows = []
    for name, (dataset, collate_fn, place) in datasets.items():
        loader = DataLoader(dataset, BATCH, num_workers=WORKERS, collate_fn=collate_fn)
        start, count = time.perf_counter(), 0
        for tokens in loader:
            count += len(tokens.plan) * SPEC.num_tokens
        seconds = time.perf_counter() - start
        extra = 0 if place == photographs else size_of(place)
        kept = size_of(photographs) if name.startswith("photographs") else 0
        disk = f"{extra / 1e6:.1f} MB" + (f" and {kept / 1e6:.0f} MB of photographs" if kept else "")
        rows.append(
            [name, f"{seconds:.0f} s", f"{count / SPEC.num_tokens / seconds:.0f}", f"{count / seconds:.0f}", disk]
        )
    print_table(
        f"{number} photographs read back, {WORKERS} workers, batches of {BATCH}",
        ["from", "wall", "images/s", "tokens/s", "on disk"], rows,
    )  # fmt: skip


class Files(Dataset[Tokens]):
    """Token files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.rglob("*.pt"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tokens:
        return load_tokens(self.paths[number])


class Scored(Dataset[Tokens]):
    """Photographs, tokenized when they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tokens:
        pixels = fit_image(read_image(self.paths[number]).image, SPEC.height, SPEC.width, "crop").pixels
        return tokenize(pixels[None], SPEC)


def names_in(place: Path) -> Iterator[str]:
    """The images that were stored there."""
    from quadtok import PlanStore
    from quadtok.storage.shards import places_in

    if place.suffix == ".qts":
        yield from PlanStore(place)
    elif shards := sorted(place.glob("*.tar")):
        for shard in shards:
            yield from (sample.key for sample in places_in(shard))
    else:
        yield from (str(path.relative_to(place)) for path in place.rglob("*.pt"))


def size_of(place: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return place.stat().st_size if place.is_file() else sum(path.stat().st_size for path in place.rglob("*.*"))


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Do the steps and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, metavar="N")
    parser.add_argument(
        "--folder", type=Path, default=Path("photographs"), help="of the photographs; made where it is not"
    )
    parser.add_argument("--output", type=Path, default=Path("stored"), help="where to write")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    make_jpegs(arguments.folder, arguments.images, SIDES)
    for step in arguments.steps:
        globals()[step](arguments.folder, arguments.output, arguments.images)


if __name__ == "__main__":
    main()
