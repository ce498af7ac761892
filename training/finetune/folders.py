"""What lies in a folder of photographs, and of which class each is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quadtok.errors import InputError
from quadtok.jobs.walk import Refusal, walk
from quadtok.names import IMAGE_SUFFIXES


def photographs_in(folder: Path) -> list[Path]:
    """Those that `quadtok tokenize` finds there, in its order: links are followed, and what is hidden is passed over.

    Raises:
        InputError: where there are none, or a folder cannot be listed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder: a run learns from DATA/train and is measured on DATA/val")
    files: list[Path] = []
    for found in walk(folder, IMAGE_SUFFIXES, frozenset()):
        if isinstance(found, Refusal):
            raise found.problem
        files.append(found)
    if not files:
        raise InputError(f"{folder}: there are no images in it")
    return files


def classes_of(names: Sequence[str], where: Path) -> tuple[list[str], list[int]]:
    """The names of the outermost folders, and which of them each image is in.

    Args:
        names: of the images, below the folder that holds one for each class.
        where: they are from, for the sentence.

    Raises:
        InputError: for an image beside those folders.
    """
    beside = next((name for name in names if "/" not in name), None)
    if beside is not None:
        raise InputError(f"{where}: {beside} lies in no folder of a class; for photographs without give --teacher self")
    of_images = [name.split("/")[0] for name in names]
    classes = sorted(set(of_images))
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, [numbers[name] for name in of_images]
