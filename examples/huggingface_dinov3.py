"""DINOv3 from Hugging Face on 100 tokens: rope turns each one by the centre of its patch, wherever that is.

`python examples/huggingface_dinov3.py PHOTO [facebook/dinov3-vits16-pretrain-lvd1689m]`; else a small, untrained one.
"""

import sys
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from quadtok import Spec, Tokens, normalize, read_image, tokenize
from quadtok.images.fit import fit_image


def rows_of(tokens: Tokens) -> Tensor:
    """`[B, N, C*p*p + 3]`: pixels, centre (x, y), scale, in one tensor, which the model gives to both of its parts."""
    return replace(tokens, patches=tokens.normalized()).to_reference_layout()


def embed(embeddings: nn.Module, rows: Tensor, bool_masked_pos: None = None) -> Tensor:
    """Rows to `[B, 1 + registers + N, D]`, with the model's own weights."""
    conv, first = embeddings.patch_embeddings, torch.cat([embeddings.cls_token, embeddings.register_tokens], dim=1)
    embedded = F.linear(rows[..., :-3], conv.weight.flatten(1), conv.bias)
    return torch.cat([first.expand(len(rows), -1, -1), embedded], dim=1)


def rotate(rope: nn.Module, spec: Spec, rows: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) `[B, 1, N, head]` of the centres; in the model's coordinates the image reaches from -1 to 1."""
    places = rows[..., -3:-1].float().flip(-1) / torch.tensor(spec.grid(0), device=rows.device) * 2 - 1
    angles = (2 * torch.pi * places[..., None] * rope.inv_freq).flatten(2).tile(2)[:, None]
    return angles.cos().to(rows.dtype), angles.sin().to(rows.dtype)


def read_rows(model: DINOv3ViTModel, spec: Spec) -> None:
    """From now on the model takes rows in place of `pixel_values`; its weights and their names stay."""
    model.embeddings.forward = partial(embed, model.embeddings)
    model.rope_embeddings.forward = partial(rotate, model.rope_embeddings, spec)


def main(photograph: str, name: str | None = None) -> None:
    """The model's features of 100 tokens, and the difference on the full grid."""
    tiny = DINOv3ViTConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    model = (DINOv3ViTModel.from_pretrained(name) if name else DINOv3ViTModel(tiny)).eval()
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)
    images = fit_image(read_image(photograph).image, 256, 256, "crop").pixels[None]
    with torch.no_grad():
        expected = model(normalize(images)).pooler_output
        read_rows(model, spec)
        features = model(rows_of(tokenize(images, spec, "blur"))).last_hidden_state
        full = rows_of(tokenize(images, replace(spec, num_tokens=256), "blur"))
        difference = (model(full).pooler_output - expected).abs().max()
    print(f"100 tokens: features {list(features.shape)}; the full grid: {difference:.0e} from the model")


if __name__ == "__main__":
    main(*sys.argv[1:])
