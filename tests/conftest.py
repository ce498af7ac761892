"""Fixtures that follow the code's own tables: a new quadtree or scorer is tested by adding its name there."""

import os
import signal

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch counts the cores; commands inherit it too
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import pytest

from helpers import DEVICES
from quadtok.quadtrees import QUADTREES

# A shell lets what it starts in the background ignore Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=sorted(QUADTREES))
def quadtree(request):
    return QUADTREES[request.param]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param
