import os

import pytest

from quadtok.jobs.engines.base import default_workers


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (12, 12), (64, 16)])
def test_the_default_is_the_cores_of_the_process(monkeypatch, cores, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert default_workers() == workers
