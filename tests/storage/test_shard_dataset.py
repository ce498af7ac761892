"""Shards as a stream: every sample once, whoever reads, in an order that a seed fixes, from where one stopped."""

import itertools
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from quadtok import Spec, tokenize
from quadtok.errors import InputError, TokenFileError
from quadtok.storage.sample import key_of, token_members
from quadtok.storage.shard_dataset import ShardDataset
from quadtok.tokens import Tokens
from shard_kinds import KINDS, kind_of

SPEC = Spec(32, 32, 8, 16, 10)
COUNTS = (5, 3, 4, 1, 6)


def tokens_number(number):
    images = torch.full((1, 3, 32, 32), number, dtype=torch.uint8)
    tokens = tokenize(images, SPEC, "random")
    return Tokens(tokens.plan, tokens.patches, metadata={"number": number})


def sample_number(number):
    name = f"class{number % 2}/{number}.jpg"
    return key_of(name), token_members(tokens_number(number), name, "uint8", {})


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    """Shards of a kind, and which."""
    kind, folder, numbers = kind_of(request.param), tmp_path_factory.mktemp("shards"), itertools.count()
    for shard, count in enumerate(COUNTS):
        path = folder / f"shard-{shard:06d}{kind.suffix}"
        kind.write(path, map(sample_number, itertools.islice(numbers, count)))
    return folder, kind


@pytest.fixture
def folder(made):
    return made[0]


@pytest.fixture
def shards(made):
    return made[1].shards_of(made[0])


def numbers_in(items):
    return [int(tokens.patches.flatten()[0]) for tokens in items]


def test_every_sample_comes_once_and_is_what_was_stored(folder):
    dataset = ShardDataset(folder, shuffle=False)
    items = list(dataset)
    assert numbers_in(items) == list(range(sum(COUNTS)))
    for number, item in enumerate(items):
        expected = tokens_number(number)
        assert item.plan == expected.plan and torch.equal(item.patches, expected.patches)


def test_the_order_is_drawn_from_seed_and_epoch(folder):
    def order(seed, epoch):
        dataset = ShardDataset(folder, seed=seed)
        dataset.set_epoch(epoch)
        return numbers_in(dataset)

    assert order(0, 0) == order(0, 0)
    orders = {tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert all(sorted(one) == list(range(sum(COUNTS))) for one in orders)


def test_the_order_in_a_shard_is_drawn_too(shards):
    def order(seed, epoch):
        dataset = ShardDataset([shards[4]], seed=seed)
        dataset.set_epoch(epoch)
        return tuple(numbers_in(dataset))

    assert len({order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}) > 4


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_all_samples(folder, world_size, workers):
    found = []
    for rank in range(world_size):
        dataset = ShardDataset(folder, rank=rank, world_size=world_size)
        loader = DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=dataset.collate)
        found += [number for tokens in loader for number in tokens.patches[:, 0, 0, 0, 0].int().tolist()]
    assert sorted(found) == list(range(sum(COUNTS)))


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("given", [0, 1, 2, 5, 8, 10, 99])
def test_it_goes_on_where_it_stopped(folder, workers, given):
    def batches(done):
        dataset = ShardDataset(folder, seed=3)
        dataset.set_epoch(2, batches=done, batch_size=2)
        loader = DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=dataset.collate)
        return [sorted(tokens.patches[:, 0, 0, 0, 0].int().tolist()) for tokens in loader]

    everything, rest = batches(0), batches(given)
    if workers < 2:
        assert rest == everything[given:]
    else:  # a worker that begins later takes its turn first
        assert sorted(rest) == sorted(everything[given:])


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("given", [1, 2, 4, 6, 99])
def test_it_goes_on_where_a_loader_stopped_that_leaves_out_what_fills_no_batch(folder, workers, given):
    def batches(done):
        dataset = ShardDataset(folder, shuffle=False)
        dataset.set_epoch(0, batches=done, batch_size=3, drop_last=True)
        more = {"batch_size": 3, "drop_last": True, "num_workers": workers, "collate_fn": dataset.collate}
        return [tokens.patches[:, 0, 0, 0, 0].int().tolist() for tokens in DataLoader(dataset, **more)]

    everything, rest = batches(0), batches(given)
    assert sorted(rest) == sorted(everything[given:])


def test_labels_come_from_names(folder):
    dataset = ShardDataset(folder, label=lambda name: int(Path(name).parts[0][-1]))
    tokens, labels = next(iter(DataLoader(dataset, batch_size=19, collate_fn=dataset.collate)))
    assert labels.tolist() == [int(value) % 2 for value in tokens.patches[:, 0, 0, 0, 0]]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.7])
def test_a_shard_that_is_cut_is_named(shards, tmp_path, share):
    path = tmp_path / shards[0].name
    data = shards[0].read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TokenFileError, match=rf"{path}: "):
        list(ShardDataset([path]))


def test_a_flipped_bit_is_found(tmp_path):
    KINDS["tar"].write(tmp_path / "x.tar", [sample_number(0)])
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[data.index(b"NUMPY") + 200] ^= 1
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(TokenFileError, match="x.tar: checksum mismatch"):
        list(ShardDataset([tmp_path / "x.tar"], shuffle=False))


def test_one_shard_may_be_given_alone(folder):
    first = next(path for path in sorted(folder.iterdir()) if path.suffix in (".tar", ".parquet"))
    alone, listed = (ShardDataset(given, shuffle=False) for given in (str(first), [first]))
    assert alone.shards == [first]
    assert [item.metadata for item in alone] == [item.metadata for item in listed] != []


@pytest.mark.parametrize(
    "named", ["s3://bucket/shards", ["x.tar", "s3://bucket/shards"], Path("s3://bucket/shards")], ids=str
)
def test_a_url_is_refused_with_what_to_do(named):
    with pytest.raises(InputError, match=r"^s3://bucket/shards: shards are read from disks: copy them"):
        ShardDataset(named)


def test_what_cannot_be_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="there are no shards"):
        ShardDataset(tmp_path)
    with pytest.raises(InputError, match="there are no shards"):
        ShardDataset([])
    with pytest.raises(InputError, match="rank 2 of 2: ranks count from 0"):
        ShardDataset(folder, rank=2, world_size=2)
    with pytest.raises(InputError, match="seed is an integer from 0 on, got -1"):
        ShardDataset(folder, seed=-1)
    for arguments in ((-1,), (0, -1), (0, 1, 0)):
        with pytest.raises(InputError, match="count from 0"):
            ShardDataset(folder).set_epoch(*arguments)
