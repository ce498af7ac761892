"""The training pictures of the object scorer: the archive reader, the list, the fetch."""

import csv
import hashlib
import random
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from dataclasses import replace

import pytest

import pictures
import rcc
from licences import KNOWN, is_strict
from pictures import KINDS, LIST, Picture, PicturesError, fetch, listed

# Not free enough, of unclear origin, or kept for measuring: never a training picture.
FORBIDDEN = (
    *("lomiri", "palapeli", "jigzo", "opencv", "oracle", "ILSVRC", "sample_images"),
    *(f"skimage/data/{name}" for name in ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")),
)


def archive(folders, version=2, flags=0):
    """An .rcc archive byte by byte; `folders` is nested dicts whose leaves are the packed bytes of a file."""
    nodes, names, data = [[b"", rcc.FOLDER, folders]], b"", b""
    tree = b""
    for name, kind, inside in nodes:  # grows while it goes on: a level after the other, children side by side
        offset = len(names)
        text = name.decode() if isinstance(name, bytes) else name
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        if kind & rcc.FOLDER:
            tree += struct.pack(">IHII", offset, kind, len(inside), len(nodes))
            nodes += [[key, rcc.FOLDER if isinstance(value, dict) else flags, value] for key, value in inside.items()]
        else:
            tree += struct.pack(">IHII", offset, kind, 0, len(data))
            data += struct.pack(">I", len(inside)) + inside
        tree += bytes(8 * (version > 1))
    start = 20 + 4 * (version > 2)
    places = struct.pack(">IIII", version, start, start + len(tree), start + len(tree) + len(data))
    return b"qres" + places + bytes(4 * (version > 2)) + tree + data + names


def squeezed(data):
    return struct.pack(">I", len(data)) + zlib.compress(data)


TREE = {"a.webp": b"first", "animals": {"cat.webp": b"purr", "wild": {"Bär.webp": b"growl"}}, "empty": {}}
PATHS = {"a.webp": b"first", "animals/cat.webp": b"purr", "animals/wild/Bär.webp": b"growl"}


@pytest.mark.parametrize("version", rcc.VERSIONS)
def test_an_archive_gives_its_files_with_their_folders(version):
    entries = rcc.entries(archive(TREE, version))
    assert {entry.path: entry.read() for entry in entries} == PATHS
    assert [entry.path for entry in entries] == sorted(PATHS)


def test_packed_files_are_unpacked():
    (entry,) = rcc.entries(archive({"x": squeezed(b"a" * 999)}, flags=rcc.ZLIB))
    assert entry.read() == b"a" * 999
    assert rcc.entries(archive({"x": squeezed(b"a")}))[0].read() == squeezed(b"a")


@pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd here")
def test_files_packed_with_zstd_are_unpacked():
    packed = subprocess.run(["zstd", "-cq"], input=b"a" * 999, capture_output=True, check=True).stdout
    assert rcc.entries(archive({"x": packed}, flags=rcc.ZSTD))[0].read() == b"a" * 999


def ring():
    """A folder that holds itself."""
    whole = bytearray(archive({"in": {}}, 1))
    whole[20 + 14 + 6 : 20 + 14 + 14] = struct.pack(">II", 1, 1)
    return bytes(whole)


@pytest.mark.parametrize(
    ("damaged", "sentence"),
    [
        (b"", "not an .rcc archive.*begins with b''"),
        (b"PK\x03\x04 and more", "not an .rcc archive.*Qt's rcc"),
        (b"qres\x00\x00", "header: bytes 4 to 20 of an .rcc archive of 6"),
        (archive(TREE, version=9), "version 9.*fetch the listed package"),
        (archive(TREE)[:40], "node .*fetch it again"),
        (archive(TREE)[:-3], "name: bytes .*fetch it again"),
        (ring(), "node 1 .* its own ancestor"),
    ],
)
def test_a_damaged_archive_is_a_sentence(damaged, sentence):
    with pytest.raises(rcc.RccError, match=sentence):
        rcc.entries(damaged)


def test_damaged_packed_bytes_are_a_sentence():
    (entry,) = rcc.entries(archive({"x": squeezed(b"a" * 999)[:-4]}, flags=rcc.ZLIB))
    with pytest.raises(rcc.RccError, match=r"x: its \d+ packed bytes are damaged"):
        entry.read()


def test_an_archive_with_any_byte_changed_gives_files_or_a_sentence():
    whole, rng, sentences = archive(TREE), random.Random(0), 0
    for place in range(4, len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        try:
            assert len(rcc.entries(bytes(changed))) <= 9
        except rcc.RccError:
            sentences += 1
    assert sentences > 50


def test_the_list_is_sorted_and_names_no_file_twice():
    rows = listed()
    assert rows == sorted(rows)
    assert len({picture.sha256 for picture in rows}) == len(rows)
    assert len({(picture.package, picture.path) for picture in rows}) == len(rows)
    with LIST.open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == list(Picture.__dataclass_fields__)


def test_every_picture_of_the_list_has_an_author_a_known_licence_and_a_place_where_it_is_said():
    for picture in listed():
        assert picture.author and picture.source and picture.version, picture
        assert "@" not in picture.author, picture
        assert KNOWN.fullmatch(picture.licence), picture
        assert picture.kind in KINDS, picture
        assert len(bytes.fromhex(picture.sha256)) == 32, picture
        assert not picture.path.startswith("/") and ".." not in picture.path.split("/"), picture
        assert not any(word in f"{picture.package}/{picture.path}" for word in FORBIDDEN), picture


def test_one_package_has_one_version():
    versions = {(picture.package, picture.version) for picture in listed()}
    assert len(versions) == len({package for package, _ in versions})


def test_the_strict_set_is_what_asks_for_no_more_than_a_name():
    assert listed(strict=True) == [picture for picture in listed() if is_strict(picture.licence)]
    assert {picture.strict for picture in listed()} == {"yes", "no"}
    assert {picture.kind for picture in listed(strict=True)} == set(KINDS)


def test_the_table_of_the_readme_counts_what_the_list_holds():
    table = Counter()
    for line in LIST.with_name("README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 5 and cells[2].isdecimal():
            package, version = cells[0].split(" ")
            table[package, version, cells[1], "photograph", cells[4]] = int(cells[2])
            table[package, version, cells[1], "cut-out", cells[4]] = int(cells[3])
    held = Counter((row.package, row.version, row.licence, row.kind, row.strict) for row in listed())
    assert +table == held


def picture(path, data, package="some-data"):
    digest = hashlib.sha256(data).hexdigest()
    return Picture(package, "1.0", path, "photograph", "Someone", "CC0-1.0", "yes", "https://example.com", digest)


@pytest.fixture
def package(tmp_path):
    """An unpacked package with a plain file and an archive, and a `download` that counts its calls."""
    root, asked = tmp_path / "root", []
    (root / "usr").mkdir(parents=True)
    (root / "usr/plain.png").write_bytes(b"plain")
    (root / "usr/all.rcc").write_bytes(archive(TREE))

    def download(name, version, folder):
        asked.append((name, version))
        return root

    return download, asked


def test_fetched_pictures_lie_under_their_package_and_are_not_fetched_again(package, tmp_path):
    download, asked = package
    wanted = [picture("usr/plain.png", b"plain"), picture("usr/all.rcc/animals/cat.webp", b"purr")]
    assert fetch(wanted, tmp_path / "out", download) == 2
    assert wanted[1].file(tmp_path / "out").read_bytes() == b"purr"
    assert fetch(wanted, tmp_path / "out", download) == 0
    assert asked == [("some-data", "1.0")]
    wanted[0].file(tmp_path / "out").write_bytes(b"half")
    assert fetch(wanted, tmp_path / "out", download) == 1
    assert all(one.is_there(tmp_path / "out") for one in wanted)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (picture("usr/plain.png", b"other"), "usr/plain.png has sha256 .*not the list's"),
        (picture("usr/none.png", b"x"), "usr/none.png cannot be read.*listing.py"),
        (picture("usr/all.rcc/none.webp", b"x"), "usr/all.rcc/none.webp cannot be read"),
        (picture("usr/plain.png.rcc/x", b"x"), "cannot be read"),
    ],
)
def test_a_package_that_holds_something_else_is_a_sentence_and_leaves_no_file(package, tmp_path, wanted, sentence):
    with pytest.raises(PicturesError, match=sentence):
        fetch([wanted], tmp_path / "out", package[0])
    assert not wanted.file(tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (None, "apt-get is not here.*Debian 12"),
        ("#!/bin/sh\necho E: no such version >&2; exit 100\n", "E: no such version"),
    ],
)
def test_a_registry_that_cannot_be_had_is_a_sentence(tmp_path, monkeypatch, program, sentence):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    if program:
        (tmp_path / "bin/apt-get").write_text(program)
        (tmp_path / "bin/apt-get").chmod(0o755)
    with pytest.raises(PicturesError, match=sentence):
        fetch([picture("usr/plain.png", b"plain")], tmp_path / "out")


def test_the_command_fetches_the_list_or_its_strict_set(package, tmp_path, monkeypatch, capsys):
    rows = [picture("usr/plain.png", b"plain"), picture("usr/all.rcc/a.webp", b"first")]
    rows[1] = replace(rows[1], strict="no", licence="GPL-2")
    monkeypatch.setattr(pictures, "listed", lambda strict: [row for row in rows if row.strict == "yes" or not strict])
    monkeypatch.setattr(pictures, "unpacked", package[0])
    for arguments, count in ((["--strict"], 1), ([], 2)):
        monkeypatch.setattr("sys.argv", ["pictures.py", str(tmp_path / "out"), *arguments])
        pictures.main()
        assert f"{count} pictures, 1 of them fetched now" in capsys.readouterr().out
