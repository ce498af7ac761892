"""Seconds of the wall, and of a CUDA stream that this test stands in for."""

import time

import torch

from quadtok.bench import STAGES
from quadtok.bench.clocks import clock_of


def test_a_cpu_is_timed_by_the_wall(monkeypatch):
    looks = iter([10.0, 11.0, 14.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(looks))
    clock = clock_of(torch.device("cpu"))
    clock.mark()
    clock.mark()
    assert clock.intervals() == (1.0, 3.0)


def test_cuda_is_timed_by_events(monkeypatch):
    class Event:
        clock = 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            assert stream == "the current stream"
            Event.clock += 250.0
            self.at = Event.clock

        def synchronize(self):
            assert self.at == Event.clock, "waits for the last event"

        def elapsed_time(self, end):
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the current stream")
    clock = clock_of(torch.device("cuda", 0))
    for _ in STAGES:
        clock.mark()
    assert clock.intervals() == (0.25, 0.25, 0.25)
