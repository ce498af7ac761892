"""What a scorer computes in does not depend on what the program around it has asked of torch."""

import threading

import pytest
import torch

from helpers import SAMPLE_IMAGES, assert_same_plan
from quadtok import Spec, get_scorer, tokenize
from quadtok.images import fit_image, read_image
from quadtok.precision import ExactProducts, exact_products
from quadtok.scorers import on_device

SPEC = Spec(256, 256, 16, 64, 100)
SETTINGS = {
    "cpu": (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul),
    "cuda": (torch.backends.cudnn.conv, torch.backends.cuda.matmul),
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def photographs(count=6):
    paths = sorted(SAMPLE_IMAGES.glob("*.jpg"))[:count]
    return torch.stack([fit_image(read_image(path).image, 256, 256, "crop").pixels for path in paths])


def values(device):
    return [setting.fp32_precision for setting in SETTINGS[device]]


@pytest.fixture
def loose():
    """What a training script asks for."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.usefixtures("loose")
def test_products_are_exact_inside_and_what_they_were_outside(kind):
    before = values(kind)
    with exact_products(torch.device(kind)):
        assert values(kind) == ["ieee", "ieee"]
    assert values(kind) == before != ["ieee", "ieee"]


@pytest.mark.usefixtures("loose")
def test_an_error_inside_changes_nothing_outside():
    before = values("cuda")
    with pytest.raises(ValueError, match="odd"), exact_products(torch.device("cuda")):
        raise ValueError("odd")
    assert values("cuda") == before


class Setting:
    fp32_precision = "tf32"


def test_the_last_block_to_be_left_sets_back_what_the_first_found():
    setting, seen = Setting(), []
    products = ExactProducts([setting])
    first, second, done = products.block(), products.block(), threading.Event()
    first.__enter__()

    def other():
        with second:
            seen.append(setting.fp32_precision)
            done.wait()
            seen.append(setting.fp32_precision)

    thread = threading.Thread(target=other)
    thread.start()
    while not seen:
        pass
    first.__exit__(None, None, None)
    assert setting.fp32_precision == "ieee"
    done.set()
    thread.join()
    assert seen == ["ieee", "ieee"] and setting.fp32_precision == "tf32"


def test_a_recording_takes_the_settings_that_it_finds():
    def run(images):
        with exact_products(torch.device("cpu")):
            return images + 1

    torch._dynamo.reset()
    assert torch.compile(run, fullgraph=True, backend="eager")(torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize("scorer", ["object", "feature"])
def test_plans_do_not_depend_on_the_settings(scorer, device):
    images = photographs().to(device)
    expected = tokenize(images, SPEC, scorer).plan
    before = [backend.fp32_precision for backend in SETTINGS["cuda"]]
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same_plan(tokenize(images, SPEC, scorer).plan, expected)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert [backend.fp32_precision for backend in SETTINGS["cuda"]] == before


@needs_gpu
@pytest.mark.parametrize("scorer", ["object", "feature", "blur"])
def test_a_gpu_scores_as_a_cpu_does(scorer):
    """TF32 would leave 1e-3."""
    images = photographs()
    expected = get_scorer(scorer)(images, SPEC)
    given = images.cuda()
    found = tokenize(given, SPEC, scorer).plan.to("cpu")
    assert_same_plan(found, tokenize(images, SPEC, scorer).plan)
    for ours, theirs in zip(on_device(get_scorer(scorer), given.device)(given, SPEC), expected, strict=True):
        assert (ours.cpu() - theirs).abs().max() <= 2e-5 * theirs.abs().max()
