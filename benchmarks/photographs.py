"""Photographs to time a folder with, and importance maps of them: the same ones every time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SAMPLES = Path(__file__).parent.parent / "sample_images"


def make_jpegs(folder: Path, number: int, sides: tuple[int, int]) -> list[Path]:
    """JPEGs whose long sides are spread evenly between the two; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    shortest, longest = sides
    # Steps of the golden ratio spread any number of sizes evenly.
    lengths = [round(shortest + (longest - shortest) * (index * 0.6180339887 % 1)) for index in range(number)]
    paths = [folder / f"{index:05}-{side}.jpg" for index, side in enumerate(lengths)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_make_jpeg, paths, range(number), lengths))
    return paths


def _make_jpeg(path: Path, index: int, side: int) -> None:
    if path.exists():
        return
    samples = sorted(SAMPLES.glob("*.jpg"))
    with Image.open(samples[index % len(samples)]) as sample:
        upright = ImageOps.mirror(sample) if index // len(samples) % 2 else sample
        scale = side / max(sample.size)
        size = (round(sample.width * scale), round(sample.height * scale))
        large = upright.resize(size, Image.Resampling.BICUBIC)
    # Enlarged photographs are smoother than any camera's: with grain they cost as much to decode as real ones.
    grain = np.random.default_rng(index).integers(-10, 11, (size[1] // 2 + 1, size[0] // 2 + 1, 1), dtype=np.int16)
    coarse = grain.repeat(2, axis=0).repeat(2, axis=1)[: size[1], : size[0]]
    grainy = Image.fromarray((np.asarray(large) + coarse).clip(0, 255).astype(np.uint8))
    temporary = path.with_suffix(".tmp")
    grainy.save(temporary, "JPEG", quality=85)
    temporary.replace(path)


def make_maps(folder: Path, paths: list[Path]) -> None:
    """An importance map for each image, `[16, 16]`, as Grad-CAM might give it; what is there stays."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        map_path = folder / f"{path.stem}.pt"
        if not map_path.exists():
            torch.save(torch.from_numpy(np.random.default_rng(index).random((16, 16), dtype=np.float32)), map_path)
