"""Make the pictures of the README: `python docs/make_pictures.py`, in the repository's root."""

from pathlib import Path

from PIL import Image

from quadtok import Spec, read_image, render, tokenize
from quadtok.images import fit_image

PICTURES = Path(__file__).parent / "pictures"
SPEC = Spec(height=256, width=256, min_patch=16, max_patch=64, num_tokens=100)


def main() -> None:
    """One row a photograph: as it is, its patches, what the tokens keep, the tokens at their size."""
    rows = [_row(name) for name in ("chelsea", "rocket")]
    _stacked(rows, vertical=True).save(PICTURES / "styles.png", optimize=True)


def _row(name: str) -> Image.Image:
    pixels = fit_image(read_image(f"sample_images/{name}.jpg").image, SPEC.height, SPEC.width, "crop").pixels
    plan = tokenize(pixels[None], SPEC, "blur").plan
    original = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    return _stacked([original, *(render(pixels, plan, style) for style in ("overlay", "blur", "mini"))], vertical=False)


def _stacked(pictures: list[Image.Image], vertical: bool, gap: int = 8) -> Image.Image:
    step = (pictures[0].height if vertical else pictures[0].width) + gap
    length = step * len(pictures) - gap
    size = (pictures[0].width, length) if vertical else (length, pictures[0].height)
    sheet = Image.new("RGB", size, "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (0, number * step) if vertical else (number * step, 0))
    return sheet


if __name__ == "__main__":
    main()
