"""What each quadtree costs, and whether all give the same plan; what a ViT gains by it: timing, tables, a plot."""

from quadtok.bench.memory import peak_bytes
from quadtok.bench.model import time_model
from quadtok.bench.rows import STAGES, ModelRow, Row
from quadtok.bench.timing import Workload, random_pixels, time_quadtrees

__all__ = ["STAGES", "ModelRow", "Row", "Workload", "peak_bytes", "random_pixels", "time_model", "time_quadtrees"]
