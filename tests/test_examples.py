"""The examples run as their first lines say, and show what they promise."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers import SAMPLE_IMAGES
from quadtok import load_tokens
from quadtok.cli import run

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTOGRAPH = SAMPLE_IMAGES / "chelsea.jpg"


@pytest.fixture
def run_example(monkeypatch, capsys):
    """Runs an example as a reader does; gives what it says."""

    def run_script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_each_example_is_a_page_and_has_a_line_in_the_readme():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert sorted(re.findall(r"^\| \[(.*?)\]\(\1\) \|", readme, re.MULTILINE)) == [script.name for script in scripts]
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60
        assert f"python examples/{script.name}" in text


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("custom_scorer", (256, 256)),
        ("compare_scorers", (10 + 3 * 266, 39 + 3 * 304)),
        ("dense_volume", (3 * 256, 256)),
    ],
)
def test_an_example_draws_a_picture(name, size, run_example, tmp_path):
    path = tmp_path / "picture.png"
    said = run_example(name, PHOTOGRAPH, path)
    assert said.splitlines()[-1] == str(path)
    with Image.open(path) as picture:
        assert picture.size == size
        assert len(picture.getcolors(maxcolors=2**24)) > 1000


def test_the_tokenizers_shapes_are_printed(run_example):
    said = run_example("tokenizer_shapes", PHOTOGRAPH, SAMPLE_IMAGES / "coffee.jpg")
    assert re.findall(r"^(\w+) +(\[.*?\])", said, re.MULTILINE) == [
        ("images", "[2, 3, 256, 256]"),
        ("QuadtreeTokenizer", "[2, 101, 384]"),
        ("VanillaTokenizer", "[2, 257, 384]"),
    ]


def test_the_four_quadtrees_give_one_plan(run_example):
    said = run_example("one_plan", 2)
    assert re.findall(r"^(\w+) .* ms  (.*)$", said, re.MULTILINE) == [
        (name, "the plan of dict") for name in ("dict", "tensor", "zcurve", "parallel")
    ]


def test_the_volume_holds_the_pixels_of_a_token_at_each_cell(run_example, tmp_path):
    path = tmp_path / "picture.png"
    said = run_example("dense_volume", PHOTOGRAPH, path)
    assert "features [1, 100, 768] -> volume [1, 768, 16, 16]" in said
    with Image.open(path) as picture:
        image, small, enlarged = (picture.crop((left, 0, left + 256, 256)) for left in (0, 256, 512))
    same = [
        box
        for box in ((x, y, x + 16, y + 16) for y in range(0, 256, 16) for x in range(0, 256, 16))
        if small.crop(box).tobytes() == image.crop(box).tobytes() == enlarged.crop(box).tobytes()
    ]
    assert 50 <= len(same) < 100  # the tokens of the finest scale are the image's own pixels


def test_the_scorer_serves_the_command_line_with_its_option(tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.delitem(sys.modules, "custom_scorer", raising=False)
    arguments = ["--scorer", "custom_scorer:EdgeScorer", "--scorer-option", "power=2", "--quiet"]
    assert run(["tokenize", str(PHOTOGRAPH), "-o", str(tmp_path), *arguments]) == 0
    assert load_tokens(tmp_path / "chelsea.pt").metadata["scorer"]["power"] == 2


@pytest.fixture
def timm():
    return pytest.importorskip("timm", minversion="1.0.29", reason="timm is not installed, or too old for NaFlexVit")


def test_a_photograph_is_classified_by_few_tokens_and_by_all(run_example, timm):
    lines = run_example("classify", PHOTOGRAPH).splitlines()
    assert [re.findall(r"^(\d+) tokens: .* [\d.]+%; .* [\d.]+%; .* [\d.]+%$", line) for line in lines] == [
        ["100"],
        ["196"],
    ]


def test_dinov3s_features_are_a_picture_of_cells(run_example, timm, tmp_path):
    path = tmp_path / "picture.png"
    said = run_example("dinov3_features", PHOTOGRAPH, path).splitlines()
    assert said[0] == "features [1, 405, 384]: 5 of the image and 400 of patches"
    assert said[1] == "as maps [1, 384, 32, 32], of 1024 cells"
    with Image.open(path) as picture:
        assert picture.size == (512, 512)
        assert 300 < len(picture.getcolors(maxcolors=1000)) <= 400  # a colour a token


def test_a_segmentation_head_learns(run_example, timm):
    right = [
        int(found)
        for found in re.findall(r"(\d+)% of the pixels are right", run_example("segmentation_head", PHOTOGRAPH))
    ]
    assert right[-1] > right[0] + 10


def test_a_model_is_trained_with_budgets_that_vary(run_example, timm):
    said = run_example("random_budgets", PHOTOGRAPH, SAMPLE_IMAGES / "coffee.jpg")
    budgets = [int(found) for found in re.findall(r"^step \d: (\d+) tokens, loss \d", said, re.MULTILINE)]
    assert len(budgets) == 10 and len(set(budgets)) > 5
    assert re.findall(r"^(\d+) tokens: \d of 2 right$", said, re.MULTILINE) == ["64", "100", "196"]


def test_batches_of_a_loader_are_packed(run_example, timm):
    said = run_example("packed_batches", *sorted(SAMPLE_IMAGES.glob("*.jpg"))[:3]).strip()
    pattern = r"3 photographs: (\d+) tokens in (\d+) slots, (\S+) from padded"
    tokens, slots, difference = re.fullmatch(pattern, said).groups()
    assert int(tokens) < int(slots) and float(difference) <= 1e-5


def test_naflexvit_reads_photographs_of_different_lengths(run_example, timm):
    photographs = sorted(SAMPLE_IMAGES.glob("*.jpg"))[:3]
    said = run_example("naflexvit", *photographs).splitlines()
    pattern = r"(.*): (\d+) tokens, (\S+) from the image alone"
    names, lengths, differences = zip(*(re.fullmatch(pattern, line).groups() for line in said), strict=True)
    assert list(names) == [str(path) for path in photographs]
    assert len(set(lengths)) > 1
    assert all(float(difference) <= 1e-5 for difference in differences)


@pytest.mark.parametrize("name", ["huggingface_dinov2", "huggingface_dinov3", "huggingface_siglip2"])
def test_a_model_of_hugging_face_reads_100_tokens(name, run_example):
    pytest.importorskip("transformers", reason="transformers is not installed")
    said = run_example(name, PHOTOGRAPH)
    assert said.startswith("100 tokens: ")
    assert all(float(difference) <= 1e-5 for difference in re.findall(r"full grid: (\S+) from the model", said))
