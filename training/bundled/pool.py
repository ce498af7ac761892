"""Scenes made beforehand: a generator that runs beside the training would take half of its processor.

`python pool.py OUT.npz --scenes 4000 --seed 1 [--materials FILE]`; several seeds may run at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from materials import Materials
from scenes import CELL, HELD_OUT, SIDE, TRAINING, scene

RECIPES = {"training": TRAINING, "held-out": HELD_OUT}


def make(recipe: str, materials: Materials, seed: int, count: int) -> dict[str, np.ndarray]:
    """Scenes 0 to `count` of a seed.

    Returns:
        `pixels` `[count, 256, 256, 3]` uint8 and `cells` `[count, 16, 16]` uint8; see `scene`.
    """
    pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
    cells = np.empty((count, SIDE // CELL, SIDE // CELL), np.uint8)
    for number in range(count):
        pixels[number], cells[number] = scene(RECIPES[recipe], materials, seed, number)
    return {"pixels": pixels, "cells": cells}


def main() -> None:
    """Write one pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recipe", choices=RECIPES, default="training")
    parser.add_argument("--materials", type=Path, help="from materials.py; without it everything is made from noise")
    options = parser.parse_args()
    held_out = options.recipe == "held-out"
    materials = (
        Materials.collected(options.materials, options.seed, held_out)
        if options.materials
        else Materials.from_noise(options.seed)
    )
    np.savez(options.out, **make(options.recipe, materials, options.seed, options.scenes))


if __name__ == "__main__":
    main()
