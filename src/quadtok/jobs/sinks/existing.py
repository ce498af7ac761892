"""What happens to outputs that are there already: `--if-exists`. The rule, for each output of each task:

Without `--overwrite` nothing is replaced but what quadtok wrote itself, or left empty or torn. With it, any regular
file may be, but an input of the run, and an image that quadtok did not make. Never a device, a pipe or a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from quadtok.errors import ImageError, OutputError, TokenFileError, about
from quadtok.files import destination, open_regular, write_atomically
from quadtok.images import read_image
from quadtok.jobs.sinks.naming import Task
from quadtok.marks import HEAD_BYTES, describe_content, head_of, holds_nothing, image_format, mark_of_file
from quadtok.names import IfExistsName
from quadtok.storage.archive import looks_like_ours
from quadtok.storage.token_file import NewerVersionError, decode_tokens, read_token_file

# Whether a file that is there is what this run would write. False: it is torn, to be written anew.
# Raises OutputError with the end of the sentence where it is something else.
Judge = Callable[[Path], bool]

OTHER_SETTINGS = "exists with other settings; use --overwrite"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_MOST_PIXELS = 1 << 28


def stays_unread(task: Task, policy: IfExistsName) -> bool:
    """What can be decided without reading the input: whether all outputs stay as they are.

    Raises:
        QuadtokError: where the task is refused, or the policy or what stands in its place forbids to write one.
    """
    if task.refused is not None:
        raise task.refused
    for path in task.outputs:
        with about(task.source.path):
            _check_place(path, policy)
    return policy == "skip" and all(map(os.path.exists, task.outputs))


def outstanding(task: Task, policy: IfExistsName, judges: Mapping[Path, Judge]) -> frozenset[Path]:
    """The outputs of a task that are still to be written.

    Args:
        task: one that `stays_unread` let pass.
        policy: of `--if-exists`.
        judges: one for each output, asked under `resume`.

    Raises:
        OutputError: where one was made otherwise.
    """
    there = [path for path in task.outputs if os.path.exists(path)]
    if policy == "skip":
        return frozenset(task.outputs) - frozenset(there)
    if policy != "resume":
        return frozenset(task.outputs)
    done = set()
    for path in there:
        try:
            if not holds_nothing(path) and judges[path](path):
                done.add(path)
        except OSError as problem:
            raise OutputError(f"{task.source.path}: {path}: {problem.strerror}") from problem
        except OutputError as problem:
            raise type(problem)(f"{task.source.path}: {path} {problem}") from problem
    return frozenset(task.outputs) - done


def write_result(task: Task, data: bytes, policy: IfExistsName) -> bool:
    """Write what was quick to make; under `resume` the same bytes are not written again. Whether it was written.

    Raises:
        OutputError: where other bytes are there, or it cannot be written.
    """
    if not outstanding(task, policy, {task.target: holds(data)}):
        return False
    write_atomically(task.target, data)
    return True


def holds(data: bytes) -> Judge:
    """The judge that wants just these bytes, of a picture, a page, or a map."""

    def judge(path: Path) -> bool:
        if path.stat().st_size <= len(data):
            with open_regular(path) as stream:
                found = stream.read(len(data) + 1)
            if found == data:
                return True
            if data.startswith(found.rstrip(b"\0")):  # cut short, or its end never reached the disk
                return False
        mark = mark_of_file(path)
        if mark is None:
            raise OutputError(not_ours(path, "made by quadtok"))
        return _unless_whole(path, _drawn_by("tokenize --overlay") if mark.fingerprint else OTHER_SETTINGS)

    return judge


def token_file_of(fingerprint: str) -> Judge:
    """The judge that wants a token file with this fingerprint."""

    def judge(path: Path) -> bool:
        if not looks_like_ours(head_of(path)):  # and is not read: it may be large
            raise OutputError(not_ours(path, "a quadtok token file"))
        try:
            found = decode_tokens(read_token_file(path)).metadata.get("fingerprint")
        except NewerVersionError as problem:
            raise OutputError(f"has {problem}, or use --overwrite") from problem
        except TokenFileError:
            return False
        if found != fingerprint:
            raise OutputError(OTHER_SETTINGS)
        return True

    return judge


def overlay_of(fingerprint: str) -> Judge:
    """The judge that wants the picture drawn beside the token file with this fingerprint."""

    def judge(path: Path) -> bool:
        mark = mark_of_file(path)
        if mark is None:
            raise OutputError(not_ours(path, "made by quadtok"))
        if mark.fingerprint == fingerprint:
            return _is_whole(path)
        by_visualize = mark.kind == "picture of a plan" and not mark.fingerprint
        return _unless_whole(path, _drawn_by("visualize") if by_visualize else OTHER_SETTINGS)

    return judge


def not_ours(path: Path, wanted: str) -> str:
    """The end of the sentence about a file that quadtok did not write."""
    head = head_of(path)
    way_out = "it is kept: choose another name or folder" if image_format(head) else "use --overwrite"
    return f"is {describe_content(head)}, not {wanted}; {way_out}"


def _drawn_by(command: str) -> str:
    """The end of the sentence about a picture by another command, whatever the settings were."""
    return f"was drawn by quadtok {command}; use --overwrite, or another output folder"


def _unless_whole(path: Path, otherwise: str) -> bool:
    """False for what is torn; of what is whole it is said how it was made otherwise."""
    if _is_whole(path):
        raise OutputError(otherwise)
    return False


def _is_whole(path: Path) -> bool:
    """Whether all of a marked file is there: it has its end, or decodes."""
    with open_regular(path) as stream:
        is_page = image_format(stream.read(HEAD_BYTES)) is None
        stream.seek(max(0, path.stat().st_size - len(_PNG_END)))
        end = stream.read()
    if end == _PNG_END or is_page:
        return end == _PNG_END or end.rstrip().endswith(b"</html>")
    try:
        read_image(path, max_pixels=_MOST_PIXELS)
    except ImageError:
        return False
    return True


def _check_place(path: Path, policy: IfExistsName) -> None:
    destination(path)
    if not os.path.exists(path):
        return
    if policy == "error":
        raise OutputError(f"{path} exists; use --overwrite")
    if policy == "overwrite" and image_format(head_of(path)) and not holds_nothing(path) and mark_of_file(path) is None:
        raise OutputError(f"{path} {not_ours(path, 'made by quadtok')}")
