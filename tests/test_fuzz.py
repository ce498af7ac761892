"""Damage at random is answered rightly or in one sentence; and the fuzzer sees what it is there to see.

`python tests/fuzz.py --images 100000 --tokens 20000 --jobs 2` goes on where this stops.
"""

import random
from io import BytesIO

import pytest
import torch

import fuzz
import fuzz_mutations
import fuzz_seeds
from quadtok.errors import ImageError
from quadtok.images import decode_image
from quadtok.storage.token_file import decode_tokens
from token_files import zipped


@pytest.mark.parametrize(("kind", "count"), [("images", 600), ("tokens", 400)])
def test_damaged_files_are_refused_in_one_sentence_or_read_rightly(kind, count, tmp_path):
    report = fuzz.run(kind, count, seed=9)
    assert not report.failures, f"{report}\n{fuzz.save_inputs(report, tmp_path)}"
    assert report.cases == count
    read = sum(times for words, times in report.words.items() if not words.startswith("refused"))
    assert count // 20 < read < count  # it damages neither nothing nor everything


def test_sound_images_are_read_or_not_supported():
    sizes = {fuzz_seeds.SIDE, fuzz_seeds.SIDE[::-1]}
    read = 0
    for name, data in fuzz_seeds.image_seeds().items():
        if name.startswith("odd-"):
            continue
        try:
            assert decode_image(data, name).image.size in sizes, name
            read += 1
        except ImageError as problem:
            assert "not supported" in str(problem)
    assert read > 100


def test_sound_token_files_are_read():
    for data in fuzz_seeds.token_seeds().values():
        decode_tokens(data)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("Raises", "KeyError: 'surprise'"),
        ("Speaks", "it said b'libfoo: warning'"),
        ("Warns", "DeprecationWarning"),
        ("Crashes", "the process died of SIGABRT"),
        ("Leaves", "the process died of exit 3"),
        ("Exits", "SystemExit: 0"),
        ("Hangs", "no answer within 2 s"),
        ("Grows", "it took 60"),
    ],
)
def test_a_fault_is_laid_at_the_door_of_its_case_and_the_others_are_tried(fault, sentence, tmp_path):
    task = f"fuzz_faults:{fault}"
    report = fuzz.run("images", 5, seed=3, task=task, time_limit=2.0 if fault == "Hangs" else 120.0)
    assert report.cases == 5
    assert list(report.failures) == [2]
    assert sentence in report.failures[2]
    (path,) = fuzz.save_inputs(report, tmp_path, task)
    assert len(path.read_bytes()) == 8
    assert sentence in path.with_suffix(".txt").read_text()


def test_without_a_fault_nothing_is_reported():
    report = fuzz.run("images", 20, seed=3, jobs=2, task="fuzz_faults:Fine")
    assert (report.cases, report.failures, dict(report.words)) == (20, {}, {"decoded": 20})


def test_a_program_that_does_not_start_is_an_error():
    with pytest.raises(RuntimeError, match="does not start: the process died of exit 5"):
        fuzz.run("images", 5, seed=3, task="fuzz_faults:DoesNotStart")


def test_whatever_was_forged_before_can_be_forged_further():
    buffer = BytesIO()
    torch.save({"meta": "{}", "layout": torch.zeros(3, dtype=torch.int32), "patches": torch.zeros(3)}, buffer)
    for number in range(400):
        fuzz_mutations.forged_tokens({"flat": buffer.getvalue()}, random.Random(number))


def test_an_empty_pickle_is_damaged_no_further():
    data = zipped(**{"data.pkl": b""})
    assert all(fuzz_mutations.pickle_bytes(data, random.Random(number)) == data for number in range(10))


def test_a_case_is_the_same_every_time():
    one, two = (fuzz.case_of(fuzz.subject_of("fuzz_faults:Fine"), "fuzz_faults:Fine", 1, 7) for _ in range(2))
    assert one == two
