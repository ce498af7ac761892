"""The bundled net: it comes with the package, asks nobody, and prefers no place, no exposure and no size."""

import io
import socket
import sys

import pytest
import torch

import measure
from helpers import photographs
from quadtok import Spec, get_scorer, tokenize
from quadtok.errors import InputError, WeightsError
from quadtok.scorers.feature.object_net import ObjectNet, tie_mirrored_weights
from quadtok.scorers.feature.weights import BUNDLED_FILE, load_trunk

SPEC = Spec(256, 256, 16, 64, 64)


def bundled_state():
    return torch.load(io.BytesIO(BUNDLED_FILE.read_bytes()), weights_only=True)


def test_the_weights_are_half_precision_in_less_than_a_megabyte():
    assert len(BUNDLED_FILE.read_bytes()) <= 1_000_000
    assert {value.dtype for value in bundled_state().values()} == {torch.float16}


def test_the_default_weights_need_no_network_and_no_torchvision(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *arguments: pytest.fail("asked the network"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    scorer = get_scorer("feature")
    assert (scorer.describe()["weights"], scorer.stride) == ("bundled", 16)
    assert [scores.shape for scores in scorer(photographs(128, 128), Spec(128, 128, 16, 64, 16))] == [
        (2, 4, 4),
        (2, 2, 2),
    ]


def test_weights_of_ones_own_load_from_a_file_as_the_bundled_ones_do(tmp_path):
    path = tmp_path / "mine.pt"
    torch.save(bundled_state(), path)
    ours, theirs = get_scorer("feature", weights=path), get_scorer("feature")
    assert ours.weights_sha256 == theirs.weights_sha256
    assert ours.describe()["weights"] == "mine.pt"


def test_weights_that_do_not_fit_are_refused_naming_the_tensor(tmp_path):
    state = bundled_state()
    del state["what.0.0.bias"]
    torch.save(state, tmp_path / "mine.pt")
    with pytest.raises(WeightsError, match="not an ObjectNet: 1 of .* tensors missing, first what.0.0.bias"):
        get_scorer("feature", weights=tmp_path / "mine.pt")


@pytest.mark.parametrize("stride", [8, 32])
def test_the_net_has_one_stride(stride):
    with pytest.raises(InputError, match=f"stride {stride} is none of 16, which weights bundled have"):
        get_scorer("feature", stride=stride)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 70), (256, 256), (120, 500)])
def test_an_image_of_any_size_gives_features_at_a_stride_of_16(height, width):
    net = load_trunk("bundled", None).net
    with torch.no_grad():
        features = net(torch.randn(2, 3, height, width))
    assert features.shape == (2, 32, -(-height // 16), -(-width // 16))
    assert features.isfinite().all()


def test_a_flat_image_scores_finite_and_alike_everywhere():
    for scores in get_scorer("feature")(torch.full((1, 3, 256, 256), 0.3), SPEC):
        assert (scores - scores.mean()).abs().max() <= 1e-6


def test_features_do_not_know_the_border():
    colour = torch.tensor([1.0, 0.2, -0.7]).view(1, 3, 1, 1)
    with torch.no_grad():
        features = load_trunk("bundled", None).net(colour.expand(1, 3, 160, 192))
    middle = features[..., 5:6, 6:7]
    assert (features - middle).abs().max() <= 1e-5 * features.abs().max()


def test_the_net_with_norms_has_the_same_layers():
    plain = set(ObjectNet().state_dict())
    with_norms = set(ObjectNet(norms=True).state_dict())
    assert {name for name in plain if name.endswith("weight")} <= with_norms


def noise():
    return torch.randn(2, 3, 192, 192, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scene", ["photographs", "noise"])
def test_a_mirrored_image_gets_mirrored_scores(scene):
    images = photographs(192, 192) if scene == "photographs" else noise()
    scorer, spec = get_scorer("feature"), Spec(192, 192, 16, 64, 36)
    for ours, mirrored in zip(scorer(images, spec), scorer(images.flip(-1), spec), strict=True):
        assert (ours - mirrored.flip(-1)).abs().max() <= 1e-4 * ours.abs().max()
        assert (ours - mirrored).abs().max() > 0.1 * ours.abs().max()  # not because they are alike everywhere


def test_tied_weights_stay_tied_and_untied_ones_break_the_symmetry():
    torch.manual_seed(0)
    net, images = ObjectNet(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(net(images).mean(1), net(images.flip(-1)).mean(1).flip(-1), rtol=1e-3)
        tie_mirrored_weights(net)
        tied = {name: value.clone() for name, value in net.state_dict().items()}
        tie_mirrored_weights(net)
        assert torch.allclose(net(images).mean(1), net(images.flip(-1)).mean(1).flip(-1), rtol=1e-3)
    assert all(torch.equal(value, tied[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(("down", "right"), [(64, 0), (0, 64), (64, 64)])
def test_what_moves_takes_its_scores_along(down, right):
    # Something to look at on a plain ground: wherever it stands, its scores are the same, to the borders of the image.
    thing = photographs(64, 64, batch=1)
    saliency = []
    for top, left in ((64, 64), (64 + down, 64 + right)):
        image = torch.zeros(1, 3, 256, 256)
        image[..., top : top + 64, left : left + 64] = thing
        fine, coarse = get_scorer("feature")(image, SPEC)
        rows, cols = slice(top // 32, top // 32 + 2), slice(left // 32, left // 32 + 2)
        saliency.append((fine[:, rows, cols], coarse[:, top // 64, left // 64]))
        assert coarse[0, top // 64, left // 64] == coarse.max()
    for here, there in zip(*saliency, strict=True):
        assert (here - there).abs().max() <= 0.2 * here.abs().max()


@pytest.mark.parametrize(("down", "right"), [(64, 0), (0, 64), (64, 64)])
def test_a_photograph_that_moves_takes_the_order_of_its_scores_along(down, right):
    spec, photograph = Spec(512, 512, 16, 64, 64), photographs(192, 192)
    orders = []
    for top, left in ((128, 128), (128 + down, 128 + right)):
        canvas = torch.zeros(2, 3, 512, 512)
        canvas[..., top : top + 192, left : left + 192] = photograph
        fine, coarse = get_scorer("feature")(canvas, spec)
        fine = fine[:, top // 32 : top // 32 + 6, left // 32 : left // 32 + 6]
        coarse = coarse[:, top // 64 : top // 64 + 3, left // 64 : left // 64 + 3]
        orders.append([fine, coarse])
    assert measure.kendall(*orders).min() >= 0.95


def test_tokens_are_the_same_twice_and_with_other_images_beside():
    images = photographs(128, 128)
    spec = Spec(128, 128, 16, 64, 16)
    together, alone = (tokenize(pixels, spec, "feature") for pixels in (images, images[:1]))
    assert torch.equal(together.plan.left[:1], alone.plan.left)
    assert torch.equal(together.plan.scale[:1], alone.plan.scale)
