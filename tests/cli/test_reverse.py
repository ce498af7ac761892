import json
import math

import pytest
import torch
from PIL import Image

from helpers import SAMPLE_IMAGES
from quadtok import load_tokens, reverse, reverse_patches
from quadtok.images import fit_image, read_image
from quadtok.reversal import psnr

CHELSEA = SAMPLE_IMAGES / "chelsea.jpg"


@pytest.fixture
def tokens(quadtok, tmp_path):
    """Makes a token file of the cat with the given flags."""

    def make(*arguments):
        assert quadtok("tokenize", CHELSEA, "-o", tmp_path, "--scorer", "blur", "--overwrite", *arguments).code == 0
        return tmp_path / "chelsea.pt"

    return make


def picture(path):
    with Image.open(path) as image:
        return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)


def test_a_full_grid_gives_the_image_back_exactly(quadtok, tokens, tmp_path):
    path = tokens("-n", "100%")
    result = quadtok("reverse", path, "--against", CHELSEA)
    assert (result.code, result.out) == (0, f"{path}: PSNR inf dB\n")
    original = fit_image(read_image(CHELSEA).image, 256, 256, "crop").pixels
    assert torch.equal(picture(tmp_path / "chelsea.reversed.png").permute(2, 0, 1), original)


@pytest.mark.parametrize("smooth", [False, True])
def test_each_token_is_spread_over_its_box(quadtok, tokens, tmp_path, smooth):
    path = tokens()
    assert quadtok("reverse", path, *["--smooth"] * smooth).code == 0
    held = load_tokens(path)
    expected = reverse_patches(held.patches, held.plan, smooth)[0].round().clamp(0, 255).byte()
    assert torch.equal(picture(tmp_path / "chelsea.reversed.png").permute(2, 0, 1), expected)


def test_more_tokens_are_nearer_to_the_photograph(quadtok, tokens):
    def decibels(*arguments):
        found = quadtok("reverse", tokens(*arguments), "--against", CHELSEA, "--json", "--overwrite")
        return float(json.loads(found.out.splitlines()[0])["psnr"])

    assert decibels("-n", "16") < decibels("-n", "100") < decibels("-n", "253")


def test_native_sizes_compare_with_their_photograph(quadtok, tokens):
    path = tokens("-s", "native", "-n", "100%")
    assert quadtok("reverse", path, "--against", CHELSEA).out.endswith("PSNR inf dB\n")


def test_another_photograph_is_refused_where_its_size_does_not_fit(quadtok, tokens):
    path = tokens("-s", "native", "-n", "100%")
    result = quadtok("reverse", path, "--against", SAMPLE_IMAGES / "coffee.jpg")
    assert (result.code, "becomes 448×640, the tokens are of 320×512 pixels" in result.err) == (1, True)


def test_psnr_by_its_definition():
    image = torch.zeros(3, 4, 4)
    assert psnr(image, image) == math.inf
    assert psnr(image, image + 255) == pytest.approx(0)
    assert psnr(image, image + 25.5) == pytest.approx(20)


def test_a_layout_without_pixels_cannot_be_reversed(quadtok, tokens):
    result = quadtok("reverse", tokens("--dtype", "none"))
    assert (result.code, "holds no pixels, only the layout" in result.err) == (1, True)


