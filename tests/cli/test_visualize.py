import io
import json
import os
from importlib.resources import files

import pytest
import torch
from PIL import Image, ImageChops

from helpers import GOLDEN, SAMPLE_IMAGES
from quadtok import Spec, Tokens, load_tokens, render, render_tokens, save_tokens, tokenize
from quadtok.images import fit_image, read_image
from quadtok.marks import mark_of_file
from quadtok.names import StyleName
from quadtok.pictures.encode import encode_picture
from quadtok.pictures.render import STYLES


@pytest.fixture
def tokens(quadtok, photos, tmp_path):
    """A folder of token files of the photographs."""
    assert quadtok("tokenize", photos, "-o", tmp_path / "tokens", "--scorer", "blur").code == 0
    return tmp_path / "tokens"


def same(path, picture):
    with Image.open(path) as found:
        return found.size == picture.size and ImageChops.difference(found.convert("RGB"), picture).getbbox() is None


def pixels_and_plan(photo, num_tokens=100):
    pixels = fit_image(read_image(photo).image, 256, 256, "crop").pixels
    return pixels, tokenize(pixels[None], Spec(256, 256, 16, 64, num_tokens), "blur").plan


@pytest.mark.parametrize("style", sorted(STYLES))
def test_an_image_is_drawn_in_each_style(quadtok, photo, tmp_path, style: StyleName):
    result = quadtok("visualize", photo, "-o", tmp_path, "--scorer", "blur", "--style", style)
    assert result.code == 0
    assert same(tmp_path / f"coffee.{style}.png", render(*pixels_and_plan(photo), style))


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_token_file_needs_nothing_else(quadtok, photo, tokens, tmp_path, style: StyleName):
    photo.unlink()
    assert quadtok("visualize", tokens / "coffee.pt", "-o", tmp_path, "--style", style).code == 0
    assert same(tmp_path / f"coffee.{style}.png", render_tokens(load_tokens(tokens / "coffee.pt"), style))


def test_a_token_file_is_drawn_on_its_photograph(quadtok, photo, tokens, tmp_path):
    assert quadtok("visualize", tokens / "coffee.pt", "-o", tmp_path, "--image", photo).code == 0
    assert same(tmp_path / "coffee.overlay.png", render(*pixels_and_plan(photo)))
    result = quadtok("visualize", photo, "-o", tmp_path, "--image", photo, "--scorer", "blur", "--overwrite")
    assert (result.code, "--image goes with a token file" in result.err) == (1, True)
    result = quadtok("visualize", tokens, "--image", photo)
    assert (result.code, "--image is the photograph of one token file and there are 3" in result.err) == (2, True)


def test_a_native_token_file_finds_its_place_on_the_photograph(quadtok, tmp_path):
    chelsea = SAMPLE_IMAGES / "chelsea.jpg"
    quadtok("tokenize", chelsea, "-o", tmp_path, "--scorer", "blur", "-s", "native", "-n", "100%")
    quadtok("visualize", tmp_path / "chelsea.pt", "--image", chelsea, "--line-width", 0)
    with Image.open(tmp_path / "chelsea.overlay.png") as drawn, Image.open(chelsea) as original:
        left, top = (drawn.width - original.width) // 2, (drawn.height - original.height) // 2
        shown = drawn.crop((left, top, left + original.width, top + original.height))
        assert ImageChops.difference(shown, original).getbbox() is None


def test_a_layout_without_pixels_is_drawn_in_gray(quadtok, photo, tmp_path):
    quadtok("tokenize", photo, "-o", tmp_path, "--scorer", "blur", "--dtype", "none")
    assert quadtok("visualize", tmp_path / "coffee.pt", "--line-width", 0).code == 0
    with Image.open(tmp_path / "coffee.overlay.png") as drawn:
        assert drawn.getcolors() == [(256 * 256, (0xDD, 0xDD, 0xDD))]


