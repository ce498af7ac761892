"""DINOv2 from Hugging Face on 100 tokens: its `embeddings` read them, and the rest of the model runs as it is.

`python examples/huggingface_dinov2.py PHOTO [facebook/dinov2-small]`; else a small, untrained one.
"""

import sys
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from quadtok import Spec, Tokens, normalize, read_image, reverse, tokenize
from quadtok.images.fit import fit_image
from quadtok.models.positions import at_centers


def embed(embeddings: nn.Module, tokens: Tokens, bool_masked_pos: None = None) -> Tensor:
    """Tokens to what the first block takes, `[B, 1 + N, D]`, with the model's own weights."""
    plan, spec, conv = tokens.plan, tokens.plan.spec, embeddings.patch_embeddings.projection
    patches = tokens.normalized().to(conv.weight.dtype)
    embedded = F.linear(patches.flatten(2), conv.weight.flatten(1), conv.bias)
    whole = torch.cat([embeddings.cls_token.expand(len(plan), -1, -1), embedded], dim=1)
    table = embeddings.interpolate_pos_encoding(whole, spec.height, spec.width)  # resized by Hugging Face's own rule
    cells = table[0, 1:].unflatten(0, spec.grid(0))
    positions = torch.cat([table[:, :1].expand(len(plan), -1, -1), at_centers(cells, plan)], dim=1)
    return embeddings.dropout(whole + positions)


def read_tokens(model: Dinov2Model) -> None:
    """From now on the model takes `Tokens` in place of `pixel_values`; its weights and their names stay."""
    model.embeddings.forward = partial(embed, model.embeddings)


def main(photograph: str, name: str | None = None) -> None:
    """The model's features of 100 tokens, and the difference on the full grid."""
    tiny = Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    model = (Dinov2Model.from_pretrained(name) if name else Dinov2Model(tiny)).eval()
    spec = Spec(height=224, width=224, min_patch=14, max_patch=56, num_tokens=100)
    images = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels[None]

    with torch.no_grad():
        expected = model(normalize(images)).pooler_output
        read_tokens(model)
        tokens = tokenize(images, spec, "blur")
        features = model(tokens).last_hidden_state  # [1, 1 + N, D]
        full = tokenize(images, replace(spec, num_tokens=256), "blur")
        difference = (model(full).pooler_output - expected).abs().max()
    maps = reverse(features[:, 1:], tokens.plan)
    print(f"100 tokens: features {list(features.shape)}, as maps {list(maps.shape)}")
    print(f"the full grid: {difference:.0e} from the model")


if __name__ == "__main__":
    main(*sys.argv[1:])
