"""Weights from files, from torch's cache and from nowhere; every way in which they can be wrong."""

import importlib.abc
import re
import sys

import pytest
import torch
from torch import nn

from helpers import GOLDEN, photographs, refused_weights
from quadtok import Spec, get_scorer

NET = GOLDEN / "feature_net.pt"
SPEC = Spec(64, 96, 8, 32, 24)
IMAGES = photographs(64, 96)


def feature(**options):
    return get_scorer("feature", **{"weights": NET, **options})


def state():
    return dict(torch.load(NET, weights_only=True))


def saved(tmp_path, content, **options):
    path = tmp_path / "weights.pt"
    torch.save(content, path, **options)
    return path


def test_a_files_classifier_is_ignored_and_its_order_and_container_do_not_matter(tmp_path):
    scorer = feature(stride=16)
    shuffled = dict(reversed(state().items())) | {"fc.weight": torch.ones(10, 1024), "fc.bias": torch.ones(10)}
    other = feature(stride=16, weights=saved(tmp_path, shuffled, _use_new_zipfile_serialization=False))
    assert other.weights_sha256 == scorer.weights_sha256
    for ours, theirs in zip(other(IMAGES, SPEC), scorer(IMAGES, SPEC), strict=True):
        assert torch.equal(ours, theirs)


def test_the_digest_is_of_the_weights_that_score(tmp_path):
    changed = state()
    changed["stage4.0.branch2.0.weight"][0, 0] += 1e-3
    path = saved(tmp_path, changed)
    assert feature(weights=path).weights_sha256 != feature().weights_sha256
    assert feature(weights=path, stride=16).weights_sha256 == feature(stride=16).weights_sha256  # without stage4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("conv5.0.weight"), "1 of 336 tensors missing, first conv5.0.weight"),
        (lambda s: s.clear(), "336 of 336 tensors missing, first conv1.0.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 of 336 tensors unexpected, first extra"),
        (lambda s: s.update({"conv1.0.weight": torch.zeros(24, 1, 3, 3)}), "of another shape, first conv1.0.weight"),
        # A x1.0 or a state dict with a prefix: all names differ.
        (lambda s: s.update({f"module.{key}": s.pop(key) for key in list(s)}), "336 of 336 tensors missing"),
    ],
    ids=["missing", "empty", "unexpected", "misshapen", "prefixed"],
)
def test_a_state_dict_that_does_not_fit_is_refused_naming_the_tensor(tmp_path, change, sentence):
    content = state()
    change(content)
    path = saved(tmp_path, content)
    said = refused_weights("feature", path)
    assert said.startswith(f"weights {path}: not a ShuffleNetV2 x0.5: ")
    assert sentence in said


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    for content in ([torch.zeros(1)], {"epoch": 3}, torch.zeros(2)):
        assert "not a state dict (a mapping of names to tensors)" in refused_weights(
            "feature", saved(tmp_path, content)
        )


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = saved(tmp_path, nn.Conv2d(3, 4, 8))  # a pickled module
    assert refused_weights("feature", path) == f"weights {path}: not a state dict that can be loaded safely"


@pytest.mark.parametrize("cut", [0, 1, 100, 100_000])
def test_a_damaged_file_is_refused(tmp_path, cut):
    path = tmp_path / "half.pt"
    path.write_bytes(NET.read_bytes()[:cut])
    assert refused_weights("feature", path) == f"weights {path}: not a state dict that can be loaded safely"


def test_a_missing_file_is_refused_with_both_ways_on(tmp_path):
    path = tmp_path / "nowhere.pt"
    assert (
        refused_weights("feature", path)
        == f"weights {path}: no such file; give bundled, imagenet, lite0 or the path of a state dict"
    )


def test_offline_the_imagenet_weights_name_both_ways_out(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.delenv("no_proxy", raising=False)
    said = refused_weights("feature", "imagenet")
    assert "Connection refused" in said
    assert "https://download.pytorch.org/models/shufflenetv2_x0.5" in said
    assert "give its path as weights" in said
    assert "weights='bundled'" in said
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_imagenet_weights_are_taken_from_torchs_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(state(), cache / "shufflenetv2_x0.5-f707e7126e.pth")
    assert get_scorer("feature", weights="imagenet").weights_sha256 == feature().weights_sha256


class NoTorchvision(importlib.abc.MetaPathFinder):
    """Importing torchvision fails with this problem."""

    def __init__(self, problem):
        self.problem = problem

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "torchvision":
            raise self.problem
        return


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (
            ModuleNotFoundError("No module named 'torchvision'", name="torchvision"),
            "^these weights need torchvision: pip install torch torchvision from one index, or use weights='bundled'$",
        ),
        (
            RuntimeError("operator torchvision::nms does not exist\nTraceback: ..."),
            rf"^torchvision does not fit torch {re.escape(torch.__version__)} \(operator torchvision::nms does not "
            r"exist\): reinstall both from one index; the bundled weights and the other scorers work without it$",
        ),
        (ImportError("libtorch.so: undefined symbol"), r"does not fit torch .*undefined symbol.*reinstall both"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_without_a_fitting_torchvision_one_sentence_says_what_to_do(monkeypatch, problem, sentence):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoTorchvision(problem), *sys.meta_path])
    assert re.search(sentence, refused_weights("feature", NET))
    assert get_scorer("feature", net=nn.Conv2d(3, 4, 8, stride=8), stride=8)(
        IMAGES, SPEC
    )  # a net of one's own needs no torchvision
