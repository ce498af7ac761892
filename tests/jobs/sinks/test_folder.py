"""A folder of results: what is there is known by its fingerprint, or by its bytes, and nobody's file is replaced."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from quadtok import Spec, tokenize
from quadtok.errors import OutputError
from quadtok.jobs.sinks.existing import MARKS
from quadtok.jobs.sinks.folder import FolderSink
from quadtok.jobs.sinks.naming import Outputs
from quadtok.jobs.sources import Source
from quadtok.marks import Mark
from quadtok.pictures.encode import encode_picture
from quadtok.storage.token_file import encode_tokens

ONE, OTHER = "1" * 64, "2" * 64
SOURCE = Source(Path("cat.jpg"), Path("cat.jpg"))


def content(kind, fingerprint, color="red"):
    """A file of this kind."""
    if kind == "token file":
        images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        return encode_tokens(tokenize(images, Spec(64, 64, 16, 32, 4), "blur"), metadata={"fingerprint": fingerprint})
    if kind == "tensor":
        buffer = BytesIO()
        torch.save(torch.full((30,), float(fingerprint[0])), buffer)
        return buffer.getvalue()
    return encode_picture(Image.new("RGB", (64, 64), color), mark=Mark(MARKS[kind], fingerprint))


KINDS = [*MARKS, "token file", "tensor"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "cat.out"


@pytest.fixture
def sink(path, kind):
    def sink(policy="resume"):
        return FolderSink([Outputs(SOURCE, {".out": path})], {".out": kind}, policy)

    return sink


def put(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def write(sink, data, fingerprint):
    """As an engine does: whether anything was written."""
    if sink.is_settled(SOURCE):
        return False
    wanted = sink.outstanding(SOURCE, fingerprint)
    return sink.write(SOURCE, dict.fromkeys(wanted, data)) if wanted else False


def test_what_is_not_there_is_written_and_the_same_again_is_not(sink, kind, path):
    data = content(kind, ONE)
    assert write(sink(), data, ONE) and path.read_bytes() == data
    before = path.stat().st_ino
    assert not write(sink(), data, ONE)
    assert path.stat().st_ino == before
    assert write(sink("overwrite"), data, ONE)
    assert path.stat().st_ino != before


def test_a_fingerprint_is_enough_and_nothing_is_made_to_compare(sink, kind, path):
    put(path, content(kind, ONE, color="blue"))
    expected = {".out"} if kind == "tensor" else set()  # which cannot carry one
    assert sink().outstanding(SOURCE, ONE) == expected


def test_other_settings_are_refused(sink, kind, path):
    put(path, content(kind, ONE))
    with pytest.raises(
        OutputError,
        match=r"cat.jpg: .*cat.out (exists with other settings, or of another image|is )",
    ):
        write(sink(), content(kind, OTHER), OTHER)
    assert path.read_bytes() == content(kind, ONE)
    assert write(sink("overwrite"), content(kind, OTHER), OTHER)
    assert not write(sink("skip"), content(kind, ONE), ONE)
    with pytest.raises(OutputError, match='exists; use if_exists="overwrite"'):
        write(sink("error"), content(kind, ONE), ONE)


@pytest.mark.parametrize("kind", list(MARKS))
def test_one_that_does_not_say_its_settings_is_kept_and_said_to_be_old(sink, kind, path):
    old = content(kind, "")
    put(path, old)
    with pytest.raises(OutputError, match="an older quadtok, which did not record its settings; use"):
        write(sink(), content(kind, ONE), ONE)
    assert path.read_bytes() == old
    assert write(sink("overwrite"), content(kind, ONE), ONE)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("rest", [b"", b"\0"])
def test_a_torn_one_is_written_anew(sink, kind, path, share, rest):
    data = content(kind, ONE)
    kept = data[: int(len(data) * share)]
    put(path, kept + rest * (len(data) - len(kept)))
    assert write(sink(), data, ONE)
    assert path.read_bytes() == data


def test_an_animation_cut_where_a_byte_looks_like_its_end_is_written_anew(path):
    mark, made = Mark(MARKS["drawing"], ONE), FolderSink([Outputs(SOURCE, {".out": path})], {".out": "drawing"})
    data = encode_picture(Image.effect_noise((90, 90), 90), ".gif", mark)
    cuts = [place for place in range(1000, len(data)) if data[:place].endswith(b";")]
    assert cuts
    for cut in cuts:
        put(path, data[:cut])
        assert write(made, data, ONE) and path.read_bytes() == data
    assert not write(made, b"not looked at", ONE)


@pytest.mark.parametrize("foreign", [b"precious", "JPEG", "PNG"])
def test_a_foreign_file_is_kept(sink, kind, path, foreign):
    if isinstance(foreign, str):
        buffer = BytesIO()
        Image.new("RGB", (9, 9)).save(buffer, foreign)
        foreign = buffer.getvalue()
    put(path, foreign)
    for policy in ("resume", "error", "skip"):
        try:
            assert not write(sink(policy), content(kind, ONE), ONE)
        except OutputError as problem:
            assert str(path) in str(problem)
        assert path.read_bytes() == foreign


def test_all_files_of_an_input_are_judged_before_one_is_written(tmp_path):
    files = {".pt": tmp_path / "cat.pt", ".png": tmp_path / "cat.png"}
    put(files[".png"], b"precious")
    sink = FolderSink([Outputs(SOURCE, files)], {".pt": "token file", ".png": "overlay"})
    with pytest.raises(OutputError, match="not made by quadtok"):
        sink.write(SOURCE, {".pt": content("token file", ONE), ".png": content("overlay", ONE)})
    assert not files[".pt"].exists()


def test_what_a_killed_run_left_is_removed_when_the_sink_is_opened(sink, path):
    path.parent.mkdir()
    left = path.parent / ".quadtok-0123456789ab.tmp"
    left.touch()
    import os

    os.utime(left, (1, 1))
    with sink().open():
        assert not left.exists()


@pytest.mark.parametrize("policy", ["skip", "error", "resume", "overwrite"])
def test_an_image_that_appears_while_its_place_is_worked_for_is_kept(sink, kind, path, policy):
    made, foreign = sink(policy), BytesIO()
    Image.effect_noise((8, 8), 60).save(foreign, "PNG")
    assert not made.is_settled(SOURCE)
    wanted = made.outstanding(SOURCE, ONE)
    put(path, foreign.getvalue())
    data = dict.fromkeys(wanted, content(kind, ONE))
    if policy == "skip":
        assert not made.write(SOURCE, data)
    else:
        with pytest.raises(OutputError):
            made.write(SOURCE, data)
    assert path.read_bytes() == foreign.getvalue()