def test_scale_enlarges_and_keeps_lines_thin(quadtok, photo, tmp_path):
    for scale in (1, 3):
        quadtok(
            "visualize", photo, "-o", tmp_path / str(scale), "--scorer", "blur", "--scale", scale, "--line-width", 0
        )
    with Image.open(tmp_path / "1/coffee.overlay.png") as small, Image.open(tmp_path / "3/coffee.overlay.png") as large:
        assert large.size == (768, 768)
        assert ImageChops.difference(large.resize(small.size, Image.Resampling.NEAREST), small).getbbox() is None
    quadtok("visualize", photo, "-o", tmp_path / "lines", "--scorer", "blur", "--scale", 3, "--line-color", "red")
    with Image.open(tmp_path / "lines/coffee.overlay.png") as drawn:
        assert drawn.getpixel((767, 400)) == (255, 0, 0)
        assert drawn.getpixel((765, 402)) != (255, 0, 0)


def test_a_sheet_shows_original_blurred_and_mini(quadtok, photo, tmp_path):
    assert quadtok("visualize", photo, "-o", tmp_path, "--scorer", "blur", "--sheet").code == 0
    pixels, plan = pixels_and_plan(photo)
    with Image.open(tmp_path / "coffee.sheet.png") as drawn:
        for picture in (
            render(pixels, plan, "overlay", line_width=0),
            render(pixels, plan, "blur"),
            render(pixels, plan, "mini"),
        ):
            assert _contains(drawn.convert("RGB"), picture)


def test_a_comparison_has_a_row_per_scorer_and_a_column_per_budget(quadtok, photo, tmp_path):
    arguments = ["--compare", "blur,random", "--tokens", "40,100,256", "--style", "blur"]
    assert quadtok("visualize", photo, "-o", tmp_path, *arguments).code == 0
    with Image.open(tmp_path / "coffee.sheet.png") as drawn:
        assert 3 * 256 < drawn.width < 3 * 300
        assert 2 * 256 < drawn.height < 2 * 340
        for num_tokens in (40, 100, 256):
            assert _contains(drawn.convert("RGB"), render(*pixels_and_plan(photo, num_tokens), "blur"))


def test_a_comparison_may_hold_features_with_their_weights_and_maps(quadtok, photo, tmp_path):
    torch.save(torch.rand(16, 16), tmp_path / "maps.pt")
    arguments = ["--compare", "feature,precomputed,blur", "--weights", GOLDEN / "feature_net.pt"]
    result = quadtok("visualize", photo, "-o", tmp_path, *arguments, "--maps", tmp_path / "maps.pt")
    (said, _) = result.lines
    assert result.code == 0
    assert said.startswith(f"quadtok: feature scorer: weights {GOLDEN / 'feature_net.pt'}, sha256 ")


def test_each_of_compared_scorers_gets_the_options_that_it_has(quadtok, photo, tmp_path):
    """A net of the feature scorer would be refused by the object scorer, and its views by the feature scorer."""
    options = ["--weights", GOLDEN / "feature_net.pt", "--scorer-option", "views=2", "--scorer-option", "stride=16"]
    result = quadtok("visualize", photo, "-o", tmp_path, "--compare", "object,feature,blur", *options)
    ours, theirs, _ = result.lines
    assert result.code == 0
    assert ours.startswith("quadtok: object scorer: weights bundled, sha256 ")
    assert theirs.startswith(f"quadtok: feature scorer: weights {GOLDEN / 'feature_net.pt'}, sha256 ")
    entropy = ["--compare", "entropy,blur", "--scorer-option", "thresholds=7,7"]
    assert quadtok("visualize", photo, "-o", tmp_path / "entropy", *entropy).code == 0


def test_weights_go_to_the_object_scorer_where_feature_is_not_compared(quadtok, photo, tmp_path):
    weights = files("quadtok.scorers.object") / "importance_net.pt"
    result = quadtok("visualize", photo, "-o", tmp_path, "--compare", "object,blur", "--weights", weights)
    assert (result.code, f"object scorer: weights {weights}, sha256 " in result.err) == (0, True)


