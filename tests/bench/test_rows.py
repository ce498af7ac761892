"""The numbers of a row, from the seconds of its repetitions."""

import json

import pytest

from quadtok import Spec
from quadtok.bench import STAGES, Row

ROW = Row(
    implementation="zcurve",
    compiled=False,
    scorer="random",
    device="cpu",
    dtype="uint8",
    batch=4,
    spec=Spec(64, 96, 8, 32, 24),
    times=((1.0, 0.5, 0.5), (1.0, 1.0, 1.0), (1.0, 2.0, 2.0), (2.0, 2.0, 2.0), (2.0, 3.0, 3.0)),
    peak_bytes=100,
    speedup=2.0,
)


def test_a_row_is_flat_json_in_milliseconds():
    facts = ROW.describe()
    assert json.loads(json.dumps(facts)) == facts
    assert not any(isinstance(value, dict | list | tuple) for value in facts.values())
    assert (facts["height"], facts["width"], facts["tokens"], facts["repetitions"]) == (64, 96, 24, 5)
    times = ("median_ms", "lower_quartile_ms", "upper_quartile_ms", "score_ms", "select_ms", "extract_ms")
    assert [facts[name] for name in times] == [5000, 3000, 6000, 1000, 2000, 2000]
    assert (facts["images_per_second"], facts["speedup"], facts["peak_bytes"]) == (0.8, 2.0, 100)


def test_a_row_without_times_has_no_numbers():
    row = Row(**{**vars(ROW), "times": (), "peak_bytes": None, "speedup": None, "mismatch": "zcurve and dict disagree"})
    assert (row.median, row.quartiles, row.images_per_second) == (None, None, None)
    assert row.stages == dict.fromkeys(STAGES)
    facts = row.describe()
    assert [name for name, value in facts.items() if value is None and name.endswith("_ms")] == [
        *("median_ms", "lower_quartile_ms", "upper_quartile_ms", "score_ms", "select_ms", "extract_ms", "compile_ms")
    ]


@pytest.mark.parametrize(("compiled", "label"), [(False, "zcurve"), (True, "zcurve, compiled")])
def test_its_label_says_whether_it_is_compiled(compiled, label):
    assert Row(**{**vars(ROW), "compiled": compiled}).label == label
