"""The flags of `quadtok bench`: it takes several of most things, and writes numbers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from quadtok.cli.flags import QUADTREE, RUN, SAY, Device, Grid, Json, Listed, ScorerFlags
from quadtok.cli.given import refuse_stdout
from quadtok.errors import InputError, OutputError
from quadtok.files import destination
from quadtok.geometry import Geometry
from quadtok.jobs.sources import Found
from quadtok.marks import describe_content, head_of, holds_nothing, mark_of_file
from quadtok.names import FitName, QuadtreeName, ScorerName

DtypeName = Literal["float32", "float16", "bfloat16", "uint8"]

_UNREAD = {"precomputed": "maps", "point": "points"}  # there are none to read
# The default of `bench` first.
_TIMED = ", ".join(name for name in reversed(get_args(ScorerName)) if name not in _UNREAD) + " or MODULE:NAME"
_CSV_HEAD = b"implementation,compiled,scorer,"
_PLOT_SUFFIXES = (".png", ".svg")


@dataclass(frozen=True)
class Photographs(Listed):
    """Images to time with, or none."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUTS", help="Images, repeated to fill a batch; none: random ones."),
    ] = None

    def find(self, suffixes: frozenset[str]) -> Found:
        """As above; where none were given, none."""
        return super().find(suffixes) if self.inputs else Found([], [])


@dataclass(frozen=True)
class Contestants(ScorerFlags):
    """Scorers and quadtrees, several of both."""

    scorer: Annotated[
        str,
        typer.Option(metavar="NAME,...", rich_help_panel=QUADTREE, help=f"{_TIMED}."),
    ] = "random"
    seed: Annotated[
        int,
        typer.Option(
            rich_help_panel=QUADTREE,
            envvar="QUADTOK_SEED",
            help="Of random images; --scorer random adds each image's place in the batch.",
        ),
    ] = ScorerFlags.seed
    impl: Annotated[
        str, typer.Option(metavar="all|NAME,...", rich_help_panel=QUADTREE, help="Which quadtrees to time.")
    ] = "all"

    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=QUADTREE,
            help="Also time this ViT of timm's: on the tokens, on the full grid, and on a uniform grid of as many.",
        ),
    ] = None  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scorers."""
        return tuple(_parts(self.scorer))

    @property
    def quadtrees(self) -> list[QuadtreeName]:
        """Their names, each once.

        Raises:
            InputError: for a name that is none's.
        """
        known: tuple[QuadtreeName, ...] = get_args(QuadtreeName)
        if self.impl == "all":
            return list(known)
        for name in (parts := _parts(self.impl)):
            if name not in known:
                raise InputError(f"--impl: there is no quadtree {name!r}: choose from {', '.join(known)}, or all")
        return [name for part in parts for name in known if name == part]

    def check(self, context: typer.Context) -> None:
        """As above; and no unknown quadtree, no scorer that would need maps or points, and no model without timm."""
        super().check(context)
        _ = self.quadtrees
        if self.model is not None and find_spec("timm") is None:
            raise InputError("--model needs timm: pip install 'quadtok[timm]'")
        for name, unread in _UNREAD.items():
            if name in self.names:
                raise InputError(f"--scorer {name}: bench has no {unread} to read; time {_TIMED}")


@dataclass(frozen=True)
class Sizes(Grid):
    """As in `tokenize`, but several sizes, each with something to choose."""

    image_size: Annotated[
        str,
        typer.Option("--image-sizes", "-s", metavar="N|HxW,...", rich_help_panel=QUADTREE, help="A table each."),
    ] = Grid.image_size

    def geometries(self, fit: FitName | None) -> list[Geometry]:
        """As above.

        Raises:
            InputError: also for what has no single size, or nothing to time.
        """
        return [_fixed(geometry) for geometry in super().geometries(fit)]

    def _listed(self) -> tuple[list[str], list[str]]:
        return _parts(self.image_size), [self.tokens]


@dataclass(frozen=True)
class Timing(Device):
    """Where to time, what of, and how long."""

    device: Annotated[
        str,
        typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=RUN, envvar="QUADTOK_DEVICE", help="Where to run."),
    ] = Device.device
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", "-b", metavar="N,...", rich_help_panel=RUN, help="A table each.")
    ] = "128"
    dtype: Annotated[
        DtypeName, typer.Option(rich_help_panel=RUN, help="Of the images; all but uint8 are normalised.")
    ] = "float32"
    threads: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=RUN, show_default="torch's choice", help="On the CPU.")
    ] = None
    compiled: Annotated[
        bool,
        typer.Option("--compile", rich_help_panel=RUN, help="Add rows with torch.compile; its own time stands apart."),
    ] = False
    warmup: Annotated[int, typer.Option(min=0, rich_help_panel=RUN, help="Untimed runs of each quadtree.")] = 3
    min_time: Annotated[
        float, typer.Option(min=0, rich_help_panel=RUN, help="Seconds of each row; never under 3 repetitions.")
    ] = 1.0

    def batches(self) -> list[int]:
        """Numbers of images.

        Raises:
            InputError: for what is no such number.
        """
        return [_batch_size(text) for text in _parts(self.batch_sizes)]


@dataclass(frozen=True)
class Results(Json):
    """What becomes of the numbers."""

    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=SAY, help="JSON lines on stdout: one per row, then a summary."),
    ] = Json.as_json
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", rich_help_panel=SAY, help="Also write the rows as CSV.")
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|svg",
            rich_help_panel=SAY,
            help="Also draw time against batch size or image size, whichever has several values.",
        ),
    ] = None

    def check(self, context: typer.Context) -> None:
        """Files, and two of them."""
        refuse_stdout(context, ["csv_file", "plot"])
        if self.csv_file is not None and self.plot is not None and self.csv_file.resolve() == self.plot.resolve():
            raise InputError(f"--plot and --csv name one file, {self.plot}: give two")

    def check_places(self, several: bool) -> None:
        """Refuse at once what would fail after all the timing."""
        if self.plot is not None:
            _check_plot(self.plot, several)
        for flag, path in (("--csv", self.csv_file), ("--plot", self.plot)):
            if path is not None:
                _refuse_what_is_not_ours(flag, path)


def _parts(text: str) -> list[str]:
    """`a,b` to its parts, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _batch_size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch-sizes: {text!r} is not a number of images, such as 1,32,128")
    return int(text)


