"""Results by URLs: the same files as in a folder, by the same rules."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import files_in
from quadtok.errors import InputError, OutputError
from quadtok.jobs import tokenize_files
from quadtok.storage.token_file import decode_tokens

pytest.importorskip("fsspec", reason="URLs are its; the extra fsspec has it")

BLUR = ("--scorer", "blur", "-n", "22")


@pytest.fixture
def url(store, photos):
    return store.put_all(photos, "photos")


def test_the_files_are_those_of_a_folder(quadtok, store, photos, tmp_path):
    for place in (tmp_path / "out", f"{store.url}/out"):
        result = quadtok("tokenize", photos, "-o", place, *BLUR, "--overlay", "--no-manifest")
        assert (result.code, "3 written" in result.err) == (0, True)
    made = files_in(tmp_path / "out")
    assert store.names("out") == sorted(made) and len(made) == 6
    assert all(store.read(f"out/{name}") == (tmp_path / "out" / name).read_bytes() for name in made)


def test_the_same_command_again_has_nothing_to_do(quadtok, store, url):
    command = ("tokenize", url, "-o", f"{store.url}/out", *BLUR, "--overlay")
    assert "3 written" in quadtok(*command).err
    assert "0 written, 3 skipped" in quadtok(*command).err
    assert not any("manifest" in name for name in store.names())
    store.files.rm(f"{store.url}/out/coffee.pt")
    store.put("out/rocket.pt", store.read("out/rocket.pt")[:1000])
    assert "2 written, 1 skipped" in quadtok(*command).err
    assert all(decode_tokens(store.read(f"out/{name}")) for name in store.names("out") if name.endswith(".pt"))


def test_results_stand_beside_their_inputs(quadtok, store, url):
    assert "3 written" in quadtok("tokenize", url, *BLUR, "--overlay").err
    assert {"photos/coffee.pt", "photos/coffee.overlay.png", "photos/pets/cat.pt"} <= set(store.names())
    again = quadtok("tokenize", url, *BLUR, "--overlay")
    assert (again.code, "0 written, 3 skipped, 0 failed" in again.err) == (0, True)
    assert "3 pictures made by quadtok passed over" in again.err


@pytest.mark.parametrize(
    ("flags", "found", "sentence"),
    [
        (["--if-exists", "error"], b"anything", " exists; use --overwrite"),
        ([], b"a text\n", ", not a quadtok token file; use --overwrite"),
        (["--overwrite"], "a photograph", " is a JPEG image, not made by quadtok; it is kept"),
    ],
)
def test_what_is_not_quadtoks_is_kept(quadtok, store, photo, flags, found, sentence):
    found = photo.read_bytes() if isinstance(found, str) else found
    store.put("out/coffee.pt", found)
    result = quadtok("tokenize", photo, "-o", f"{store.url}/out", *BLUR, *flags)
    assert result.code == 1 and store.read("out/coffee.pt") == found
    assert f"quadtok: error: {photo}: {store.url}/out/coffee.pt" in result.err and sentence in result.err


def test_what_is_asked_to_be_replaced_is(quadtok, store, photo):
    store.put("out/coffee.pt", b"a text")
    assert quadtok("tokenize", photo, "-o", f"{store.url}/out", *BLUR, "--overwrite").code == 0
    assert decode_tokens(store.read("out/coffee.pt")).plan.spec.num_tokens == 22
    settings = quadtok("tokenize", photo, "-o", f"{store.url}/out", "--scorer", "blur")
    assert (settings.code, "coffee.pt exists with other settings" in settings.err) == (1, True)
    assert "1 skipped" in quadtok("tokenize", photo, "-o", f"{store.url}/out", "--if-exists", "skip").err


def test_an_input_is_never_replaced(quadtok, store, url):
    photo = store.read("photos/coffee.jpg")
    for flags in (["--output", f"{url}/coffee.jpg"], ["--output", f"{url}/pets/../coffee.pt", "--relative-to", url]):
        assert quadtok("tokenize", f"{url}/coffee.jpg", *flags, *BLUR, "--overwrite").code in (0, 2)
    odd = store.put("photos/odd.pt", photo)
    result = quadtok("tokenize", odd, *BLUR, "--overwrite")
    assert (result.code, f"output {odd} is an input" in result.err) == (1, True)
    assert store.read("photos/coffee.jpg") == store.read("photos/odd.pt") == photo


def test_a_manifest_on_a_disk_knows_them(quadtok, store, url, tmp_path, monkeypatch):
    command = ("tokenize", url, "-o", f"{store.url}/out", *BLUR, "--manifest", tmp_path / "m.jsonl")
    assert "3 written" in quadtok(*command).err
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert sorted(name for line in lines for name in line["files"]) == [
        f"{store.url}/out/{name}.pt" for name in ("coffee", "pets/cat", "rocket")
    ]
    with monkeypatch.context() as while_:
        while_.setattr(type(store.files), "cat_file", None)
        assert "0 written, 3 skipped" in quadtok(*command).err
    assert "0 written, 3 skipped" in quadtok(*command, "--verify").err
    store.put("out/coffee.pt", b"torn")
    assert "2 skipped, 1 failed" in quadtok(*command).err


def test_one_listing_a_folder_tells_what_is_there(quadtok, store, url, monkeypatch):
    quadtok("tokenize", url, "-o", f"{store.url}/out", *BLUR)
    asked, ls = [], type(store.files).ls
    photos = [f"{url}/{name}" for name in ("coffee.jpg", "rocket.png", "pets/cat.jpg")]
    with monkeypatch.context() as while_:
        while_.setattr(type(store.files), "ls", lambda *a, **k: asked.append(a[1]) or ls(*a, **k))
        for name in ("find", "exists", "isfile"):
            while_.setattr(type(store.files), name, None)
        result = quadtok("tokenize", *photos, "-o", f"{store.url}/out", *BLUR, "--relative-to", url)
    assert "3 skipped" in result.err and len(asked) == 2


@pytest.fixture
def refusing(store, monkeypatch):
    """The store takes nothing."""

    def refuse(*arguments, **options):
        raise PermissionError("Access Denied")

    if store.url.startswith("memory"):
        monkeypatch.setattr(type(store.files), "pipe_file", refuse)
        monkeypatch.setattr(type(store.files), "put_file", refuse)
    else:
        monkeypatch.setattr("quadtok.stores.written_whole", refuse)


REFUSED = "cannot be written (PermissionError: Access Denied)"


@pytest.mark.usefixtures("refusing")
def test_a_store_that_takes_nothing_is_a_sentence_an_input(quadtok, store, photos):
    result = quadtok("tokenize", photos, "-o", f"{store.url}/out", *BLUR)
    assert (result.code, result.err.count(REFUSED)) == (1, 3)


@pytest.mark.usefixtures("refusing")
def test_of_many_inputs_two_sentences_and_the_run_ends(quadtok, store, photo, tmp_path):
    for number in range(20):
        shutil.copy(photo, tmp_path / "many" / f"{number}.jpg") if number else (tmp_path / "many").mkdir()
    result = quadtok("tokenize", tmp_path / "many", "-o", f"{store.url}/out", *BLUR, "-b", "1")
    assert (result.code, len(result.lines), REFUSED in result.lines[0]) == (1, 3, True)
    assert result.lines[1:] == [
        "quadtok: error: nothing could be written for each of the first 16 images: stopped; see the first error above",
        "quadtok: stopped: 0 written, 0 skipped, 16 failed, 3 left",
    ]


@pytest.mark.usefixtures("refusing")
def test_a_shard_that_cannot_be_put_ends_the_run(quadtok, store, photos, kind):
    command = ("tokenize", photos, "-o", f"{store.url}/out", *BLUR, "--format", kind.format, "--shard-size", "1")
    result = quadtok(*command)
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[0].endswith(f"{REFUSED}: its 1 images are to be made again")
    assert result.lines[1] == "quadtok: stopped: 0 written, 0 skipped, 1 failed, 2 left"


def test_where_nothing_can_be_reached_nothing_is_begun(quadtok, photos):
    result = quadtok("tokenize", photos, "-o", "nosuch://b/out", *BLUR)
    assert (result.code, result.lines) == (
        2,
        ["quadtok: error: nosuch://b/out: ValueError: Protocol not known: nosuch"],
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--store", "plans", "--output", "s3://b/x.qts"), "s3://b/x.qts: a file of plans grows"),
        (("-o", "out", "--manifest", "s3://b/m.jsonl"), "it grows, which a file by a URL does not: name one on a disk"),
    ],
)
def test_what_grows_is_refused_and_makes_no_folder(quadtok, photo, flags, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = quadtok("tokenize", photo, "--scorer", "blur", *flags)
    assert (result.code, sentence in result.err) == (2, True)
    assert not list(tmp_path.glob("s3*"))


def test_a_dry_run_tells_what_is_there(quadtok, store, url):
    quadtok("tokenize", f"{url}/pets", "-o", f"{store.url}/out", *BLUR)
    result = quadtok("tokenize", f"{url}/pets", f"{url}/coffee.jpg", "-o", f"{store.url}/out", "--dry-run")
    assert result.out.splitlines() == [
        f"{url}/pets/cat.jpg -> {store.url}/out/cat.pt (exists)",
        f"{url}/coffee.jpg -> {store.url}/out/coffee.pt",
    ]


def test_pictures_and_restored_images_go_there_too(quadtok, store, url):
    assert quadtok("tokenize", url, "-o", f"{store.url}/out", *BLUR).code == 0
    for command, source, place in (("visualize", url, "drawn"), ("reverse", f"{store.url}/out", "back")):
        run = (command, source, "-o", f"{store.url}/{place}", *(BLUR if command == "visualize" else ()))
        assert "3 written" in quadtok(*run).err and "3 skipped" in quadtok(*run).err
        assert len(store.names(place)) == 3


def test_from_python_it_is_the_same(store, url):
    for written, skipped in ((3, 0), (0, 3)):
        summary = tokenize_files(url, f"{store.url}/out", num_tokens=22, scorer="blur")
        assert (summary.written, summary.skipped, summary.failed) == (written, skipped, 0)


def shards_of(store, kind):
    return [name for name in store.names("out") if name.endswith(kind.suffix)]


def test_shards_are_those_of_a_folder(quadtok, store, photos, tmp_path, kind):
    for place in (tmp_path / "out", f"{store.url}/out"):
        result = quadtok("tokenize", photos, "-o", place, *BLUR, "--format", kind.format, "--shard-size", 2)
        assert (result.code, "3 written" in result.err) == (0, True)
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert store.names("out") == made and len(made) == 1 + 2 * len(kind.endings)
    assert all(store.read(f"out/{name}") == (tmp_path / "out" / name).read_bytes() for name in made)


def test_shards_that_are_there_are_not_made_again(quadtok, store, url, kind):
    command = ("tokenize", url, "-o", f"{store.url}/out", *BLUR, "--format", kind.format, "--shard-size", 2)
    quadtok(*command)
    before = {name: store.read(f"out/{name}") for name in store.names("out")}
    assert "0 written, 3 skipped" in quadtok(*command).err
    for lost in ("shard-000000.json", f"shard-000001{kind.endings[0]}", "index.json"):
        store.files.rm(f"{store.url}/out/{lost}")
    assert "0 written, 3 skipped" in quadtok(*command).err
    assert {name: store.read(f"out/{name}") for name in store.names("out")} == before
    store.put("photos/new.jpg", store.read("photos/coffee.jpg"))
    assert "1 written, 3 skipped" in quadtok(*command).err
    assert shards_of(store, kind) == [f"shard-00000{number}{kind.suffix}" for number in range(3)]
    store.put("out/shard-000000.json", b"{}")
    result = quadtok(*command)
    assert (result.code, "shard-000000.json: is no index of a shard" in result.err) == (2, True)


def test_shards_of_the_other_kind_are_refused(quadtok, store, url, kind):
    command = ("tokenize", url, "-o", f"{store.url}/out", *BLUR, "--format")
    assert quadtok(*command, kind.format).code == 0
    before = store.names("out")
    result = quadtok(*command, kind.other)
    assert (result.code, len(result.lines)) == (2, 1)
    assert f"{store.url}/out: holds shard-000000{kind.suffix}, and would get " in result.err
    assert store.names("out") == before


def test_parts_put_shards_beside_each_other(quadtok, store, url, kind):
    for part in ("1/2", "2/2"):
        command = ("tokenize", url, "-o", f"{store.url}/out", *BLUR, "--format", kind.format, "--part", part)
        assert quadtok(*command).code in (0, 2)  # a part may have no images
    index = json.loads(store.read("out/index.json"))
    assert index["samples"] == 3 and [row["file"] for row in index["shards"]] == shards_of(store, kind)


def test_a_shard_that_another_process_put_meanwhile_is_kept(store, photos):
    name = "out/shard-000000.tar"
    result = tokenize_files(
        photos, f"{store.url}/out", num_tokens=22, scorer="blur", format="shards", shard_size=3
    )  # fmt: skip
    assert result.failed == 0
    theirs = store.read(name)
    for other in store.names("out"):
        store.files.rm(f"{store.url}/out/{other}")

    def interfere(outcome):
        if not store.names("out"):
            store.put(name, theirs)

    with pytest.raises(OutputError, match=r"shard-000000\.tar: another process put it meanwhile: give each a part"):
        tokenize_files(
            photos, f"{store.url}/out", num_tokens=16, scorer="blur", format="shards", progress=interfere
        )  # fmt: skip
    assert store.read(name) == theirs


def test_where_shards_cannot_be_put_nothing_is_begun(quadtok, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = quadtok("tokenize", photos, "-o", "nosuch://b/out", *BLUR, "--format", "shards")
    assert (result.code, result.lines) == (
        2,
        ["quadtok: error: nosuch://b/out: ValueError: Protocol not known: nosuch"],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("arguments", [("x.jpg", Path("s3://b/out")), (Path("s3://b/x.jpg"), "out")])
def test_a_path_of_a_url_is_refused(arguments):
    with pytest.raises(InputError, match=r"s3:/b/\w+.*: a Path of a URL lacks one of its slashes: give it as a str"):
        tokenize_files(*arguments)


def test_a_killed_run_goes_on(photos, tmp_path):
    bucket, command = f"file://{tmp_path}/bucket", [sys.executable, "-m", "quadtok", "tokenize", str(tmp_path / "many")]
    (tmp_path / "many").mkdir()
    for number in range(150):
        os.link(photos / "coffee.jpg", tmp_path / "many" / f"{number}.jpg")
    command += ["-o", f"{bucket}/out", *BLUR, "--seed", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not list((tmp_path / "bucket").rglob("*.pt")):
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    done = len(list((tmp_path / "bucket").rglob("*.pt")))
    assert 0 < done < 150
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (summary["written"], summary["skipped"], summary["failed"]) == (150 - done, done, 0)
    assert all(decode_tokens(path.read_bytes()) for path in Path(tmp_path / "bucket").rglob("*.pt"))
