"""What scenes are made from: noise fields, and, where they have been collected, real textures and cut-out drawings.

Three sources, all free of conditions, none of them a data set of photographs:

- noise fields, computed here;
- textures: the five sample photographs (public domain, CC0) and scikit-image's grass, gravel and brick (CC0), of which
  only crops are used, and the patterns of the Open Clip Art Library;
- cut-outs: drawings of things on a transparent ground from the Open Clip Art Library (public domain dedication), as
  Debian packages them: `apt-get download openclipart-png`.

`python materials.py OUT.npz` collects the last two into one file. Without it scenes are made from noise alone.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

PHOTOGRAPHS = Path(__file__).parents[2] / "sample_images"
CC0_TEXTURES = ("grass.png", "gravel.png", "brick.png")
# Folders of the Open Clip Art Library: what shows a thing, and what shows a pattern. Signs, icons and flags do neither.
THINGS = ("animals", "buildings", "containers", "education", "electronics", "food", "people", "plants", "recreation")
THINGS += ("science", "tools", "transportation", "unsorted")
NOT_THINGS = ("roadsigns", "aiga-symbols", "stickmen", "cards")
PATTERNS = ("special/patterns", "special/gradients")

FIELD_SIDE, NUM_FIELDS = 512, 64
CUTOUT_SIDE, TEXTURE_SIDE = 224, 320
FILL = (0.2, 0.97)  # share of its bounding box that a cut-out covers: neither line art nor a picture with a frame
MIN_COLOURS = 12


@dataclass(frozen=True)
class Materials:
    """Everything that scenes take from elsewhere.

    Attributes:
        fields: `[512, 512]` float32 each, zero mean and unit variance, periodic: noise of falling spectra.
        textures: `[h, w, 3]` uint8 each.
        cutouts: `[h, w, 4]` uint8 each; the last channel is the opacity.
    """

    fields: list[np.ndarray]
    textures: list[np.ndarray]
    cutouts: list[np.ndarray]

    @classmethod
    def from_noise(cls, seed: int) -> Materials:
        """Noise fields alone."""
        rng = np.random.default_rng([seed, 1])
        return cls([power_law(rng, FIELD_SIDE, rng.uniform(0.6, 2.2)) for _ in range(NUM_FIELDS)], [], [])

    @classmethod
    def collected(cls, path: Path, seed: int, held_out: bool = False) -> Materials:
        """Noise fields, and one part of a collection: every tenth cut-out is held out."""
        with np.load(path, allow_pickle=False) as file:
            cutouts = [file[name] for name in sorted(file.files) if name.startswith("cutout")]
            textures = [file[name] for name in sorted(file.files) if name.startswith("texture")]
        chosen = [cutout for number, cutout in enumerate(cutouts) if (number % 10 == 0) == held_out]
        return cls(cls.from_noise(seed).fields, textures, chosen)


def power_law(rng: Generator, side: int, slope: float) -> np.ndarray:
    """`[side, side]` noise whose amplitude falls as 1 / frequency**slope, in one direction more than in the other."""
    across, down = np.fft.rfftfreq(side), np.fft.fftfreq(side)[:, None]
    stretch = np.exp(rng.normal(0, 0.6))
    frequency = np.hypot(across * stretch, down / stretch)
    frequency[0, 0] = np.inf
    spectrum = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    field = np.fft.irfft2(spectrum / frequency**slope, s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def collect(out: Path) -> None:
    """Write the collection; needs scikit-image's wheel and Debian's package from their registries."""
    with tempfile.TemporaryDirectory() as folder:
        clip_art = _clip_art(Path(folder))
        textures = [*_photographs(), *_cc0_textures(Path(folder)), *_patterns(clip_art)]
        cutouts = [cutout for path in _pictures(clip_art, THINGS) if (cutout := _cutout(path)) is not None]
    arrays = {f"texture{number:05}": texture for number, texture in enumerate(textures)}
    arrays |= {f"cutout{number:05}": cutout for number, cutout in enumerate(cutouts)}
    np.savez_compressed(out, **arrays)
    print(f"{out}: {len(textures)} textures, {len(cutouts)} cut-outs")


def _clip_art(folder: Path) -> Path:
    subprocess.run(["apt-get", "download", "openclipart-png"], cwd=folder, check=True)
    (package,) = folder.glob("openclipart-png*.deb")
    subprocess.run(["dpkg", "--extract", package, folder], check=True)
    return folder / "usr/share/openclipart/png"


def _photographs() -> list[np.ndarray]:
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]


def _cc0_textures(folder: Path) -> list[np.ndarray]:
    subprocess.run(["pip", "download", "--quiet", "--no-deps", "scikit-image==0.26.0"], cwd=folder, check=True)
    (wheel,) = folder.glob("scikit_image*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return [np.asarray(Image.open(archive.open(f"skimage/data/{name}")).convert("RGB")) for name in CC0_TEXTURES]


def _patterns(clip_art: Path) -> list[np.ndarray]:
    textures = []
    for path in _pictures(clip_art, PATTERNS):
        picture = _opened(path, TEXTURE_SIDE)
        if picture is not None and min(picture.size) >= 128 and np.asarray(picture)[..., 3].min() > 250:
            textures.append(np.asarray(picture.convert("RGB")))
    return textures


def _pictures(clip_art: Path, folders: tuple[str, ...]) -> list[Path]:
    found = [path for folder in folders for path in sorted((clip_art / folder).rglob("*.png"))]
    return [path for path in found if not set(path.parts) & set(NOT_THINGS)]


def _opened(path: Path, side: int) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > 2**24:
                return None
            small = picture.convert("RGBA")
    except OSError:
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _cutout(path: Path) -> np.ndarray | None:
    """The picture cut to its opaque part, or None where it does not show a thing."""
    picture = _opened(path, CUTOUT_SIDE)
    box = picture.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox() if picture else None
    if picture is None or box is None:
        return None
    array = np.asarray(picture.crop(box))
    inside = array[..., 3] > 127
    coarse = array[inside][:, :3].astype(np.int64) >> 4
    colours = len(np.unique(coarse @ np.array([256, 16, 1])))
    shows = min(array.shape[:2]) >= 32 and FILL[0] <= inside.mean() <= FILL[1] and colours >= MIN_COLOURS
    return array if shows else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    collect(parser.parse_args().out)
