"""The explorer page in a real browser: what it draws is what the quadtrees choose, and hands can work it."""

import base64
import io
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageChops, ImageStat

from helpers import SAMPLE_IMAGES, random_saliency
from quadtok import Spec, get_quadtree, get_scorer, render
from quadtok.images import to_pixels
from quadtok.pictures.explorer import explorer_page

SQUARE = Spec(256, 256, 16, 64, 100)
WIDE = Spec(192, 320, 8, 64, 120)
TINY = Spec(64, 128, 16, 64, 8)  # 2 roots, 10 splits


def photo(spec, name="chelsea.jpg"):
    with Image.open(SAMPLE_IMAGES / name) as image:
        return image.convert("RGB").resize((spec.width, spec.height))


def blur_saliency(image, spec):
    return get_scorer("blur")(to_pixels(image)[None], spec)


def cells_of_one_color(spec):
    """Each finest cell has one colour of its own, so that a pixel in its middle needs no tolerance for resizing."""
    rows, cols = spec.grid(0)
    small = Image.new("RGB", (cols, rows))
    small.putdata([(40 + 25 * (i % cols), 60 + 40 * (i // cols), 20 * (i % 7)) for i in range(rows * cols)])
    return small.resize((spec.width, spec.height), Image.Resampling.NEAREST)


def tiny_saliency():
    """Different everywhere; the first root has the largest, then the second."""
    return [torch.arange(8.0).view(1, 2, 4), torch.tensor([[[20.0, 10.0]]])]


def plan_of(saliency, spec, splits):
    return get_quadtree("parallel")(saliency, replace(spec, num_tokens=spec.num_roots + 3 * splits))


def chosen(saliency, spec, splits):
    plan = plan_of(saliency, spec, splits)
    return sorted(zip(*(field[0].tolist() for field in (plan.left, plan.top, plan.size)), strict=True))


class Explorer:
    """The page as a person meets it."""

    def __init__(self, page):
        self.page = page
        self.problems = []
        self.requests = []
        page.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path):
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#boxes rect", state="attached")
        return self.settle()

    def settle(self):
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self

    def wait_until(self, holds):
        """Playwright's own waiting evaluates strings in the page, which its policy forbids."""
        for _ in range(2000):
            if holds():
                return
            self.settle()
        raise AssertionError("it did not come to pass")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        return self.settle()

    def slide(self, splits):
        self.page.locator("#splits").fill(str(splits))
        return self.settle()

    def point_at(self, x, y, spec):
        """Put the pointer on this pixel of the image."""
        frame = self.page.locator("#picture").bounding_box()
        self.page.mouse.move(
            frame["x"] + x * frame["width"] / spec.width, frame["y"] + y * frame["height"] / spec.height
        )
        return self.settle()

    @property
    def boxes(self):
        read = "rects => rects.map(rect => ['x', 'y', 'width', 'height'].map(name => +rect.getAttribute(name)))"
        drawn = self.page.eval_on_selector_all("#boxes rect.box", read)
        assert all(width == height for *_, width, height in drawn)
        return sorted((left, top, width) for left, top, width, _ in drawn)

    @property
    def splits(self):
        return int(self.page.input_value("#splits"))

    @property
    def tokens(self):
        return self.page.inner_text("#tokens")

    @property
    def patch(self):
        """What the page says of the patch under the pointer."""
        read = "fields => fields.map(field => [field.dataset.field, field.textContent])"
        return dict(self.page.eval_on_selector_all("[data-field]", read))

    @property
    def view(self):
        return self.page.eval_on_selector_all(
            "button[data-view][aria-pressed=true]", "all => all.map(b => b.textContent)"
        )

    @property
    def canvas(self):
        data = self.page.eval_on_selector("canvas", "canvas => canvas.toDataURL()")
        return Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")

    def color_at(self, x, y, spec):
        """The canvas's colour at this pixel of the image."""
        canvas = self.canvas
        return canvas.getpixel(
            (int((x + 0.5) * canvas.width / spec.width), int((y + 0.5) * canvas.height / spec.height))
        )


@pytest.fixture
def explore(browser, tmp_path):
    """(image, saliency, spec) → the page, opened; at the end nothing may have gone wrong in it."""
    opened = []

    def explore(image, saliency, spec, title="a photograph", width=1280, height=800, density=1, **emulated):
        path = tmp_path / f"page {len(opened)}.html"
        path.write_text(explorer_page(image, saliency, spec, title, "scorer: blur"), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=density, **emulated
        )
        opened.append((Explorer(context.new_page()), context))
        return opened[-1][0].open(path)

    yield explore
    for explorer, context in opened:
        context.close()
        assert explorer.problems == []
        assert [url for url in explorer.requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture
def tiny(explore):
    return explore(cells_of_one_color(TINY), tiny_saliency(), TINY)


# ---- What is drawn.


@pytest.mark.parametrize("spec", [SQUARE, WIDE], ids=["square", "wide"])
def test_the_slider_draws_the_boxes_of_every_budgets_plan(explore, spec):
    image = photo(spec)
    saliency = blur_saliency(image, spec)
    explorer = explore(image, saliency, spec)
    most = (spec.num_cells - spec.num_roots) // 3
    assert (explorer.splits, explorer.boxes) == (spec.num_splits, chosen(saliency, spec, spec.num_splits))
    for splits in [0, 1, most // 2, most // 2 - 1, most // 3, most, most - 1, 2, 0]:
        explorer.slide(splits)
        assert explorer.boxes == chosen(saliency, spec, splits)
        tokens = spec.num_roots + 3 * splits
        assert (
            explorer.tokens
            == f"{tokens} tokens of {spec.num_cells} ({math.floor(100 * tokens / spec.num_cells + 0.5)} %)"
        )


def test_the_mouse_drags_the_slider(explore):
    image = photo(SQUARE)
    saliency = blur_saliency(image, SQUARE)
    explorer = explore(image, saliency, SQUARE)
    track = explorer.page.locator("#splits").bounding_box()
    middle = track["y"] + track["height"] / 2
    explorer.page.mouse.move(track["x"] + track["width"] * SQUARE.num_splits / 80, middle)
    explorer.page.mouse.down()
    explorer.page.mouse.move(track["x"] + track["width"] * 0.8, middle, steps=12)
    explorer.page.mouse.up()
    explorer.settle()
    assert 55 < explorer.splits < 75
    assert explorer.boxes == chosen(saliency, SQUARE, explorer.splits)


@pytest.mark.parametrize(
    "value", [0.0, math.nan, math.inf, -math.inf], ids=["flat image", "all NaN", "all infinite", "all −infinite"]
)
def test_ties_are_drawn_as_the_quadtrees_break_them(explore, value):
    saliency = [torch.full((1, *WIDE.grid(scale)), value) for scale in range(1, WIDE.num_scales)]
    explorer = explore(Image.new("RGB", (WIDE.width, WIDE.height), "gray"), saliency, WIDE).press("4")
    for splits in [7, 60, 200]:
        assert explorer.slide(splits).boxes == chosen(saliency, WIDE, splits)


def test_a_large_image_goes_from_its_roots_to_4096_boxes_and_back(explore):
    spec = Spec(1024, 1024, 16, 128, 1000)
    saliency = random_saliency(spec, 1)
    explorer = explore(photo(spec, "hubble_deep_field.jpg"), saliency, spec)
    assert len(explorer.press("End").boxes) == 4096
    assert len(explorer.press("Home").boxes) == 64
    assert explorer.slide(500).boxes == chosen(saliency, spec, 500)


def test_with_nothing_to_split_the_page_still_shows_the_patches(explore):
    spec = Spec(64, 128, 16, 16, 32)
    explorer = explore(cells_of_one_color(spec), [], spec).press("End", "4", "p")
    assert explorer.boxes == chosen([], spec, 0)
    assert explorer.page.locator("#splits").is_disabled()
    assert "32 tokens of 32 (100 %)" in explorer.tokens
    assert "none can be split" in explorer.page.inner_text("#legend")
    assert explorer.point_at(20, 20, spec).patch["saliency"] == "none: cannot be split"


def test_the_drawn_boxes_lie_where_the_picture_shows_them(tiny):
    frame = tiny.page.locator("#picture").bounding_box()
    boxes = tiny.page.locator("#boxes rect")
    assert boxes.count() == 8
    for place in range(8):
        drawn, box = boxes.nth(place).bounding_box(), boxes.nth(place)
        for corner, side, length, image_side in [("x", "width", "width", 128), ("y", "height", "height", 64)]:
            start = frame[corner] + float(box.get_attribute(corner)) * frame[length] / image_side
            assert abs(drawn[corner] - start) < 1.01  # half a line
            assert abs(drawn[side] - float(box.get_attribute(side)) * frame[length] / image_side) < 2.02


def test_the_page_counts_patches_by_size(tiny):
    read = "rows => rows.map(row => [row.cells[0].textContent, row.cells[2].textContent])"
    assert tiny.page.eval_on_selector_all("#sizes tr", read) == [["64 × 64", "0"], ["32 × 32", "8"], ["16 × 16", "0"]]
    tiny.slide(1)
    assert tiny.page.eval_on_selector_all("#sizes tr", read) == [["64 × 64", "1"], ["32 × 32", "4"], ["16 × 16", "0"]]
    tiny.slide(10)
    assert tiny.page.eval_on_selector_all("#sizes tr", read) == [["64 × 64", "0"], ["32 × 32", "0"], ["16 × 16", "32"]]


# ---- The four views.


def test_overlay_shows_the_image(explore):
    image = photo(SQUARE)
    explorer = explore(image, blur_saliency(image, SQUARE), SQUARE)
    assert explorer.view == ["Overlay"]
    canvas = explorer.canvas
    assert mean_difference(canvas, image.resize(canvas.size)) < 2


def test_overlay_shows_each_cells_own_color(tiny):
    image = cells_of_one_color(TINY)
    for x, y in [(8, 8), (72, 24), (120, 56)]:
        assert tiny.color_at(x, y, TINY) == image.getpixel((x, y))


def test_blur_shows_what_render_shows(explore):
    image = photo(SQUARE)
    saliency = blur_saliency(image, SQUARE)
    explorer = explore(image, saliency, SQUARE).slide(10).press("2")
    assert explorer.view == ["Blur"]
    canvas = explorer.canvas.resize(image.size)
    blurred = render(image, plan_of(saliency, SQUARE, 10), style="blur", line_width=0)
    assert mean_difference(canvas, blurred) < 2.5
    assert mean_difference(canvas, image) > 2 * mean_difference(canvas, blurred)


def test_blur_shows_the_image_on_the_full_grid(tiny):
    image = cells_of_one_color(TINY)
    tiny.press("2", "End")
    for x, y in [(8, 8), (72, 24), (120, 56)]:
        assert tiny.color_at(x, y, TINY) == image.getpixel((x, y))


@pytest.mark.parametrize(("scheme", "ground"), [("light", (255, 255, 255)), ("dark", (26, 30, 36))])
def test_mini_shows_each_token_in_the_middle_of_its_patch(explore, scheme, ground):
    image = photo(TINY)
    explorer = explore(image, tiny_saliency(), TINY, color_scheme=scheme).press("Home", "3")
    assert explorer.view == ["Mini"]
    token = image.reduce(4)  # 2 roots of 64 pixels, as tokens of 16
    for root in (0, 1):
        for x, y in [(2, 2), (61, 2), (32, 20), (32, 44), (20, 32)]:
            assert explorer.color_at(64 * root + x, y, TINY) == ground
        seen = explorer.color_at(64 * root + 24 + 7, 24 + 7, TINY)
        assert near(seen, token.getpixel((16 * root + 7, 7)), 12)


def test_tokens_of_the_finest_patches_fill_them_in_mini(tiny):
    image = cells_of_one_color(TINY)
    tiny.press("3", "End")
    for x, y in [(1, 1), (14, 14), (72, 24), (126, 62)]:
        assert near(tiny.color_at(x, y, TINY), image.getpixel((x, y)), 1)


def test_the_heat_map_runs_through_viridis_and_the_finest_show_their_parents(explore):
    coarse, fine = torch.tensor([[[1.0, 0.0]]]), torch.full((1, 2, 4), 0.5)
    explorer = explore(cells_of_one_color(TINY), [fine, coarse], TINY).press("4", "Home")
    assert explorer.view == ["Heat map"]
    purple, teal, yellow = (0x44, 0x01, 0x54), (0x21, 0x91, 0x8C), (0xFD, 0xE7, 0x25)
    assert (explorer.color_at(30, 30, TINY), explorer.color_at(100, 30, TINY)) == (yellow, purple)
    explorer.slide(1)
    assert (explorer.color_at(30, 30, TINY), explorer.color_at(100, 30, TINY)) == (teal, purple)
    explorer.press("End")
    assert (explorer.color_at(30, 30, TINY), explorer.color_at(100, 30, TINY)) == (teal, teal)
    assert "show their parent" in explorer.page.inner_text("#legend")


def test_nan_is_gray_in_the_heat_map_and_infinities_take_the_ends(explore):
    fine = torch.tensor([0.0, 1, 2, 3, 4, 5, math.inf, -math.inf]).view(1, 2, 4)
    saliency = [fine, torch.tensor([[[math.nan, 2.0]]])]
    explorer = explore(cells_of_one_color(TINY), saliency, TINY).press("4", "Home")
    assert explorer.color_at(30, 30, TINY) == (128, 128, 128)
    assert "NaN" in explorer.page.inner_text("#legend")
    explorer.slide(1)
    assert explorer.color_at(80, 48, TINY) == (0xFD, 0xE7, 0x25)
    assert explorer.color_at(112, 48, TINY) == (0x44, 0x01, 0x54)
    assert explorer.point_at(80, 48, TINY).patch["saliency"] == "∞"
    assert explorer.point_at(112, 48, TINY).patch["saliency"] == "-∞"


@pytest.mark.parametrize("view", "1234")
def test_a_budget_reached_in_steps_looks_like_one_reached_at_once(explore, view):
    """Only what changed is painted again: nothing of the budgets on the way may stay."""
    image = photo(WIDE)
    saliency = blur_saliency(image, WIDE)
    wandered = explore(image, saliency, WIDE).press(view)
    for splits in [0, 200, 40, 41, 300, 150]:
        wandered.slide(splits)
    direct = explore(image, saliency, WIDE).slide(150).press(view)
    assert wandered.canvas.tobytes() == direct.canvas.tobytes()


# ---- The patch under the pointer.


def test_hovering_tells_box_scale_and_saliency_of_the_patch_under_the_pointer(explore):
    image = photo(WIDE)
    saliency = blur_saliency(image, WIDE)
    explorer = explore(image, saliency, WIDE)
    plan = plan_of(saliency, WIDE, WIDE.num_splits)
    patches = list(zip(*(field[0].tolist() for field in (plan.left, plan.top, plan.size, plan.scale)), strict=True))
    for scale in range(WIDE.num_scales):
        left, top, size, _ = next(patch for patch in patches if patch[3] == scale)
        told = explorer.point_at(left + 0.75 * size, top + 0.25 * size, WIDE).patch
        assert told["corner"] == f"{left}, {top} px"
        assert told["size"] == f"{size} × {size} px"
        assert told["scale"].startswith(f"{scale} ")
        owner = max(scale, 1)  # the finest have none of their own
        row, col = top // WIDE.patch_size(owner), left // WIDE.patch_size(owner)
        number = float(f"{saliency[owner - 1][0, row, col].item():.4g}")
        assert float(told["saliency"].split()[-1].removeprefix("parent’s")) == number
        mark = explorer.page.locator("#mark rect").last
        assert [float(mark.get_attribute(name)) for name in ("x", "y", "width", "height")] == [left, top, size, size]


def test_hovering_tells_when_the_patch_appears_and_when_it_splits(tiny):
    # The order is: root 0, root 1, then by saliency 7, 6, 5, …, 0.
    told = tiny.point_at(100, 40, TINY).patch  # the patch of saliency 7
    assert (told["appears"], told["splits"]) == ("split 2 → 8 tokens", "split 3 → 11 tokens")
    told = tiny.point_at(10, 10, TINY).patch  # the one of saliency 0
    assert (told["appears"], told["splits"]) == ("split 1 → 5 tokens", "split 10 → 32 tokens")
    told = tiny.press("Home").patch
    assert (told["appears"], told["splits"]) == ("from the start: a root", "split 1 → 5 tokens")
    told = tiny.press("End").patch
    assert (told["appears"], told["splits"]) == ("split 10 → 32 tokens", "never: the finest size")


def test_leaving_the_picture_clears_the_line_and_a_click_keeps_a_patch(tiny):
    assert tiny.point_at(100, 40, TINY).patch["corner"] == "96, 32 px"
    tiny.page.mouse.move(1, 1)
    assert set(tiny.settle().patch.values()) == {"–"}
    tiny.point_at(100, 40, TINY).page.mouse.down()
    tiny.page.mouse.up()
    tiny.page.mouse.move(1, 1)
    assert tiny.settle().patch["corner"] == "96, 32 px"
    assert set(tiny.press("Escape").patch.values()) == {"–"}


def test_the_line_is_read_out_politely(tiny):
    assert tiny.page.get_attribute("#patch", "aria-live") == "polite"


# ---- Hands.


def test_buttons_and_keys_choose_the_view(tiny):
    pictures = {}
    for key, name in enumerate(["Overlay", "Blur", "Mini", "Heat map"], start=1):
        tiny.page.get_by_role("button", name=name).click()
        tiny.settle()
        assert tiny.view == [name]
        pictures[name] = tiny.canvas.tobytes()
        tiny.press("1" if key != 1 else "2", str(key))
        assert tiny.view == [name]
        assert tiny.canvas.tobytes() == pictures[name]
    assert len(set(pictures.values())) == 4


@pytest.mark.parametrize("key", ["button", "l", "Shift+L"])
def test_lines_can_be_hidden(tiny, key):
    boxes = tiny.page.locator("#boxes")
    assert boxes.evaluate("it => getComputedStyle(it).visibility") == "visible"
    tiny.page.locator("#lines").click() if key == "button" else tiny.press(key)
    assert boxes.evaluate("it => getComputedStyle(it).visibility") == "hidden"
    assert tiny.page.get_attribute("#lines", "aria-pressed") == "false"
    tiny.press("l")
    assert boxes.evaluate("it => getComputedStyle(it).visibility") == "visible"


def test_keys_move_the_budget_wherever_the_focus_is(explore):
    image = photo(SQUARE)
    saliency = blur_saliency(image, SQUARE)
    explorer = explore(image, saliency, SQUARE)
    for focus in ["body", "#splits", "#lines"]:
        explorer.page.locator(focus).focus()
        explorer.press("Home")
        steps = [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("PageUp", 9), ("PageDown", 1)]
        for key, splits in [*steps, ("PageDown", 0), ("ArrowLeft", 0), ("End", 80), ("ArrowRight", 80)]:
            assert explorer.press(key).splits == splits
            assert explorer.boxes == chosen(saliency, SQUARE, splits)


def test_keys_of_the_browser_stay_the_browsers(tiny):
    tiny.press("Control+2", "Alt+3", "Control+End")
    assert (tiny.view, tiny.splits) == (["Overlay"], 2)


def test_everything_is_reached_by_keyboard_alone(tiny):
    focus = "document.activeElement.id || document.activeElement.textContent.trim()"
    reached = []
    for _ in range(9):
        tiny.press("Tab")
        reached.append(tiny.page.evaluate(focus))
        ring = "getComputedStyle(document.activeElement).outlineStyle"
        assert tiny.page.evaluate(ring) == "solid"
    assert reached == ["picture", "splits", "play", "Overlay", "Blur", "Mini", "Heat map", "lines", "Keys"]
    tiny.press("Shift+Tab", "Shift+Tab", "Space")
    assert tiny.view == ["Heat map"]


def test_in_the_picture_the_arrow_keys_walk_from_patch_to_patch(tiny):
    tiny.slide(4)  # both roots, then saliency 7 at (96, 32) and 6 at (64, 32) are split
    tiny.page.locator("#picture").focus()
    assert tiny.settle().patch["corner"] == "0, 0 px"
    walk = [("ArrowRight", (32, 0)), ("ArrowDown", (32, 32)), ("ArrowRight", (64, 48)), ("ArrowRight", (80, 48))]
    for key, (left, top) in [*walk, ("ArrowUp", (80, 32)), ("ArrowUp", (64, 0)), ("ArrowUp", (64, 0))]:
        assert tiny.press(key).patch["corner"] == f"{left}, {top} px"
    assert tiny.splits == 4  # they did not move the slider


def test_play_grows_the_tree_to_the_full_grid_and_again_from_the_roots(explore):
    image = photo(SQUARE)
    saliency = blur_saliency(image, SQUARE)
    explorer = explore(image, saliency, SQUARE).slide(76)
    explorer.page.get_by_role("button", name="Play").click()
    explorer.wait_until(lambda: explorer.splits == 80)
    assert explorer.settle().page.inner_text("#play") == "Play"
    assert explorer.press("p").splits < 60
    explorer.wait_until(lambda: explorer.splits > 3)
    explorer.press("p")
    stopped = explorer.splits
    assert explorer.settle().boxes == chosen(saliency, SQUARE, stopped)
    assert stopped < 80


def test_with_reduced_motion_play_takes_few_large_steps(explore):
    explorer = explore(photo(SQUARE), random_saliency(SQUARE, 1), SQUARE, reduced_motion="reduce").press("Home", "p")
    explorer.wait_until(lambda: explorer.splits > 0)
    assert explorer.splits == 10


# ---- Screens.


@pytest.mark.parametrize("density", [1, 2, 1.5])
def test_the_canvas_has_a_pixel_for_each_pixel_of_the_screen(explore, density):
    explorer = explore(photo(SQUARE), random_saliency(SQUARE, 1), SQUARE, density=density)
    frame = explorer.page.locator("canvas").bounding_box()
    assert explorer.canvas.size == (round(frame["width"] * density), round(frame["height"] * density))


def test_a_resized_window_is_painted_again(explore):
    image = photo(SQUARE)
    explorer = explore(image, random_saliency(SQUARE, 1), SQUARE)
    before = explorer.canvas.size
    explorer.page.set_viewport_size({"width": 700, "height": 500})
    explorer.settle().settle()
    assert explorer.canvas.size < before
    assert mean_difference(explorer.canvas, image.resize(explorer.canvas.size)) < 2


def test_a_picture_that_gets_less_room_in_the_same_window_is_painted_again(tiny):
    before = tiny.canvas.size
    tiny.page.eval_on_selector("main", "main => { main.style.gridTemplateColumns = '300px 400px'; }")
    tiny.settle()
    assert tiny.canvas.size == (300, 150) != before


@pytest.mark.parametrize("width", [320, 390, 600, 800])
@pytest.mark.parametrize("spec", [SQUARE, WIDE], ids=["square", "wide"])
def test_narrow_windows_do_not_scroll_sideways(explore, width, spec):
    long = "a_folder_with_a_long_name/" * 6
    explorer = explore(photo(spec), random_saliency(spec, 1), spec, width=width, height=700, title=long)
    for key in "1234":
        explorer.press(key)
        assert explorer.page.evaluate("document.documentElement.scrollWidth") <= width
    assert explorer.page.locator("#picture").bounding_box()["width"] > 0.5 * width


CONTRAST = """() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (it) => {
    const color = getComputedStyle(it).backgroundColor;
    return color === 'rgba(0, 0, 0, 0)' ? ground(it.parentElement) : color;
  };
  const texts = [...document.querySelectorAll('h1, h2, p, output, span, button, dt, dd, th, td, summary')]
    .filter((it) => it.textContent.trim() && it.checkVisibility());
  return texts.map((it) => {
    const [a, b] = [light(getComputedStyle(it).color), light(ground(it))];
    return [it.textContent, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast_in_both_schemes(explore, scheme):
    explorer = explore(photo(TINY), tiny_saliency(), TINY, color_scheme=scheme).press("4")
    pale = [(text, ratio) for text, ratio in explorer.page.evaluate(CONTRAST) if ratio < 4.5]
    assert pale == []
    body = explorer.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, body[4:-1].split(","))) > 384) == (scheme == "light")


def test_mini_changes_its_ground_when_the_scheme_changes(tiny):
    tiny.press("3")
    tiny.page.emulate_media(color_scheme="dark")
    assert tiny.settle().color_at(2, 2, TINY) == (26, 30, 36)
    tiny.page.emulate_media(color_scheme="light")
    assert tiny.settle().color_at(2, 2, TINY) == (255, 255, 255)


# ---- Alone.


def test_the_page_needs_nothing_but_itself_and_may_ask_for_nothing(tiny):
    files = [url for url in tiny.requests if url.startswith("file:")]
    assert len(files) == 1  # the page; the `explore` fixture has refused all but file: and data:
    ask = "url => fetch(url).then(() => 'answered', () => 'refused')"
    assert tiny.page.evaluate(ask, "data:text/plain,hello") == "refused"
    tiny.problems.clear()  # the browser reports the refusal


def test_a_title_is_shown_as_it_is_written(explore):
    title = "</script><b>it’s “ü” & co</b> {{tree}}.jpg"
    explorer = explore(cells_of_one_color(TINY), tiny_saliency(), TINY, title=title)
    assert explorer.page.inner_text("h1") == title
    assert explorer.page.title() == f"{title} · quadtok"


def mean_difference(picture, other):
    return sum(ImageStat.Stat(ImageChops.difference(picture, other)).mean) / 3


def near(color, other, tolerance):
    return all(abs(a - b) <= tolerance for a, b in zip(color, other, strict=True))
