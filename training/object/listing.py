"""Makes `pictures.csv`: which pictures of which packages, and what the package itself says of each one's licence.

`python listing.py` fetches the packages of `SOURCES` and writes the list; it prints what was left out and why. Run it
when a package or a rule changes; training only needs the list.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

import rcc
from licences import Statement, credited, debian_statements, is_strict, stated_for
from pictures import LIST, Picture, unpacked

SMALLEST = 120  # pixels, the shorter side of a photograph
CUTOUT_SIDE, FILL, MIN_COLOURS = 224, (0.2, 0.97), 12  # of a cut-out; as training/bundled picks its own


@dataclass(frozen=True)
class Found:
    """A picture of a package and what was said of it; None where nothing was."""

    path: str
    kind: str
    data: bytes
    said: Statement | None


Source = Callable[[Path], Iterator[Found]]

# --- GCompris
# Debian's copyright file still names the JPEG files of an earlier release: other pictures under the same names. What
# counts are the credits inside the archives, which name the files that are there.
ACTIVITIES = (
    *("categorization", "details", "erase", "explore_farm_animals", "explore_monuments"),
    *("explore_world_animals", "explore_world_music"),
)
PAINTED = ("Eglise_dAuvers", "Gogh", "PortraitOfPereTanguy", "alphabets.webp", "numbers.webp")


def gcompris(root: Path) -> Iterator[Found]:
    """Photographs of its activities, and the planets as cut-outs."""
    for activity in (*ACTIVITIES, "solar_system"):
        archive = f"usr/share/gcompris-qt/rcc/{activity}.rcc"
        entries = {entry.path: entry for entry in rcc.entries((root / archive).read_bytes())}
        notes = [path for path in entries if path.endswith("/README")]
        said = {
            f"{note.removesuffix('README')}{name}": statement
            for note in notes
            for name, statement in credited(entries[note].read().decode()).items()
        }
        kind = "cut-out" if activity == "solar_system" else "photograph"
        for path, entry in entries.items():
            name = path.rsplit("/", 1)[1]
            part = activity == "details" and not name.endswith("_background.webp")
            if name.endswith(".webp") and not part and not any(painted in name for painted in PAINTED):
                yield Found(f"{archive}/{path}", kind, entry.read(), said.get(path))


# --- MATE, Tux Paint, Open Clip Art
def mate(root: Path) -> Iterator[Found]:
    """Photographs of nature; Debian names the author of each."""
    statements = _debian(root, "mate-backgrounds")
    for path in sorted((root / "usr/share/backgrounds/mate/nature").glob("*.jpg")):
        said = stated_for(f"nature/{path.name}", statements)
        yield Found(str(path.relative_to(root)), "photograph", path.read_bytes(), said)


STAMPS = "usr/share/tuxpaint/stamps"
NO_THINGS = ("symbols", "hanukkah", "roadsigns", "flags", "naturalforces", "newyears")
# Debian says GPL-2 of them all; of these the package's own changelog says something else, or that they come from
# Wikipedia without saying more.
SAID_OTHERWISE = (
    *("birds/pelican", "birds/heron_greatblue", "birds/helmeted_guineafowl", "insects/Woodlouse", "insects/Brown_slug"),
    *("flowers/adeenia", "flowers/anthoorium", "flowers/appooppanthady", "flowers/bolsom", "flowers/chemparathi"),
    *("flowers/plastic", "fruit/Apricot_whole", "fruit/apricot", "fruit/Cherry_Stella", "fruit/Strawberry2"),
    *("christmas/Candy_cane_photo", "christmas/Christmas_pudding", "christmas/Christmas_Tree_photo"),
    *("christmas/German_Christmas_toy", "christmas/Mince_Pie", "christmas/Roast_turkey", "household/Lightbulb"),
    *("hobbies/music", "sports/australian_rules", "sports/basketball", "sports/cricketball", "sports/tennis"),
    *("emergency/firetruck", "vehicles/f22_raptor", "inukshuk-photo", "medical/stethoscope", "houses/cartoon"),
)


def tuxpaint(root: Path) -> Iterator[Found]:
    """Stamps: cut-outs of photographs, some drawn."""
    statements = _debian(root, "tuxpaint-stamps-default")
    for path in sorted((root / STAMPS).rglob("*.png")):
        name = str(path.relative_to(root / STAMPS))
        if not any(folder in name for folder in NO_THINGS):
            other = any(words in name for words in SAID_OTHERWISE)
            said = None if other else stated_for(f"stamps/{name}", statements)
            yield Found(str(path.relative_to(root)), "cut-out", path.read_bytes(), said)


CLIP_ART = "usr/share/openclipart/png"
THINGS = (
    *("animals", "buildings", "containers", "education", "electronics", "food", "people", "plants", "recreation"),
    *("science", "tools", "transportation", "unsorted"),
)
NOT_THINGS = ("roadsigns", "aiga-symbols", "stickmen", "cards")
DEDICATION = "creative commons Public Domain Dedication"


def openclipart(root: Path) -> Iterator[Found]:
    """Drawings; the package dedicates them all to the public domain and leaves the authors' names out."""
    said = None
    if DEDICATION in (root / "usr/share/doc/openclipart-png/copyright").read_text():
        said = Statement((), "contributors of the Open Clip Art Library", "public-domain", "")
    for folder in THINGS:
        for path in sorted((root / CLIP_ART / folder).rglob("*.png")):
            if not set(path.parts) & set(NOT_THINGS):
                yield Found(str(path.relative_to(root)), "cut-out", path.read_bytes(), said)