def _contains(page, picture):
    """Whether the picture stands somewhere on the page, pixel for pixel."""
    ours, theirs = (torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image in (page, picture))
    ours, theirs = ours.view(page.height, page.width, 3), theirs.view(picture.height, picture.width, 3)
    row = theirs[100]
    windows = ours.unfold(1, picture.width, 1).permute(0, 1, 3, 2)  # [H, x, w, 3]
    for top, left in (windows[:, :] == row).all(dim=(2, 3)).nonzero().tolist():
        top -= 100
        if torch.equal(ours[top : top + picture.height, left : left + picture.width], theirs):
            return True
    return False


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_grows_split_by_split(quadtok, photo, tokens, tmp_path, suffix):
    target = tmp_path / f"tree{suffix}"
    for source in (photo, tokens / "coffee.pt"):
        assert quadtok("visualize", source, "--scorer", "blur", "--animate", target, "--overwrite").code == 0
        with Image.open(target) as animation:
            assert animation.n_frames == 1 + 28
            assert animation.info["loop"] == 0


def test_the_last_frame_is_the_plan(quadtok, photo, tmp_path):
    quadtok("visualize", photo, "--scorer", "blur", "--animate", tmp_path / "tree.webp")
    with Image.open(tmp_path / "tree.webp") as animation:
        animation.seek(28)
        last = animation.convert("RGB")
    assert ImageChops.difference(last, render(*pixels_and_plan(photo))).getbbox() is None


def test_a_page_to_explore_is_written(quadtok, photo, tokens, tmp_path):
    for source in (photo, tokens / "coffee.pt"):
        assert quadtok("visualize", source, "--scorer", "blur", "--html", tmp_path / "x.html", "--overwrite").code == 0
        page = (tmp_path / "x.html").read_text()
        assert source.name in page and "data:image/" in page
        assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page


@pytest.mark.parametrize(
    ("name", "flag"), [("x.html", "--html"), ("x.htm", "--html"), ("x.HTML", "--html"), ("x.gif", "--animate")]
)
def test_the_ending_of_the_output_says_what_is_drawn(quadtok, photo, tokens, tmp_path, name, flag):
    for source in (photo, tokens / "coffee.pt"):
        assert quadtok("visualize", source, "--scorer", "blur", flag, tmp_path / name, "--overwrite").code == 0
        by_flag = (tmp_path / name).read_bytes()
        assert quadtok("visualize", source, "--scorer", "blur", "--output", tmp_path / name, "--overwrite").code == 0
        assert (tmp_path / name).read_bytes() == by_flag


@pytest.mark.parametrize("flags", [["--sheet"], ["--compare", "blur,random"], ["--tokens", "40,100"], []], ids=" ".join)
def test_a_sheet_or_a_webp_is_one_picture_whatever_it_could_hold(quadtok, photo, tmp_path, flags):
    target = tmp_path / ("x.gif" if flags else "x.webp")
    scorer = [] if "--compare" in flags else ["--scorer", "blur"]
    assert quadtok("visualize", photo, *scorer, *flags, "--output", target).code == 0
    with Image.open(target) as image:
        assert getattr(image, "n_frames", 1) == 1


@pytest.mark.parametrize("draft", [[], ["--draft"], ["--no-draft"]], ids=" ".join)
def test_a_large_photograph_is_drawn_as_it_is_tokenized(quadtok, large, tmp_path, draft):
    flags = ["--scorer", "blur", "--fit", "squash", *draft]
    assert quadtok("tokenize", large, *flags, "-o", tmp_path / "tokens").code == 0
    assert quadtok("visualize", large, *flags, "--output", tmp_path / "photo.png").code == 0
    tokens = tmp_path / "tokens" / "large.pt"
    assert quadtok("visualize", tokens, "--image", large, "--output", tmp_path / "tokens.png").code == 0
    assert same(tmp_path / "photo.png", Image.open(tmp_path / "tokens.png"))


