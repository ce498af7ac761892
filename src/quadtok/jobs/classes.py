"""Which class of each image a classifier is asked about: what `--target` says, or a file that it names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from quadtok.errors import InputError, about
from quadtok.files import read_regular
from quadtok.jobs.sources import Source
from quadtok.names import IMAGE_SUFFIXES

TOP1 = "top1"
_DIGITS = 9  # of the number of a class, at most


@dataclass(frozen=True)
class Classes:
    """Which class of each image is looked for.

    Attributes:
        one: the same for all, or None.
        named: by the image's relative name; empty where none is named.
        path: of the file that names them.
    """

    one: int | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def of(cls, target: str) -> Classes:
        """`top1`, a number, or a file: JSON `{"cats/1.jpg": 281}`, or CSV with a line `cats/1.jpg,281` for each.

        Raises:
            InputError: where it is none of these.
        """
        if target == TOP1:
            return cls()
        if _is_class(target):
            return cls(one=int(target))
        path = Path(target)
        with about(f"target {target or repr(target)}"):
            if path.suffix.lower() not in (".json", ".csv"):
                raise InputError("is none of top1, the number of a class, and a file that ends in .json or .csv")
            text = read_regular(path, InputError).decode("utf-8-sig", "replace")
            return cls(named=(_from_json if path.suffix.lower() == ".json" else _from_csv)(text), path=path)

    def wanted(self, source: Source) -> int | None:
        """Of one image; None is the class of its largest logit.

        Raises:
            InputError: where the file does not name it.
        """
        if self.path is None:
            return self.one
        name = source.relative.as_posix()
        if name not in self.named:
            raise InputError(f"{source.path}: {self.path} names no class for {name!r}")
        return self.named[name]


def _is_class(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


class _Object(list[tuple[str, object]]):
    """An object of JSON as its pairs, all of them: of two with one name a dict forgets the first."""


def _from_json(text: str) -> dict[str, int]:
    try:
        found = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, _Object) or not all(type(value) is int for _, value in found):
        raise InputError('is no JSON of the form {"cats/1.jpg": 281}')
    return _by_name((name, value) for name, value in found if isinstance(value, int))


def _from_csv(text: str) -> dict[str, int]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    except csv.Error as problem:
        raise InputError(f"is no CSV ({problem})") from None
    if rows and _is_header(rows[0]):
        rows = rows[1:]
    for row in rows:
        if len(row) != 2 or not _is_class(row[1].strip()):
            raise InputError(f"has a line {','.join(row)[:80]!r}: expected NAME,CLASS, a class by its number")
    return _by_name((row[0], int(row[1])) for row in rows)


def _is_header(row: list[str]) -> bool:
    """Two words. An image beside something that is no number is a line that is wrong."""
    return (
        len(row) == 2
        and not any(letter.isdigit() for letter in row[1])
        and PurePosixPath(row[0].strip()).suffix.lower() not in IMAGE_SUFFIXES
    )


def _by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for given, number in pairs:
        name = PurePosixPath(given).as_posix()  # some say ./cat.jpg
        if found.setdefault(name, number) != number:
            raise InputError(f"names two classes for {name!r}, {found[name]} and {number}: leave one")
    if not found:
        raise InputError("names no class of any image")
    return found
