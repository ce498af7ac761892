"""One part of the inputs, for each of several processes: every input is in exactly one.

Which one depends on the name that its outputs go by, less its ending, and on nothing else: not on what else there is,
nor on the order. So a part that runs again has the same inputs, and two inputs whose outputs would clash are seen by
one process, which says so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from quadtok.errors import InputError
from quadtok.jobs.sources import Found

AUTO = "auto"
_PART = re.compile(r"(auto|\d{1,9})(?:/(\d{1,9}))?")


@dataclass(frozen=True)
class Part:
    """One of several; they count from 1.

    Attributes:
        number: which one.
        count: how many there are.
    """

    number: int
    count: int

    def of(self, found: Found) -> Found:
        """What is in this part; a refusal is said by one of them, too."""
        sources = [source for source in found.sources if self.holds(source.relative)]
        return Found(sources, [refusal for refusal in found.refused if self.holds(refusal.path)])

    def holds(self, name: PurePath) -> bool:
        """Whether an input of this name is in this part."""
        key = name.with_suffix("").as_posix().encode("utf-8", "surrogatepass") if name.name else b""
        return int.from_bytes(hashlib.sha256(key).digest()[:8]) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_part(text: str, variables: Mapping[str, str], name: str) -> Part:
    """`3/8`; `auto`: what a job array's variables say; `auto/8`: its number alone.

    Args:
        text: as it was typed.
        variables: of the environment: SLURM's and those of an indexed Job of Kubernetes.
        name: what the sentence calls it.

    Raises:
        InputError: where it is none of these, or the variables are not there.
    """
    match = _PART.fullmatch(text.strip())
    if match is None or (match[1] != AUTO and match[2] is None):
        raise InputError(f"{name} {text!r} is none of I/N (parts count from 1), auto, and auto/N")
    number, count = _from_array(variables, name) if match[1] == AUTO else (int(match[1]), None)
    count = int(match[2]) if match[2] else count
    if count is None:
        raise InputError(f"{name} auto: the variables tell a number, and not of how many: give auto/N")
    if not 1 <= number <= count:
        hint = "parts count from 1 (auto counts as the array does)"
        raise InputError(f"{name} {number}/{count}: there is no such part: {hint}")
    return Part(number, count)


def _from_array(variables: Mapping[str, str], name: str) -> tuple[int, int | None]:
    """The number, from 1, and how many there are if that is said."""
    if "SLURM_ARRAY_TASK_ID" in variables:
        first, count = variables.get("SLURM_ARRAY_TASK_MIN", "1"), variables.get("SLURM_ARRAY_TASK_COUNT")
        number = _integer(variables, "SLURM_ARRAY_TASK_ID", name) - int(first if first.isdecimal() else 1) + 1
        step = variables.get("SLURM_ARRAY_TASK_STEP", "1")
        if step != "1":
            raise InputError(f"{name} auto: the array counts in steps of {step}: give I/N")
        return number, int(count) if count and count.isdecimal() else None
    if "JOB_COMPLETION_INDEX" in variables:
        return _integer(variables, "JOB_COMPLETION_INDEX", name) + 1, None
    raise InputError(f"{name} auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: give I/N")


def _integer(variables: Mapping[str, str], variable: str, name: str) -> int:
    if not variables[variable].isdecimal():
        raise InputError(f"{name} auto: {variable} is {variables[variable]!r}, expected a number")
    return int(variables[variable])