# --- wheels
def scikit_image(root: Path) -> Iterator[Found]:
    """The one photograph with a licence in its docstring that is neither a sample of ours nor a texture."""
    told = "CC0 by the photographer (Lav Varshney)" in (root / "skimage/data/_fetchers.py").read_text()
    said = Statement((), "Lav Varshney", "CC0-1.0", "") if told else None
    yield Found("skimage/data/camera.png", "photograph", (root / "skimage/data/camera.png").read_bytes(), said)


def scikit_learn(root: Path) -> Iterator[Found]:
    """Two photographs; of the flower the text names another author than its address does."""
    folder = root / "sklearn/datasets/images"
    for paragraph in (folder / "README.txt").read_text().split("Image: ")[1:]:
        name, licence = paragraph.split()[0], "https://creativecommons.org/licenses/by/2.0/"
        author = "danielbuechele"
        address = next(line.split()[1] for line in paragraph.splitlines() if line.startswith("[3]"))
        agree = licence in paragraph and address.startswith(f"https://www.flickr.com/photos/{author}/")
        said = Statement((), author, "CC-BY-2.0", address) if agree else None
        yield Found(f"sklearn/datasets/images/{name}", "photograph", (folder / name).read_bytes(), said)


SOURCES: dict[tuple[str, str], Source] = {
    ("gcompris-qt-data", "3.1-2"): gcompris,
    ("mate-backgrounds", "1.26.0-1"): mate,
    ("openclipart-png", "1:0.18+dfsg-19"): openclipart,
    ("scikit-image", "0.26.0"): scikit_image,
    ("scikit-learn", "1.7.2"): scikit_learn,
    ("tuxpaint-stamps-default", "2022.06.04-1"): tuxpaint,
}
WHERE_SAID = {"scikit-image": "skimage/data/_fetchers.py", "scikit-learn": "sklearn/datasets/images/README.txt"}


def shows(found: Found) -> bool:
    """A photograph of some size, or a cut-out that is neither line art nor a picture with a frame."""
    try:
        picture = Image.open(io.BytesIO(found.data))
        if picture.width * picture.height > 2**24 and found.kind == "cut-out":
            return False
        picture.draft("RGB", (CUTOUT_SIDE, CUTOUT_SIDE))
        rgba = picture.convert("RGBA")
    except OSError:
        return False
    return min(picture.size) >= SMALLEST if found.kind == "photograph" else _is_cut_out(rgba)


def _is_cut_out(picture: Image.Image) -> bool:
    picture.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.LANCZOS)
    box = picture.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
    if box is None:
        return False
    array = np.asarray(picture.crop(box))
    inside = array[..., 3] > 127
    coarse = array[inside][:, :3].astype(np.int64) >> 4
    colours = len(np.unique(coarse @ np.array([256, 16, 1])))
    return min(array.shape[:2]) >= 32 and FILL[0] <= inside.mean() <= FILL[1] and colours >= MIN_COLOURS


def collected(package: str, version: str, source: Source, root: Path, left_out: Counter[str]) -> Iterator[Picture]:
    """The pictures of one package that show something and whose licence is known."""
    for found in source(root):
        if not shows(found):
            left_out[f"{package}: too small, no thing, or not a picture"] += 1
        elif found.said is None or found.said.licence is None:
            left_out[f"{package}: its licence is not told, not clear or not free enough"] += 1
        else:
            said, where = found.said, WHERE_SAID.get(package, f"usr/share/doc/{package}/copyright")
            strict = "yes" if is_strict(found.said.licence) else "no"
            digest = hashlib.sha256(found.data).hexdigest()
            text = (said.authors, found.said.licence, strict, said.source or where, digest)
            yield Picture(package, version, found.path, found.kind, *text)


def once_each(pictures: list[Picture], left_out: Counter[str]) -> list[Picture]:
    """No file and no photograph twice: the same file, or the same address of a photograph."""
    kept: dict[str, Picture] = {}
    for picture in sorted(pictures):
        address = picture.source if picture.source.startswith("http") else picture.sha256
        if address in kept or picture.sha256 in {one.sha256 for one in kept.values()}:
            left_out[f"{picture.package}: comes twice"] += 1
        else:
            kept[address] = picture
    return sorted(kept.values())


def _debian(root: Path, package: str) -> list[Statement]:
    file = root / f"usr/share/doc/{package}/copyright"
    data = file.read_bytes() if file.is_file() else gzip.decompress(file.with_name("copyright.gz").read_bytes())
    return debian_statements(data.decode())


def main() -> None:
    """Write the list."""
    Image.MAX_IMAGE_PIXELS = None  # `shows` looks at the size itself
    left_out: Counter[str] = Counter()
    pictures: list[Picture] = []
    for (package, version), source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = unpacked(package, version, Path(folder))
            pictures += collected(package, version, source, root, left_out)
    pictures = once_each(pictures, left_out)
    with LIST.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Picture))
        writer.writerows(map(astuple, pictures))
    kinds = Counter((picture.package, picture.kind, picture.licence) for picture in pictures)
    for counted, number in [*sorted(kinds.items()), *sorted(left_out.items())]:
        print(number, counted)


if __name__ == "__main__":
    main()
