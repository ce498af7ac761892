"""Images → tokens with the blur scorer, end to end (goal 4)."""

import torch
from common import interleaved, ms, plain_blur, plain_tokens, print_machine, print_table, times

from quadtok import Spec, extract_patches, get_quadtree, get_scorer

CASES = [(32, Spec(256, 256, 16, 64, 100)), (128, Spec(256, 256, 16, 64, 100)), (8, Spec(1024, 1024, 16, 64, 1024))]


def main() -> None:
    """Print the table."""
    print_machine()
    rows = []
    for batch, spec in CASES:
        images = torch.rand(batch, 3, spec.height, spec.width)
        score, select = get_scorer("blur"), get_quadtree()
        out = extract_patches(images, select(score(images, spec), spec))

        def quadtok(out=out, images=images, spec=spec, score=score, select=select):
            return extract_patches(images, select(score(images, spec), spec), out=out)

        contenders = {
            "plain": lambda images=images, spec=spec: plain_tokens(images, plain_blur(images, spec), spec),
            "quadtok": quadtok,
            "plain scoring": lambda images=images, spec=spec: plain_blur(images, spec),
            "scoring": lambda images=images, spec=spec, score=score: score(images, spec),
        }
        found = interleaved(contenders, seconds=1)
        whole = [ms(found["plain"]), ms(found["quadtok"]), times(found["plain"], found["quadtok"])]
        scoring = [ms(found["plain scoring"]), ms(found["scoring"])]
        rows.append([f"{batch} × {spec.height}²", *whole, *scoring, "≥ 5×"])
    heading = ["work", "plain", "quadtok", "plain ÷ quadtok", "of it scoring, plain", "quadtok", "goal"]
    print_table("Images → tokens, blur scorer", heading, rows)


if __name__ == "__main__":
    main()
