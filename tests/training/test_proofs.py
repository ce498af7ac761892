"""The proofs of docs/training.md in a minute: their pictures, weights, runs and tables, made small."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

pytest.importorskip("timm", reason="the trainer stands on timm's optimisers, schedules and augmentations")

import timm

import proof_labels
import small_objects
from materials import Materials
from quadtok import Plan, Spec, get_scorer, tokenize
from ways import View


@pytest.fixture(scope="module")
def creatures():
    materials = Materials.from_noise(small_objects.SEED)
    return materials, small_objects.creatures(materials)


def test_a_picture_is_a_function_of_its_numbers(creatures):
    materials, kinds = creatures
    first, again, other = (small_objects.scene(kinds[0], materials, *numbers) for numbers in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.cells, again.cells)
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("kind", range(len(small_objects.CREATURES)))
def test_a_creature_is_whole_small_and_where_the_mask_says(creatures, kind):
    materials, kinds = creatures
    for number in range(3):
        made = small_objects.scene(kinds[kind], materials, 5, kind, number)
        without = small_objects.scene(np.zeros_like(kinds[kind]), materials, 5, kind, number)
        changed = (made.pixels != without.pixels).any(axis=2)
        cells = changed.reshape(16, 16, 16, 16).any(axis=(1, 3))
        assert made.pixels.shape == (256, 256, 3) and made.cells.shape == (16, 16)
        assert cells.any() and not (cells & (made.cells == 0)).any()
        rows, cols = np.nonzero(changed)
        assert max(np.ptp(rows), np.ptp(cols)) < small_objects.OBJECT_SIDE[1]


def test_all_creatures_differ(creatures):
    _, kinds = creatures
    shapes = {kind.tobytes() for kind in kinds}
    assert len(shapes) == len(small_objects.CREATURES) >= 10


def test_the_proof_with_labels_runs_goes_on_and_makes_its_table(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    monkeypatch.setattr(small_objects, "PARTS", {"train": 2, "val": 1})
    monkeypatch.setattr(small_objects, "CREATURES", small_objects.CREATURES[:2])
    monkeypatch.setattr(proof_labels, "BATCH", 4)
    monkeypatch.setattr(proof_labels.small_objects, "get_context", lambda kind: SameProcess())
    proof = [str(tmp_path), "--steps", "1", "--seeds", "2", "--runs", "masks", "random", "uniform", "full"]
    proof_labels.main(proof)
    table = (tmp_path / "table.md").read_text().splitlines()
    assert table[0] == "| tokens by | 64 tokens | 100 tokens | 160 tokens | 256 tokens | minutes |"
    assert [line.split(" | ")[0] for line in table[2:]] == ["| masks", "| random", "| uniform", "| full"]
    assert all("±" in line for line in table[2:]) and table[-1].startswith("| full |  |  |  | ")
    assert (tmp_path / "accuracy.png").stat().st_size > 0
    assert len(list((tmp_path / "photographs" / "train").rglob("*.jpg"))) == 4
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.pt")}
    capsys.readouterr()
    proof_labels.main(proof)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.pt")} == weights and len(weights) == 8
    assert capsys.readouterr().out == ""


class SameProcess:
    """Stands for the processes that make the pictures: those would not know of smaller parts."""

    def Pool(self, processes):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        return None

    def imap_unordered(self, function, tasks):
        return map(function, tasks)


def test_masks_choose_small_tokens_where_the_creature_is(creatures, tmp_path):
    materials, kinds = creatures
    made = small_objects.scene(kinds[2], materials, 1, 2)
    maps = torch.from_numpy(made.cells)[None]
    images = torch.from_numpy(made.pixels).permute(2, 0, 1)[None]
    plan = tokenize(images, Spec(256, 256, 16, 64, 64), get_scorer("precomputed", maps=maps)).plan
    scale = plan.scale[0].gather(0, plan.cell_to_token[0].flatten()).view(16, 16)
    covered = torch.from_numpy(made.cells) > 0.5
    assert (scale[covered] == 0).all() and scale.float().mean() > 0.5


# Weights that a package keeps as ONNX.


def test_weights_are_read_from_onnx_as_the_package_keeps_them(monkeypatch):
    onnx = pytest.importorskip("onnx", reason="the package keeps its weights as ONNX")
    import focus

    monkeypatch.setattr(focus, "BLOCKS", 2)
    monkeypatch.setattr(focus, "WIDTH", 32)
    monkeypatch.setattr(focus, "SIDE", 28)
    small = {"img_size": 28, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
    net = timm.create_model(focus.MODEL, **small)
    for weight in net.parameters():
        nn.init.normal_(weight)
    found = focus.state_of(as_onnx(onnx, net.state_dict()))
    again = timm.create_model(focus.MODEL, **small)
    again.load_state_dict(found, strict=True)
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in net.state_dict().items())


def as_onnx(onnx, state):
    """The state dict of timm's model, as Hugging Face's comes out of an exporter."""
    tensors, nodes = [], []

    def put(name, tensor):
        tensors.append(onnx.numpy_helper.from_array(tensor.numpy(), name))

    def put_linear(block, part, weight):
        name = f"onnx::MatMul_{len(tensors)}"
        put(name, weight.T.contiguous())
        called = f"/backbone/encoder/layer.{block}/{part.replace('.', '/')}/MatMul"
        nodes.append(onnx.helper.make_node("MatMul", ["x", name], [f"y{len(nodes)}"], name=called))

    put("backbone.embeddings.cls_token", state["cls_token"])
    put("onnx::Concat_1", state["pos_embed"][:, :1])
    put("onnx::Reshape_2", state["pos_embed"][:, 1:])
    for ours, theirs in (("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("norm", "layernorm")):
        for kind in ("weight", "bias"):
            put(f"backbone.{theirs}.{kind}", state[f"{ours}.{kind}"])
    for block in range(2):
        ours, theirs = f"blocks.{block}", f"backbone.encoder.layer.{block}"
        for number, part in ((1, "key"), (2, "value"), (0, "query")):
            rows = slice(32 * number, 32 * number + 32)
            put_linear(block, f"attention.attention.{part}", state[f"{ours}.attn.qkv.weight"][rows])
            put(f"{theirs}.attention.attention.{part}.bias", state[f"{ours}.attn.qkv.bias"][rows])
        for own, part in (("attn.proj", "attention.output.dense"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
            put_linear(block, part, state[f"{ours}.{own}.weight"])
            put(f"{theirs}.{part}.bias", state[f"{ours}.{own}.bias"])
        for name in ("norm1", "norm2"):
            for kind in ("weight", "bias"):
                put(f"{theirs}.{name}.{kind}", state[f"{ours}.{name}.{kind}"])
        for number in (1, 2):
            put(f"{theirs}.layer_scale{number}.lambda1", state[f"{ours}.ls{number}.gamma"])
    graph = onnx.helper.make_graph(nodes, "net", [], [], tensors)
    return onnx.helper.make_model(graph)


# Features.


def test_the_proof_with_features_measures_runs_and_says_their_spread(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="the proof reads its weights from ONNX")
    import proof_features

    small = '{"img_size": 56, "embed_dim": 32, "depth": 1, "num_heads": 2}'
    state = timm.create_model(
        proof_features.focus.MODEL, num_classes=0, img_size=56, embed_dim=32, depth=1, num_heads=2
    )
    torch.save(state.state_dict(), tmp_path / "dinov2.pt")
    whole = proof_features.of_run
    monkeypatch.setattr(proof_features, "SCORER", "blur")
    monkeypatch.setattr(proof_features, "WAYS", {"blur": {}, "coarse": {"scorer": "random", "max_patch": 28}})
    monkeypatch.setattr(proof_features, "prepare", lambda work, bank: photographs(work))
    monkeypatch.setattr(proof_features, "of_run", lambda *given: smaller(whole(*given), small))
    others = tmp_path / "others"
    for file in (others / "0.jpg", others / "masks" / "1.png"):
        picture(file)
        torch.save(torch.rand(16, 16), file.with_suffix(".pt"))
    proof_features.main([str(tmp_path), "--steps", "1", "--seeds", "2", "--oracle", str(others)])
    first, second = (tmp_path / "table.md").read_text().split("\n\n**oracle**\n")
    assert " | things at 64 / 100 / 160 | " in second and "things" not in first
    lines = first.splitlines()
    assert lines[0] == "**kept out**"
    assert [line.split(" | ")[:2] for line in lines[4:]] == [
        ["| untrained", "blur"], ["| untrained", "coarse"], ["| quadtree", "blur"], ["| quadtree", "coarse"],
        ["| quadtree with detail", "blur"], ["| quadtree with detail", "coarse"], ["| untrained", "uniform"],
        ["| uniform", "uniform"],
    ]  # fmt: skip
    assert all(line.count("±") == (0 if "untrained" in line else 4) for line in lines[4:])


def smaller(settings, net):
    return replace(settings, model_args=net, batch_size=2)


def photographs(work: Path):
    for part in ("train", "val"):
        for number in range(3):
            picture(work / "photographs" / part / f"{number}.jpg")


def picture(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(int(path.stem)).integers(0, 256, (300, 240, 3), dtype=np.uint8)).save(path)


def test_cells_count_as_what_the_photograph_shows_is_in_them(monkeypatch):
    pytest.importorskip("onnx", reason="the proof reads its weights from ONNX")
    import proof_features

    right = torch.zeros(1, 2, 16, 16)
    right[:, 0] = 1
    half = right.clone()
    half[:, :, :, 8:] = right.roll(1, dims=1)[:, :, :, 8:]  # at a right angle on the right side
    things = torch.zeros(1, 16, 16)
    things[:, :, 10] = 2
    one = proof_features.Set(torch.zeros(1, 3, 224, 224, dtype=torch.uint8), things, torch.ones(1, 1), right)
    monkeypatch.setattr(proof_features, "view", lambda batch, tokens, settings: View(batch.images, {}))
    plan = Plan.uniform(Spec.full(224, 224, 14, 56), scale=0)
    monkeypatch.setattr(proof_features, "features", lambda model, images: (torch.ones(1, 1), half, plan))
    values, count = proof_features.scores(None, None, one, 64)
    assert values == {"image": 1.0, "cells": 0.5, "things": 0.0, "squares": 0.5, "found": 1.0} and count == 256


def test_a_map_is_read_between_tokens_of_one_size():
    pytest.importorskip("onnx", reason="the proof reads its weights from ONNX")
    from proof_features import between_tokens

    spec, rows = Spec.full(32, 32, 4, 16), torch.arange(8.0).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    fine, coarse = Plan.uniform(spec, scale=0), Plan.uniform(replace(spec, num_tokens=16), scale=1)
    assert torch.equal(between_tokens(rows, fine), rows)
    squares = F.avg_pool2d(rows, 2)
    smooth = F.interpolate(squares, (8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(between_tokens(F.interpolate(squares, (8, 8)), coarse), smooth)
    mixed = tokenize(torch.zeros(1, 3, 32, 32), replace(spec, num_tokens=28), "random").plan
    sizes = mixed.scale[0][mixed.cell_to_token[0]].view(1, 1, 8, 8)
    assert torch.equal(between_tokens(rows, mixed)[sizes == 0], rows[sizes == 0])
    assert set(mixed.scale[0].tolist()) > {0, 1}
