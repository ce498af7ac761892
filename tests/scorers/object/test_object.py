"""The object scorer: what it promises whatever it has learned. What it has learned is measured elsewhere."""

import io
import socket
import sys
import warnings

import pytest
import torch

from helpers import GOLDEN, photographs, refused_weights
from quadtok import Spec, get_scorer, tokenize
from quadtok.errors import InputError, WeightsError
from quadtok.scorers.nets import weights_digest
from quadtok.scorers.object import BUNDLED_FILE
from quadtok.scorers.object.net import ImportanceNet

SPEC = Spec(192, 192, 16, 64, 36)
IMAGES = photographs(192, 192)


def bundled_state():
    return dict(torch.load(io.BytesIO(BUNDLED_FILE.read_bytes()), weights_only=True))


def saved(folder, content, **options):
    path = folder / "mine.pt"
    torch.save(content, path, **options)
    return path


@pytest.fixture(scope="module")
def learned_nothing(tmp_path_factory):
    """A file of random weights that let something through all layers."""
    torch.manual_seed(0)
    net = ImportanceNet()
    for weight in net.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight)
    with torch.no_grad():
        net.head.out.weight.mul_(0.1)  # so that no map is at its bounds
    return saved(tmp_path_factory.mktemp("random"), net.state_dict())


@pytest.fixture(params=["bundled", "random"])
def weights(request, learned_nothing):
    return "bundled" if request.param == "bundled" else learned_nothing