def _fixed(geometry: Geometry) -> Geometry:
    """Refuse what has no single size, or nothing to time."""
    if geometry.size is None:
        raise InputError("--image-sizes native: the images of a batch have one size; give it as N or HxW")
    if geometry.num_scales == 1:
        size = geometry.max_patch
        raise InputError(
            f"--min-patch and --max-patch are both {size}: nothing is to choose; use --max-patch {2 * size}"
        )
    return geometry


def _check_plot(plot: Path, several: bool) -> None:
    """Refuse at once what would fail after all the timing."""
    if plot.suffix.lower() not in _PLOT_SUFFIXES:
        raise InputError(f"--plot {plot}: the name must end in {' or '.join(_PLOT_SUFFIXES)}")
    if not several:
        raise InputError("--plot draws time against batch size or image size: give several, as in --batch-sizes 1,8,64")
    if find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install 'quadtok[plot]'")


def _refuse_what_is_not_ours(flag: str, path: Path) -> None:
    """Anything but what bench wrote there before is not to be replaced."""
    if not destination(path).exists() or holds_nothing(path):
        return
    head, mark = head_of(path), mark_of_file(path)
    if not (head.startswith(_CSV_HEAD) if flag == "--csv" else mark is not None and mark.kind == "plot"):
        raise OutputError(
            f"{flag} {path}: is {describe_content(head)} that bench did not write; it is kept: choose another name"
        )
