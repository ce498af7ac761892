"""Fixtures that follow the code's own tables: a new quadtree or scorer is tested by adding its name there."""

import pytest

from helpers import DEVICES
from quadtok.quadtrees import QUADTREES


@pytest.fixture(params=sorted(QUADTREES))
def quadtree(request):
    return QUADTREES[request.param]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param