def farthest(ours, theirs):
    """The largest difference of scores, in shares of the largest score of their scale."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


# The weights that come with quadtok.


def test_the_weights_are_half_precision_in_less_than_two_megabytes():
    assert len(BUNDLED_FILE.read_bytes()) <= 2_000_000
    assert {value.dtype for value in bundled_state().values()} == {torch.float16}


def test_the_default_weights_need_no_network_and_no_torchvision(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *arguments: pytest.fail("asked the network"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    scorer = get_scorer("object")
    assert scorer.describe()["weights"] == scorer.weights == "bundled"
    assert [scores.shape for scores in scorer(IMAGES, SPEC)] == [(2, 6, 6), (2, 3, 3)]


def test_it_is_what_tokenize_uses_unless_told_otherwise():
    assert tokenize(IMAGES, SPEC) == tokenize(IMAGES, SPEC, "object") != tokenize(IMAGES, SPEC, "feature")


def test_weights_of_ones_own_load_from_a_file_as_the_bundled_ones_do(tmp_path):
    shuffled = dict(reversed(bundled_state().items()))
    path = saved(tmp_path, shuffled, _use_new_zipfile_serialization=False)
    ours, theirs = get_scorer("object", weights=path), get_scorer("object")
    assert ours.weights_sha256 == theirs.weights_sha256
    assert (ours.weights, ours.describe()["weights"]) == (str(path), "mine.pt")
    assert all(map(torch.equal, ours(IMAGES, SPEC), theirs(IMAGES, SPEC)))


def test_the_digest_is_of_the_weights_whatever_is_computed_in(tmp_path):
    state = {name: value.float() for name, value in bundled_state().items()}
    digests = {get_scorer("object", **options).weights_sha256 for options in ({}, {"precision": "bfloat16"})}
    assert digests == {weights_digest(state)}
    state["head.out.bias"] += 1e-3
    assert get_scorer("object", weights=saved(tmp_path, state)).weights_sha256 not in digests


# What is refused.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("head.mix.weight"), "tensors missing, first head.mix.weight"),
        (lambda s: s.clear(), "tensors missing, first head.coarse.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "tensors unexpected, first extra"),
        (
            lambda s: s.update({"stem.conv.weight": torch.zeros(32, 1, 4, 4)}),
            "of another shape, first stem.conv.weight",
        ),
        (lambda s: s.update({f"module.{key}": s.pop(key) for key in list(s)}), "tensors missing"),
    ],
    ids=["missing", "empty", "unexpected", "misshapen", "prefixed"],
)
def test_a_state_dict_that_does_not_fit_is_refused_naming_the_tensor(tmp_path, change, sentence):
    content = bundled_state()
    change(content)
    said = refused_weights("object", (path := saved(tmp_path, content)))
    assert said.startswith(f"weights {path}: not an ImportanceNet: ")
    assert sentence in said


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2)], ids=["list", "epoch", "tensor"])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    assert "not a state dict (a mapping of names to tensors)" in refused_weights("object", saved(tmp_path, content))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = saved(tmp_path, ImportanceNet())  # a pickled module
    assert refused_weights("object", path) == f"weights {path}: not a state dict that can be loaded safely"


@pytest.mark.parametrize("cut", [0, 1, 100, 100_000])
def test_a_damaged_file_is_refused(tmp_path, cut):
    path = tmp_path / "half.pt"
    path.write_bytes(BUNDLED_FILE.read_bytes()[:cut])
    assert refused_weights("object", path) == f"weights {path}: not a state dict that can be loaded safely"


def test_a_missing_file_and_weights_of_the_feature_scorer_are_refused_with_what_to_give(tmp_path):
    path = tmp_path / "nowhere.pt"
    assert refused_weights("object", path) == f"weights {path}: no such file; give bundled or the path of a state dict"
    for name in ("imagenet", "lite0"):
        said = f"weights {name} are the feature scorer's: give bundled or the path of a state dict"
        assert refused_weights("object", name) == said
    assert "not an ImportanceNet: " in refused_weights("object", GOLDEN / "feature_net.pt")
    with pytest.raises(WeightsError, match="of an ImportanceNet: they are for the object scorer, not for feature"):
        get_scorer("feature", weights=saved(tmp_path, bundled_state()))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"views": 0}, "views 0 is none of 1, 2"),
        ({"views": 3}, "views 3 is none of 1, 2"),
        ({"views": True}, "views True is none of 1, 2"),
        ({"views": 2.0}, "views 2.0 is none of 1, 2"),
        ({"views": "2"}, "views '2' is none of 1, 2"),
        ({"precision": "exact"}, "precision 'exact' is none of float32, bfloat16, float16"),
        ({"weights": 3}, "weights must be a name or a path, got 3"),
        ({"weights": None}, "weights must be a name or a path, got None"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        get_scorer("object", **options)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_than_three_channels_are_refused_with_both_numbers(channels):
    sentence = f"net takes 3 channels, the images have {channels}: give images of 3, or .* without a net, such as blur$"
    with pytest.raises(InputError, match=f"the object scorer's {sentence}"):
        get_scorer("object")(torch.zeros(1, channels, 192, 192), SPEC)


def test_it_has_a_device_and_refuses_images_of_another():
    scorer = get_scorer("object")
    assert scorer.device == torch.device("cpu") and scorer.to("cpu") is scorer
    with pytest.raises(InputError, match=r'the object scorer is on cpu, the images are on meta: use scorer.to\("meta"'):
        scorer(IMAGES.to("meta"), SPEC)
    with pytest.raises(InputError, match="the object scorer cannot be moved to device nowhere"):
        scorer.to("nowhere")
    moved = scorer.to("meta")
    assert (moved.device.type, scorer.device.type, moved.describe()) == ("meta", "cpu", scorer.describe())


# What its scores are.


@pytest.mark.parametrize(
    "spec",
    [
        Spec(16, 16, 8, 16, 4),
        Spec(8, 8, 1, 8, 10),
        Spec(24, 8, 1, 8, 60),
        Spec(32, 16, 16, 16, 2),
        Spec(224, 112, 14, 56, 20),
        Spec(36, 12, 3, 12, 27),
        Spec(512, 576, 16, 64, 102),
        Spec(1024, 640, 8, 128, 70),
    ],
    ids=str,
)
def test_an_image_of_any_size_from_one_root_up_is_scored(spec, weights):
    images = torch.rand(2, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
    saliency = get_scorer("object", weights=weights)(images, spec)
    assert [scores.shape[1:] for scores in saliency] == [spec.grid(scale) for scale in range(1, spec.num_scales)]
    assert all(scores.isfinite().all() and (scores > 0).all() for scores in saliency)


@pytest.mark.parametrize("value", [0.0, 0.3, 1e4])
def test_a_flat_image_scores_alike_everywhere(value, weights):
    for scores in get_scorer("object", weights=weights)(torch.full((1, 3, 192, 192), value), SPEC):
        assert (scores - scores.mean()).abs().max() <= 1e-5 * scores.mean()


@pytest.mark.parametrize("across", [False, True], ids=["down", "right"])
def test_a_picture_that_moves_on_a_plain_canvas_takes_its_scores_along(across, weights):
    """Where the canvas is so wide that what the net sees does not reach over its border and back."""
    spec, scorer = Spec(256, 1024, 16, 64, 100), get_scorer("object", weights=weights)
    spec = spec if across else Spec(1024, 256, 16, 64, 100)
    found = []
    for start in (384, 448):
        canvas = torch.full((2, 3, spec.height, spec.width), -0.4)
        top, left = (64, start) if across else (start, 64)
        canvas[..., top : top + 128, left : left + 128] = photographs(128, 128)
        fine, coarse = scorer(canvas, spec)
        fine = fine[:, top // 32 : top // 32 + 4, left // 32 : left // 32 + 4]
        found.append([fine, coarse[:, top // 64 : top // 64 + 2, left // 64 : left // 64 + 2]])
    assert farthest(*found) <= 1e-4
    assert all((scores.amax((1, 2)) > 1.05 * scores.amin((1, 2))).all() for scores in found[0])


def test_exposure_does_not_matter(weights):
    scorer = get_scorer("object", weights=weights)
    assert farthest(scorer(IMAGES + 1, SPEC), scorer(IMAGES, SPEC)) <= 1e-4


@pytest.mark.parametrize("contrast", [0.7, 1.5])
def test_contrast_hardly_matters(contrast, weights):
    """Not at all, but for the thousandth that keeps what is flat from becoming a picture."""
    scorer = get_scorer("object", weights=weights)
    assert farthest(scorer(IMAGES * contrast, SPEC), scorer(IMAGES, SPEC)) <= 0.01


def test_an_image_scores_as_it_does_alone(weights):
    scorer = get_scorer("object", weights=weights)
    together = scorer(IMAGES, SPEC)
    for image in range(2):
        alone = scorer(IMAGES[image : image + 1], SPEC)
        assert farthest(alone, [scores[image : image + 1] for scores in together]) <= 1e-5


def test_a_batch_of_no_images_has_no_scores_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [scores.shape for scores in get_scorer("object")(IMAGES[:0], SPEC)] == [(0, 6, 6), (0, 3, 3)]


def test_with_two_views_a_mirrored_image_gets_mirrored_scores(weights):
    scorer = get_scorer("object", weights=weights, views=2)
    mirrored = [scores.flip(-1) for scores in scorer(IMAGES.flip(-1), SPEC)]
    assert farthest(mirrored, scorer(IMAGES, SPEC)) <= 1e-4
    assert farthest([scores.flip(-1) for scores in mirrored], scorer(IMAGES, SPEC)) > 0.05  # not alike everywhere


def test_with_one_view_random_weights_do_not_mirror(learned_nothing):
    scorer = get_scorer("object", weights=learned_nothing)
    mirrored = [scores.flip(-1) for scores in scorer(IMAGES.flip(-1), SPEC)]
    assert farthest(mirrored, scorer(IMAGES, SPEC)) > 0.05


def test_the_scores_are_the_geometric_mean_of_what_either_map_gives_alone(learned_nothing, tmp_path):
    state = torch.load(learned_nothing, weights_only=True)
    state |= {"power": torch.tensor([0.2, 0.9]), "step": torch.tensor([0.5, -0.3])}
    found = []
    for kinds in ([0, 1], [0, 0], [1, 1]):
        alone = {name: state[name][kinds] for name in ("head.out.weight", "head.out.bias", "power", "step")}
        found.append(get_scorer("object", weights=saved(tmp_path, state | alone))(IMAGES, SPEC))
    for both, first, second in zip(*found, strict=True):
        torch.testing.assert_close(both, (first * second).sqrt(), rtol=1e-4, atol=0)
        assert ((first / second).log().abs() > 0.1).any()


def test_where_a_thing_is_alike_more_detail_scores_higher(learned_nothing):
    """With importances that are the same everywhere: the scores are a power of what blur loses."""
    state = dict(torch.load(learned_nothing, weights_only=True))
    state["head.out.weight"] = torch.zeros_like(state["head.out.weight"])
    path = learned_nothing.with_name("level.pt")
    torch.save(state, path)
    found, blur = get_scorer("object", weights=path)(IMAGES, SPEC), get_scorer("blur")(IMAGES, SPEC)
    for ours, lost in zip(found, blur, strict=True):
        assert torch.equal(ours.flatten(1).argsort(), lost.flatten(1).argsort())


# What it computes in, where it is made, and what it says of itself.


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_half_precision_the_scores_are_float32_and_nearly_the_same(precision):
    scorer = get_scorer("object", precision=precision)
    found, exact = scorer(IMAGES, SPEC), get_scorer("object")(IMAGES, SPEC)
    assert all(scores.dtype == torch.float32 for scores in found)
    assert 0 < farthest(found, exact) <= 0.3


def test_the_precision_is_recorded_where_it_is_not_float32():
    facts = get_scorer("object").describe()
    assert facts == {
        "name": "object",
        "weights": "bundled",
        "weights_sha256": get_scorer("object").weights_sha256,
        "views": 1,
    }
    other = get_scorer("object", views=2, precision="bfloat16").describe()
    assert other == {**facts, "views": 2, "precision": "bfloat16"}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap about its own loop
@pytest.mark.parametrize("options", [{}, {"views": 2}, {"precision": "bfloat16"}], ids=str)
def test_made_before_it_scores_in_transforms_too(options):
    scorer = get_scorer("object", **options)
    expected = scorer(IMAGES, SPEC)[0]
    assert torch.equal(torch.vmap(lambda images: scorer(images, SPEC)[0])(IMAGES[None])[0], expected)
    assert torch.equal(torch.func.jvp(lambda images: scorer(images, SPEC)[0], (IMAGES,), (IMAGES,))[0], expected)
