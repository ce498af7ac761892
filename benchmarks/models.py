"""What tokens save a ViT: fixed numbers, several lengths padded and packed, and what the new parts cost. Needs timm."""

import timm
import torch
from common import DEVICE, interleaved, ms, peak_memory, print_machine, print_table, random_saliency, times

from quadtok import Plan, Spec, calibrate, get_quadtree, levels_of
from quadtok.models import adapt

BATCH = 8
SPEC = Spec(256, 256, 16, 64, 100)
MODELS = ("vit_tiny_patch16_224", "vit_small_patch16_224")
MOSTS = (160, 256)  # of the batches of several lengths, whose mean is SPEC.num_tokens
SECONDS = 3 if DEVICE.type == "cpu" else 0.5


def main() -> None:
    """Print the tables."""
    print_machine()
    images = torch.rand(BATCH, 3, SPEC.height, SPEC.width, device=DEVICE)
    for name in MODELS:
        vit = timm.create_model(name, img_size=SPEC.height).eval().to(DEVICE)
        with torch.no_grad():
            print_lengths(name, vit, images)
        print_parts(name, vit, images)


def print_lengths(name: str, vit: torch.nn.Module, images: torch.Tensor) -> None:
    """One number of tokens, and several."""
    ways = {way: adapt(vit, SPEC, "random", check=False, attention=way) for way in ("padded", "packed")}
    full = Plan.uniform(Spec.full(256, 256, 16, 64), 0, BATCH, device=DEVICE)
    fixed = get_quadtree()(random_saliency(BATCH, SPEC), SPEC)
    rows = []
    for most in MOSTS:
        plan = several_lengths(most)
        lengths = plan.lengths.tolist()
        alone = [(images[row : row + 1], plan.unpadded(row)) for row in range(BATCH)]
        found = interleaved(
            {
                "the model itself": lambda: vit(images),
                "256 tokens": lambda: ways["padded"](images, plan=full),
                "100 tokens": lambda: ways["padded"](images, plan=fixed),
                "padded": lambda plan=plan: ways["padded"](images, plan=plan),
                "packed": lambda plan=plan: ways["packed"](images, plan=plan),
                "one by one": lambda alone=alone: [ways["padded"](image, plan=own) for image, own in alone],
            },
            seconds=SECONDS,
        )
        rows.append([f"{min(lengths)} to {max(lengths)} of {most}", *map(ms, found.values())])
    heading = ["lengths, mean 100", "the model itself", "full grid", "100 tokens", "padded", "packed", "one by one"]
    print_table(f"{name}, {BATCH} × 256², plans given", heading, rows)


def several_lengths(most: int, batch: int = BATCH) -> Plan:
    """Images of which some are busy and others are not, in a threshold's way."""
    spec = Spec(256, 256, 16, 64, most)
    shares = torch.linspace(0.5, 1.5, batch, device=DEVICE)[:, None, None]
    saliency = [scores * shares for scores in random_saliency(batch, spec)]
    return get_quadtree()(saliency, spec, calibrate(levels_of(saliency, spec), SPEC.num_tokens).threshold)


def print_parts(name: str, vit: torch.nn.Module, images: torch.Tensor) -> None:
    """What a scale embedding and the detail of coarse tokens cost."""
    plan = get_quadtree()(random_saliency(BATCH, SPEC), SPEC)
    models = {
        "neither": adapt(vit, SPEC, "random", check=False),
        "scale embedding": adapt(vit, SPEC, "random", check=False, scale_embedding=True),
        "detail": adapt(vit, SPEC, "random", check=False, detail="subpatch"),
    }
    runs = {
        **{(key, "forward"): lambda model=model: forward(model, images, plan) for key, model in models.items()},
        **{(key, "step"): lambda model=model: step(model, images, plan) for key, model in models.items()},
    }
    found = interleaved(runs, seconds=SECONDS)
    rows = []
    for key, model in models.items():
        row = [key, parameters(model)]
        for what in ("forward", "step"):
            row += [ms(found[key, what]), times(found[key, what], found["neither", what])]
            row.append(f"{peak_memory(runs[key, what]) / 1e6:.0f} MB")
        rows.append(row)
    heading = ["parts", "parameters", "forward", "", "peak memory", "forward and backward", "", "peak memory"]
    print_table(f"{name}, {BATCH} × 256², 100 tokens", heading, rows)


def forward(model: torch.nn.Module, images: torch.Tensor, plan: Plan) -> torch.Tensor:
    """As it is used."""
    with torch.no_grad():
        return model(images, plan=plan)


def step(model: torch.nn.Module, images: torch.Tensor, plan: Plan) -> None:
    """As it is trained, without the optimiser's part."""
    model.zero_grad()
    model(images, plan=plan).sum().backward()


def parameters(model: torch.nn.Module) -> str:
    """In millions."""
    return f"{sum(value.numel() for value in model.parameters()) / 1e6:.2f} M"


if __name__ == "__main__":
    main()
