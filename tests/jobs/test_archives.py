"""Images in tar files are inputs like others, read where they lie."""

import gzip
import io
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from quadtok.errors import ImageError, InputError
from quadtok.jobs.archives import Member, members_of
from quadtok.jobs.sources import find_sources
from quadtok.jobs.walk import Refusal

SUFFIXES = frozenset([".jpg", ".png"])
FILES = {"a.jpg": b"first", "deep/b.JPG": b"second", "deep/c.txt": b"text", "c.png": b"", "é\n[/].jpg": b"odd"}


def make_tar(path, files=FILES, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_each_is_read_where_it_lies(tmp_path, format):
    long = "n" * 300 + "/x.jpg"
    path = make_tar(tmp_path / "x.tar", {**FILES, long: b"long"}, format)
    found = {str(member.name): member.inside.read() for member in members_of(path, SUFFIXES)}
    assert found == {"a.jpg": b"first", "deep/b.JPG": b"second", "c.png": b"", "é\n[/].jpg": b"odd", long: b"long"}


def test_they_are_inputs_named_by_their_archive(tmp_path):
    path = make_tar(tmp_path / "x.tar")
    for argument in (path, tmp_path / "*.tar"):
        found = find_sources([str(argument)], SUFFIXES)
        assert [source.relative.as_posix() for source in found.sources] == [
            "x/a.jpg", "x/deep/b.JPG", "x/c.png", "x/é\n[/].jpg"
        ]  # fmt: skip
        assert found.sources[0].path == path / "a.jpg"
        assert found.sources[1].read() == b"second"
        with pytest.raises(ImageError, match=r"x.tar/c.png: empty file"):
            found.sources[2].read()


def test_in_folders_archives_are_not_looked_into(tmp_path):
    make_tar(tmp_path / "x.tar")
    (tmp_path / "y.jpg").write_bytes(b"image")
    assert [source.path.name for source in find_sources([str(tmp_path)], SUFFIXES).sources] == ["y.jpg"]


def test_where_tars_are_looked_for_one_is_a_file(tmp_path):
    path = make_tar(tmp_path / "x.tar")
    assert [source.path for source in find_sources([str(path)], frozenset([".pt", ".tar"])).sources] == [path]


def test_of_two_of_one_name_the_later_counts(tmp_path):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"old"})
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"new"))
    assert [member.inside.read() for member in members_of(path, SUFFIXES)] == [b"new"]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "b/../../a.jpg"])
def test_a_name_that_leads_out_is_refused_alone(tmp_path, name):
    path = make_tar(tmp_path / "x.tar", {name: b"evil", "b.jpg": b"good"})
    first, second = members_of(path, SUFFIXES)
    assert isinstance(first, Refusal) and "leads out of the folder" in str(first.problem)
    assert isinstance(second, Member) and second.name == PurePosixPath("b.jpg")


def make_links(path, *links, files=FILES):
    """(name, kind, target) behind these files."""
    with tarfile.open(make_tar(path, files), "a") as archive:
        for name, kind, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


SYMBOLIC, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (SYMBOLIC, "/etc/passwd"),
        (SYMBOLIC, "../../a.jpg"),
        (SYMBOLIC, "gone.jpg"),
        (SYMBOLIC, "link.jpg"),
        (SYMBOLIC, "c.txt"),
        (HARD, "/etc/passwd"),
        (HARD, "gone.jpg"),
    ],
)
def test_a_link_that_leads_to_no_image_in_the_archive_is_refused_alone(tmp_path, kind, target):
    path = make_links(tmp_path / "x.tar", ("deep/link.jpg", kind, target), files={"a.jpg": b"1", "deep/c.txt": b"2"})
    member, refusal = members_of(path, SUFFIXES)
    assert member.inside.read() == b"1"
    assert isinstance(refusal, Refusal) and str(refusal.problem).startswith(f"{path}: deep/link.jpg is a link to ")
    assert refusal.path == path / "deep/link.jpg"


def test_a_link_is_the_file_that_it_leads_to(tmp_path):
    links = [
        ("b.jpg", SYMBOLIC, "deep/b.JPG"),
        ("deep/up.jpg", SYMBOLIC, "../a.jpg"),
        ("first.jpg", SYMBOLIC, "second.jpg"),  # to a link that comes later
        ("second.jpg", SYMBOLIC, "./a.jpg"),
        ("hard.jpg", HARD, "deep/b.JPG"),
    ]
    path = make_links(tmp_path / "x.tar", *links, files={"a.jpg": b"1", "deep/b.JPG": b"2"})
    found = {str(member.name): member.inside.read() for member in members_of(path, SUFFIXES)}
    assert found == {
        "a.jpg": b"1", "deep/b.JPG": b"2", "b.jpg": b"2", "deep/up.jpg": b"1", "first.jpg": b"1", "second.jpg": b"1",
        "hard.jpg": b"2",
    }  # fmt: skip


