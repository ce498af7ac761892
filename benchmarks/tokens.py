"""Saliency → tokens: selection and the pixels, against the reference's way written plainly (goals 2 and 3)."""

import torch
from common import (
    DEVICE,
    WORKS,
    interleaved,
    ms,
    peak_memory,
    plain_tokens,
    print_machine,
    print_table,
    random_saliency,
    times,
    work_name,
)

from quadtok import Spec, extract_patches, get_quadtree, normalize

GOALS = ["≥ 8×, fresh ≥ 4×", "≥ 8×", "≥ 8×", "≥ 3×"]  # of WORKS


def main() -> None:
    """Print the tables."""
    print_machine()
    rows, memory = [], []
    for (batch, spec), goal in zip(WORKS, GOALS, strict=True):
        images, saliency = torch.rand(batch, 3, spec.height, spec.width, device=DEVICE), random_saliency(batch, spec)
        out = extract_patches(images, get_quadtree()(saliency, spec))

        def quadtok(out=None, images=images, saliency=saliency, spec=spec):
            return extract_patches(images, get_quadtree()(saliency, spec), out=out)

        def plain(images=images, saliency=saliency, spec=spec):
            return plain_tokens(images, saliency, spec)

        found = interleaved({"plain": plain, "kept": lambda out=out: quadtok(out), "fresh": quadtok}, seconds=1)
        name = work_name(batch, spec)
        ratios = [times(found["plain"], found[key]) for key in ("kept", "fresh")]
        rows.append([name, ms(found["plain"]), ms(found["kept"]), ratios[0], ms(found["fresh"]), ratios[1], goal])
        held, made = images.numel() * 4, out.numel() * 4
        memory.append([name, *(f"{(peak_memory(run) - made) / held:.1%}" for run in (plain, quadtok))])
    heading = ["work", "plain", "kept buffer", "", "fresh memory", "", "goal"]
    print_table("Saliency given → tokens, float32 images in memory", heading, rows)
    heading = ["work", "plain", "quadtok (goal ≤ 10 %)"]
    print_table("Peak memory beyond images and tokens, of the images", heading, memory)

    spec, batch = Spec(256, 256, 16, 64, 100), 128
    pixels = torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8, device=DEVICE)
    saliency = random_saliency(128, spec)
    plan = get_quadtree()(saliency, spec)
    found = interleaved(
        {
            "float": lambda: extract_patches(normalize(pixels), plan),
            "bytes": lambda: normalize(extract_patches(pixels, plan)),
        },
        seconds=1,
    )
    row = [f"{batch} × 256²", ms(found["float"]), ms(found["bytes"]), times(found["float"], found["bytes"]), "≥ 1.5×"]
    print_table(
        "uint8 images → normalised tokens, plan given",
        ["work", "normalise the images, then gather", "gather bytes, then normalise", "", "goal"],
        [row],
    )


if __name__ == "__main__":
    main()
