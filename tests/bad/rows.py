"""What a row of the table of bad inputs is: one class a way of trying it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WRITTEN, FAILED = "written", "failed"
Given = Callable[[Path], Sequence[Path]]


def itself(path: Path) -> Sequence[Path]:
    return [path]


@dataclass(frozen=True)
class Image:
    """One of the inputs of the one run of `quadtok tokenize`.

    Attributes:
        make: writes it into a folder; its path.
        status: what becomes of it.
        said: the sentence behind its path, where it fails; or all of the sentence, where `{input}` is in it, which
            stands for the path, as `{folder}` does for its folder and `{out}` for its output without the ending.
        note: what `-v` says behind its path.
        given: what is typed so that it is an input.
    """

    make: Callable[[Path], Path]
    status: Literal["written", "failed"] = WRITTEN
    said: str = ""
    note: str = ""
    given: Given = itself


@dataclass(frozen=True)
class TokenFile:
    """One of the inputs of the one run of each command that reads token files.

    Attributes:
        make: its bytes.
        said: the sentence behind its path; none where it is read.
        drawn: what `visualize` says instead, which takes images, too.
    """

    make: Callable[[], bytes]
    said: str = ""
    drawn: str | None = None


@dataclass(frozen=True)
class Alone:
    """A run of its own (runs.py).

    Attributes:
        run: does it, and looks at what is on the disk afterwards.
        code: that it ends with.
        said: what stands in its stderr; `{folder}` is the run's, `{photo}` a photograph elsewhere.
    """

    run: Callable[..., object]
    code: int
    said: str = ""


@dataclass(frozen=True)
class Processes(Alone):
    """As `Alone`, in processes of its own (processes.py)."""


@dataclass(frozen=True)
class Library:
    """A call of the library, where no command can come by such an input.

    Attributes:
        call: refused by it; or one that returns.
        said: the sentence; none where it returns.
    """

    call: Callable[[], object]
    said: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """A row that another test holds, since it needs more than one run: `tests/FILE.py::NAME`."""

    test: str
