"""Images → tokens with the blur scorer, end to end (goal 4)."""

import torch
from common import (
    DEVICE,
    WORKS,
    interleaved,
    ms,
    plain_blur,
    plain_tokens,
    print_machine,
    print_table,
    times,
    work_name,
)

from quadtok import extract_patches, get_quadtree, get_scorer, tokenize

GOAL = "≥ 5×"


def main() -> None:
    """Print the table."""
    print_machine()
    rows = []
    for batch, spec in WORKS:
        images = torch.rand(batch, 3, spec.height, spec.width, device=DEVICE)
        score, select = get_scorer("blur"), get_quadtree()
        out = extract_patches(images, select(score(images, spec), spec))

        def kept(out=out, images=images, spec=spec, score=score, select=select):
            return extract_patches(images, select(score(images, spec), spec), out=out)

        contenders = {
            "plain": lambda images=images, spec=spec: plain_tokens(images, plain_blur(images, spec), spec),
            "kept": kept,
            "tokenize": lambda images=images, spec=spec: tokenize(images, spec, "blur"),
            "plain scoring": lambda images=images, spec=spec: plain_blur(images, spec),
            "scoring": lambda images=images, spec=spec, score=score: score(images, spec),
        }
        found = interleaved(contenders, seconds=1)
        whole = [cell for key in ("kept", "tokenize") for cell in (ms(found[key]), times(found["plain"], found[key]))]
        scoring = [ms(found["plain scoring"]), ms(found["scoring"])]
        rows.append([work_name(batch, spec), ms(found["plain"]), *whole, GOAL, *scoring])
    heading = ["work", "plain", "kept buffer", "", "`tokenize`", "", "goal", "of it scoring, plain", "quadtok"]
    print_table("Images → tokens, blur scorer", heading, rows)


if __name__ == "__main__":
    main()
