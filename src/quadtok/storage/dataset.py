"""Photographs and their stored plans as tokens to train on: nothing is scored, and every budget is at hand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from quadtok.errors import InputError, QuadtokError, TokenFileError, about
from quadtok.geometry import Budget, make_geometry, parse_threshold
from quadtok.images import read_bytes
from quadtok.names import IMAGE_SUFFIXES, MAX_PIXELS, PARQUET_SUFFIX
from quadtok.patches import extract_patches
from quadtok.preprocess import Preprocess
from quadtok.spec import Spec
from quadtok.storage.items import Item, collate_items
from quadtok.storage.plan_format import Header
from quadtok.storage.plan_store import PlanStore
from quadtok.storage.plan_stream import PlanStream
from quadtok.storage.tar import Slice, members_of
from quadtok.tokens import Tokens


class TokenDataset(Dataset[Item]):
    """Map-style: the tokens of one image for a number; a `DataLoader` takes it with `collate_fn=dataset.collate`.

    Each image is read from its file, brought to size as it was when it was scored, and cut up by its stored plan. What
    is drawn by chance depends on the seed, the epoch and the image's number: not on workers, batches or their order.

    Args:
        images: the folder that the names in the store are relative to, or the path of each name's file; or the tar
            file that the images lie in, or a list of some, whose headers are read at once.
        plans: a file of plans, or a store.
        num_tokens: of every image; of one that cannot have so many, the next smaller number that it can.
        budgets: the fewest and the most: each image has any number between that it can have, anew in each epoch; where
            there is none, the next smaller, or all that it has.
        threshold: split only what has a larger saliency; `num_tokens` is then the most.
        names: of the images, in order; None: all that the store has.
        label: what belongs to an image, by its name; items are then pairs.
        flip: how often left and right are exchanged, 0 to 1.
        crop: (height, width) in pixels, of a part along root patches that lies anywhere.
        seed: of all that is drawn.
        max_pixels: refuse larger images, as `quadtok tokenize --max-pixels` does.

    Raises:
        InputError: where these do not fit together, or a name is not in the store.
        TokenFileError: where the store does not say how its images were read.
    """

    def __init__(
        self,
        images: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | Sequence[str | os.PathLike[str]],
        plans: str | os.PathLike[str] | PlanStore,
        *,
        num_tokens: int | None = None,
        budgets: tuple[int, int] | None = None,
        threshold: float | None = None,
        names: Sequence[str] | None = None,
        label: Callable[[str], Any] | None = None,
        flip: float = 0.0,
        crop: tuple[int, int] | None = None,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.store = plans if isinstance(plans, PlanStore) else PlanStore(Path(plans))
        self.images: Path | Mapping[str, str | os.PathLike[str] | Slice]
        if isinstance(images, list | tuple):
            self.images = _inside(list(map(Path, images)))
        elif isinstance(images, str | os.PathLike) and Path(images).is_file():
            self.images = _inside([Path(images)])
        else:
            self.images = images if isinstance(images, Mapping) else Path(images)  # type: ignore[arg-type]
        self.names = list(self.store if names is None else names)
        self.num_tokens, self.budgets, self.threshold = num_tokens, budgets, parse_threshold(threshold)
        self.label, self.flip, self.crop, self.seed, self.epoch = label, flip, crop, seed, 0
        self._check(names)
        with about(self.store.path):
            steps = preprocess_of(self.store.header)
        self._preprocess = replace(steps, max_pixels=max_pixels)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Item:
        """The tokens of one image (a batch of 1, patches on the scale 0…255), and its label where there are any.

        Raises:
            QuadtokError: one sentence that begins with the image's path, where it cannot be read or is another one.
            IndexError: where there is no such number.
        """
        name, rng = self.names[number], self._rng(number)
        path, pixels, stream = self._drawn(number, rng)
        with about(path):
            plan = stream.plan(self._wanted(stream.spec, rng), self.threshold)
        tokens = Tokens(plan, extract_patches(pixels[None], plan), metadata={"source": {"name": name}})
        return tokens if self.label is None else (tokens, self.label(name))

    def planned(self, number: int) -> tuple[Tensor, PlanStream]:
        """What the tokens of an image are made of: for a number of tokens that is chosen later, or several of them.

        Returns:
            The pixels, uint8 `[C, H, W]`, and their plans at every budget, turned and cut as they are drawn.

        Raises:
            QuadtokError: as `dataset[number]`.
            IndexError: likewise.
        """
        _, pixels, stream = self._drawn(number, self._rng(number))
        return pixels, stream

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, number % len(self)])

    def _drawn(self, number: int, rng: np.random.Generator) -> tuple[Path, Tensor, PlanStream]:
        name = self.names[number]
        entry, (path, data) = self.store.entry(name), self._read(name)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise InputError(f"{path}: is another file than the plans in {self.store.path} were made of")
        photo = self._preprocess.decode(data, path)
        pixels, stream = photo.fitted.pixels, entry.stream
        if pixels.shape[1:] != (stream.spec.height, stream.spec.width):
            size = "×".join(map(str, pixels.shape[1:]))
            raise InputError(
                f"{path}: becomes {size}, its plans are of {stream.spec.height}×{stream.spec.width} pixels"
            )
        with about(path):
            return path, *self._cut(*self._turned(pixels, stream, rng), rng)

    def collate(self, items: Sequence[Item]) -> Item:
        """Tokens of one batch, padded where they differ in number; labels as a `DataLoader` collates them."""
        return collate_items(items)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew: before each pass over the data, and after going on from a checkpoint, before workers start."""
        _check_drawn("epoch", epoch)
        self.epoch = epoch

    def _turned(self, pixels: Tensor, stream: PlanStream, rng: np.random.Generator) -> tuple[Tensor, PlanStream]:
        if rng.random() >= self.flip:
            return pixels, stream
        return pixels.flip(-1), stream.mirrored()

    def _cut(self, pixels: Tensor, stream: PlanStream, rng: np.random.Generator) -> tuple[Tensor, PlanStream]:
        if self.crop is None:
            return pixels, stream
        root, (height, width) = stream.spec.max_patch, self.crop
        free = (stream.spec.height - height) // root, (stream.spec.width - width) // root
        top, left = (int(root * rng.integers(max(0, most) + 1)) for most in free)
        part = stream.cropped(top, left, height, width)
        return pixels[:, top : top + height, left : left + width], part

    def _wanted(self, spec: Spec, rng: np.random.Generator) -> int | None:
        """The number of tokens that an image of this size can have and that is nearest below what is wanted."""
        if self.budgets is not None:
            least, most = self.budgets
            most = _at_most(spec, most)
            steps = max(0, most - least) // 3  # each split adds three tokens
            return most - 3 * int(rng.integers(steps + 1))
        return None if self.num_tokens is None else _at_most(spec, self.num_tokens)

    def _read(self, name: str) -> tuple[Path, bytes]:
        """The path of an image, and its bytes."""
        if isinstance(self.images, Path):
            return self.images / name, read_bytes(self.images / name)
        if name not in self.images:
            raise InputError(f"images do not say the path of {name}: give names of those that they do")
        place = self.images[name]
        if not isinstance(place, Slice):
            return Path(place), read_bytes(Path(place))
        path = place.archive.parent / name
        with about(path):
            return path, place.read()

    def _check(self, names: Sequence[str] | None) -> None:
        given = [name for name in ("num_tokens", "budgets", "threshold") if getattr(self, name) is not None]
        if not given or ("budgets" in given and len(given) > 1):
            raise InputError(
                f"give one of num_tokens, budgets and threshold (with num_tokens as the most), got {given or 'none'}"
            )
        if self.budgets is not None and not (_is_pair(self.budgets) and 1 <= self.budgets[0] <= self.budgets[1]):
            raise InputError(f"budgets are the fewest tokens and the most, got {self.budgets}")
        if self.threshold is not None and self.store.header.minima == "none":
            raise InputError(f"{self.store.path} has no minima, which a threshold needs: store the plans with minima")
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip is how often, 0 to 1, got {self.flip}")
        if self.crop is not None and not (_is_pair(self.crop) and min(self.crop) > 0):
            raise InputError(f"crop is (height, width) in pixels, got {self.crop}")
        root = self.store.header.max_patch
        if self.crop is not None and any(side % root for side in self.crop):
            raise InputError(f"crop is along root patches, in multiples of {root} pixels, got {self.crop}")
        _check_drawn("seed", self.seed)
        missing = next((name for name in names or () if name not in self.store), None)
        if missing is not None:
            raise InputError(f"{self.store.path} has no plans of {missing}")


