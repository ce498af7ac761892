"""Peak memory is counted by what operations return, as long as it lives."""

import pytest
import torch

from quadtok.bench import peak_bytes

MEGABYTE = 10**6
GIVEN = torch.zeros(10 * MEGABYTE, dtype=torch.uint8)


def two_after_200_that_no_operation_made(new):
    for buffer in [torch.frombuffer(bytearray(8), dtype=torch.uint8) for _ in range(200)]:
        buffer.sum()
    del buffer
    return new(), new()


@pytest.mark.parametrize(
    ("scratch", "megabytes"),
    [
        (lambda new: (new(), new()), 20),
        (lambda new: (new().shape, new().shape), 10),
        (lambda new: new().view(2, -1)[0], 10),
        (lambda new: new().add_(1), 10),
        (lambda new: new() + 1, 20),
        (lambda new: (GIVEN.view(2, -1), GIVEN.add_(1)), 0),
        (two_after_200_that_no_operation_made, 20),
    ],
    ids=["two", "one after another", "views", "in place", "result and argument", "there before", "after many"],
)
def test_peak_memory_is_what_lives_at_once(scratch, megabytes):
    assert peak_bytes(lambda: scratch(lambda: torch.zeros(10 * MEGABYTE, dtype=torch.uint8))) == megabytes * MEGABYTE
