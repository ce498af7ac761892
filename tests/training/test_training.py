"""A smoke run of the recipe that made the bundled weights: a few scenes, a few steps, a file that scores."""

import csv

import numpy as np
import pytest
import torch

import pool
import train
from materials import Materials
from quadtok import Spec, get_scorer
from quadtok.scorers.feature.object_net import ObjectNet, normalised


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "pool.npz"
    np.savez(path, **pool.make("training", Materials.from_noise(0), 0, 6))
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
    threads = torch.get_num_threads()
    train.main()
    torch.set_num_threads(threads)


def test_the_recipe_runs_and_its_file_scores(scenes, tmp_path, monkeypatch):
    steps = ["--gate-steps", 3, "--maps-steps", 2, "--threads", 1]
    for name in ("first", "again"):
        run(monkeypatch, scenes, "--out", tmp_path / name, *steps)
    scorer = get_scorer("feature", weights=tmp_path / "first" / "object_net.pt")
    again = get_scorer("feature", weights=tmp_path / "again" / "object_net.pt")
    assert scorer.weights_sha256 == again.weights_sha256 != get_scorer("feature").weights_sha256
    tied = torch.load(tmp_path / "first" / "object_net.pt", weights_only=True)["gate.weight"]
    assert torch.equal(tied, tied.roll(48, 1))
    spec = Spec(64, 64, 16, 64, 7)
    assert all(scores.isfinite().all() for scores in scorer(torch.rand(1, 3, 64, 64), spec))
    with (tmp_path / "first" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["step"]) for row in rows] == [("gate", "3"), ("maps", "2")]
    assert all(float(row["loss"]) > 0 for row in rows)
    assert (tmp_path / "first" / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("stage", train.LOSSES)
def test_each_stage_lowers_its_loss_on_scenes_that_it_sees(scenes, stage):
    torch.manual_seed(0)
    net, log = ObjectNet(norms=True), []
    pools = train.Pools([scenes])
    images, cells = next(pools.batches(1, 0))
    with torch.no_grad():
        before = train.LOSSES[stage](net, images, cells, train.NO_PRIOR).item()
    train.train(net, pools, stage, 12, 2e-3, 0, csv.writer(Lines(log)), None)
    with torch.no_grad():
        after = train.LOSSES[stage](net, images, cells, train.NO_PRIOR).item()
    assert after < before - 0.05


class Lines:
    def __init__(self, lines):
        self.write = lines.append


def test_without_norms_the_net_is_the_same_function():
    torch.manual_seed(0)
    net = ObjectNet(norms=True)
    images = torch.randn(4, 3, 64, 96)
    net.train()(images)  # norms that know something
    for value in net.parameters():
        value.data.add_(0.05 * torch.randn_like(value))
    plain = train.without_norms(net)
    with torch.no_grad():
        expected, found = net.eval()(images), plain(images)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in plain.modules())
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_training_scores_as_the_scorer_does():
    torch.manual_seed(0)
    net = ObjectNet().eval()
    images = torch.rand(2, 3, 128, 128)
    spec = Spec(128, 128, 16, 64, 16)
    with torch.no_grad():
        ours = train.saliency(net, images)
    theirs = get_scorer("feature", net=net, stride=16)(train.as_scored(images), spec)
    for mine, deployed in zip(ours, theirs, strict=True):
        assert (mine - deployed).abs().max() <= 1e-4 * deployed.abs().max()


def test_only_detail_of_objects_is_worth_a_split():
    cells = torch.zeros(1, 16, 16)
    cells[0, :4, :4] = 1  # the first node of 64 pixels, all object
    images = torch.full((1, 3, 256, 256), 0.5)
    images[..., :32, :] = torch.rand(1, 3, 32, 256)  # detail there and in the background
    fine, coarse = train.worth(images, cells)
    assert fine[0, 0, :2].min() > 3 * fine[0, 1, :2].max()  # the object's flat part
    assert (fine[0, :, 2:] == 0).all() and (coarse[0, :, 1:] == 0).all()
    halved = train.worth(images, cells / 2)
    assert all(torch.allclose(half * 2, whole) for half, whole in zip(halved, (fine, coarse), strict=True))


class KnowsNothing(torch.nn.Module):
    def objectness(self, pixels):
        return torch.zeros(len(pixels), 1, 16, 16)


def test_what_the_place_gives_away_the_net_need_not_learn():
    """Objects above, none below: with that prior told to it, a net that knows nothing is right already."""
    prior = torch.full((16, 16), 0.1)
    prior[:8] = 0.9
    images, cells = torch.rand(2, 3, 256, 256), prior.round().expand(2, -1, -1)
    told, untold = (train.gate_loss(KnowsNothing(), images, cells, known) for known in (prior, train.NO_PRIOR))
    assert told < 0.5 * untold


def test_the_prior_is_how_often_a_cell_shows_an_object(scenes):
    with np.load(scenes) as file:
        expected = file["cells"].mean(axis=0) / 255
    assert np.abs(train.Pools([scenes]).prior().numpy() - expected.clip(0.01, 0.99)).max() <= 1e-6


def test_pictures_and_cells_are_turned_and_mirrored_together():
    rng = np.random.default_rng(0)
    for number in range(16):
        cells = np.zeros((16, 16), np.uint8)
        cells[number % 5, 9] = 255
        pixels = np.repeat(np.repeat(cells, 16, axis=0), 16, axis=1)[..., None].repeat(3, axis=2)
        turned, turned_cells = train.varied(rng, pixels, cells)
        assert np.array_equal(turned[::16, ::16, 0], turned_cells)


def test_images_in_their_own_units_do_not_matter():
    images = torch.rand(2, 3, 32, 32)
    assert (normalised(images) - normalised(3 * images + 1)).abs().max() <= 1e-2
