"""Token files as quadtok writes them, edited by hand, and what is said of them."""

import json
import zipfile
from io import BytesIO

import pytest
import torch

from fuzz_mutations import checksum
from helpers import assert_same_plan
from quadtok import Spec, tokenize
from quadtok.errors import TokenFileError
from quadtok.storage.token_file import decode_tokens, encode_tokens

SPEC = Spec(32, 64, 8, 16, 17)
NOT_OURS = "not a quadtok token file"


def images(batch=1, spec=SPEC):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (batch, 3, spec.height, spec.width), generator=generator, dtype=torch.uint8)


def some_tokens(batch=1):
    return tokenize(images(batch), SPEC, "blur")


def assert_same_tokens(tokens, other):
    assert_same_plan(tokens.plan, other.plan)
    assert torch.equal(tokens.patches, other.patches)
    assert len(tokens.saliency) == len(other.saliency)
    assert all(map(torch.equal, tokens.saliency, other.saliency))


def content(data=None):
    return torch.load(BytesIO(data or encode_tokens(some_tokens())), weights_only=True)


def saved(values):
    buffer = BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def edited(without=(), **changes):
    """A token file with other entries, and a checksum that fits them."""
    values = {name: value for name, value in {**content(), **changes}.items() if name not in without}
    return saved({**values, "crc32": checksum(values)})


def relaid(layout, **geometry):
    """A layout-only file of these (y, x, scale), with a checksum that fits."""
    meta = json.dumps({**json.loads(content()["meta"]), "num_tokens": len(layout), **geometry})
    layout = torch.tensor(layout, dtype=torch.int32)
    return edited(["patches"], layout=layout, meta=meta, saliency=[])


def refused(data):
    with pytest.raises(TokenFileError) as problem:
        decode_tokens(data)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def zipped(method=zipfile.ZIP_STORED, level=None, **records):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=level) as archive:
        for name, record in records.items():
            archive.writestr(f"archive/{name}", record)
    return buffer.getvalue()


def records():
    with zipfile.ZipFile(BytesIO(saved(content()))) as archive:
        return {name.removeprefix("archive/"): archive.read(name) for name in archive.namelist()}


LAYOUT = content()["layout"].tolist()  # 17 tokens: the first root of a run of four fine tokens is whole
PATCHES = content()["patches"]
