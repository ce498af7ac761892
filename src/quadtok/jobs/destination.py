"""Where results go, as it is asked for from Python: files of their own, one file of plans, or shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from quadtok.errors import InputError
from quadtok.jobs.arguments import check_types
from quadtok.jobs.parts import Part
from quadtok.jobs.sinks.naming import Naming
from quadtok.jobs.targets import PlanFile, Shards, Target
from quadtok.names import (
    DEFAULT_MINIMA,
    DEFAULT_PIXEL_DTYPE,
    DEFAULT_SHARD_DTYPE,
    DEFAULT_SHARD_SIZE,
    OVERLAY_SUFFIX,
    PLANS_SUFFIX,
    SAFETENSORS_SUFFIX,
    SHARD_SUFFIXES,
    TOKEN_SUFFIX,
    FormatName,
    IfExistsName,
    MinimaName,
    PixelDtypeName,
    QuadtreeName,
    StoreName,
)


@dataclass(frozen=True)
class Destination:
    """The arguments of `tokenize_files` of these names, as they were given.

    Attributes:
        store: what of an image.
        format: in which kind of file.
        folder: `output_dir`.
        file: `output`.
        given_dtype: `dtype`.
        minima: of plans.
        shard_size: of shards.
        if_exists: what happens to what is there.
    """

    store: StoreName
    format: FormatName
    folder: Path | None
    file: Path | None
    given_dtype: PixelDtypeName | None
    minima: MinimaName | None
    shard_size: int | None
    if_exists: IfExistsName

    @property
    def dtype(self) -> PixelDtypeName:
        """Of the pixels."""
        return self.given_dtype or (DEFAULT_SHARD_DTYPE if self.is_sharded else DEFAULT_PIXEL_DTYPE)

    @property
    def is_sharded(self) -> bool:
        """Whether images go together into shards."""
        return self.format in SHARD_SUFFIXES

    @property
    def suffix(self) -> str:
        """Of a token file."""
        return SAFETENSORS_SUFFIX if self.format == "safetensors" else TOKEN_SUFFIX

    def budget(self, num_tokens: int | str | None) -> int | str | None:
        """Of an image; plans are those of every budget, whatever the usual number."""
        return "100%" if self.store == "plans" else num_tokens

    def naming(self, overlay: bool, keep_ext: bool) -> Naming:
        """Of files of tokens."""
        suffixes = (self.suffix, OVERLAY_SUFFIX) if overlay else (self.suffix,)
        return Naming(suffixes, folder=self.folder, keep_ext=keep_ext)

    @property
    def resumes(self) -> bool:
        """Whether what is there is gone by."""
        return self.if_exists == "resume"

    def check(self, usual: bool, pictures: bool, names: bool, manifest: bool) -> None:
        """Refuse what does not go together, or plays no part.

        Args:
            usual: whether neither a number of tokens nor a threshold was given.
            pictures: whether pictures are to be drawn beside.
            names: whether files are to be called otherwise.
            manifest: whether anything was said of the manifest.

        Raises:
            InputError: with both arguments.
        """
        self._check_names()
        if self.shard_size is not None:
            check_types(shard_size=(self.shard_size, int, "an integer"))
        for is_wrong, sentence in (*self._contradictions(usual, pictures, names, manifest), *self._places()):
            if is_wrong:
                raise InputError(sentence)
        if self.file is not None and self.file.suffix.lower() != PLANS_SUFFIX:
            raise InputError(f"output {self.file}: a file of plans ends in {PLANS_SUFFIX}")

    def _check_names(self) -> None:
        for name, value, choices in (
            ("store", self.store, get_args(StoreName)),
            ("format", self.format, get_args(FormatName)),
            ("if_exists", self.if_exists, get_args(IfExistsName)),
            ("minima", self.minima or DEFAULT_MINIMA, get_args(MinimaName)),
        ):
            if value not in choices:
                sentence = f"there is no {name}={value!r}: choose one of {', '.join(choices)}"
                raise InputError(sentence.replace("no if_exists", "no policy if_exists"))

    def _contradictions(self, usual: bool, pictures: bool, names: bool, manifest: bool) -> tuple[tuple[bool, str], ...]:
        plans, shards = self.store == "plans", self.is_sharded
        return (
            (plans and not usual, 'store="plans": plans are those of every budget: leave num_tokens and threshold out'),
            (plans and self.given_dtype is not None, 'store="plans": plans have no pixels: leave dtype out'),
            (plans and self.format == "safetensors", 'store="plans": plans have a format of their own: leave it out'),
            ((plans or shards) and pictures, "overlay goes with files of tokens: leave it out"),
            ((plans or shards) and names, "keep_ext goes with files of tokens: leave it out"),
            ((plans or shards) and manifest, "manifest and verify go with files of tokens: leave them out"),
            (not plans and self.minima is not None, 'minima goes with store="plans": tokens hold their saliency'),
            (not shards and self.shard_size is not None, 'shard_size goes with format="shards" or "parquet"'),
        )

    def _places(self) -> tuple[tuple[bool, str], ...]:
        shards, one = self.is_sharded, self.store == "plans" and not self.is_sharded
        return (
            (shards and self.folder is None, f'format="{self.format}" writes shards: give their folder, output_dir'),
            (self.file is not None and not one, 'output is the file of store="plans": give output_dir'),
            (one and self.file is None, f'store="plans" writes one file: give output="NAME{PLANS_SUFFIX}"'),
            (one and self.folder is not None, "plans are one file: leave output_dir out"),
        )

    def target(self, quadtree: QuadtreeName, threshold: float | None, part: Part | None) -> Target | None:
        """Where all images go together; None where each has files of its own."""
        minima = self.minima or DEFAULT_MINIMA
        if self.is_sharded:
            assert self.folder is not None  # checked
            size = DEFAULT_SHARD_SIZE if self.shard_size is None else self.shard_size
            suffix = SHARD_SUFFIXES[self.format]
            return Shards(
                self.folder, suffix, size, self.store, self.dtype, minima, quadtree, threshold, self.if_exists, part
            )  # fmt: skip
        if self.store == "plans":
            assert self.file is not None  # checked
            return PlanFile(self.file, minima, self.if_exists)
        return None
