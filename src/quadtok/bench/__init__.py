"""What each quadtree costs, and whether all give the same plan: timing, tables, a plot."""

from quadtok.bench.memory import peak_bytes
from quadtok.bench.rows import STAGES, Row
from quadtok.bench.timing import Workload, random_pixels, time_quadtrees

__all__ = ["STAGES", "Row", "Workload", "peak_bytes", "random_pixels", "time_quadtrees"]