def test_a_draft_shows(quadtok, large, tmp_path):
    for name, flag in (("draft.png", "--draft"), ("whole.png", "--no-draft")):
        flags = ["--scorer", "blur", "--fit", "squash", flag]
        assert quadtok("visualize", large, *flags, "--output", tmp_path / name).code == 0
    assert not same(tmp_path / "draft.png", Image.open(tmp_path / "whole.png"))


def test_different_pictures_at_once_are_refused(quadtok, photo):
    result = quadtok("visualize", photo, "--sheet", "--html", "x.html")
    assert (result.code, "are different pictures: give one" in result.err) == (2, True)
    assert "an animation ends in .gif, .webp" in quadtok("visualize", photo, "--animate", "x.mp4").err


def test_an_animation_of_several_inputs_is_refused(quadtok, photos):
    result = quadtok("visualize", photos, "--scorer", "blur", "--animate", "x.gif")
    assert (result.code, "names one file and there are 3 inputs" in result.err) == (2, True)


def test_token_files_do_not_compare_and_need_their_saliency(quadtok, tokens, tmp_path):
    result = quadtok("visualize", tokens / "coffee.pt", "--tokens", "40,100")
    assert (result.code, "a token file holds one plan" in result.err) == (1, True)
    held = load_tokens(tokens / "coffee.pt")
    save_tokens(tmp_path / "bare.pt", Tokens(held.plan, held.patches))
    result = quadtok("visualize", tmp_path / "bare.pt", "--animate", tmp_path / "x.gif")
    assert (result.code, "holds no saliency to grow the tree by" in result.err) == (1, True)


def test_token_files_alone_load_no_scorer(quadtok, photo, tokens, tmp_path):
    assert "object scorer: weights" not in quadtok("visualize", tokens, "-o", tmp_path).err
    assert "object scorer: weights" in quadtok("visualize", tokens, photo, "-o", tmp_path).err


def test_a_picture_is_known_by_its_fingerprint_and_not_drawn_again(quadtok, photos, tokens, tmp_path):
    """Other pixels under the same mark stay: to compare them, the picture would have to be drawn."""
    given = {"visualize": [photos / "coffee.jpg", "--scorer", "blur"], "reverse": [tokens / "coffee.pt"]}
    for command, arguments in given.items():
        path = tmp_path / f"{command}.png"
        assert quadtok(command, *arguments, "--output", path).code == 0
        with Image.open(path) as drawn:
            other = encode_picture(Image.new("RGB", drawn.size), mark=mark_of_file(path))
        path.write_bytes(other)
        assert "0 written, 1 skipped" in quadtok(command, *arguments, "--output", path).err
        assert path.read_bytes() == other


def test_a_photograph_beside_tokens_is_compared_each_time(quadtok, photos, tokens, tmp_path):
    common = ["reverse", tokens / "coffee.pt", "--against", photos / "coffee.jpg", "--output", tmp_path / "x.png"]
    first, again = quadtok(*common), quadtok(*common)
    assert ("1 written" in first.err, "1 skipped" in again.err) == (True, True)
    assert "PSNR" in first.out and again.out == first.out


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_pictures_are_the_same_for_every_number_of_workers(quadtok, photos, tokens, tmp_path, workers):
    for command, inputs in (("visualize", photos), ("reverse", tokens)):
        scorer = ["--scorer", "blur"] if command == "visualize" else []
        for out, number in (("one", 1), ("other", workers)):
            assert quadtok(command, inputs, *scorer, "-o", tmp_path / out / command, "-j", number, "--json").code == 0
        one, other = (
            {path.name: path.read_bytes() for path in (tmp_path / out / command).rglob("*.png")}
            for out in ("one", "other")
        )
        assert one == other and len(one) == 3


