"""Results as files: beside their inputs, in a folder that mirrors them, or under one name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

from quadtok.errors import InputError, NoOutput, OutputError, Unwritable, about
from quadtok.jobs.base import FileKind
from quadtok.jobs.sinks.existing import holds, is_made
from quadtok.jobs.sinks.naming import Outputs, tended
from quadtok.jobs.sinks.rooms import Rooms
from quadtok.jobs.sources import Source
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.names import IfExistsName


class FolderSink:
    """Writes each file whole or not at all, and replaces what `if_exists` allows (see `existing.py`).

    Args:
        planned: the files of each source, as `plan_outputs` gives them.
        makes: what is in them, by their endings.
        if_exists: what happens to files that are there.
        words: what sentences call this.
        scorer: of the run, for the sentence about a token file that another one made; empty where none has a part.
        is_done: asked of each input before it is read: whether its files are known to be what they should be, which
            counts under `resume`.
        rooms: where the files lie, if others ask there, too.

    Raises:
        InputError: where there is no such policy: one that is misspelt must not replace anything.
    """

    def __init__(
        self,
        planned: Sequence[Outputs],
        makes: Mapping[str, FileKind],
        if_exists: IfExistsName = "resume",
        words: Words = ARGUMENTS,
        scorer: str = "",
        is_done: Callable[[Outputs], bool] = lambda outputs: False,
        rooms: Rooms | None = None,
    ) -> None:
        if if_exists not in get_args(IfExistsName):
            known = ", ".join(get_args(IfExistsName))
            raise InputError(f"there is no policy if_exists={if_exists!r}: choose one of {known}")
        self._planned = {outputs.source: outputs for outputs in planned}
        self._makes = makes
        self._if_exists = if_exists
        self._words = words
        self._scorer = scorer
        self._is_done = is_done
        self._rooms = rooms or Rooms()
        self._is_nowhere: bool | None = None

    @property
    def sources(self) -> list[Source]:
        """All that files are planned for, in their order."""
        return list(self._planned)

    @property
    def shared(self) -> Path | None:
        """See `ShareableSink`; None under `error`, where a file that a killed process had written would be one."""
        outputs = next(iter(self._planned.values()), None)
        return None if outputs is None or self._if_exists == "error" else outputs.result.parent

    def part(self, sources: Sequence[Source]) -> FolderSink:
        """See `ShareableSink`; what is known to be right is looked up now."""
        planned = [self._planned[source] for source in sources]
        done = frozenset(outputs.source for outputs in planned if self._is_done(outputs))
        rooms = self._rooms.part([path for outputs in planned for path in outputs.files.values()])
        part = FolderSink(
            planned, self._makes, self._if_exists, self._words, self._scorer, partial(_is_of, done), rooms
        )  # fmt: skip
        part._is_nowhere = self._nowhere()
        return part

    @contextmanager
    def open(self) -> Iterator[FolderSink]:
        """While the block runs files are written: before, what killed runs left is removed; after, names are kept."""
        with tended(list(self._planned.values())):
            yield self

    def output(self, source: Source) -> str:
        """The path of the first file."""
        return str(self._planned[source].result)

    def is_settled(self, source: Source) -> bool:
        """See `Sink`: under `skip`, whether all files exist; under `resume`, whether they are known to be right."""
        planned = self._planned[source]
        if planned.refused is not None:
            raise planned.refused
        # Whatever the policy: whoever answers looks at the input before it is read.
        if self._is_done(planned) and self._if_exists == "resume":
            return True
        with about(source.path):
            for path in planned.files.values():
                self._rooms.of(path).check(path, self._if_exists, self._words)
        return self._if_exists == "skip" and all(self._rooms.of(path).has(path) for path in planned.files.values())

    def outstanding(self, source: Source, fingerprint: str) -> frozenset[str]:
        """See `Sink`. Under `resume`, a file that cannot tell how it was made is made again, and compared."""
        files = self._planned[source].files
        wanted = frozenset(suffix for suffix in files if not self._is_there(source, suffix, fingerprint))
        for path in (files[suffix] for suffix in wanted):
            if self._if_exists == "overwrite" or not self._rooms.of(path).has(path):
                self._check_writable(source, path)
        return wanted

    def write(self, source: Source, files: Mapping[str, bytes]) -> bool:
        """See `Sink`."""
        to_write = {suffix: data for suffix, data in files.items() if not self._is_there(source, suffix, data)}
        paths = self._planned[source].files
        with about(source.path):
            for suffix in to_write:  # once more: since the input was read, somebody may have put a file there
                self._rooms.of(paths[suffix]).check(paths[suffix], self._if_exists, self._words)
        for suffix, data in to_write.items():
            self._rooms.of(paths[suffix]).write(paths[suffix], data)
        return bool(to_write)

    def _check_writable(self, source: Source, path: Path) -> None:
        """Refuse one input, before it is decoded; or the run, where what is left of it has no other place."""
        if (refusal := self._rooms.of(path).refusal(path)) is None:
            return
        if self._nowhere():
            raise NoOutput(str(refusal))
        raise Unwritable(f"{source.path}: {refusal}")

    def _nowhere(self) -> bool:
        """Whether no file can be written, of any input; asks no further than to the first that can."""
        if self._is_nowhere is None:
            paths = (path for outputs in self._planned.values() for path in outputs.files.values())
            self._is_nowhere = all(self._rooms.of(path).refusal(path) for path in paths)
        return self._is_nowhere

    def _is_there(self, source: Source, suffix: str, wanted: str | bytes) -> bool:
        """Whether a file need not be written, going by its fingerprint or by its bytes."""
        path, kind = self._planned[source].files[suffix], self._makes[suffix]
        room = self._rooms.of(path)
        if self._if_exists not in ("resume", "skip") or not room.has(path):
            return False
        if self._if_exists == "skip":
            return True
        try:
            with room.opened(path) as file:
                if isinstance(wanted, str):
                    return is_made(file, kind, wanted, self._words, self._scorer)
                return holds(file, kind, wanted, self._words)
        except OSError as problem:
            raise OutputError(f"{source.path}: {path}: {problem.strerror}") from problem
        except OutputError as problem:
            raise type(problem)(f"{source.path}: {path} {problem}") from problem


def _is_of(sources: frozenset[Source], outputs: Outputs) -> bool:
    return outputs.source in sources
