from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from helpers import random_saliency
from quadtok import Plan, Spec, get_quadtree, render
from quadtok.pictures.encode import encode_animation, encode_picture
from quadtok.pictures.growing import MAX_FRAMES, growing_tree
from quadtok.pictures.sheet import Panel, describe_scales, sheet

SPEC = Spec(128, 192, 16, 64, 33)
IMAGE = Image.effect_noise((192, 128), 80).convert("RGB")


def equal(one, other):
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def test_a_sheet_holds_each_picture_whole():
    pictures = [Image.new("RGB", (60, 40), color) for color in ("red", "green", "blue")]
    page = sheet([[Panel(pictures[0], "a"), Panel(pictures[1], "b", "c")], [Panel(pictures[2], "d")]], "title")
    counts = {color: count for count, color in page.getcolors(1 << 16)}
    for picture in pictures:
        assert counts[picture.getpixel((0, 0))] == 60 * 40
    assert page.getpixel((0, 0)) == (255, 255, 255)


def test_a_caption_never_runs_into_its_neighbour():
    blank = Image.new("RGB", (60, 10), "white")
    page = sheet([[Panel(blank, "a caption that is far too wide for its picture"), Panel(blank, "")]])
    gap_and_neighbour = page.crop((75, 0, page.width, page.height))
    assert gap_and_neighbour.getcolors() == [(gap_and_neighbour.width * gap_and_neighbour.height, (255, 255, 255))]


def test_scales_are_counted_finest_first():
    assert describe_scales(Plan.uniform(Spec(64, 64, 16, 32, 4), 1)) == "4 of 32 px"
    plan = get_quadtree()(random_saliency(SPEC, 1), SPEC)
    counts = [int(part.split(" of ")[0]) for part in describe_scales(plan).split(", ")]
    assert sum(counts) == 33


def test_the_tree_grows_to_the_plan_through_every_plan_on_the_way():
    saliency = random_saliency(SPEC, 1)
    frames = list(growing_tree(IMAGE, saliency, SPEC))
    assert len(frames) == SPEC.num_splits + 1
    for splits, frame in enumerate(frames):
        spec = replace(SPEC, num_tokens=SPEC.num_roots + 3 * splits)
        assert equal(frame, render(IMAGE, get_quadtree("dict")(saliency, spec)))


def test_a_long_growth_is_shown_in_larger_steps():
    spec = Spec(256, 256, 4, 64, 4000)
    frames = list(growing_tree(Image.new("RGB", (256, 256)), random_saliency(spec, 1), spec, line_width=0))
    assert MAX_FRAMES / 2 < len(frames) <= MAX_FRAMES + 1


def test_a_tree_of_one_scale_has_one_frame():
    assert len(list(growing_tree(Image.new("RGB", (32, 32)), [], Spec(32, 32, 16, 16, 4)))) == 1


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_last_frame_stays_longer(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(encode_animation([Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")], suffix))
    with Image.open(path) as animation:
        durations = []
        for frame in range(animation.n_frames):
            animation.seek(frame)
            animation.load()
            durations.append(animation.info["duration"])
    assert len(durations) == 3
    assert durations[0] == durations[1] < durations[2]


def test_the_same_picture_gives_the_same_bytes():
    assert encode_picture(IMAGE) == encode_picture(IMAGE.copy())
