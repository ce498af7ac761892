"""Room for so many pixels: never more, whoever waits longest next, and what is too large alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import SAMPLE_IMAGES
from quadtok.decoders import opened
from quadtok.decoders.room import Room
from quadtok.geometry import make_geometry, parse_budget
from quadtok.preprocess import Preprocess


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 150), min_size=1, max_size=40), threads=st.integers(1, 8))
def test_there_is_never_more_in_it_than_it_has_but_for_one_that_is_too_large(sizes, threads):
    room, lock, inside, seen = Room(100), threading.Lock(), [], []

    def enter(size):
        with room.of(size):
            with lock:
                inside.append(size)
                seen.append(sum(inside))
                assert sum(min(one, 100) for one in inside) <= 100  # one that is too large takes all
            time.sleep(0.0002)
            with lock:
                inside.remove(size)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(enter, sizes))
    assert len(seen) == len(sizes)


def test_small_ones_do_not_pass_a_large_one_that_waits():
    room, order = Room(100), []
    first_is_in, leave = threading.Event(), threading.Event()

    def first():
        with room.of(60):
            first_is_in.set()
            leave.wait(10)

    def other(size):
        with room.of(size):
            order.append(size)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert first_is_in.wait(10)
    for size in (90, 1):  # each waits before the next one comes
        threads.append(threading.Thread(target=other, args=(size,)))
        threads[-1].start()
        time.sleep(0.1)
    assert order == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == [90, 1]


class Counting(Preprocess):
    """Notes how many are decoded at once."""

    inside, most = 0, 0
    lock = threading.Lock()

    def decode(self, data, path):
        with self.lock:
            Counting.inside += 1
            Counting.most = max(Counting.most, Counting.inside)
        time.sleep(0.02)
        with self.lock:
            Counting.inside -= 1
        return super().decode(data, path)


@pytest.mark.parametrize(("images", "most"), [(0.1, 1), (2, 2)])
def test_as_many_images_are_decoded_at_once_as_there_is_room_for(images, most):
    path = SAMPLE_IMAGES / "coffee.jpg"
    data, steps = path.read_bytes(), Counting(make_geometry((64, 64), parse_budget("100%"), None, 8, 32))
    Counting.most = 0
    with opened(0, int(images * steps.pixels(data))) as decoder, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: decoder.decode(steps, data, path), range(8)))
    assert 0 < Counting.most <= most


def test_whoever_fails_leaves_its_room():
    room = Room(10)
    for _ in range(3):
        try:
            with room.of(10):
                raise ValueError
        except ValueError:
            continue
    with room.of(10):
        pass
