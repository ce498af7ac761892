"""The reference's first notebook: several scorers on one photograph, each with the image, blurred and small tokens.

`python examples/compare_scorers.py PHOTO PICTURE`. The command for the same is
`quadtok visualize PHOTO --compare object,feature,blur --output PICTURE`; Grad-CAM maps join with `--maps`.
"""

import sys

from quadtok import Spec, get_quadtree, get_scorer, read_image, render
from quadtok.images.fit import fit_image
from quadtok.pictures.sheet import Panel, describe_scales, sheet

SPEC = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=64)
STYLES = ("overlay", "blur", "mini")


def main(photograph: str, picture: str) -> None:
    """One row a scorer, one column a style."""
    image = fit_image(read_image(photograph).image, SPEC.height, SPEC.width, "crop").pixels
    choose = get_quadtree("parallel")
    rows = []
    for name in ("object", "feature", "blur"):
        plan = choose(get_scorer(name)(image[None], SPEC), SPEC)
        details = (describe_scales(plan), "", "")
        rows.append(
            [
                Panel(render(image, plan, style), f"{name}, {style}", detail)
                for style, detail in zip(STYLES, details, strict=True)
            ]
        )
    sheet(rows, title=photograph).save(picture)
    print(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
