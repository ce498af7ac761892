"""Photographs for training and for measuring, as they are or with stored plans.

What is drawn for an image depends on the seed, the epoch and the image alone, and which images a step has on the seed
and the step: so a run that was interrupted goes on with what it would have had, whatever the number of its workers.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from folders import classes_of, photographs_in
from quadtok import Plan, TokenDataset, Tokens, collate, read_image
from quadtok.errors import InputError, QuadtokError
from quadtok.images.fit import fit_image
from quadtok.storage.plan_stream import PlanStream
from ranks import Ranks
from settings import SELF, Settings

ATTEMPTS = 10
Item = tuple[Tensor, PlanStream | None, int]


@dataclass(frozen=True)
class Place:
    """What a loader asks for: an image, in one pass over all of them."""

    epoch: int
    number: int


@dataclass(frozen=True)
class Batch:
    """Images, what they show, and perhaps their plans.

    Attributes:
        images: uint8 `[B, 3, H, W]`.
        labels: int64 `[B]`; 0 where there are none.
        streams: the plans of every budget of each, or None: they are to be scored.
    """

    images: Tensor
    labels: Tensor
    streams: Sequence[PlanStream] | None

    def plan(self, num_tokens: int, threshold: float | None) -> Plan | None:
        """The stored plan, on the images' device; None where nothing is stored."""
        if self.streams is None:
            return None
        parts = [Tokens(stream.plan(num_tokens, threshold), None) for stream in self.streams]
        return collate(parts).plan.to(self.images.device)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(self.images.to(device), self.labels.to(device), self.streams)


class Photographs(Dataset[Item]):
    """A folder of images, with a folder for each class; without labels any folder.

    Args:
        folder: of them.
        change: what is done to each, PIL to uint8 `[3, H, W]`.
        labelled: whether the outermost folders are classes.
        seed: of what `change` draws.
    """

    def __init__(self, folder: Path, change: Callable[[Image.Image], Tensor], labelled: bool, seed: int = 0) -> None:
        self.files = photographs_in(folder)
        names = [path.relative_to(folder).as_posix() for path in self.files]
        self.classes, self.labels = classes_of(names, folder) if labelled else ([""], [0] * len(names))
        self.change, self.seed = change, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: Place) -> Item:
        """Pixels, no plans, and the class."""
        image = read_image(self.files[place.number]).image
        return self._changed(image, place), None, self.labels[place.number]

    def _changed(self, image: Image.Image, place: Place) -> Tensor:
        """By what is drawn for this place. timm's posterize may ask for 0 bits, which Pillow refuses: then anew."""
        for attempt in range(ATTEMPTS):
            sow(self.seed, place.epoch, place.number, attempt)
            try:
                return self.change(image)
            except ValueError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError


class Planned(Dataset[Item]):
    """Photographs with stored plans.

    Args:
        dataset: of the photographs. Names begin with the class, where there are labels.
        labelled: whether they do.
    """

    def __init__(self, dataset: TokenDataset, labelled: bool) -> None:
        self.dataset, names = dataset, dataset.names
        self.classes, self.labels = classes_of(names, dataset.store.path) if labelled else ([""], [0] * len(names))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place) -> Item:
        """Pixels, plans, and the class."""
        self.dataset.set_epoch(place.epoch)
        return *self.dataset.planned(place.number), self.labels[place.number]


class Order(Sampler[list[Place]]):
    """The images of each batch of one process, from one update on to the last: a new order in each epoch.

    Args:
        length: of the data.
        batch_size: images of one process at once.
        accumulate: batches of an update.
        ranks: the images of an update are dealt out to the processes by turns.
        updates: the first, and the one after the last.
        seed: of the orders.
    """

    def __init__(
        self, length: int, batch_size: int, accumulate: int, ranks: Ranks, updates: tuple[int, int], seed: int
    ) -> None:
        self.length, self.batch_size, self.ranks, self.seed = length, batch_size, ranks, seed
        self.batches = range(updates[0] * accumulate, updates[1] * accumulate)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Place]]:
        size, world = self.batch_size, self.ranks.world
        orders: dict[int, np.ndarray[Any, Any]] = {}
        for batch in self.batches:
            places = (np.arange(size) * world + self.ranks.rank) + batch * size * world
            chosen = []
            for epoch, at in zip(*divmod(places, self.length), strict=True):
                if epoch not in orders:
                    orders = {key: order for key, order in orders.items() if key == epoch - 1}
                    orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                chosen.append(Place(int(epoch), int(orders[epoch][at])))
            yield chosen


