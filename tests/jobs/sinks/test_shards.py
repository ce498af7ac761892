"""The sink of shards, and what other processes get of it."""

import errno
import gc
import io
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch

from quadtok import Spec, tokenize
from quadtok.errors import DiskFull
from quadtok.jobs import tokenize_files
from quadtok.jobs.sinks.shards import ShardSink
from quadtok.jobs.sources import Source, find_sources
from quadtok.names import IMAGE_SUFFIXES
from quadtok.storage.sample import facts_of, token_members
from quadtok.storage.shards import places_in, read_sample


def large_sample():
    """As many bytes as a group of rows has, so that it is written at once."""
    spec = Spec(1024, 1024, 16, 16, 4096)
    return token_members(tokenize(torch.zeros(1, 3, 1024, 1024), spec, "blur"), "0.png", "float32", {})


@pytest.mark.parametrize("when", ["add", "close"])
def test_a_shard_that_is_given_up_leaves_nothing_and_says_nothing(tmp_path, kind, monkeypatch, when):
    unsaid = []
    monkeypatch.setattr(sys, "unraisablehook", unsaid.append)
    source = Source(tmp_path / "0.png", Path("0.png"))

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull), ShardSink(tmp_path / "out", 2, [source], container=kind.container).open() as sink:
        sink.write(source, large_sample())
        monkeypatch.setattr(type(kind.container.writer(io.BytesIO())), when, fail)
        sink.write(source, large_sample())
    del sink
    gc.collect()
    assert unsaid == []
    assert list((tmp_path / "out").iterdir()) == []


def test_a_part_knows_what_is_done(tmp_path, kind):
    photo = Path(__file__).parents[3] / "sample_images" / "coffee.jpg"
    tokenize_files(photo, tmp_path, num_tokens=22, scorer="blur", format=kind.format)
    fingerprint = facts_of(read_sample(places_in(tmp_path / f"shard-000000{kind.suffix}")[0]))["fingerprint"]
    (source,) = find_sources([str(photo)], IMAGE_SUFFIXES).sources
    with ShardSink(tmp_path, 10, [source], if_exists="skip", container=kind.container).open() as sink:
        part = pickle.loads(pickle.dumps(sink.part([source])))
        assert part.is_settled(source) and part.outstanding(source, fingerprint) == frozenset()
