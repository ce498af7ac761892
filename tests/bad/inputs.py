"""Inputs of the table that `bad_images` has no builder of: names, places, and what is large or there twice."""

import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import bad_images

ODD_NAMES = {
    "a line end": "new\nline.png",
    "an escape": "esc\x1b[31m.png",
    "markup": "a[/]b.png",
    "a dash": "-dash.png",
    "no UTF-8": os.fsdecode(b"caf\xe9.png"),
    "255 bytes": "x" * 251 + ".png",
    "255 bytes that are 85 letters": "猫" * 83 + "xx.png",
    "braces and a percent": "{0}%s%2E.png",
    "blanks": " a  b .png",
    "a backslash": "a\\nb.png",
    "of the wrong direction": "a\u202egnp.png",
}


def small(folder: Path, name: str = "small.png", size: tuple[int, int] = (64, 64)) -> Path:
    """A sound image under any name; its folders are made."""
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    bad_images.photo(*size).save(path, "PNG")
    return path


def named(name: str) -> Callable[[Path], Path]:
    return lambda folder: small(folder, name)


def turned(orientation: int) -> Callable[[Path], Path]:
    return lambda folder: bad_images.with_orientation(folder, orientation)


def frames(image_format: str) -> Callable[[Path], Path]:
    return lambda folder: bad_images.animated(folder, image_format)


def tiff_of_three_pages(folder: Path) -> Path:
    pages = [bad_images.photo(seed=seed) for seed in range(3)]
    path = Path(folder, "pages.tif")
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])
    return path


def jpeg_of_64_megapixels(folder: Path) -> Path:
    path = Path(folder, "large.jpg")
    Image.new("L", (8000, 8000), 120).save(path)
    return path


def inside_a_folder_named_jpg(folder: Path) -> Path:
    return small(bad_images.folder_named_jpg(folder), "inside.png")


def beside_a_loop_of_links(folder: Path) -> Path:
    Path(folder, "again").symlink_to(".")
    return small(folder)


def gone(folder: Path) -> Path:
    return Path(folder, "gone.jpg")


def an_empty_folder(folder: Path) -> Path:
    return folder


def in_one_folder(name: str) -> Callable[[Path], Path]:
    """Beside what another row puts there."""
    return lambda folder: small(folder.parent / "together", name)


def link_to_another(folder: Path) -> Path:
    path = Path(folder, "link.png")
    path.symlink_to(small(folder / "elsewhere"))
    return path


def flat(folder: Path) -> Path:
    path = Path(folder, "flat.png")
    Image.new("RGB", (256, 256), "gray").save(path)
    return path
