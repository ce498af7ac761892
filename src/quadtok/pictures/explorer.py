"""One HTML page to explore a tree: every token budget of one image, without Python and without a network.

The page holds the image and the order of all splits, and one run's split order holds the plan of every budget. What
moves lives in `explorer.html`; here its four blanks are filled in.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources

from PIL import Image
from torch import Tensor

from quadtok.errors import InputError
from quadtok.marks import Mark
from quadtok.pictures.encode import PLAN_PICTURE
from quadtok.quadtrees.base import check_saliency, node_saliency
from quadtok.quadtrees.order import split_order
from quadtok.spec import Spec


def explorer_page(
    image: Image.Image,
    saliency: Sequence[Tensor],
    spec: Spec,
    title: str,
    note: str = "",
    mark: Mark = PLAN_PICTURE,
) -> str:
    """A self-contained page with a slider from the roots to the full grid, and the views of every budget.

    Args:
        image: of the spec's size; drawn as RGB.
        saliency: of this one image: entry k-1 is `[1, H/P, W/P]` for P = min_patch * 2**k, any floats, ±inf and NaN
            included; empty where the spec has one scale.
        spec: the geometry; `num_tokens` is where the slider stands at first.
        title: plain text, the page's heading.
        note: plain text, a line under it.
        mark: says who made it.

    Returns:
        The HTML. It asks for nothing outside itself, and its Content-Security-Policy forbids it to.

    Raises:
        InputError: where image, saliency and spec do not fit together, or the saliency is of several images.
    """
    if image.size != (spec.width, spec.height):
        raise InputError(
            f"the image is {image.height}×{image.width}, the spec's is {spec.height}×{spec.width}: fit it first"
        )
    check_saliency(saliency, spec)
    if saliency and saliency[0].shape[0] != 1:
        raise InputError(f"the page shows one image, the saliency is of {saliency[0].shape[0]}: pass scores[i : i + 1]")
    blanks = {
        "mark": html.escape(str(mark)),
        "title": html.escape(title),
        "note": html.escape(note),
        "image": _data_uri(image),
        "tree": _as_script_data(_tree(saliency, spec)),
    }
    template = resources.files("quadtok.pictures").joinpath("explorer.html").read_text(encoding="utf-8")
    # In one pass, so that a title that looks like a blank stays as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda blank: blanks[blank[1]], template)


def _tree(saliency: Sequence[Tensor], spec: Spec) -> dict[str, object]:
    """All that the page computes from; nodes are numbered as in quadtrees/base.py."""
    splittable = spec.num_scales > 1
    return {
        "spec": asdict(spec),
        "order": split_order(saliency, spec)[0].tolist() if splittable else [],
        "saliency": [_short(value) for value in node_saliency(saliency, spec)[0].tolist()] if splittable else [],
    }


def _short(value: float) -> float | str:
    """Four significant digits; what JSON has no number for, as a string that JavaScript's `Number` reads."""
    if math.isfinite(value):
        return float(f"{value:.4g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _as_script_data(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _data_uri(image: Image.Image) -> str:
    # Pixels alone: a colour profile or a transparent colour would make the browser show other ones than were scored.
    pixels = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
