"""S3 itself, as moto answers for it on this machine; nothing is asked of any other."""

import json
import logging

import pytest
from PIL import Image

from quadtok.errors import OutputError
from quadtok.jobs import tokenize_files

s3fs = pytest.importorskip("s3fs", reason="speaks S3; pip install s3fs 'moto[server]' to run these")
server = pytest.importorskip("moto.server", reason="answers as S3 does; pip install s3fs 'moto[server]' to run these")

SETTINGS = {"num_tokens": 10, "image_size": 64, "max_patch": 32, "scorer": "blur"}


@pytest.fixture(scope="module")
def address():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture
def bucket(address, monkeypatch, tmp_path):
    """A bucket with three photographs, one of them behind two slashes."""
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("ENDPOINT_URL", address)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    name = f"bucket-{tmp_path.name.replace('_', '-').lower()[:40]}"
    store.mkdir(name)
    Image.effect_noise((70, 80), 40).save(tmp_path / "1.png")
    for key in ("in/1.png", "in/a/2.png", "in/b//3.png"):
        store.put_file(str(tmp_path / "1.png"), f"{name}/{key}")
    yield store, name
    s3fs.S3FileSystem.clear_instance_cache()


def counts(summary):
    return summary.written, summary.skipped, summary.failed


@pytest.mark.parametrize("format", ["files", "shards"])
def test_what_is_made_is_that_of_a_folder_and_is_not_made_again(bucket, tmp_path, format):
    store, name = bucket
    for output in (f"s3://{name}/out", tmp_path / "out"):
        summary = tokenize_files(f"s3://{name}/in", output, format=format, manifest=format == "shards", **SETTINGS)
        assert counts(summary) == (3, 0, 0)
    again = tokenize_files(f"s3://{name}/in", f"s3://{name}/out", format=format, **SETTINGS)
    assert counts(again) == (0, 3, 0)
    made = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    keys = [f"{name}/out/{path.relative_to(tmp_path / 'out').as_posix()}" for path in made]
    assert store.find(f"{name}/out") == keys
    assert [store.cat_file(key) for key in keys] == [path.read_bytes() for path in made]


def test_a_manifest_knows_them_by_what_the_store_tells(bucket, tmp_path):
    _, name = bucket
    for expected in ((3, 0, 0), (0, 3, 0)):
        summary = tokenize_files(f"s3://{name}/in", f"s3://{name}/out", manifest=tmp_path / "m.jsonl", **SETTINGS)
        assert counts(summary) == expected
    assert len(list(map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines()))) == 3  # none by the second


def test_what_the_store_refuses_is_a_sentence(bucket):
    _, name = bucket
    inputs = [f"s3://{name}/in/a/2.png", f"s3://{name}/in/9.png", f"s3://{name}/no", "s3://no-such-bucket/x/y.png"]
    summary = tokenize_files(inputs, f"s3://{name}/out", **SETTINGS)
    assert counts(summary) == (1, 0, 3)
    assert sorted(str(error) for error in summary.failures.values()) == sorted(
        f"{url}: no such file" for url in inputs[1:]
    )


@pytest.mark.parametrize("format", ["files", "shards"])
def test_a_bucket_that_is_not_there_is_said_before_any_work(bucket, format):
    store, name = bucket
    store.mkdir(f"{name}-empty")
    heard = []
    with pytest.raises(OutputError, match="no-such-bucket/out: there is no bucket no-such-bucket: make it first"):
        tokenize_files(f"s3://{name}/in", "s3://no-such-bucket/out", format=format, progress=heard.append, **SETTINGS)
    assert heard == []
    assert tokenize_files(f"s3://{name}/in", f"s3://{name}-empty", format=format, **SETTINGS).written == 3