def sow(*numbers: int) -> None:
    """Let all that is drawn from here on depend on these numbers alone."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def training_data(settings: Settings) -> Photographs | Planned:
    """DATA/train, changed by chance."""
    folder, labelled = settings.data / "train", settings.teacher != SELF
    if settings.plans is None:
        return Photographs(folder, _Changed(settings), labelled, settings.seed)
    tokens = settings.spec.num_tokens
    stored = TokenDataset(folder, settings.plans, num_tokens=tokens, flip=settings.flip, seed=settings.seed)
    _check_stored(stored, settings, settings.plans)
    return Planned(stored, labelled)


def validation_data(settings: Settings) -> Photographs | Planned:
    """DATA/val as it is."""
    folder, labelled = settings.data / "val", settings.teacher != SELF
    if settings.val_plans is None:
        return Photographs(folder, _Fitted(settings.image_size), labelled)
    stored = TokenDataset(folder, settings.val_plans, num_tokens=settings.spec.num_tokens)
    _check_stored(stored, settings, settings.val_plans)
    return Planned(stored, labelled)


def batches_of(data: Dataset[Item], order: Sampler[list[Place]], workers: int) -> Iterator[Batch]:
    """Batches in this order.

    Raises:
        QuadtokError: for a file that cannot be read, with the sentence alone: what a process raises comes back from it
            as pages, so it is handed over instead.
    """
    loader = DataLoader(
        _Told(data), batch_sampler=order, num_workers=workers, collate_fn=_batch, worker_init_fn=_deaf_to_interrupts
    )
    for batch in loader:
        if isinstance(batch, QuadtokError):
            raise batch
        yield batch


@dataclass(frozen=True)
class _Told(Dataset[Item | QuadtokError]):
    """Items, or what is said against them."""

    data: Dataset[Item]

    def __getitem__(self, place: Place) -> Item | QuadtokError:
        try:
            return self.data[place]
        except QuadtokError as problem:
            return problem


def _deaf_to_interrupts(worker: int) -> None:
    """Ctrl-C is for the process that trains, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class InTurn(Sampler[list[Place]]):
    """Each image once, in order: every `world`-th of one process, the last batch shorter."""

    def __init__(self, length: int, batch_size: int, ranks: Ranks) -> None:
        self.numbers, self.batch_size = range(ranks.rank, length, ranks.world), batch_size

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        for begin in range(0, len(self.numbers), self.batch_size):
            yield [Place(0, number) for number in self.numbers[begin : begin + self.batch_size]]


@dataclass(frozen=True)
class _Fitted:
    """The centre of an image, as the field measures."""

    side: int

    def __call__(self, image: Image.Image) -> Tensor:
        return fit_image(image, self.side, self.side, "crop").pixels


class _Changed:
    """timm's random crop, flip and augmentation, left on the scale 0…255."""

    def __init__(self, settings: Settings) -> None:
        from timm.data import create_transform

        try:
            self.transform = create_transform(
                settings.image_size,
                is_training=True,
                scale=(settings.least_area, 1.0),
                hflip=settings.flip,
                color_jitter=None if settings.augment is None else 0.4,
                auto_augment=settings.augment,
                interpolation="bilinear",
                normalize=False,
            )
        except (AssertionError, LookupError, ValueError) as problem:
            raise InputError(
                f"timm knows no --augment {settings.augment}: give one such as rand-m9-mstd0.5"
            ) from problem

    def __call__(self, image: Image.Image) -> Tensor:
        changed: Tensor = self.transform(image)
        return changed


def _batch(items: Sequence[Item | QuadtokError]) -> Batch | QuadtokError:
    if problem := next((item for item in items if isinstance(item, QuadtokError)), None):
        return problem
    pixels, streams, labels = zip(*items, strict=True)
    stored = None if None in streams else list(streams)
    return Batch(torch.stack(pixels), torch.tensor(labels), stored)


def _check_stored(stored: TokenDataset, settings: Settings, path: Path) -> None:
    header, spec = stored.store.header, settings.spec
    theirs = (header.made["preprocess"]["image_size"], header.min_patch, header.max_patch)
    ours = ([spec.height, spec.width], spec.min_patch, spec.max_patch)
    if theirs != ours:
        flags = f"--image-size {spec.height} --min-patch {spec.min_patch} --max-patch {spec.max_patch}"
        raise InputError(
            f"{path}: plans of images of {theirs[0]} in patches of {theirs[1:]}, this run has {ours}: "
            f"make them by quadtok tokenize --store plans {flags}"
        )