def test_links_in_a_loop_are_refused(tmp_path):
    path = make_links(tmp_path / "x.tar", ("a.jpg", SYMBOLIC, "b.jpg"), ("b.jpg", SYMBOLIC, "a.jpg"), files={})
    assert [type(item) for item in members_of(path, SUFFIXES)] == [Refusal, Refusal]


def test_a_link_with_a_name_that_leads_out_is_refused(tmp_path):
    path = make_links(tmp_path / "x.tar", ("../b.jpg", SYMBOLIC, "a.jpg"), files={"a.jpg": b"1"})
    _, refusal = members_of(path, SUFFIXES)
    assert "leads out of the folder" in str(refusal.problem)


def test_a_folder_is_no_image(tmp_path):
    path = make_links(tmp_path / "x.tar", ("c.jpg", tarfile.DIRTYPE, ""), files={})
    with pytest.raises(InputError, match=r"no images found in .*x\.tar"):
        find_sources([str(path)], SUFFIXES)


def test_a_hard_link_of_tar_itself_is_read(tmp_path):
    path = tmp_path / "x.tar"
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    (tmp_path / "c.jpg").symlink_to("a.jpg")
    with tarfile.open(path, "w") as archive:
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            archive.add(tmp_path / name, name)
    assert [(str(one.name), one.inside.read()) for one in members_of(path, SUFFIXES)] == [
        ("a.jpg", b"image"), ("b.jpg", b"image"), ("c.jpg", b"image")
    ]  # fmt: skip


def test_a_sparse_file_is_refused_alone(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, headers in (("a.jpg", {}), ("b.jpg", {"GNU.sparse.map": "0,2", "GNU.sparse.size": "9"})):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 2, headers
            archive.addfile(member, io.BytesIO(b"xx"))
    first, second = members_of(path, SUFFIXES)
    assert first.inside.read() == b"xx"
    assert isinstance(second, Refusal) and "b.jpg is sparse" in str(second.problem)


def test_what_comes_before_a_cut_is_read_and_the_cut_is_said(tmp_path):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"1" * 600, "b.jpg": b"2" * 6000})
    path.write_bytes(path.read_bytes()[:4000])
    first, second, third = members_of(path, SUFFIXES)
    assert first.inside.read() == b"1" * 600
    with pytest.raises(ImageError, match="cut short"):
        second.inside.read()
    assert isinstance(third, Refusal) and str(third.problem).startswith(f"{path}: is no tar file as it is, or is cut")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_a_cut_between_two_files_is_said(tmp_path, format):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"1" * 600, "b.jpg": b"2" * 600}, format)
    path.write_bytes(path.read_bytes()[:1536])
    first, second = members_of(path, SUFFIXES)
    assert first.inside.read() == b"1" * 600
    assert isinstance(second, Refusal) and str(second.problem).startswith(f"{path}: is cut short")


def test_archives_that_were_joined_are_not_passed_over_in_silence(tmp_path):
    one, two = (make_tar(tmp_path / f"{name}.tar", {f"{name}.jpg": b"1"}) for name in "xy")
    one.write_bytes(one.read_bytes() + two.read_bytes())
    first, second = members_of(one, SUFFIXES)
    assert first.name == PurePosixPath("x.jpg")
    assert isinstance(second, Refusal) and "goes on behind its end" in str(second.problem)


@pytest.mark.parametrize("blocks", [1, 2, 99])
def test_any_number_of_zeros_ends_an_archive(tmp_path, blocks):
    path = make_tar(tmp_path / "x.tar", {"a.jpg": b"1"})
    path.write_bytes(path.read_bytes()[:1024] + bytes(512 * blocks))
    (member,) = members_of(path, SUFFIXES)
    assert member.inside.read() == b"1"


@pytest.mark.parametrize(
    "data",
    [b"no tar at all" * 99, gzip.compress(b"x" * 10240), b"\0" * 100, b""],
    ids=["text", "compressed", "zeros", "empty"],
)
def test_what_is_no_tar_is_said(tmp_path, data):
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.tar: is no tar file as it is, or is cut short"):
        find_sources([str(path)], SUFFIXES)


def test_one_that_is_not_there_is_an_input_that_fails_by_itself(tmp_path):
    (source,) = find_sources([str(tmp_path / "x.tar")], SUFFIXES).sources
    with pytest.raises(ImageError, match="no such file"):
        source.read()
    assert Path(source.path) == tmp_path / "x.tar"
