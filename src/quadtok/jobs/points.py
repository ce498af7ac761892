"""Points and boxes that a user names for each image, in a file: what the `point` scorer looks at.

The file says them in pixels of the photographs; where those lie in the pixels that are scored is known once a
photograph is fitted.
"""

from __future__ import annotations

import csv
import io
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from quadtok.errors import InputError, about
from quadtok.files import read_regular
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.scorers import get_scorer
from quadtok.scorers.point import FARTHEST
from quadtok.spec import Spec

Box = tuple[float, float, float, float]  # left, top, right, bottom
Pairs = list[tuple[str, list[Any]]]  # names, and what is said of them


@dataclass(frozen=True)
class Targets:
    """What to look at in one photograph.

    Attributes:
        points: (x, y), in pixels of the upright photograph.
        boxes: (left, top, right, bottom), likewise.
    """

    points: tuple[tuple[float, ...], ...]
    boxes: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Placed(Targets):
    """The same, where it is known what of the photograph is scored.

    Attributes:
        frame: that, as a box in pixels of the photograph; may reach beyond it.
    """

    frame: Box

    def within(self, spec: Spec) -> tuple[list[list[float]], list[list[float]]]:
        """Points and boxes in pixels of the fitted image."""
        left, top, right, bottom = self.frame
        across, down = spec.width / (right - left), spec.height / (bottom - top)

        def moved(numbers: Sequence[float]) -> list[float]:
            corners = zip(numbers[::2], numbers[1::2], strict=True)
            return [number for x, y in corners for number in ((x - left) * across, (y - top) * down)]

        return [moved(point) for point in self.points], [moved(box) for box in self.boxes]


@dataclass(frozen=True)
class PointScoring:
    """Each image brings its points and boxes, by its relative name in a file; see `Scoring`.

    A JSON file holds `{"pets/cat.jpg": [[x, y], [left, top, right, bottom]], …}`: two numbers are a point, four a box,
    as many as one likes. A CSV file has a line `name,x,y` or `name,left,top,right,bottom` for each; its first line may
    be a header. All are in pixels of the upright photograph in full, whatever is cropped or scaled of it.

    Attributes:
        path: of the file.
        entries: what it says of each image, not looked at yet.
    """

    path: Path
    entries: Mapping[str, list[Any]]
    in_parallel: bool = True
    name: str = "point"

    @classmethod
    def of(cls, path: Path, words: Words = ARGUMENTS) -> PointScoring:
        """The points in a file.

        Raises:
            InputError: where there is no such file, or it is neither JSON nor CSV of this kind.
        """
        readers = {".json": _read_json, ".csv": _read_csv}
        with about(f"{words.points} {path}"):
            reader = readers.get(path.suffix.lower())
            if reader is None:
                raise InputError("the name must end in .json or .csv, which say what is in it")
            found = reader(_text(read_regular(path, InputError)))
        entries: dict[str, list[Any]] = {}
        for name, listed in found:  # some name a photograph twice, or in two ways: ./cat.jpg
            entries.setdefault(PurePosixPath(name).as_posix(), []).extend(listed)
        return cls(path, entries)

    @property
    def common(self) -> dict[str, Any]:
        """The name."""
        return {"name": "point"}

    def prepare(self, source: Source, num_scales: int) -> Targets:
        """The points and boxes of this image, checked."""
        name = source.relative.as_posix()
        entries = self.entries.get(name, [])
        with about(source.path):
            if not entries:
                raise InputError(f"{self.path} has neither a point nor a box for {name!r}")
            targets = [_numbers(entry, f"{self.path}, {name!r}") for entry in entries]
        points, boxes = (tuple(found for found in targets if len(found) == sides) for sides in (2, 4))
        return Targets(points, boxes)

    def place(self, extra: Targets, frame: Box) -> Placed:
        """See `Scoring`."""
        return Placed(extra.points, extra.boxes, frame)

    def saliency(self, images: Tensor, spec: Spec, extras: Sequence[Any]) -> Sequence[Tensor]:
        """Score a batch, each image by its own points."""
        points, boxes = zip(*(extra.within(spec) for extra in extras), strict=True)
        return get_scorer("point", points=points, boxes=boxes)(images, spec)

    def describe(self, extra: Targets) -> dict[str, Any]:
        """Name, points and boxes, as they stand in the file."""
        return {"name": "point", "points": list(map(list, extra.points)), "boxes": list(map(list, extra.boxes))}


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is no UTF-8 text") from None


class _Object(list[tuple[str, Any]]):
    """An object of JSON as its pairs, all of them: of two with one name a dict forgets the first."""


def _read_json(text: str) -> Pairs:
    try:
        found = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"is no JSON ({problem})") from None
    if not isinstance(found, _Object) or not all(type(entries) is list for _, entries in found):
        raise InputError('must be {"name": [[x, y], [left, top, right, bottom]], …}, a list of points and boxes a name')
    return found


def _read_csv(text: str) -> Pairs:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as problem:
        raise InputError(f"is no CSV ({problem})") from None
    # A header may be among them: no input is called like it.
    return [(name, [[_cell(cell) for cell in cells]]) for name, *cells in rows]


def _cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _numbers(entry: object, where: str) -> tuple[float, ...]:
    """The numbers of a point or a box."""
    numbers = entry if isinstance(entry, list) else []
    good = [number for number in numbers if type(number) in (int, float) and abs(number) < FARTHEST]
    turned = len(good) == 4 and (good[0] > good[2] or good[1] > good[3])
    if len(good) not in (2, 4) or len(good) != len(numbers) or turned:
        hint = ": right is left of left, or bottom above top" if turned else ""
        found = f"{reprlib.repr(entry)}{hint}"
        raise InputError(f"{where}: must be x, y or left, top, right, bottom in pixels, got {found}")
    return tuple(map(float, good))
