"""Every error quadtok raises on purpose.

    QuadtokError            catch this one to catch them all; also a ValueError, so that plain code works too
    ├── SpecError           a spec that cannot be tiled, or a token count that cannot be reached
    ├── InputError          arguments that do not fit together: shapes, types, names, non-finite values
    │   └── ScorerError     a scorer that fails for an image, or whose saliency cannot be used
    ├── ImageError          an image file that cannot be read
    ├── WeightsError        weights that cannot be found, fetched, or fitted to the net
    ├── TokenFileError      a token file that cannot be trusted
    ├── OutputError         a result that cannot be written
    │   └── Unwritable      because the disk or the store does not take it
    │       ├── DiskFull    no space is left: further ones cannot either
    │       └── NoOutput    nor can it elsewhere: no place of a run can be written to
    └── UnexpectedError     what quadtok did not foresee, of its own or of what it calls, by its type

The sentence carries the numbers, what was expected, and a next step.
"""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
LONGEST_REASON = 400  # characters of another library's message; torch writes paragraphs


class QuadtokError(ValueError):
    """The family of everything that quadtok refuses."""


class SpecError(QuadtokError):
    """A geometry or a token count that no quadtree can have."""


class InputError(QuadtokError):
    """Arguments that do not fit together."""


class PatchSizeError(InputError):
    """A model whose patches are of another size than the spec's finest.

    Attributes:
        patch: the side of the model's patches, in pixels.
    """

    def __init__(self, message: str, patch: int = 0) -> None:  # a pickle gives the sentence alone, and then the rest
        super().__init__(message)
        self.patch = patch


class ScorerError(InputError):
    """A scorer that fails for an image, or whose saliency cannot be used."""


class ImageError(QuadtokError):
    """An image file that cannot be read."""


class WeightsError(QuadtokError):
    """Weights of a scorer that cannot be loaded."""


class TokenFileError(QuadtokError):
    """A token file that is damaged, foreign, or from a newer version."""


class OutputError(QuadtokError):
    """A result that cannot be written where it was asked for."""


class Unwritable(OutputError):  # noqa: N818  # the name says it
    """A result that the disk or the store does not take."""


class DiskFull(Unwritable):
    """No space is left for a result, nor for the next."""


class NoOutput(Unwritable):
    """No place of a run can be written to: all that is left to do would be done in vain."""


class UnexpectedError(QuadtokError):
    """What quadtok did not foresee, of its own or of what it calls; the sentence names its type."""


@contextmanager
def about(path: object) -> Iterator[None]:
    """Put a path before the sentence of whatever quadtok refuses in the block: once, where the file's name is known."""
    try:
        yield
    except QuadtokError as problem:
        raise type(problem)(f"{path}: {problem}") from (problem.__cause__ or problem)


def cannot_write(path: object, problem: OSError) -> Unwritable:
    """Why a file cannot be written, as one sentence about it; a `DiskFull` where no space is left."""
    kind = DiskFull if is_no_space(problem) else Unwritable
    return kind(f"{path}: {_reason(problem)}")


def is_no_space(problem: BaseException) -> bool:
    """Whether an error says that no space is left."""
    return isinstance(problem, OSError) and problem.errno in _NO_SPACE


@contextmanager
def writing(path: object) -> Iterator[None]:
    """What the system says against writing in the block becomes the sentence of `cannot_write`."""
    try:
        yield
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def _reason(problem: OSError) -> str:
    if is_no_space(problem):
        return "no space left on device; what is written so far is complete, run the same command to go on"
    if problem.errno == errno.ENAMETOOLONG:
        return "the name is too long for this disk"
    if problem.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if problem.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where one of its folders should be"
    return f"cannot be written ({problem.strerror or problem})"


def as_ours(problem: Exception, path: object) -> QuadtokError:
    """An error of quadtok as it is; any other one as one sentence about a file, which names its type."""
    if isinstance(problem, QuadtokError):
        return problem
    ours = UnexpectedError(f"{path}: {described(problem)}")
    ours.__cause__ = problem
    return ours


def scorer_failed(path: object, problem: Exception) -> ScorerError:
    """Whatever went wrong while an image was scored, as one sentence about the image's file."""
    ours = ScorerError(f"{path}: {problem if isinstance(problem, QuadtokError) else described(problem)}")
    ours.__cause__ = problem
    return ours


def described(problem: BaseException) -> str:
    """`TypeError: its message`, on one line of bounded length, whatever the exception is."""
    try:
        text = " ".join(str(problem).split())
    except Exception:  # somebody's own `__str__`
        text = ""
    cut = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
    return f"{type(problem).__name__}: {cut}" if cut else type(problem).__name__


def let_go_of_locals(problem: BaseException | None) -> None:
    """Whatever is kept of an error, kept is its traceback, but not what the functions in it worked on: a whole image.

    Those that still run keep their variables.
    """
    known: set[int] = set()
    waiting = [problem]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in known:
            known.add(id(one))
            traceback.clear_frames(one.__traceback__)
            waiting += [one.__cause__, one.__context__]
