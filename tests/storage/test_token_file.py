import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers import SPECS, assert_same_plan, random_saliency
from quadtok import IMAGENET_MEAN, IMAGENET_STD, Plan, Spec, Tokens, get_quadtree, normalize, tokenize
from quadtok.errors import InputError, OutputError, TokenFileError
from quadtok.storage.content import describe_tokens
from quadtok.storage.token_file import decode_tokens, encode_tokens, load_tokens, save_tokens
from token_files import (
    LAYOUT,
    NOT_OURS,
    PATCHES,
    SPEC,
    assert_same_tokens,
    content,
    edited,
    images,
    refused,
    relaid,
    saved,
    some_tokens,
)

METADATA = {"scorer": {"name": "blur"}, "source": {"name": "Übermut 木\n\udc80.jpg"}, "nothing": None, "list": [1, 2.5]}


def with_pixels(values):
    """Tokens of one image whose pixels are these, over and over."""
    tokens = some_tokens()
    count = tokens.patches.numel()
    pixels = torch.as_tensor(values, dtype=torch.float32).repeat(count // len(values) + 1)[:count]
    return replace(tokens, patches=pixels.view_as(tokens.patches))


# What is written is what is read.


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_layout_of_any_geometry_survives(spec):
    saliency = random_saliency(spec, 1)
    plan = get_quadtree("parallel")(saliency, spec)
    loaded = decode_tokens(encode_tokens(Tokens(plan, None, saliency), "none"))
    assert_same_plan(loaded.plan, plan)
    assert loaded.patches is None
    assert len(loaded.saliency or []) == len(saliency)
    assert all(map(torch.equal, loaded.saliency or [], saliency))


def test_float16_holds_every_mean_of_four_bytes(tmp_path):
    quarters = torch.arange(0, 255.25, 0.25)
    tokens = with_pixels(quarters)
    assert set(quarters.tolist()) == set(tokens.patches.flatten().tolist())
    save_tokens(tmp_path / "tokens.pt", tokens)
    loaded = load_tokens(tmp_path / "tokens.pt")
    assert loaded.patches.dtype == torch.float32
    assert_same_tokens(loaded, tokens)


def test_uint8_rounds_to_the_nearest_byte():
    tokens = with_pixels(torch.arange(0, 255.25, 0.25))
    loaded = decode_tokens(encode_tokens(tokens, "uint8"))
    assert (loaded.patches - tokens.patches).abs().max() == 0.5
    assert torch.equal(loaded.patches, loaded.patches.round())


def test_float32_holds_anything():
    tokens = with_pixels([-1e9, 1 / 3, 70_000.5, -0.0])
    assert_same_tokens(decode_tokens(encode_tokens(tokens, "float32")), tokens)


def test_metadata_survives_beside_the_geometry():
    loaded = decode_tokens(encode_tokens(some_tokens(), metadata=METADATA))
    assert loaded.metadata.items() >= METADATA.items()
    again = decode_tokens(encode_tokens(loaded, metadata=loaded.metadata))
    assert again.metadata == loaded.metadata
    assert_same_tokens(again, loaded)


def test_metadata_cannot_overrule_the_geometry():
    doubled = {"image_size": [64, 128], "min_patch": 16, "max_patch": 32}
    tokens = replace(some_tokens(), saliency=None)
    assert_same_plan(decode_tokens(encode_tokens(tokens, "none", metadata=doubled)).plan, tokens.plan)


def test_torch_reads_the_documented_entries(tmp_path):
    path, tokens = tmp_path / "tokens.pt", some_tokens()
    save_tokens(path, tokens)
    entries = torch.load(path, weights_only=True)
    assert set(entries) == {"format", "version", "layout", "patches", "saliency", "meta", "crc32"}
    assert (entries["format"], entries["version"]) == ("quadtok", 1)
    plan = tokens.plan
    assert entries["layout"].dtype == torch.int32
    assert entries["layout"].tolist() == torch.stack([plan.top[0] // 8, plan.left[0] // 8, plan.scale[0]], 1).tolist()
    assert (entries["patches"].dtype, entries["patches"].shape) == (torch.float16, (17, 3, 8, 8))
    assert [(scores.dtype, scores.shape) for scores in entries["saliency"]] == [(torch.float32, (2, 4))]
    meta = json.loads(entries["meta"])
    geometry = {"image_size": [32, 64], "grid": [4, 8], "min_patch": 8, "max_patch": 16, "num_tokens": 17}
    assert meta.items() >= {**geometry, "token_order": "forest-z", "dtype": "float16"}.items()
    assert isinstance(entries["crc32"], int)
    assert "patches" not in content(encode_tokens(tokens, "none"))


def test_the_same_tokens_give_the_same_bytes_in_any_process_and_under_any_name(tmp_path):
    for name in ("a.pt", "another name.pt"):
        save_tokens(tmp_path / name, some_tokens(), metadata=METADATA)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.pt", "another name.pt"))
    assert first == second
    script = """
import hashlib, sys
sys.path[:0] = sys.argv[1:]
from test_token_file import METADATA, encode_tokens, some_tokens
print(hashlib.sha256(encode_tokens(some_tokens(), metadata=METADATA)).hexdigest())
"""
    command = [sys.executable, "-c", script, *map(str, Path(__file__).parents[:2])]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == hashlib.sha256(first).hexdigest()


def test_tokens_of_a_batch_are_stored_one_image_at_a_time():
    batch = some_tokens(batch=8)
    data = encode_tokens(batch[5])
    assert len(data) < 17 * 3 * 64 * 2 + 5000
    alone = Tokens(*(batch[5].plan, batch[5].patches.clone(), [scores.clone() for scores in batch[5].saliency]))
    assert data == encode_tokens(alone)


def test_tokens_on_any_device_give_the_same_file(device):
    tokens = some_tokens()
    data = encode_tokens(tokens.to(device))
    assert data == encode_tokens(tokens)
    assert decode_tokens(data).patches.device.type == "cpu"


def test_views_and_gradients_are_stored_as_plain_tensors():
    tokens = some_tokens()
    saliency = [scores.mT.contiguous().mT for scores in tokens.saliency]
    assert not saliency[0].is_contiguous()
    patches = tokens.patches.to(memory_format=torch.channels_last_3d).requires_grad_()
    assert encode_tokens(replace(tokens, patches=patches, saliency=saliency)) == encode_tokens(tokens)


def test_a_file_saved_without_the_zips_own_checksums_is_read():
    torch.serialization.set_crc32_options(False)
    try:
        data = encode_tokens(some_tokens())
    finally:
        torch.serialization.set_crc32_options(True)
    assert data != encode_tokens(some_tokens())
    assert_same_tokens(decode_tokens(data), some_tokens())


def test_normalised_patches_are_stored_on_the_scale_of_bytes():
    tokens = tokenize(normalize(images()), SPEC, "blur")
    loaded = decode_tokens(encode_tokens(tokens, normalized_with=(IMAGENET_MEAN, IMAGENET_STD)))
    # float32 leaves noise of 1e-5, which float16 rounds away where its own steps are larger.
    assert (loaded.patches - some_tokens().patches).abs().max() < 1e-4
    assert (loaded.normalized() - tokens.patches).abs().max() < 1e-5


def test_tokens_are_described_in_json_values():
    tokens = decode_tokens(encode_tokens(some_tokens(), metadata={"scorer": "blur"}))
    described = json.loads(json.dumps(describe_tokens(tokens)))
    assert described["scorer"] == "blur"
    assert (described["image_size"], described["num_tokens"], described["channels"]) == ([32, 64], 17, 3)
    fine, coarse = described["scales"]
    assert (fine["scale"], fine["patch_size"], coarse["scale"], coarse["patch_size"]) == (0, 8, 1, 16)
    assert (fine["tokens"], coarse["tokens"]) == (12, 5)  # 3 of 8 roots split
    assert describe_tokens(decode_tokens(encode_tokens(tokens, "none")))["channels"] is None


# What is not written.


def huge():
    return Tokens(Plan.uniform(Spec(2**14, 2**15, 2**14, 2**14, 2), 0), None)


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (lambda: some_tokens(3), {}, r"^a token file holds one image, these are 3: save tokens\[i\]$"),
        (some_tokens, {"dtype": "int8"}, "no stored dtype 'int8': choose one of float16, uint8, float32, none$"),
        (lambda: with_pixels([0, -0.6]), {"dtype": "uint8"}, "lie outside 0…255: give normalized_with=.* as float32$"),
        (lambda: with_pixels([0, 255.6]), {"dtype": "uint8"}, "lie outside 0…255"),
        (lambda: with_pixels([0, math.nan]), {"dtype": "uint8"}, "lie outside 0…255"),
        (lambda: with_pixels([0, math.nan]), {}, "^pixels hold NaN or infinity as float16$"),
        (lambda: with_pixels([0, math.inf]), {"dtype": "float32"}, "^pixels hold NaN or infinity as float32$"),
        (lambda: with_pixels([0, 70_000]), {}, "^pixels hold NaN or infinity as float16$"),
        (lambda: replace(some_tokens(), patches=None), {}, 'hold no pixels: save them with dtype="none"$'),
        (some_tokens, {"normalized_with": ([0.5], [0.5])}, "got 1 for 3 channels"),
        (some_tokens, {"metadata": {"scorer": object()}}, "^metadata must be JSON values: .*object"),
        (some_tokens, {"metadata": {"threshold": math.nan}}, "^metadata must be JSON values: "),
        (huge, {"dtype": "none"}, "at most 268435456 pixels, the image has 16384×32768$"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tokens, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        save_tokens(tmp_path / "tokens.pt", tokens(), **options)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(OutputError, match=rf"^{tmp_path}: is a folder, not a regular file$"):
        save_tokens(tmp_path, some_tokens())


# What is not read: files that are not ours, or not whole.


def test_errors_begin_with_the_path(tmp_path):
    path = tmp_path / "tokens.pt"
    for make, message in (
        (lambda: None, "no such file"),
        (path.mkdir, "is a folder"),
        (path.rmdir, "no such file"),
        (lambda: os.mkfifo(path), "not a regular file"),
        (path.unlink, "no such file"),
        (path.touch, NOT_OURS),
    ):
        make()
        with pytest.raises(TokenFileError) as problem:
            load_tokens(path)
        assert str(problem.value) == f"{path}: {message}"


def test_a_file_larger_than_any_of_ours_is_not_even_read(tmp_path):
    path = tmp_path / "tokens.pt"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # sparse: takes no room
    with pytest.raises(TokenFileError, match=rf"^{path}: 5368709120 bytes are more than a token file has$"):
        load_tokens(path)


def test_a_newer_version_says_which_this_one_reads():
    assert refused(edited(version=2)) == "format version 2, this quadtok reads 1; upgrade it"


def test_a_flipped_bit_in_the_pixels_is_noticed():
    data = bytearray(encode_tokens(some_tokens()))
    pixels = content()["patches"].numpy().tobytes()
    data[data.index(pixels) + 1000] ^= 1
    assert refused(bytes(data)) == "checksum mismatch: the file was damaged after it was written"


# What is not read: files with a checksum that fits, and something wrong with what it is over.

NO_TILING = "tokens do not tile the image exactly once"


def moved(token, **changes):
    row = dict(zip(("y", "x", "scale"), LAYOUT[token], strict=True)) | changes
    return LAYOUT[:token] + [list(row.values())] + LAYOUT[token + 1 :]


FINE = [token for token, (_, _, scale) in enumerate(LAYOUT) if scale == 0]
COARSE = [token for token, (_, _, scale) in enumerate(LAYOUT) if scale == 1]


def swapped():
    layout = list(LAYOUT)
    layout[FINE[0]], layout[FINE[1]] = layout[FINE[1]], layout[FINE[0]]
    return layout


@pytest.mark.parametrize(
    ("layout", "geometry", "message"),
    [
        (lambda: LAYOUT[:-1] + LAYOUT[:1], {}, "tokens"),  # one twice, one missing
        (lambda: LAYOUT[: FINE[0]] + [LAYOUT[FINE[1]]] + LAYOUT[FINE[1] :], {}, NO_TILING),  # likewise, of one scale
        (lambda: LAYOUT[: FINE[0]] + LAYOUT[FINE[3] :], {}, NO_TILING),  # three missing
        (lambda: LAYOUT[:-1], {"num_tokens": 17}, r"layout has shape \[16, 3\], expected \[17, 3\]"),
        (lambda: moved(FINE[0], y=4), {}, NO_TILING),
        (lambda: moved(FINE[0], x=-1), {}, NO_TILING),
        (lambda: moved(FINE[0], x=2**31 - 1, y=2**31 - 1), {}, NO_TILING),
        (lambda: moved(FINE[0], scale=-1), {}, NO_TILING),
        (lambda: moved(FINE[0], scale=2), {}, NO_TILING),
        (lambda: moved(FINE[0], scale=2**31 - 1), {}, NO_TILING),
        (lambda: moved(COARSE[0], x=LAYOUT[COARSE[0]][1] + 1), {}, NO_TILING),  # off the grid of its scale
        (swapped, {}, "tokens are not in forest z-order"),
        (lambda: LAYOUT, {"num_tokens": 18}, "geometry is impossible: num_tokens 18 cannot be reached from 8 roots"),
        (lambda: LAYOUT, {"image_size": [32, 63]}, "geometry is impossible: width 63 is not a multiple"),
        (lambda: LAYOUT, {"image_size": [64, 32]}, NO_TILING),
        (lambda: LAYOUT, {"min_patch": 8.5}, "geometry is impossible: min_patch must be an integer, got 8.5"),
        (lambda: LAYOUT, {"min_patch": 4}, NO_TILING),
        (lambda: [[0, 0, 40]], {"image_size": [2**40] * 2, "min_patch": 1, "max_patch": 2**40}, "at most 2147483647"),
        (lambda: [[0, 0, 30]], {"image_size": [2**30] * 2, "min_patch": 1, "max_patch": 2**30}, "at most 268435456"),
        (lambda: [[0, 0, 0]], {"image_size": [10**30] * 2, "min_patch": 10**30, "max_patch": 10**30}, "at most"),
    ],
)
def test_tokens_that_do_not_tile_the_image_are_refused(layout, geometry, message):
    with pytest.raises(TokenFileError, match=message):
        decode_tokens(relaid(layout(), **geometry))


def test_the_layout_of_those_cases_is_read_when_nothing_is_wrong():
    assert_same_plan(decode_tokens(relaid(LAYOUT)).plan, some_tokens().plan)


META = {
    "not JSON": "{",
    "nothing": "",
    "a list": "[1, 2]",
    "a number": "5",
    "a missing key": json.dumps({"image_size": [32, 64], "min_patch": 8}),
    "three sides": json.dumps({**json.loads(content()["meta"]), "image_size": [1, 2, 3]}),
    "nested too deeply": "[" * 100_000 + "]" * 100_000,
    "a number with more digits than Python reads": '{"image_size": [' + "9" * 5000 + ", 1]}",
    "half a character": "\ud800",
}


@pytest.mark.parametrize("meta", META.values(), ids=META)
def test_metadata_that_cannot_be_read_is_refused(meta):
    assert refused(edited(meta=meta)) == "its metadata cannot be read"


SHAPES = {
    "one token more": torch.cat([PATCHES, PATCHES[:1]]),
    "one token fewer": PATCHES[1:].clone(),
    "another patch size": torch.zeros(17, 3, 8, 9),
    "a square of another size": torch.zeros(17, 3, 16, 16),
}


@pytest.mark.parametrize("patches", SHAPES.values(), ids=SHAPES)
def test_patches_that_do_not_fit_the_layout_are_refused(patches):
    message = refused(edited(patches=patches))
    assert message == f"patches have shape {list(patches.shape)}, which does not fit the layout"


@pytest.mark.parametrize("maps", [[], [(2, 4), (1, 2)], [(4, 2)], [(2, 5)]])
def test_saliency_that_does_not_fit_the_geometry_is_refused_unless_there_is_none(maps):
    data = edited(saliency=[torch.zeros(shape) for shape in maps])
    if maps:
        assert refused(data) == "its saliency maps do not fit the geometry"
    else:
        assert decode_tokens(data).saliency is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_no_numbers_are_refused(value):
    assert refused(edited(patches=PATCHES * value)) == "its pixels hold NaN or infinity"


@pytest.mark.parametrize(
    "changes",
    [{"crc32": "12"}, {"crc32": None}, {"meta": 5}, {"saliency": None}, {"saliency": ()}, {"saliency": [1]}]
    + [{"layout": None}, {"layout": torch.zeros(17, 3)}, {"layout": torch.zeros(51, dtype=torch.int32)}],
    ids=str,
)
def test_entries_of_other_types_are_refused(changes):
    assert refused(saved({**content(), **changes})) == f"{NOT_OURS} (its entries have other types)"
