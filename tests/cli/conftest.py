"""Run the command line in this process, and photographs to run it on."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import SAMPLE_IMAGES
from quadtok.cli import run


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def quadtok(capfd, monkeypatch):
    """Call with arguments; gives exit code, stdout and stderr as the user would see them."""
    monkeypatch.setenv("COLUMNS", "120")
    if torch.cuda.is_available():  # what these tests compare to is the CPU's; test_on_a_gpu.py names the GPU itself
        monkeypatch.setenv("QUADTOK_DEVICE", "cpu")

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture
def photos(tmp_path):
    """A folder with three small photographs, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "pets").mkdir(parents=True)
    for name, place in (("coffee", "coffee.jpg"), ("rocket", "rocket.png"), ("chelsea", "pets/cat.jpg")):
        with Image.open(SAMPLE_IMAGES / f"{name}.jpg") as image:
            image.resize((image.width // 4, image.height // 4)).save(folder / place)
    return folder


@pytest.fixture
def photo(photos):
    return photos / "coffee.jpg"


@pytest.fixture
def large(tmp_path):
    """A JPEG four times as large as it will be, of stripes that a decoder at a quarter of its size takes for gray."""
    stripes = np.kron(np.arange(1024) % 2 * 255, np.ones((1024, 1))).astype(np.uint8)
    stripes[:512, 300:700] = np.arange(400) % 256
    Image.fromarray(stripes).save(tmp_path / "large.jpg", quality=95)
    return tmp_path / "large.jpg"
