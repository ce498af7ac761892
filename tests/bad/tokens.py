"""Token files of the table, by the edits of tests/token_files.py."""

import os
import zipfile

import torch

import bad_images
from quadtok.storage.token_file import encode_tokens
from token_files import LAYOUT, content, edited, records, relaid, saved, some_tokens, zipped

TRAP = "QUADTOK_TESTS_TRAP"  # the variable with the file that must not appear


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f'touch "${TRAP}"',)


def good() -> bytes:
    return encode_tokens(some_tokens())


def with_code() -> bytes:
    return saved({**content(), "x": Evil()})


def cut() -> bytes:
    return good()[:-2000]


def a_jpeg() -> bytes:
    return bad_images.encode(bad_images.photo(), "JPEG")


def a_bare_tensor() -> bytes:
    return saved(torch.ones(3))


def another_projects() -> bytes:
    return saved({"state_dict": {"weight": torch.ones(3)}, "version": 1})


def without_a_step() -> bytes:
    return saved({**content(), "layout": torch.zeros(1, dtype=torch.int32).expand(10**6, 10**6)})


def of_a_huge_grid() -> bytes:
    return relaid(LAYOUT, image_size=[8_000_000, 8_000_000])


def deflated() -> bytes:
    return zipped(zipfile.ZIP_DEFLATED, **{**records(), "data/2": bytes(200 << 20)})


def with_a_flipped_bit() -> bytes:
    data = bytearray(good())
    data[data.index(content()["patches"].numpy().tobytes()) + 1000] ^= 1
    return bytes(data)


FINE = [token for token, (_, _, scale) in enumerate(LAYOUT) if scale == 0]


def overlapping() -> bytes:
    return relaid([*LAYOUT[: FINE[0]], LAYOUT[FINE[1]], *LAYOUT[FINE[1] :]])


def missing() -> bytes:
    return relaid([*LAYOUT[: FINE[0]], *LAYOUT[FINE[3] :]])


def out_of_the_grid() -> bytes:
    y, _, scale = LAYOUT[FINE[0]]
    return relaid([*LAYOUT[: FINE[0]], [y, 4096, scale], *LAYOUT[FINE[0] + 1 :]])


def newer() -> bytes:
    return edited(version=2)


def from_a_gpu() -> bytes:
    """As `torch.save` would write tensors of a GPU: the pickle says so."""
    cpu, gpu = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    ours = records()
    assert cpu in ours["data.pkl"]
    return zipped(**{**ours, "data.pkl": ours["data.pkl"].replace(cpu, gpu)})
