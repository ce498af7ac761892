"""What the user of a job calls the things that a sentence advises: arguments in Python, flags on the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Each field is an argument of the functions of `quadtok.jobs`, and its default what it is called there."""

    output: str = "output"
    output_dir: str = "output_dir"
    overwrite: str = 'if_exists="overwrite"'
    keep_ext: str = "keep_ext=True"
    relative_to: str = "relative_to"
    maps: str = "maps"
    precomputed: str = 'scorer="precomputed"'
    points: str = "points"
    point: str = 'scorer="point"'
    device: str = "device"
    image: str = "image"
    features: str = "features"
    against: str = "against"
    num_tokens: str = "num_tokens"
    threshold: str = "threshold"
    image_size: str = "image_size"
    min_patch: str = "min_patch"
    max_patch: str = "max_patch"
    scorer: str = "scorer"
    ray: str = 'engine="ray"'
    layout_alone: str = 'dtype="none"'


ARGUMENTS = Words()
