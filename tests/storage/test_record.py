"""Metadata is anybody's JSON: what is well-formed is taken, and whatever else counts as not recorded."""

import pytest

from odd_metadata import GARBAGE, WELL_FORMED
from quadtok.storage.record import Record


def test_what_is_well_formed_is_taken():
    record = Record.of({**WELL_FORMED, "dtype": "uint8", "quadtok": "0.1.0", "torch": "2.10", "fingerprint": "f"})
    assert record == Record(
        scorer="blur",
        scorer_options={"radius": 2},
        tokens_requested="7",
        threshold=-2.0,
        dtype="uint8",
        made_by={"quadtok": "0.1.0", "torch": "2.10"},
        source_name="cat.jpg",
        source_format="JPEG",
        source_size=(640, 480),
        source_sha256="ab" * 32,
        native=False,
        fit="squash",
        background="#00ff00",
        exif=False,
        draft=4,
        crop_box=(0.0, 0.5, 640.0, 480.0),
        fingerprint="f",
    )


@pytest.mark.parametrize("value", GARBAGE, ids=map(str, range(len(GARBAGE))))
def test_what_is_not_counts_as_not_recorded(value):
    steps = dict.fromkeys(("image_size", "fit", "background", "draft", "crop_box"), value)
    source = dict.fromkeys(("size", "sha256"), value)
    record = Record.of({"preprocess": steps, "source": source, "scorer": value})
    assert (record.fit, record.background, record.draft, record.crop_box) == ("crop", "white", 1, None)
    assert (record.native, record.source_size, record.source_sha256, record.scorer) == (False, None, "", "")


def test_without_a_fit_it_is_that_of_the_size():
    assert Record.of({"preprocess": {"image_size": "native"}}).fit == "pad"
    assert Record.of({"preprocess": {"image_size": "native", "fit": "crop"}}).fit == "crop"
