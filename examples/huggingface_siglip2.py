"""SigLIP2 from Hugging Face on 100 tokens: it takes patches of its own, but places them by the raster of a full grid.

`python examples/huggingface_siglip2.py PHOTO [google/siglip2-base-patch16-naflex]`; else a small, untrained one.
"""

import sys
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers import Siglip2VisionConfig, Siglip2VisionModel

from quadtok import Plan, Spec, Tokens, read_image, tokenize
from quadtok.images.fit import fit_image
from quadtok.models.positions import at_centers


def embed(embeddings: nn.Module, pixel_values: Tensor, plan: Plan) -> Tensor:
    """Patches `[B, N, p*p*C]` to `[B, N, D]`, with the model's own weights and its own rule of resizing positions."""
    grid, side = plan.spec.grid(0), embeddings.position_embedding_size
    table = embeddings.position_embedding.weight.unflatten(0, (side, side))
    shapes = torch.tensor([grid], device=table.device)
    cells = embeddings.resize_positional_embeddings(table, shapes, max_length=plan.spec.num_cells)
    return embeddings.patch_embedding(pixel_values) + at_centers(cells[0].unflatten(0, grid), plan)


def read_plans(model: Siglip2VisionModel) -> None:
    """From now on the model takes a plan in place of `spatial_shapes`; its weights and their names stay."""
    model.embeddings.forward = partial(embed, model.embeddings)


def inputs_of(tokens: Tokens) -> dict[str, Tensor | Plan]:
    """What the model takes; tokens of a threshold have a mask that tells padding."""
    patches = tokens.normalized(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).movedim(2, -1)
    mask = tokens.plan.valid.long()
    return {"pixel_values": patches.flatten(2), "pixel_attention_mask": mask, "spatial_shapes": tokens.plan}


def main(photograph: str, name: str | None = None) -> None:
    """The model's output for 100 tokens, and how near that is to its output for all patches."""
    tiny = Siglip2VisionConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    model = (Siglip2VisionModel.from_pretrained(name) if name else Siglip2VisionModel(tiny)).eval()
    read_plans(model)
    spec = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)
    images = fit_image(read_image(photograph).image, spec.height, spec.width, "crop").pixels[None]
    with torch.no_grad():
        few, all_patches = (
            model(**inputs_of(tokenize(images, replace(spec, num_tokens=count), "blur"))).pooler_output
            for count in (100, 256)
        )
    near = torch.cosine_similarity(few, all_patches).item()
    print(f"100 tokens: output {list(few.shape)}, cosine to that of 256: {near:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
