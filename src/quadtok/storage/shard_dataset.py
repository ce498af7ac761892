"""Tokens in shards as a stream to train on: split by rank and worker, mixed anew in each epoch, resumable.

Shards are dealt out whole: the r-th of R processes takes every R-th shard of an order that is drawn from seed and
epoch, and of those each worker of its `DataLoader` every W-th. So no two read one sample, and nobody talks to anybody.
Inside a shard the samples are read in an order that is drawn, too: those of a tar from anywhere, since its files are
not compressed; those of a Parquet file group by group of rows, which can be read in no other way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from quadtok.errors import InputError, about
from quadtok.places import is_elsewhere
from quadtok.storage.container import Held, Place
from quadtok.storage.items import Item, collate_items
from quadtok.storage.sample import image_of, tokens_of
from quadtok.storage.shards import CONTAINERS, places_in, read_sample


class ShardDataset(IterableDataset[Item]):
    """The tokens in shards that `quadtok tokenize` wrote, tar or Parquet; a `DataLoader` takes it with its `collate`.

    Args:
        shards: their folder, one of them, or a list of some; on disks.
        label: what belongs to an image, by its name; items are then pairs.
        shuffle: whether the order is drawn; else it is that of the shards.
        seed: of what is drawn.
        rank: of this process, from 0.
        world_size: how many processes there are.

    Raises:
        InputError: where there are no shards, they are named by URLs, or there is no such rank.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        label: Callable[[str], Any] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise InputError(f"rank {rank} of {world_size}: ranks count from 0")
        if seed < 0:
            raise InputError(f"seed is an integer from 0 on, got {seed}")
        self.shards = _in(Path(shards)) if isinstance(shards, str | os.PathLike) else [Path(shard) for shard in shards]
        if there := next((shard for shard in self.shards if is_elsewhere(shard)), None):
            url = str(there).replace(":/", "://", 1)
            raise InputError(f"{url}: shards are read from disks: copy them, or mount the store, and give the folder")
        if not self.shards:
            raise InputError(f"there are no shards (*{', *'.join(CONTAINERS)}) in {shards}")
        self.label, self.shuffle, self.seed = label, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, batches: int = 0, batch_size: int = 1, drop_last: bool = False) -> None:
        """Draw anew, before each pass over the data and before workers start.

        Args:
            epoch: its number.
            batches: how many the loader has given of this epoch before: they are left out, and what comes is what would
                have come, with as many workers as then.
            batch_size: of the loader.
            drop_last: whether the loader leaves out what does not fill a batch, of each worker.
        """
        if min(epoch, batches) < 0 or batch_size < 1:
            raise InputError(f"epoch {epoch} and batches {batches} count from 0, batch_size {batch_size} from 1")
        self.epoch, self._batches = epoch, batches
        self._batch_size, self._drop_last = batch_size, drop_last

    def __iter__(self) -> Iterator[Item]:
        """The items of this rank and worker.

        Raises:
            TokenFileError: one sentence that begins with the shard, for what is damaged or holds no tokens.
        """
        info = get_worker_info()
        number, count = (0, 1) if info is None else (info.id, info.num_workers)
        shares = [self._order()[self.rank :: self.world_size][worker::count] for worker in range(count)]
        skipped = self._given(shares)[number]
        for shard in shares[number]:
            places, held = self._places(shard), Held()
            yield from (self._item(place, held) for place in places[skipped:])
            skipped = max(0, skipped - len(places))

    def _given(self, shares: Sequence[Sequence[Path]]) -> list[int]:
        """How many items of each worker were in the batches before: a loader takes one in turn of each that has any."""
        given = [0] * len(shares)
        if self._batches == 0:
            return given
        left = [sum(len(places_in(shard)) for shard in share) for share in shares]
        if self._drop_last:
            left = [items - items % self._batch_size for items in left]
        batches = self._batches
        while batches > 0 and any(left):
            for worker in [worker for worker, items in enumerate(left) if items][:batches]:
                taken = min(self._batch_size, left[worker])
                given[worker] += taken
                left[worker] -= taken
                batches -= 1
        return given

    def collate(self, items: Sequence[Item]) -> Item:
        """Tokens of one batch, padded where they differ in number; labels as a `DataLoader` collates them."""
        return collate_items(items)

    def _order(self) -> list[Path]:
        """All shards; every rank and worker draws the same order."""
        if not self.shuffle:
            return self.shards
        numbers = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.shards))
        return [self.shards[number] for number in numbers]

    def _places(self, shard: Path) -> list[Place]:
        places = places_in(shard)
        if self.shuffle:
            number = self.shards.index(shard)
            order = np.random.default_rng([self.seed, self.epoch, number]).permutation(len(places))
            places = [places[at] for at in order]
            drawn = {place.group: at for at, place in reversed(list(enumerate(places)))}
            places.sort(key=lambda place: drawn[place.group])
        return places

    def _item(self, place: Place, held: Held) -> Item:
        members = read_sample(place, held=held)
        with about(place.shard):
            tokens = tokens_of(members)
            return tokens if self.label is None else (tokens, self.label(image_of(place.key, members)))


def _in(place: Path) -> list[Path]:
    """The shards in a folder; or the one that this is."""
    if is_elsewhere(place) or place.is_file():
        return [place]
    return sorted(shard for ending in CONTAINERS for shard in place.glob(f"*{ending}"))
