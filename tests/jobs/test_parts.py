"""Parts of a job array: each input in exactly one, whatever else there is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quadtok.errors import InputError
from quadtok.jobs.parts import Part, parse_part
from quadtok.jobs.sources import Found, Refusal, Source

NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=9).filter(lambda x: x not in "...")
)
SLURM = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}


def source(name):
    return Source(Path("/in") / name, Path(name))


@given(names=NAMES, count=st.integers(1, 9))
def test_every_input_is_in_one_part_and_in_its_order(names, count):
    found = Found([source(name) for name in names], [Refusal(Path(name), InputError("odd")) for name in names])
    parts = [Part(number, count).of(found) for number in range(1, count + 1)]
    for what in ("sources", "refused"):
        everything, split = getattr(found, what), [getattr(part, what) for part in parts]
        assert sum(map(len, split)) == len(everything)
        for part in split:
            assert part == [item for item in everything if item in part]


@given(count=st.integers(1, 50))
def test_inputs_whose_outputs_would_clash_are_in_one_part(count):
    for number in range(1, count + 1):
        assert len({Part(number, count).holds(Path("a") / name) for name in ("cat.jpg", "cat.png", "cat.JPEG")}) == 1


def test_parts_are_of_a_like_size_and_stay_what_they_are():
    sizes = [sum(Part(number, 8).holds(Path(f"n{i}/{i}.jpg")) for i in range(8000)) for number in range(1, 9)]
    assert max(sizes) < 1.15 * min(sizes)
    assert [name for name in ("a.jpg", "b.jpg", "c/d.png", "é.webp") if Part(1, 3).holds(Path(name))] == ["é.webp"]


@pytest.mark.parametrize(
    ("text", "variables", "part"),
    [
        ("3/8", {}, (3, 8)),
        ("1/1", SLURM, (1, 1)),
        ("auto", SLURM, (3, 4)),
        ("auto/6", SLURM, (3, 6)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2"}, (1, 2)),
        ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, (5, 5)),
    ],
)
def test_a_part_is_given_or_told_by_the_array(text, variables, part):
    found = parse_part(text, variables, "--part")
    assert (found.number, found.count) == part
    assert str(found) == f"{part[0]}/{part[1]}"


@pytest.mark.parametrize(
    ("text", "variables", "said"),
    [
        ("8", {}, "is none of I/N"),
        ("0/8", {}, "there is no such part: parts count from 1"),
        ("9/8", {}, "there is no such part"),
        ("1/0", {}, "there is no such part"),
        ("-1/8", {}, "is none of I/N"),
        ("a/b", {}, "is none of I/N"),
        ("", {}, "is none of I/N"),
        ("auto", {}, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
        ("auto", {"JOB_COMPLETION_INDEX": "4"}, "give auto/N"),
        ("auto", {"JOB_COMPLETION_INDEX": "x"}, "JOB_COMPLETION_INDEX is 'x', expected a number"),
        ("auto/3", {"JOB_COMPLETION_INDEX": "4"}, "there is no such part"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_STEP": "2"}, "counts in steps of 2"),
    ],
)
def test_what_is_no_part_is_refused(text, variables, said):
    with pytest.raises(InputError, match=f"--part.*{said}"):
        parse_part(text, variables, "--part")
