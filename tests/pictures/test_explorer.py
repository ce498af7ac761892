"""The page as text: its data hold every budget's plan, nothing ends early, nothing points outside. No browser needed.

What the page does with the data is tested in tests/browser.
"""

import base64
import html
import io
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from helpers import SPECS, random_saliency, saliency_of_kind
from quadtok import Spec, get_quadtree
from quadtok.errors import InputError
from quadtok.pictures.explorer import explorer_page

SPEC = Spec(32, 96, 8, 32, 30)


def gradient(spec):
    return Image.linear_gradient("L").resize((spec.width, spec.height)).convert("RGB")


def page_of(saliency, spec=SPEC, title="cat.jpg", **options):
    return explorer_page(gradient(spec), saliency, spec, title, **options)


def tree_in(page):
    (data,) = re.findall(r'<script id="tree" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def boxes_in(tree, splits):
    """(left, top, size) of each token, by the numbering that quadtrees/base.py tells: children of i at R + 4i."""
    spec = Spec(**tree["spec"])
    cols, size = spec.width // spec.max_patch, spec.max_patch
    boxes = {root: (root % cols * size, root // cols * size, size) for root in range(spec.num_roots)}
    for node in tree["order"][:splits]:
        left, top, size = boxes.pop(node)
        half = size // 2
        for child in range(4):
            boxes[spec.num_roots + 4 * node + child] = (left + child % 2 * half, top + child // 2 * half, half)
    return set(boxes.values())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_pages_split_order_holds_the_plan_of_every_budget(spec):
    saliency = random_saliency(spec, 1)
    tree = tree_in(page_of(saliency, spec))
    assert len(tree["order"]) == (spec.num_cells - spec.num_roots) // 3
    for splits in {0, 1, spec.num_splits, len(tree["order"]) // 2, len(tree["order"])}:
        splits = min(splits, len(tree["order"]))
        plan = get_quadtree("dict")(saliency, replace(spec, num_tokens=spec.num_roots + 3 * splits))
        chosen = zip(*(field[0].tolist() for field in (plan.left, plan.top, plan.size)), strict=True)
        assert boxes_in(tree, splits) == set(chosen)


def test_the_saliency_is_that_of_each_node_in_the_order_of_their_numbers():
    fine = torch.arange(48.0).view(1, 2, 24)[..., :6]  # rows of 6: 0…5 and 24…29
    coarse = torch.tensor([[[0.123456, 100.0, 200.0]]])
    assert tree_in(page_of([fine, coarse]))["saliency"] == [0.1235, 100, 200, 0, 1, 24, 25, 2, 3, 26, 27, 4, 5, 28, 29]


def test_infinite_saliency_and_nan_survive_as_valid_json():
    coarse = torch.tensor([[[math.inf, -math.inf, math.nan]]])
    assert tree_in(page_of([torch.zeros(1, 2, 6), coarse]))["saliency"][:3] == ["Infinity", "-Infinity", "NaN"]


@pytest.mark.parametrize("kind", ["half", "bfloat16", "shifted by +1e12", "tied", "nans of both signs"])
def test_every_kind_of_saliency_gives_a_page(kind):
    assert len(tree_in(page_of(saliency_of_kind(kind, SPEC, batch=1)))["saliency"]) == 15


def test_the_image_travels_without_loss_and_without_a_profile_that_would_tint_it():
    image = Image.effect_noise((96, 32), 80).convert("RGB")
    image.info.update(icc_profile=b"nonsense", transparency=(0, 0, 0))
    page = explorer_page(image, random_saliency(SPEC, 1), SPEC, "noise")
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    embedded = Image.open(io.BytesIO(base64.b64decode(data)))
    assert embedded.info == {}
    assert embedded.tobytes() == image.tobytes()


def test_title_and_note_are_text_whatever_they_hold():
    nasty = "</title></script><script>alert('“ü”')</script> & \"{{tree}}\" {{image}} \\1"
    page = page_of(random_saliency(SPEC, 1), title=nasty, note=nasty)
    escaped = html.escape(nasty)
    assert page.count(escaped) == 3  # title, heading, note
    assert "alert('" not in page.replace(escaped, "")
    assert page.count("<script") == 2
    assert tree_in(page)["spec"]["num_tokens"] == SPEC.num_tokens


def test_the_page_points_nowhere_outside_itself_and_forbids_itself_to():
    page = page_of(random_saliency(SPEC, 1))
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"(?m)// .*$|base64,[^\"]*", "", page))
    assert all(target.startswith("data:") for target in re.findall(r'(?:src|href)="([^"]*)"', page))


def test_no_blank_of_the_template_stays_empty_handed():
    assert "{{" not in page_of(random_saliency(SPEC, 1))


def test_the_same_arguments_give_the_same_page():
    assert page_of(random_saliency(SPEC, 1)) == page_of(random_saliency(SPEC, 1))


def test_a_spec_with_nothing_to_split_still_gives_a_page():
    spec = Spec(32, 64, 16, 16, 8)
    tree = tree_in(page_of([], spec))
    assert (tree["order"], tree["saliency"]) == ([], [])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image": gradient(replace(SPEC, width=64, num_tokens=20))}, "the image is 32×64, the spec's is 32×96"),
        ({"saliency": random_saliency(SPEC, 2)}, "one image, the saliency is of 2"),
        ({"saliency": random_saliency(SPEC, 1)[:1]}, "saliency has 1 scales, the spec has 2"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, sentence):
    arguments = {"image": gradient(SPEC), "saliency": random_saliency(SPEC, 1), "spec": SPEC, "title": ""} | change
    with pytest.raises(InputError, match=re.escape(sentence)):
        explorer_page(**arguments)
