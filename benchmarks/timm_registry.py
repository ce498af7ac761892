"""Which of timm's models can be adapted, and how far an adapted one is from the original: docs/timm-models.md.

Every model of timm's modules of ViTs is built without memory, and `adapt` accepts or refuses it. One block of each
accepted one is then run on a rectangle of 4 × 6 patches with random weights in which every part matters:

- `full`: the full grid, in the quadtree's order, against timm's own model;
- `shuffled`: the same patches in a random order;
- `padded`, `packed`: images of 6 to 15 tokens, together against each alone.

A difference is the largest one of any number of the output, relative to the largest of them.

    python benchmarks/timm_registry.py > docs/timm-models.md    # everything
    python benchmarks/timm_registry.py vit_tiny_patch16_224 eva02_tiny_patch14_224
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from typing import Any

import timm
import torch
from common import print_table
from torch import Tensor, nn

from quadtok import Plan, QuadtokError, Spec, get_quadtree
from quadtok.models import adapt

LARGEST = 30_000_000  # parameters of one block with its head that are run
ROWS, COLS = 4, 6
HEAD = """# timm's models, one by one

Made by `python benchmarks/timm_registry.py > docs/timm-models.md` with timm {version} and torch {torch}, which
says what was done. A line of the table is one kind of model, and a difference the largest of any of its models.
"""
MODULES = (  # of timm.models; the others have no tokens, or pyramids of them
    *("vision_transformer", "deit", "eva", "beit", "cait", "convit", "crossvit", "deepseek_vit", "gemma4_vit"),
    *("hiera", "levit", "naflexvit", "pit", "qwen3_vit", "swin_transformer", "tiny_vit", "vision_transformer_hybrid"),
    *("vision_transformer_relpos", "vision_transformer_sam", "vitamin", "volo", "xcit"),
)
WAYS = ("full", "shuffled", "padded", "packed")
SENTENCE_OF_A_CLASS = re.compile(r"^timm's \w+ cannot be adapted.*")
ACCEPTED = 'on the device "meta"'  # what is said of a model in which nothing is wrong but that it has no numbers


def refusal(name: str) -> str | None:
    """Why a model cannot be adapted, or None."""
    with torch.device("meta"):
        model = timm.create_model(name)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (16, 16))
    side = 2 * patch[0] if isinstance(patch, tuple) else 32
    try:
        adapt(model, Spec.full(side, side, side // 2, side), "blur")
    except QuadtokError as problem:
        return None if ACCEPTED in str(problem) else str(problem)
    raise AssertionError(f"{name}: a model without numbers was adapted")


def one_block(name: str) -> nn.Module | None:
    """The model with one block for the small rectangle, or None where even that is too large."""
    with torch.device("meta"):
        patch = timm.create_model(name).patch_embed.patch_size[0]
    sizes = {"img_size": (ROWS * patch, COLS * patch)}
    for options in ({"depth": 1, **sizes}, sizes):  # some have a list of numbers for each block
        try:
            with torch.device("meta"):
                count = sum(value.numel() for value in timm.create_model(name, **options).parameters())
        except (TypeError, AssertionError, IndexError):
            continue
        if count > LARGEST:
            return None
        return shaken(timm.create_model(name, **options))
    return None


def shaken(model: nn.Module) -> nn.Module:
    """In eval mode, with numbers everywhere, so large that attention tells tokens apart."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if any(part in name for part in ("pos_embed", "token", "latent")):
                value.copy_(0.5 * noise)
            elif value.ndim < 2:
                value.add_(0.1 * noise)
            elif "freqs" not in name:
                value.copy_(1.5 * value[0].numel() ** -0.5 * noise)
    return model.eval()