def _inside(archives: Sequence[Path]) -> dict[str, Slice]:
    """Where the images in tar files lie, by the names that `quadtok tokenize` gives them.

    Raises:
        InputError: where one is no tar file, or is not whole; and where two of one name hold one image.
    """
    places: dict[str, Slice] = {}
    for archive in archives:
        if archive.suffix.lower() == PARQUET_SUFFIX:
            raise InputError(f"{archive}: images of a Parquet file are not read here: give a folder, or tar files")
        found, problem = members_of(archive, IMAGE_SUFFIXES)
        if problem is not None:
            raise problem
        inside = {
            PurePosixPath(archive.stem, item.name).as_posix(): item.inside for item in found if item.inside is not None
        }
        if twice := next((name for name in inside if name in places), None):
            raise InputError(
                f"{archive}: {twice} is in {places[twice].archive}, too: give each archive a name of its own"
            )
        places |= inside
    return places


def _at_most(spec: Spec, num_tokens: int) -> int:
    """The largest number of tokens that an image of this size can have, up to this one."""
    return Spec.at_most(spec.height, spec.width, spec.min_patch, spec.max_patch, num_tokens).num_tokens


def _check_drawn(name: str, value: int) -> None:
    """Refuse what nothing can be drawn from, by an `InputError`."""
    if not isinstance(value, Integral) or value < 0:
        raise InputError(f"{name} is an integer from 0 on, got {value!r}")


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, Integral) for side in value)


def preprocess_of(header: Header) -> Preprocess:
    """How the images of a store were brought to size.

    Raises:
        TokenFileError: where it does not say.
    """
    try:
        steps = header.made["preprocess"]
        size = steps["image_size"]
        fixed = None if size == "native" else (size[0], size[1])
        geometry = make_geometry(fixed, Budget(share=Fraction(1)), steps["fit"], header.min_patch, header.max_patch)
        return Preprocess(
            geometry, background=steps["background"], exif=bool(steps["exif"]), draft=bool(steps["draft"])
        )
    except (QuadtokError, KeyError, IndexError, TypeError) as problem:
        raise TokenFileError("does not say how its images were brought to size") from problem
