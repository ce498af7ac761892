"""A folder of JPEGs to token files: `quadtok tokenize` against a plain loop over the reference's operations.

    python benchmarks/folder.py --images 300 --scorer blur feature --repeats 3 --folder jpegs

Makes the JPEGs from the sample photographs, 500 to 4000 pixels on the long side, the same ones every time (about 0.9 MB
each; kept in --folder for the next run). `--sides 500 1000` makes such as data sets hold, of which drafts save nothing.
A table for each scorer; each row is a process of its own, the first one `plain_loop.py`: one image after another, with
as many threads as torch takes by itself. The rows take turns, so that whatever else the machine does hits all alike; of
each the run of median wall time is shown, behind it the quickest and the slowest.

`busy` is user and system time by wall time: 2.0 is two cores at work from beginning to end, start and imports included;
`at work` is the same from the first image that is done to the last. `others` is how many cores all other processes kept
busy meanwhile. No row could have those, and the plain loop loses more than that, since threads that share a core wait
for each other at every step: compare rows where `others` is near 0. Memory is the resident set of the process, read
whenever an image is reported: the most of a hundred images.

`object` has no plain loop: the reference has no such scorer. Under a table stands how many boxes of the plain loop
quadtok chose as well. Without drafts both see the same pixels.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from photographs import make_jpegs, make_maps

SIDES = (500, 4000)
SCORERS = ["object", "feature", "blur", "random", "precomputed"]
COMPARED = 100  # images whose boxes are compared
PLAIN, EXACT = "plain loop", "quadtok, no draft"
# Rows of a table: what is given to `quadtok tokenize`, and to the plain loop nothing.
ROWS: dict[str, list[str]] = {
    PLAIN: [],
    "quadtok, -j 0, no draft": ["-j", "0", "--no-draft"],
    EXACT: ["--no-draft"],
    "quadtok, -j 0": ["-j", "0"],
    "quadtok": [],
}


@dataclass(frozen=True)
class Run:
    """What a process cost: seconds, how many cores worked, and megabytes.

    Attributes:
        wall: seconds from start to end.
        busy: processor time by wall time, from start to end.
        at_work: the same from the first image to the last.
        others: processor time of everything else on the machine by wall time.
        early: the most megabytes at images 200 to 300.
        late: at the last 100.
        peak: ever.
    """

    wall: float
    busy: float
    at_work: float
    others: float
    early: float
    late: float
    peak: float


def command(row: str, scorer: str, maps: Path) -> list[str]:
    """The process of a row; it takes paths from stdin, each behind a NUL, and `-o`."""
    start = [str(Path(__file__).with_name("plain_loop.py"))]
    if row != PLAIN:
        start = ["-m", "quadtok", "tokenize", "-0", "-", "--json", "--quiet"]
    return [
        sys.executable,
        *start,
        *["--scorer", scorer],
        *(["--maps", str(maps)] if scorer == "precomputed" else []),
        *ROWS[row],
    ]


def measure(command: list[str], paths: list[Path]) -> Run:
    """Run a command that takes paths and `-o`, and says a line for each image that is done."""
    with tempfile.TemporaryDirectory(prefix="quadtok-benchmark-") as folder:
        return _measure([*command, "-o", folder], paths, Path(folder))


def _measure(command: list[str], paths: list[Path], output: Path) -> Run:
    sizes, clocks = [], []
    start, worked_before = time.perf_counter(), _worked_by_all()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(listed(paths))
    process.stdin.close()
    for _, line in zip(paths, process.stdout, strict=False):
        assert b'"failed"' not in line, line
        sizes.append(resident(process.pid))
        clocks.append((time.perf_counter(), _worked(process.pid)))
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall, by_all = time.perf_counter() - start, _worked_by_all() - worked_before
    by_this = usage.ru_utime + usage.ru_stime
    written = len(list(output.glob("*.pt")))
    if status or written != len(paths):
        raise SystemExit(f"{' '.join(command)}: status {status}, {written} of {len(paths)} files")
    (first, worked_first), (last, worked_last) = clocks[0], clocks[-1]
    between = max(last - first, 1e-9)
    return Run(
        wall,
        busy=by_this / wall,
        at_work=(worked_last - worked_first) / between,
        others=max(0.0, by_all - by_this) / wall,
        early=max(sizes[200:300] or sizes),
        late=max(sizes[-100:]),
        peak=usage.ru_maxrss / 1024,
    )


def listed(paths: list[Path]) -> bytes:
    """As `find -print0` would."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def resident(pid: int) -> float:
    """Megabytes that a process holds; 0 when it is just gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _worked(pid: int) -> float:
    """Seconds of processor time, user and system, that a process has had; one that nobody waited for still tells."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _worked_by_all() -> float:
    """Seconds of processor time that this machine has spent on anything, or another took from it."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def print_table(repeated: dict[str, list[Run]], number: int) -> None:
    """Markdown: of each row the run of median wall time."""
    runs = {name: sorted(repeats, key=lambda run: run.wall) for name, repeats in repeated.items()}
    medians = {name: repeats[len(repeats) // 2] for name, repeats in runs.items()}
    baseline = medians.get(PLAIN)
    print(
        "| | wall | images/s | × plain loop | busy | at work | others "
        "| MB, images 200–300 | MB, last 100 | MB at most |\n|" + "---|" * 10
    )
    for name, run in medians.items():
        wall = f"{run.wall:.1f} s"
        if len(runs[name]) > 1:
            wall += f" ({runs[name][0].wall:.1f} to {runs[name][-1].wall:.1f})"
        times = f"{baseline.wall / run.wall:.2f}" if baseline else ""
        cores = f"{run.busy:.2f} | {run.at_work:.2f} | {run.others:.2f}"
        memory = f"{run.early:.0f} | {run.late:.0f} | {run.peak:.0f}"
        print(f"| {name} | {wall} | {number / run.wall:.1f} | {times} | {cores} | {memory} |")


def same_boxes(scorer: str, paths: list[Path], maps: Path) -> str:
    """How many boxes of the plain loop quadtok chose as well."""
    chosen = []
    for row, read in ((PLAIN, _boxes_of_plain_loop), (EXACT, _boxes_of_quadtok)):
        with tempfile.TemporaryDirectory(prefix="quadtok-benchmark-") as folder:
            subprocess.run(
                [*command(row, scorer, maps), "-o", folder], input=listed(paths), stdout=subprocess.DEVNULL, check=True
            )
            chosen.append({(path.stem, *box) for path in paths for box in read(Path(folder) / f"{path.stem}.pt")})
    plain, ours = chosen
    return f"{len(plain & ours)} of {len(plain)} boxes of the plain loop are quadtok's ({len(paths)} images, {EXACT})"


def _boxes_of_plain_loop(path: Path) -> list[tuple[int, int, int]]:
    """(left, top, scale); what stands last in a row is the centre in finest patches, and the scale."""
    import torch
    from plain_loop import MIN_PATCH

    rows = torch.load(path, weights_only=True)[:, -3:].tolist()
    half = MIN_PATCH / 2
    return [
        (round(x * MIN_PATCH - half * 2**scale), round(y * MIN_PATCH - half * 2**scale), int(scale))
        for x, y, scale in rows
    ]


def _boxes_of_quadtok(path: Path) -> list[tuple[int, int, int]]:
    from quadtok import load_tokens

    plan = load_tokens(path).plan
    return list(zip(plan.left[0].tolist(), plan.top[0].tolist(), plan.scale[0].tolist(), strict=True))


def run_scorer(scorer: str, rows: list[str], repeats: int, paths: list[Path], maps: Path) -> None:
    """Measure the rows and print their table."""
    runs: dict[str, list[Run]] = {row: [] for row in rows if (row, scorer) != (PLAIN, "object")}
    for _ in range(repeats):
        for row, done in runs.items():
            done.append(measure(command(row, scorer, maps), paths))
    print(f"\n### --scorer {scorer}\n")
    print_table(runs, len(paths))
    if scorer != "random" and PLAIN in runs:  # the reference's draws are none of ours
        print(f"\n{same_boxes(scorer, paths[:COMPARED], maps)}", flush=True)


def main() -> None:
    """Make the images, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, metavar="N")
    parser.add_argument("--sides", type=int, nargs=2, default=SIDES, metavar=("MIN", "MAX"), help="long sides, pixels")
    usual = ["object", "feature", "blur"]
    parser.add_argument("--scorer", nargs="+", choices=SCORERS, default=usual, help="a table for each")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "quadtok-jpegs")
    parser.add_argument("--only", action="append", choices=ROWS, help="rows of the table; all if left out")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="runs of each row; the median one counts")
    arguments = parser.parse_args()

    paths = make_jpegs(arguments.folder, arguments.images, tuple(arguments.sides))
    maps = arguments.folder / "maps"
    if "precomputed" in arguments.scorer:
        make_maps(maps, paths)
    size = sum(path.stat().st_size for path in paths) / 2**20
    cores = len(os.sched_getaffinity(0))
    shortest, longest = arguments.sides
    machine = f"{cores} cores, Python {platform.python_version()}"
    print(f"{arguments.images} JPEGs of {shortest} to {longest} pixels, {size:.0f} MB; {machine}")
    _read_all(paths)
    for scorer in arguments.scorer:
        run_scorer(scorer, arguments.only or list(ROWS), arguments.repeats, paths, maps)


def _read_all(paths: list[Path]) -> None:
    """So that the first run finds the files in memory as the others do."""
    for path in paths:
        path.read_bytes()


if __name__ == "__main__":
    main()