class TestFeatures:
    def run(self, quadtok, path, features, *arguments):
        torch.save(features, path.parent / "features.pth")
        return quadtok("reverse", path, "--to", "features", "--features", path.parent / "features.pth", *arguments)

    @pytest.mark.parametrize("batched", [False, True])
    def test_features_become_a_dense_map(self, quadtok, tokens, tmp_path, batched):
        path = tokens()
        features = torch.rand(1, 100, 5)
        assert self.run(quadtok, path, features if batched else features[0]).code == 0
        found = torch.load(tmp_path / "chelsea.features.pth", weights_only=True)
        assert torch.equal(found, reverse(features, load_tokens(path).plan)[0])

    def test_a_row_too_many_is_told_to_be_the_cls_token(self, quadtok, tokens):
        result = self.run(quadtok, tokens(), torch.rand(101, 5))
        assert result.code == 2
        assert "they still hold the cls token" in result.err and "[1, 101, 5]" in result.err

    def test_a_wrong_count_names_both_numbers(self, quadtok, tokens):
        result = self.run(quadtok, tokens(), torch.rand(64, 5))
        assert result.code == 2
        assert "[1, 64, 5]" in result.err and "1 images of 100 tokens" in result.err

    def test_a_bad_token_file_costs_only_its_own_row(self, quadtok, tokens, tmp_path):
        path = tokens()
        (tmp_path / "bad.pt").write_bytes(b"text")
        torch.save(torch.rand(2, 100, 4), tmp_path / "f.pth")
        result = quadtok("reverse", tmp_path / "bad.pt", path, "--to", "features", "--features", tmp_path / "f.pth")
        assert result.code == 1
        assert "1 written, 0 skipped, 1 failed" in result.err

    def test_a_wrong_batch_names_both_numbers(self, quadtok, tokens):
        result = self.run(quadtok, tokens(), torch.rand(2, 100, 5))
        assert (result.code, "there are 1 token files" in result.err) == (2, True)

    def test_several_files_take_their_rows_in_order(self, quadtok, photos, tmp_path):
        quadtok("tokenize", photos, "-o", tmp_path / "t", "--scorer", "blur")
        features = torch.rand(3, 100, 4)
        torch.save(features, tmp_path / "f.pth")
        result = quadtok("reverse", tmp_path / "t", "--to", "features", "--features", tmp_path / "f.pth")
        assert result.code == 0
        for row, name in enumerate(("coffee", "pets/cat", "rocket")):
            found = torch.load(tmp_path / "t" / f"{name}.features.pth", weights_only=True)
            plan = load_tokens(tmp_path / "t" / f"{name}.pt").plan
            assert torch.equal(found, reverse(features[row : row + 1], plan)[0])

    @pytest.mark.parametrize("content", [b"", b"text"])
    def test_files_that_hold_no_tensor_are_refused(self, quadtok, tokens, tmp_path, content):
        path = tokens()
        (tmp_path / "bad.pth").write_bytes(content)
        result = quadtok("reverse", path, "--to", "features", "--features", tmp_path / "bad.pth")
        assert (result.code, "not a tensor that can be loaded safely" in result.err) == (2, True)
        assert "expected a tensor" in self.run(quadtok, path, {"x": 1}).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "features"], "--to features and --features FILE go together"),
        (["--features", "x.pth"], "--to features and --features FILE go together"),
        (["--to", "features", "--features", "x", "--smooth"], "--smooth and --against go with --to image"),
    ],
)
def test_flags_that_do_not_fit_together(quadtok, tokens, arguments, message):
    result = quadtok("reverse", tokens(), *arguments)
    assert (result.code, message in result.err) == (2, True)


def test_the_photograph_beside_the_tokens_is_never_overwritten(quadtok, photo):
    quadtok("tokenize", photo, "--scorer", "blur")
    before = photo.read_bytes()
    assert quadtok("reverse", photo.with_suffix(".pt")).code == 0
    assert photo.read_bytes() == before
    assert (photo.parent / "coffee.reversed.png").exists()


def test_the_same_again_is_skipped_and_other_results_are_refused(quadtok, tokens):
    path = tokens()
    assert "1 written" in quadtok("reverse", path).err
    assert "1 skipped" in quadtok("reverse", path).err
    assert "use --overwrite" in quadtok("reverse", path, "--smooth").err


def test_one_bad_file_costs_no_other(quadtok, tokens, tmp_path):
    path = tokens()
    (tmp_path / "bad.pt").write_bytes(b"text")
    result = quadtok("reverse", tmp_path / "bad.pt", tmp_path / "gone.pt", path)
    assert result.code == 1
    assert result.lines[0] == f"quadtok: error: {tmp_path / 'bad.pt'}: not a quadtok token file"
    assert "1 written, 0 skipped, 2 failed" in result.err