@pytest.mark.parametrize(("channels", "min_patch"), [(1, 9), (2, 16), (4, 18), (5, 7)])
def test_any_number_of_channels_draws(quadtok, tmp_path, channels, min_patch):
    side = 4 * min_patch
    images = torch.randint(256, (1, channels, side, side), dtype=torch.uint8)
    save_tokens(tmp_path / "x.pt", tokenize(images, Spec(side, side, min_patch, 2 * min_patch, 7), "blur"))
    assert quadtok("visualize", tmp_path / "x.pt", "--style", "mini").code == 0
    with Image.open(tmp_path / "x.mini.png") as drawn:
        assert drawn.size == (side, side)


@pytest.mark.parametrize(("flag", "name"), [("--html", "x.html"), ("--animate", "x.gif"), ("--output", "x.png")])
def test_of_several_inputs_none_is_drawn_into_one_file_and_the_flag_is_named(quadtok, photos, tmp_path, flag, name):
    result = quadtok("visualize", photos, flag, tmp_path / name)
    assert (result.code, f"error: {flag} names one file and there are" in result.err) == (2, True)


def test_the_same_picture_is_not_written_again_and_another_is_refused(quadtok, photo, tmp_path):
    common = ["visualize", photo, "-o", tmp_path, "--scorer", "blur"]
    assert "1 written" in quadtok(*common).err
    assert "1 skipped" in quadtok(*common).err
    result = quadtok(*common, "-n", "64")
    assert (
        result.code,
        "exists with other settings, or of another image of this name; use --overwrite" in result.err,
    ) == (1, True)
    assert "1 written" in quadtok(*common, "-n", "64", "--overwrite").err


def test_one_bad_input_costs_no_other(quadtok, photos, tokens):
    (photos / "bad.jpg").write_text("text")
    (tokens / "bad.pt").write_bytes(b"PK text")
    result = quadtok("visualize", photos, tokens, "--scorer", "blur", "--json", "--keep-ext")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 1
    assert records[-1]["failed"] == 2 and records[-1]["written"] == 6
    assert [record["error"]["message"].split(": ")[-1] for record in records if record.get("status") == "failed"] == [
        "not a supported image",
        "not a quadtok token file",
    ]


def test_tokenize_draws_an_overlay_beside_each_file(quadtok, photos, tmp_path):
    arguments = ["tokenize", photos, "-o", tmp_path / "out", "--scorer", "blur", "--overlay"]
    assert quadtok(*arguments).code == 0
    assert same(tmp_path / "out" / "coffee.overlay.png", render(*pixels_and_plan(photos / "coffee.jpg")))
    assert "3 skipped" in quadtok(*arguments).err
    (tmp_path / "out" / "coffee.overlay.png").unlink()
    assert "1 written, 2 skipped" in quadtok(*arguments).err
    assert (tmp_path / "out" / "coffee.overlay.png").exists()


def test_captions_are_legible(quadtok, photo, tmp_path):
    """No character of a caption falls back to the box that stands for a missing glyph."""
    from PIL import ImageFont

    font = ImageFont.load_default(14)
    missing = font.getmask("\U0001f9ff").getbbox(), bytes(font.getmask("\U0001f9ff"))
    for character in "0123456789 tokens, of px original at their size enlarged feature blur random precomputed…:":
        if character != " ":
            assert (font.getmask(character).getbbox(), bytes(font.getmask(character))) != missing, character


def test_the_page_goes_to_the_file_as_it_is(quadtok, photo, tmp_path):
    target = tmp_path / "deep" / "x.html"
    quadtok("visualize", photo, "--scorer", "blur", "--html", target)
    assert io.StringIO(target.read_text(encoding="utf-8")).readline().lower().startswith("<!doctype html>")


