"""The flags that commands share: a file for each of their panels, a group for the flags that go together.

A group's `check` refuses what its flags cannot mean, before torch is loaded; another method gives the value that the
work takes. A command that differs subclasses a group in its own file.
"""

from quadtok.cli.flags.base import FLAGS, OUTPUT, QUADTREE, RUN, SAY
from quadtok.cli.flags.grid import Grid, Sizes, ThresholdGrid
from quadtok.cli.flags.inputs import Inputs, Listed, PartedInputs
from quadtok.cli.flags.output import Output, RememberedOutput
from quadtok.cli.flags.preprocess import PreprocessFlags
from quadtok.cli.flags.reporting import Answer, Json, Reporting
from quadtok.cli.flags.running import Batches, Decoding, Device, DryRun, Engines, Running
from quadtok.cli.flags.scorer import MapScorerFlags, ScorerFlags

__all__ = [
    "FLAGS",
    "OUTPUT",
    "QUADTREE",
    "RUN",
    "SAY",
    "Answer",
    "Batches",
    "Decoding",
    "Device",
    "DryRun",
    "Engines",
    "Grid",
    "Inputs",
    "Json",
    "Listed",
    "MapScorerFlags",
    "Output",
    "PartedInputs",
    "PreprocessFlags",
    "RememberedOutput",
    "Reporting",
    "Running",
    "ScorerFlags",
    "Sizes",
    "ThresholdGrid",
]
