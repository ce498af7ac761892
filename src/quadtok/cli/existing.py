"""What happens to an output that is there already: `--if-exists`."""

from __future__ import annotations

import os
from collections.abc import Callable

from quadtok.cli.outputs import Task
from quadtok.errors import OutputError
from quadtok.files import write_atomically
from quadtok.names import IfExistsName


def stays_unread(task: Task, policy: IfExistsName) -> bool:
    """What can be decided without reading anything: whether the output stays as it is.

    Raises:
        OutputError: where the policy, or a folder in its place, forbids to write it.
    """
    if not os.path.exists(task.target):  # unlike Path.exists, says no to a name that is too long
        return False
    if task.target.is_dir():
        raise OutputError(f"{task.source.path}: output {task.target} is a folder")
    if policy == "error":
        raise OutputError(f"{task.source.path}: {task.target} exists; use --overwrite")
    return policy == "skip"


def is_done(task: Task, policy: IfExistsName, is_this_run: Callable[[bytes], bool | None]) -> bool:
    """Under `resume`, whether the output holds just what this run would write.

    Args:
        task: the input and its output.
        policy: of `--if-exists`.
        is_this_run: whether these bytes are what this run would write; None for a damaged file, to be written anew.

    Raises:
        OutputError: where the output was made otherwise.
    """
    if policy != "resume" or not os.path.exists(task.target):
        return False
    try:
        verdict = is_this_run(task.target.read_bytes())
    except OSError as problem:
        raise OutputError(f"{task.target}: {problem.strerror}") from problem
    if verdict is False:
        raise OutputError(f"{task.source.path}: {task.target} exists with other settings; use --overwrite")
    return bool(verdict)


def write_result(task: Task, data: bytes, policy: IfExistsName) -> bool:
    """Write what was quick to make; under `resume` the same bytes are not written again. Whether it was written.

    Raises:
        OutputError: where other bytes are there, or it cannot be written.
    """
    if is_done(task, policy, lambda found: found == data):
        return False
    write_atomically(task.target, data)
    return True
