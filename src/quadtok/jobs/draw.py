"""The job of `quadtok visualize`: an input becomes a grid of views (scorers × budgets), and the grid a picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from quadtok.decoders import Decoder, decoded_by
from quadtok.errors import InputError, TokenFileError, about
from quadtok.images import read_bytes
from quadtok.jobs.asked_for import AskedFor
from quadtok.jobs.base import FileKind, last_ending
from quadtok.jobs.photograph import other_photograph, read_like
from quadtok.jobs.scoring import Scoring
from quadtok.jobs.sources import Source
from quadtok.jobs.tokenize import tokens_of
from quadtok.jobs.words import ARGUMENTS, Words
from quadtok.marks import HEAD_BYTES, Mark, describe_content, image_format
from quadtok.names import DEFAULT_QUADTREE, TOKEN_SUFFIXES, QuadtreeName
from quadtok.pictures.render import to_picture
from quadtok.pictures.views import FORMS, NAMED, VERSION, Form, Pen, View, ViewGrid
from quadtok.preprocess import Preprocess
from quadtok.spec import Spec
from quadtok.storage.record import Record
from quadtok.storage.token_file import decode_tokens, is_token_data
from quadtok.tokens import Tokens


@dataclass(frozen=True)
class Subject:
    """What is to be drawn: a photograph, of which there are no tokens yet, or a token file.

    Attributes:
        path: of the input.
        image: uint8 `[3, H, W]`, or None where the tokens have to do.
        specs: of the photograph, one for each budget.
        extras: what each scorer wants to know of it.
        tokens: of the token file.
        scorer: that the token file records.
        notes: what a careful user may want to know of it.
        facts: what is to be said of it.
        fingerprint: of all that the picture depends on.
    """

    path: Path
    image: torch.Tensor | None
    specs: tuple[Spec, ...]
    extras: tuple[Any, ...]
    tokens: Tokens | None
    scorer: str
    notes: Sequence[str]
    facts: dict[str, Any]
    fingerprint: str

    @property
    def spec(self) -> Spec:
        """See `Photo`."""
        return self.specs[0]


@dataclass(frozen=True)
class DrawJob:
    """Image or token file to picture.

    Attributes:
        suffix: of the picture; its last part is the format.
        form: what the grid of views becomes.
        pen: how it is drawn.
        scorings: scorers by their names, one for each row; none where all inputs are token files.
        preprocess: how images are read, one for each column: they differ in their budgets alone.
        quadtree: which one.
        device: where images are scored.
        image: the photograph of a token file.
        threshold: see `TokenizeJob`.
        asked_for: what token files must agree with.
        words: what sentences call these.
    """

    suffix: str
    form: Form
    pen: Pen
    scorings: Mapping[str, Scoring]
    preprocess: tuple[Preprocess, ...]
    quadtree: QuadtreeName = DEFAULT_QUADTREE
    device: str = "cpu"
    image: Path | None = None
    threshold: float | None = None
    asked_for: AskedFor = field(default_factory=AskedFor)
    words: Words = ARGUMENTS

    @property
    def makes(self) -> Mapping[str, FileKind]:
        """See `Job`."""
        return {self.suffix: "drawing"}

    @property
    def in_parallel(self) -> bool:
        """See `Job`."""
        return self.device == "cpu" and all(scoring.in_parallel for scoring in self.scorings.values())

    def decoded_by(self, decoder: Decoder) -> DrawJob:
        """See `DecodingJob`."""
        return replace(self, preprocess=tuple(decoded_by(steps, decoder) for steps in self.preprocess))

    @property
    def tells(self) -> bool:
        """See `Job`: whether a token file is drawn on its own photograph is said each time."""
        return self.image is not None

    def load(self, source: Source) -> bytes:
        """See `Job`; a token file that is not what was asked for is refused, whether its picture is there or not."""
        data = source.read()
        if self.asked_for.anything and is_token_data(data):
            with about(source.path):
                tokens = decode_tokens(data)
            record = Record.of(tokens.metadata)
            size = "native" if record.native else None
            made = (record.scorer, size, record.threshold, record.tokens_requested)
            self.asked_for.check(source.path, tokens.plan.spec, *made)
        return data

    def fingerprint(self, source: Source, data: bytes) -> str:
        """See `Job`."""
        facts: dict[str, Any] = {
            "input": hashlib.sha256(data).hexdigest(),
            "title": source.path.name if self.form in NAMED else "",
            "form": self.form,
            "suffix": last_ending(self.suffix),
            "pen": asdict(self.pen),
            "image": self.image and hashlib.sha256(read_bytes(self.image)).hexdigest(),
            "version": VERSION,
        }
        if not is_token_data(data):
            extras = self._extras(source)
            if self.threshold is not None:
                facts["threshold"] = self.threshold
            facts["preprocess"] = [preprocess.describe() for preprocess in self.preprocess]
            facts["scorers"] = [  # in the order of the rows
                [name, scoring.describe(extra)]
                for (name, scoring), extra in zip(self.scorings.items(), extras, strict=True)
            ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def read(self, source: Source, data: bytes, fingerprint: str) -> Subject:
        """See `Job`."""
        if is_token_data(data):
            return self._token_file(source, data, fingerprint)
        path, head = source.path, data[:HEAD_BYTES]
        if path.suffix.lower() in TOKEN_SUFFIXES and image_format(head) is None:
            raise TokenFileError(f"{path}: not a quadtok token file, but {describe_content(head)}")
        if self.image is not None:
            raise InputError(f"{path}: {self.words.image} goes with a token file")
        photo = self.preprocess[0].decode(data, path)
        pixels = photo.fitted.pixels
        with about(path):
            specs = tuple(steps.geometry.spec(*pixels.shape[1:]) for steps in self.preprocess)
        extras = zip(self.scorings.values(), self._extras(source), strict=True)
        return Subject(
            path=path,
            image=pixels,
            specs=specs,
            extras=tuple(scoring.place(extra, photo.fitted.crop_box) for scoring, extra in extras),
            tokens=None,
            scorer="",
            notes=photo.notes,
            facts={"left_out": photo.left_out},
            fingerprint=fingerprint,
        )

    def _extras(self, source: Source) -> tuple[Any, ...]:
        num_scales = self.preprocess[0].geometry.num_scales
        return tuple(scoring.prepare(source, num_scales) for scoring in self.scorings.values())

    def _token_file(self, source: Source, data: bytes, fingerprint: str) -> Subject:
        with about(source.path):
            tokens = decode_tokens(data)
        facts: dict[str, Any] = {"left_out": 0}
        if self.image is not None and (warning := other_photograph(self.image, tokens)):
            facts["warning"] = warning
        return Subject(
            path=source.path,
            image=None if self.image is None else read_like(self.image, tokens).pixels,
            specs=(tokens.plan.spec,),
            extras=(),
            tokens=tokens,
            scorer=Record.of(tokens.metadata).scorer,
            notes=(),
            facts=facts,
            fingerprint=fingerprint,
        )

    def run(self, photos: Sequence[Subject]) -> list[ViewGrid]:
        """See `Job`."""
        return [self._grid(subject) for subject in photos]

    def _grid(self, subject: Subject) -> ViewGrid:
        image = None if subject.image is None else to_picture(subject.image)
        if subject.tokens is not None:
            return [[View(image, subject.tokens, subject.scorer)]]
        assert subject.image is not None  # what has no tokens is a photograph
        images = subject.image[None].to(self.device)
        return [
            [View(image, self._tokens(images, spec, scoring, extra), name) for spec in subject.specs]
            for (name, scoring), extra in zip(self.scorings.items(), subject.extras, strict=True)
        ]

    def _tokens(self, images: torch.Tensor, spec: Spec, scoring: Scoring, extra: Any) -> Tokens:
        return tokens_of(images, spec, scoring, [extra], self.quadtree, self.threshold).unpadded(0)

    def encode(self, photo: Subject, result: ViewGrid, wanted: Collection[str]) -> dict[str, bytes]:
        """See `Job`."""
        mark = Mark("drawing of a plan", photo.fingerprint)
        with about(photo.path):
            return {self.suffix: FORMS[self.form](result, self.pen, photo.path.name, last_ending(self.suffix), mark)}

    def facts(self, photo: Subject, result: ViewGrid) -> dict[str, Any]:
        """See `Job`."""
        return photo.facts