class TestToldByContent:
    """What a file is stands in it, not in its name."""

    def run(self, quadtok, path, tmp_path, *flags):
        return quadtok("visualize", path, "--output", tmp_path / "x.png", "--scorer", "blur", *flags)

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"some text", "a text file"),
            (b"\x80\x02}q\x00.", "a file of another kind"),
            (b"%PDF-1.4", "a PDF"),
            (b"\x00" * 100, "a file of another kind"),
        ],
    )
    def test_a_pt_that_is_neither_tokens_nor_an_image_costs_itself_alone(
        self, quadtok, tokens, tmp_path, content, what
    ):
        (tmp_path / "odd.pt").write_bytes(content)
        result = quadtok("visualize", tmp_path / "odd.pt", tokens, "-o", tmp_path / "out")
        assert result.lines[0] == f"quadtok: error: {tmp_path / 'odd.pt'}: not a quadtok token file, but {what}"
        assert (result.code, "3 written, 0 skipped, 1 failed" in result.lines[1]) == (1, True)

    def test_an_empty_one_and_another_archive_too(self, quadtok, tokens, tmp_path):
        (tmp_path / "empty.pt").touch()
        torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")
        result = quadtok("visualize", tmp_path / "empty.pt", tmp_path / "model.pt", tokens, "-o", tmp_path / "out")
        assert result.lines[:2] == [
            f"quadtok: error: {tmp_path / 'empty.pt'}: empty file",
            f"quadtok: error: {tmp_path / 'model.pt'}: not a quadtok token file",
        ]
        assert "3 written, 0 skipped, 2 failed" in result.lines[2]

    def test_an_image_named_pt_is_tokenized(self, quadtok, photo, tmp_path):
        (tmp_path / "photo.pt").write_bytes(photo.read_bytes())
        assert self.run(quadtok, tmp_path / "photo.pt", tmp_path).code == 0
        assert self.run(quadtok, photo, tmp_path, "--if-exists", "resume").code == 0  # the same bytes

    def test_a_token_file_named_jpg_is_drawn(self, quadtok, tokens, tmp_path):
        (tmp_path / "tokens.jpg").write_bytes((tokens / "coffee.pt").read_bytes())
        assert self.run(quadtok, tmp_path / "tokens.jpg", tmp_path).code == 0

    def test_a_folder_named_pt_is_walked(self, quadtok, tokens, tmp_path):
        (tmp_path / "x.pt").mkdir()
        (tmp_path / "x.pt" / "inside.pt").write_bytes((tokens / "coffee.pt").read_bytes())
        assert quadtok("visualize", tmp_path / "x.pt", "-o", tmp_path / "out").code == 0
        assert (tmp_path / "out" / "inside.overlay.png").exists()


def test_a_page_of_a_name_that_is_no_text_is_written(quadtok, photo, tmp_path):
    odd = photo.rename(photo.with_name(os.fsdecode(b"odd\xff.jpg")))
    assert quadtok("visualize", odd, "--scorer", "blur", "--html", tmp_path / "x.html").code == 0
    assert "odd?.jpg" in (tmp_path / "x.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["tokenize", "visualize"])
def test_weights_from_a_pipe_are_refused_and_not_waited_for(quadtok, photo, tmp_path, command):
    os.mkfifo(tmp_path / "pipe")
    result = quadtok(command, photo, "--scorer", "feature", "--weights", tmp_path / "pipe")
    assert (result.code, result.lines) == (2, [f"quadtok: error: weights {tmp_path / 'pipe'}: not a regular file"])


def test_what_is_refused_while_it_is_drawn_names_the_input(quadtok, photo, tmp_path):
    wide = ("-s", "64x1088", "-n", "100%", "--scorer", "blur", "--scale", "16")  # 17408 pixels wide
    result = quadtok("visualize", photo, *wide, "--output", tmp_path / "wide.webp")
    assert result.code == 1
    assert f"error: {photo}: 1024×17408 pixels are more than .webp holds" in result.err