@torch.no_grad()
def differences(model: nn.Module) -> dict[str, float]:
    """For each way, how far the adapted model is from what it should give."""
    patch = model.patch_embed.patch_size[0]
    spec = Spec(ROWS * patch, COLS * patch, patch, 2 * patch, 15)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, model.patch_embed.proj.in_channels, spec.height, spec.width, generator=generator)
    adapted = adapt(model, spec, "blur", attention="padded")
    full = Plan.uniform(Spec.full(spec.height, spec.width, patch, 2 * patch), 0, batch=3)
    order = torch.randperm(ROWS * COLS, generator=generator)
    mixed = Plan(full.left[:, order], full.top[:, order], full.scale[:, order], full.spec)
    original = model(images)
    results = {
        "full": difference(adapted(images, plan=full), original),
        "shuffled": difference(adapted(images, plan=mixed), original),
    }
    saliency = [torch.rand(3, ROWS // 2, COLS // 2, generator=generator)]
    plan = get_quadtree("parallel")(saliency, spec, threshold=torch.tensor([0.0, 0.6, 1.0]))
    alone = torch.cat([adapted(images[i : i + 1], plan=plan.unpadded(i)) for i in range(3)])
    results["padded"] = difference(adapted(images, plan=plan), alone)
    results["packed"] = difference(adapt(model, spec, "blur", attention="packed")(images, plan=plan), alone)
    return results


def difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def kind(model: Any) -> tuple[str, str, str, str]:
    """Class, positions, prefix tokens and pool, in words."""
    rope = type(getattr(model, "rope", None)).__name__.removeprefix("RotaryEmbedding")
    positions = ["learned"] * (model.pos_embed is not None) + [f"rope ({rope})"] * (rope != "NoneType")
    tokens = ["cls"] * (model.cls_token is not None) + ["dist"] * hasattr(model, "dist_token")
    registers = 0 if model.reg_token is None else model.reg_token.shape[1]
    tokens += [f"{registers} register{'s' * (registers > 1)}"] * (registers > 0)
    rows = " (no rows)" if tokens and model.pos_embed is not None and model.no_embed_class else ""
    return type(model).__name__, " + ".join(positions), (" + ".join(tokens) or "none") + rows, model.global_pool


def report(names: list[str]) -> None:
    """Measure all of them and print the page."""
    refused: dict[str, list[str]] = defaultdict(list)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    worst: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    too_large = []
    for name in names:
        print(name, file=sys.stderr, flush=True)
        if (sentence := refusal(name)) is not None:
            refused[SENTENCE_OF_A_CLASS.sub("another class", sentence).partition(": ")[0]].append(name)
        elif (model := one_block(name)) is None:
            too_large.append(name)
        else:
            groups[kind(model)].append(name)
            for way, found in differences(model).items():
                worst[kind(model)][way] = max(found, worst[kind(model)].get(way, 0.0))
    run = sum(map(len, groups.values()))
    print(HEAD.format(version=timm.__version__, torch=torch.__version__.partition("+")[0]))
    print(f"Of {len(names)} models {run + len(too_large)} are accepted, and {run} of these were run: the others have")
    print(f"more than {LARGEST // 10**6} million parameters in one block, or cannot be built with one.")
    rows = [
        (*group, len(members), *(f"{worst[group][way]:.0e}" for way in WAYS))
        for group, members in sorted(groups.items())
    ]
    print_table("Largest differences", ("class", "positions", "prefix tokens", "pool", "models", *WAYS), rows)
    print("\n### The models that were run\n")
    for group, members in sorted(groups.items()):
        print(f"- **{', '.join(group)}**: {', '.join(members)}")
    print(f"\n### Accepted and not run\n\n{', '.join(too_large) or 'none'}")
    print("\n### Refused\n")
    for why, members in sorted(refused.items(), key=lambda item: -len(item[1])):
        print(f"- {why}: {len(members)}, such as {members[0]}")


def main() -> None:
    """The models that are named, or all ViTs that timm knows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models of timm (default: all of its ViTs)")
    known = [name for module in MODULES for name in timm.list_models(module=module)]
    report(parser.parse_args().names or known)


if __name__ == "__main__":
    main()
