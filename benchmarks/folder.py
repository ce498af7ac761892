"""A folder of JPEGs to token files: `quadtok tokenize` against a plain loop of the same steps.

    python benchmarks/folder.py --images 2000 --folder jpegs

Makes the JPEGs from the sample photographs, 500 to 4000 pixels on the long side, the same ones every time (about 0.7 MB
each; kept in --folder for the next run). Each row of the table is a process of its own; `busy` is its user and system
time by its wall time, start and imports included: 2.0 is two cores at work from beginning to end. Memory is
the resident set of the process, read whenever an image is reported: the most of a hundred images.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SAMPLES = Path(__file__).parent.parent / "sample_images"
SHORTEST, LONGEST = 500, 4000
QUADTOK = [sys.executable, "-m", "quadtok", "tokenize", "--scorer", "blur", "--json", "--quiet"]
RUNS = {
    "plain loop": [sys.executable, __file__, "--loop"],
    "quadtok, -j 0, no draft": [*QUADTOK, "-j", "0", "--no-draft"],
    "quadtok, no draft": [*QUADTOK, "--no-draft"],
    "quadtok, -j 0": [*QUADTOK, "-j", "0"],
    "quadtok": QUADTOK,
}


@dataclass(frozen=True)
class Run:
    """What a process cost: seconds, and the most megabytes at images 200 to 300, at the last 100, and ever."""

    wall: float
    cpu: float
    early: float
    late: float
    peak: float


def make_jpegs(folder: Path, number: int) -> None:
    """Fill the folder up to `number` JPEGs; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda index: _make_jpeg(folder / f"{index:05}.jpg", index), range(number)))


def _make_jpeg(path: Path, index: int) -> None:
    if path.exists():
        return
    samples = sorted(SAMPLES.glob("*.jpg"))
    # Steps of the golden ratio spread any number of sizes evenly.
    side = round(SHORTEST + (LONGEST - SHORTEST) * (index * 0.6180339887 % 1))
    with Image.open(samples[index % len(samples)]) as sample:
        upright = ImageOps.mirror(sample) if index // len(samples) % 2 else sample
        scale = side / max(sample.size)
        size = (round(sample.width * scale), round(sample.height * scale))
        large = upright.resize(size, Image.Resampling.BICUBIC)
    # Enlarged photographs are smoother than any camera's: with grain they cost as much to decode as real ones.
    grain = np.random.default_rng(index).integers(-10, 11, (size[1] // 2 + 1, size[0] // 2 + 1, 1), dtype=np.int16)
    coarse = grain.repeat(2, axis=0).repeat(2, axis=1)[: size[1], : size[0]]
    grainy = Image.fromarray((np.asarray(large) + coarse).clip(0, 255).astype(np.uint8))
    temporary = path.with_suffix(".tmp")
    grainy.save(temporary, "JPEG", quality=85)
    temporary.replace(path)


def plain_loop(paths: list[Path], output: Path) -> None:
    """What one would write without thinking of speed: one image after another, each step waiting for the last."""
    from quadtok import Spec, get_scorer, save_tokens, tokenize
    from quadtok.images import fit_image, read_image

    spec, scorer = Spec(256, 256, 16, 64, 100), get_scorer("blur")
    output.mkdir(parents=True, exist_ok=True)
    for path in paths:
        pixels = fit_image(read_image(path).image, 256, 256, "crop").pixels
        save_tokens(output / f"{path.stem}.pt", tokenize(pixels[None], spec, scorer)[0])
        print(path, flush=True)


def measure(command: list[str], paths: list[Path], number: int) -> Run:
    """Run a command that takes paths and `-o`, and says a line for each image that is done."""
    output = Path(tempfile.mkdtemp(prefix="quadtok-benchmark-"))
    start, sizes = time.perf_counter(), []
    listed = "\0".join(map(str, paths))
    process = subprocess.Popen([*command, "-0", "-", "-o", str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(listed.encode())
    process.stdin.close()
    for _, line in zip(range(number), process.stdout, strict=False):
        assert b'"failed"' not in line, line
        sizes.append(_resident(process.pid))
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    written = len(list(output.glob("*.pt")))
    shutil.rmtree(output)
    if status or written != number:
        raise SystemExit(f"{' '.join(command)}: status {status}, {written} of {number} files")
    cpu = usage.ru_utime + usage.ru_stime
    early = sizes[200:300] or sizes
    return Run(wall, cpu, max(early), max(sizes[-100:]), usage.ru_maxrss / 1024)


def _resident(pid: int) -> float:
    """Megabytes that a process holds; 0 when it is just gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def print_table(runs: dict[str, Run], number: int) -> None:
    """Markdown; times of the same run side by side."""
    baseline = runs.get("plain loop")
    print("| | wall | images/s | × plain loop | busy | MB, images 200–300 | MB, last 100 | MB at most |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in runs.items():
        times = f"{baseline.wall / run.wall:.2f}" if baseline else ""
        print(
            f"| {name} | {run.wall:.1f} s | {number / run.wall:.1f} | {times} | {run.cpu / run.wall:.2f} "
            f"| {run.early:.0f} | {run.late:.0f} | {run.peak:.0f} |"
        )


def main() -> None:
    """Make the images, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, metavar="N")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "quadtok-jpegs")
    parser.add_argument("--only", action="append", choices=RUNS, help="rows of the table; all if left out")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="runs of each row; the median one counts")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-0", dest="inputs", help=argparse.SUPPRESS)
    parser.add_argument("-o", dest="output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        plain_loop([Path(name) for name in sys.stdin.read().split("\0")], arguments.output)
        return

    make_jpegs(arguments.folder, arguments.images)
    paths = [arguments.folder / f"{index:05}.jpg" for index in range(arguments.images)]
    size = sum(path.stat().st_size for path in paths) / 2**20
    cores = len(os.sched_getaffinity(0))
    print(f"{arguments.images} JPEGs, {size:.0f} MB; {cores} cores, Python {platform.python_version()}\n")
    _read_all(paths)
    runs: dict[str, list[Run]] = {name: [] for name in arguments.only or RUNS}
    for _ in range(arguments.repeats):
        for name, done in runs.items():
            done.append(measure(RUNS[name], paths, len(paths)))
    print_table(
        {name: sorted(done, key=lambda run: run.wall)[len(done) // 2] for name, done in runs.items()}, len(paths)
    )


def _read_all(paths: list[Path]) -> None:
    """So that the first run finds the files in memory as the others do."""
    for path in paths:
        path.read_bytes()


if __name__ == "__main__":
    main()
