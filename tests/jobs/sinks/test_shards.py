"""The sink of shards, and what other processes get of it."""

import pickle
from pathlib import Path

from quadtok.jobs import tokenize_files
from quadtok.jobs.sinks.shards import ShardSink
from quadtok.jobs.sources import find_sources
from quadtok.names import IMAGE_SUFFIXES
from quadtok.storage.sample import facts_of
from quadtok.storage.shards import places_in, read_sample


def test_a_part_knows_what_is_done(tmp_path, kind):
    photo = Path(__file__).parents[3] / "sample_images" / "coffee.jpg"
    tokenize_files(photo, tmp_path, num_tokens=22, scorer="blur", format=kind.format)
    fingerprint = facts_of(read_sample(places_in(tmp_path / f"shard-000000{kind.suffix}")[0]))["fingerprint"]
    (source,) = find_sources([str(photo)], IMAGE_SUFFIXES).sources
    with ShardSink(tmp_path, 10, [source], if_exists="skip", container=kind.container).open() as sink:
        part = pickle.loads(pickle.dumps(sink.part([source])))
        assert part.is_settled(source) and part.outstanding(source, fingerprint) == frozenset()
