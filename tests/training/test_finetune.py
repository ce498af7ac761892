"""The trainer: an interrupted run, two processes and parts of a batch give the weights of one whole run."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("timm", reason="the trainer stands on timm's optimisers, schedules and augmentations")

import data
import finetune
import low_rank
import plots
from data import Batch, InTurn, Order, Photographs, batches_of
from evaluation import evaluate
from goals import Labels
from loop import KEPT, LOG, SCORES, WEIGHTS, Run, train
from nets import choose_learned, made
from quadtok import Plan, Spec, tokenize
from quadtok.errors import ImageError, InputError, QuadtokError, WeightsError
from quadtok.jobs.from_python import tokenize_files
from quadtok.models import adapt
from ranks import Ranks
from self_teacher import SelfTeacher
from settings import ALL, LOW_RANK, NEW, NONE, SELF, Settings, parse
from ways import uniform_side, view

SIDE, CLASSES = 64, 3
ALONE = Ranks(0, 1, torch.device("cpu"))
TRAINER = Path(finetune.__file__)
NET = '{"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 64, "patch_size": 8}'


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Noise with a coloured square in it; the colour is the class."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 5)):
        for label in range(CLASSES):
            for number in range(count):
                pixels = rng.integers(0, 80, (72, 80, 3)).astype(np.uint8)
                row, col = rng.integers(4, 50, 2)
                pixels[row : row + 16, col : col + 16, label] = 250
                path = root / part / f"class {label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def settings(photographs, tmp_path):
    return Settings(
        data=photographs,
        out=tmp_path / "run",
        model="vit_tiny_patch16_224",
        model_args=NET,
        weights=NONE,
        image_size=SIDE,
        min_patch=8,
        max_patch=32,
        scorer="blur",
        tokens=28,
        steps=6,
        batch_size=6,
        lr=1e-3,
        workers=0,
        log_every=2,
        keep_every=2,
    )


def weights(settings):
    return torch.load(settings.out / WEIGHTS, weights_only=True)


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max((first[key] - second[key]).abs().max().item() for key in first)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# What differs between kinds of runs; each must go on as if it had not been interrupted.
KINDS = {
    "a fixed number": {},
    "random budgets": {"tokens": None, "budgets": (16, 40)},
    "a threshold": {"threshold": 1.0, "tokens": 40},
    "a running mean": {"ema": 0.8},
    "dropped paths and mixed images": {
        "drop_path": 0.3,
        "mixup": 0.8,
        "cutmix": 1.0,
        "augment": "rand-m9-mstd0.5-inc1",
    },
    "half precision": {"amp": "bfloat16"},
    "half precision whose gradients are scaled": {"amp": "float16"},
    "new parts": {"train": NEW, "detail": True, "scale_embedding": True},
    "low rank": {"train": LOW_RANK, "rank": 2},
    "without labels": {"teacher": SELF},
    "parts of a batch": {"batch_size": 3, "accumulate": 2},
    "a uniform grid": {"uniform": True, "tokens": None, "budgets": (16, 40)},
    "slower first blocks": {"layer_decay": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_gives_the_weights_of_an_uninterrupted_one(kind, settings, tmp_path):
    whole = replace(settings, **KINDS[kind])
    torn = replace(whole, out=tmp_path / "torn", workers=2)
    run = train(whole, ALONE)
    before = {name: one.clone() for name, one in run.model.state_dict().items()}
    train(replace(torn, stop_after=3), ALONE)
    assert not (torn.out / WEIGHTS).exists()
    assert train(torn, ALONE).step == whole.steps
    assert largest_difference(weights(torn), weights(whole)) == 0
    assert rows(torn.out / SCORES) == rows(whole.out / SCORES)
    assert any((one != made(whole, CLASSES).state_dict().get(name, one + 1)).any() for name, one in before.items())


def test_a_run_that_was_killed_between_checkpoints_goes_on_from_the_last(settings, tmp_path, monkeypatch):
    train(settings, ALONE)
    torn = replace(settings, out=tmp_path / "torn")
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        learn = Run.learn
        patch.setattr(Run, "learn", lambda run, batches: stop_at(run, 3) or learn(run, batches))
        train(torn, ALONE)
    assert torch.load(torn.out / KEPT, weights_only=True)["step"] == 2
    train(torn, ALONE)
    assert largest_difference(weights(torn), weights(settings)) == 0


def stop_at(run, step):
    if run.step == step:
        raise KeyboardInterrupt


@pytest.mark.parametrize("step", [4, 6])
def test_a_run_that_was_killed_right_behind_a_checkpoint_has_all_rows(step, settings, tmp_path):
    train(settings, ALONE)
    torn = replace(settings, out=tmp_path / "torn")
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        keep = Run.keep
        patch.setattr(Run, "keep", lambda run, path: keep(run, path) or stop_at(run, step))
        train(torn, ALONE)
    train(torn, ALONE)
    for name in (LOG, SCORES):
        steps = [[row["step"] for row in rows(run.out / name)] for run in (torn, settings)]
        assert steps[0] == steps[1]


def test_half_precision_on_a_cpu_does_without_the_fused_kernel_that_is_slow_there(settings, monkeypatch):
    def called(*inputs, **options):
        raise AssertionError("the fused kernel was called")

    whole, halves = Run(settings, ALONE), Run(replace(settings, amp="bfloat16"), ALONE)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", called)
    batch = Batch(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), torch.arange(2), None)
    assert halves.learn([batch]) > 0
    with pytest.raises(AssertionError, match="the fused kernel was called"):
        whole.learn([batch])


def test_a_run_goes_on_with_the_scale_of_its_gradients(settings):
    halves = replace(settings, amp="float16")
    train(replace(halves, stop_after=2), ALONE)
    change_checkpoint(halves, lambda state: state["scaler"].update(scale=64.0))
    assert train(halves, ALONE).scaler.get_scale() == 64


def change_checkpoint(settings, change):
    state = torch.load(settings.out / KEPT, weights_only=True)
    change(state)
    torch.save(state, settings.out / KEPT)


DAMAGED = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "empty": lambda path: path.write_bytes(b""),
    "something else": lambda path: torch.save([1], path),
    "of another version": lambda path: torch.save({"settings": {}, "weights": {}}, path),
    "of another model": lambda path: torch.save({"settings": {}, "model": {"a": torch.zeros(1)}}, path),
    "behind the end": lambda path: torch.save(torch.load(path, weights_only=True) | {"step": 7}, path),
    "at no step": lambda path: torch.save(torch.load(path, weights_only=True) | {"step": "2"}, path),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_checkpoint_is_refused_with_what_to_do(how, settings):
    train(replace(settings, stop_after=2), ALONE)
    DAMAGED[how](settings.out / KEPT)
    with pytest.raises(
        InputError, match=r"kept.pt: is no checkpoint that this run can go on from: remove it"
    ) as refused:
        train(settings, ALONE)
    assert "\n" not in str(refused.value)


EDITED = {
    "no table": (lambda text: "\x00\xff", "is no table that this run wrote"),
    "a step in words": (lambda text: text.replace("\n2,", "\ntwo,"), "is no table that this run wrote"),
    "a row cut short": (lambda text: text.rpartition(",")[0], "is no table that this run wrote"),
    "other columns": (lambda text: text.replace("tokens", "number"), "has other columns than this run's"),
}


@pytest.mark.parametrize("how", EDITED)
def test_a_table_that_was_edited_is_refused(how, settings):
    edit, sentence = EDITED[how]
    train(replace(settings, stop_after=2), ALONE)
    path = settings.out / LOG
    path.write_text(edit(path.read_text()), encoding="latin-1")
    with pytest.raises(InputError, match=rf"log.csv: {sentence}: remove it, or give another --out"):
        train(settings, ALONE)


@pytest.mark.parametrize(("what", "now"), [("processes", 1), ("images", 36)])
def test_a_run_goes_on_with_as_many_processes_and_images(what, now, settings):
    train(replace(settings, stop_after=2), ALONE)
    change_checkpoint(settings, lambda state: state["settings"].update({what: 77}))
    with pytest.raises(InputError, match=rf"is of a run with {what} 77 \(now {now}\): give another --out"):
        train(settings, ALONE)


def test_a_file_that_cannot_be_written_leaves_the_one_before(settings, tmp_path):
    resource = pytest.importorskip("resource", reason="limits of a process are Unix's")
    words = [*finetune_words(settings), "--tokens", "28", "--batch-size", "6", "--out", str(settings.out)]
    finetune.main([*words, "--stop-after", "2"])
    before, limits = (settings.out / KEPT).read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SystemExit) as end:
            finetune.main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(end.value).startswith(f"error: {settings.out / KEPT}: cannot be written") and "\n" not in str(end.value)
    assert (settings.out / KEPT).read_bytes() == before
    assert not list(settings.out.glob(".quadtok-*"))


def test_ctrl_c_ends_in_a_sentence(settings, monkeypatch, capsys):
    monkeypatch.setattr(Run, "learn", lambda run, batches: stop_at(run, 0))
    with pytest.raises(SystemExit) as end:
        finetune.main([*finetune_words(settings), "--tokens", "28", "--out", str(settings.out)])
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted: the same command goes on from the last checkpoint\n"


def test_a_folder_of_another_run_is_refused_by_what_differs(settings):
    train(replace(settings, stop_after=2), ALONE)
    with pytest.raises(InputError, match=r"kept.pt: is of a run with lr 0.001 \(now 0.1\): give another --out"):
        train(replace(settings, lr=0.1), ALONE)


def test_gradients_of_an_update_are_exchanged_once(settings):
    run, exchanged = Run(settings, ALONE), []

    class Shared(nn.Module):
        """As torch's `DistributedDataParallel`: passes outside of `no_sync` exchange gradients."""

        silent = False

        def forward(self, *inputs):
            exchanged.append(not self.silent)
            return run.goal(*inputs)

        @contextmanager
        def no_sync(self):
            self.silent = True
            yield
            self.silent = False

    run.ranks, run.shared = Ranks(0, 2, ALONE.device), Shared()
    run.learn([Batch(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), torch.arange(2), None)] * 3)
    assert exchanged == [False, False, True]


def test_two_processes_give_the_weights_of_one(settings, tmp_path):
    words = [*finetune_words(replace(settings, tokens=None, budgets=(16, 40), flip=0.0)), "--accumulate", "2"]
    for stop in ("3", "6"):  # interrupted
        started_in_two([*words, "--batch-size", "3", "--out", str(tmp_path / "two"), "--stop-after", stop])
    finetune.main([*words, "--batch-size", "6", "--out", str(tmp_path / "one")])
    one, two = (torch.load(tmp_path / name / WEIGHTS, weights_only=True) for name in ("one", "two"))
    assert largest_difference(one, two) < 1e-4  # sums in another order, through six steps of Adam
    assert largest_difference(one, made(settings, CLASSES).state_dict()) > 1e-2
    shared, alone = (rows(tmp_path / name / SCORES) for name in ("two", "one"))
    assert [(row["asked"], row["images"]) for row in shared] == [("16", "15"), ("40", "15")]
    for here, there in zip(shared, alone, strict=True):
        assert float(here["loss"]) == pytest.approx(float(there["loss"]), abs=1e-3)


def started_in_two(words, seconds=120, attempts=2):
    """As `torchrun` does. gloo was once seen to wait for ever: then all say where they are, and the command goes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"PYTHONFAULTHANDLER": "1", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(TRAINER), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=common | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=seconds)[0] for process in started]
    except subprocess.TimeoutExpired:
        for process in started:
            process.send_signal(signal.SIGABRT)
        said = [process.communicate()[0] for process in started]
        assert attempts > 1, "\n".join(said)
        warnings.warn("\n".join(["two processes hung:", *said]), RuntimeWarning, stacklevel=2)
        started_in_two(words, seconds, attempts - 1)
    else:
        assert [process.returncode for process in started] == [0, 0], "\n".join(said)


def finetune_words(settings):
    """The command line that asks for these settings."""
    words = [str(settings.data)]
    for name in ("model", "model_args", "weights", "image_size", "min_patch", "max_patch", "scorer", "steps", "lr"):
        words += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    if settings.budgets:
        words += ["--budgets", *map(str, settings.budgets)]
    return [*words, "--flip", str(settings.flip), "--workers", "0"]


def test_parts_of_a_batch_give_the_weights_of_the_batch(settings, tmp_path):
    whole = replace(settings, opt="sgd", clip=float("inf"), lr=0.1)  # which follow the gradient's length
    parted = replace(whole, batch_size=2, accumulate=3, out=tmp_path / "parted")
    train(whole, ALONE)
    train(parted, ALONE)
    assert largest_difference(weights(parted), weights(whole)) < 1e-4


def test_the_command_line_says_what_settings_say(settings):
    said = parse([*finetune_words(settings), "--tokens", "28", "--batch-size", "6"])
    assert replace(said, out=settings.out, log_every=2, keep_every=2) == settings


# Tokens.


def test_every_step_draws_its_budget_and_all_are_drawn(settings):
    budgets = replace(settings, tokens=None, budgets=(16, 40))
    drawn = [budgets.num_tokens(step) for step in range(200)]
    assert set(drawn) == set(range(16, 41, 3))
    assert drawn == [budgets.num_tokens(step) for step in range(200)]
    assert {settings.num_tokens(step) for step in range(9)} == {28}


def test_stored_plans_give_the_tokens_of_scoring(settings, tmp_path):
    plans = tmp_path / "plans.qts"
    tokenize_files(
        [settings.data / "train"], store="plans", output=plans, minima="float32",
        image_size=SIDE, min_patch=8, max_patch=32, scorer="blur",
    )  # fmt: skip
    planned = data.training_data(replace(settings, plans=plans, flip=0.0))
    plain = Photographs(settings.data / "train", data._Fitted(SIDE), labelled=True)
    assert planned.classes == plain.classes
    for number in range(0, len(plain), 5):
        ours, theirs = planned[data.Place(0, number)], plain[data.Place(0, number)]
        assert torch.equal(ours[0], theirs[0]) and ours[2] == theirs[2]
        images = theirs[0][None]
        for budget, threshold in ((28, None), (40, 1.0)):
            found = Batch(images, torch.zeros(1), [ours[1]]).plan(budget, threshold)
            expected = tokenize(images, Spec(SIDE, SIDE, 8, 32, budget), "blur", threshold=threshold)
            assert found == expected.unpadded(0).plan
    train(replace(settings, plans=plans, val_plans=None, teacher=NONE, steps=2), ALONE)


def test_plans_of_another_size_are_refused(settings, tmp_path):
    plans = tmp_path / "plans.qts"
    tokenize_files([settings.data / "train"], store="plans", output=plans, image_size=128, scorer="blur")
    sentence = r"plans of images of \[128, 128\] in patches of \(16, 64\), this run has .*--image-size 64 --min-patch 8"
    with pytest.raises(InputError, match=sentence):
        train(replace(settings, plans=plans), ALONE)


@pytest.mark.parametrize(("tokens", "side"), [(64, 8), (100, 10), (160, 13), (16, 4), (90, 9), (91, 10)])
def test_a_uniform_grid_has_the_nearest_square_number_of_patches(tokens, side):
    assert uniform_side(tokens) == side


def test_a_uniform_grid_of_all_patches_is_the_full_grid(settings):
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    batch = Batch(images, torch.zeros(2), None)
    shown = view(batch, 64, replace(settings, uniform=True))
    assert torch.equal(shown.images, images)
    model = made(settings, CLASSES).eval()
    assert torch.allclose(model(shown.images, **shown.arguments), model(images, num_tokens=64), atol=1e-5)
    assert view(batch, 28, replace(settings, uniform=True)).arguments["plan"] == Plan.uniform(
        Spec.full(40, 40, 8, 8), scale=0, batch=2, device=images.device
    )


# Order.


def test_each_epoch_shows_every_image_once_in_a_new_order():
    order = Order(12, 4, 1, ALONE, (0, 6), seed=5)
    shown = [place for batch in order for place in batch]
    epochs = [[place.number for place in shown if place.epoch == epoch] for epoch in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("length", [10, 13])
def test_processes_share_what_one_would_have(length):
    whole = list(Order(length, 4, 2, ALONE, (0, 5), seed=1))
    parts = [list(Order(length, 2, 2, Ranks(rank, 2, torch.device("cpu")), (0, 5), seed=1)) for rank in range(2)]
    for batch, *halves in zip(whole, *parts, strict=True):
        assert [place for pair in zip(*halves, strict=True) for place in pair] == batch
    assert list(Order(length, 4, 2, ALONE, (2, 5), seed=1)) == whole[4:]


# Measuring.


def test_several_numbers_of_tokens_are_measured_in_one_pass_as_each_alone(settings):
    model = made(settings, CLASSES)
    goal = Labels(model, settings, CLASSES)
    batches = [Batch(torch.randint(0, 256, (5, 3, SIDE, SIDE), dtype=torch.uint8), torch.arange(5) % 3, None)] * 2
    together = evaluate(model, goal, batches, (16, 28, 40), ALONE)
    alone = [evaluate(model, goal, batches, (budget,), ALONE)[0] for budget in (16, 28, 40)]
    assert together == alone
    assert [score.tokens for score in together] == [16, 28, 40] and {score.images for score in together} == {10}
    logits = model.eval()(batches[0].images, num_tokens=28)
    assert together[1].values["top1"] == pytest.approx((logits.argmax(1) == batches[0].labels).float().mean().item())


def test_the_picture_of_a_run_has_a_point_for_each_number(settings, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    train(replace(settings, eval_tokens=(16, 28, 40)), ALONE)
    assert [row["asked"] for row in rows(settings.out / SCORES)] == ["16", "28", "40"]
    plots.plot_scores({"ours": [settings.out]}, "top1", tmp_path / "scores.png")
    plots.plot_loss(settings.out, tmp_path / "loss.png")
    assert {Image.open(tmp_path / name).size for name in ("scores.png", "loss.png")} == {(720, 480)}


def test_a_picture_of_one_row_shows_it(settings, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    settings.out.mkdir()
    for loss in ("1.0", "nan"):
        (settings.out / LOG).write_text(f"step,loss\n6,{loss}\n")
        plots.plot_loss(settings.out, tmp_path / f"{loss}.png")
    one, none = (np.asarray(Image.open(tmp_path / f"{loss}.png").convert("RGB")) for loss in ("1.0", "nan"))
    assert (one.max(2) - one.min(2) > 50).any() and not (none.max(2) - none.min(2) > 50).any()


@pytest.mark.parametrize("text", ["", "step,loss\n", "step\n6\n", "step,loss\n6\n", "step,loss\n6,good\n", "\0"])
def test_a_table_that_cannot_be_drawn_is_named(text, settings, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    settings.out.mkdir()
    (settings.out / LOG).write_text(text)
    with pytest.raises(InputError, match=r"log.csv: has .*: nothing is drawn"):
        plots.plot_loss(settings.out, tmp_path / "loss.png")


def test_a_picture_that_cannot_be_written_is_named(settings):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    (settings.out / "loss.png").mkdir(parents=True)
    (settings.out / LOG).write_text("step,loss\n6,1.0\n")
    with pytest.raises(QuadtokError, match="loss.png: is a folder"):
        plots.plot_loss(settings.out, settings.out / "loss.png")


def test_the_running_mean_is_what_is_measured_and_written(settings):
    run = train(replace(settings, ema=0.8), ALONE)
    mean, goal = made(settings, CLASSES), Labels(run.model, settings, CLASSES)
    mean.load_state_dict(weights(settings))
    for model, is_measured in ((mean, True), (run.model, False)):
        batches = batches_of(run.validation, InTurn(len(run.validation), 6, ALONE), workers=0)
        row = evaluate(model, goal, batches, (28,), ALONE)[0].row()
        assert (
            {"step": "6", **{key: str(value) for key, value in row.items()}} == rows(settings.out / SCORES)[-1]
        ) == (is_measured)


def test_it_learns_what_can_be_learned(settings):
    train(replace(settings, tokens=None, budgets=(28, 40), steps=60, batch_size=12, flip=0.0), ALONE)
    assert all(float(row["top1"]) > 0.6 for row in rows(settings.out / SCORES))  # chance has 0.33


# What learns.


def test_the_teacher_is_the_model_on_its_full_grid_and_does_not_learn(settings):
    model = made(settings, 0)
    goal = SelfTeacher(model, settings)
    batch = Batch(torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8), torch.zeros(3), None)
    assert goal(batch, 64).item() == pytest.approx(0, abs=1e-5)
    assert goal(batch, 28).item() > 1e-3
    assert goal.state_dict().keys() == {f"model.{key}" for key in model.state_dict()}
    swaying = SelfTeacher(made(replace(settings, drop_path=0.9), 0), settings).train()
    swaying.model.eval()
    assert swaying(batch, 64).item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        for weight in swaying.model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    assert swaying(batch, 64).item() > 1e-2
    train(replace(settings, teacher=SELF, steps=20), ALONE)
    images = [float(row["image"]) for row in rows(settings.out / SCORES)]
    before = evaluate(model, goal, [batch], (28,), ALONE)[0].values["image"]
    assert images[-1] > before


@pytest.mark.parametrize("train_what", [ALL, NEW, LOW_RANK])
def test_only_what_is_said_learns(train_what, settings):
    chosen = replace(settings, train=train_what, detail=True, rank=2)
    model = made(chosen, CLASSES)
    choose_learned(model, chosen)
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    expected = {
        ALL: lambda name: True,
        NEW: lambda name: name.startswith(("quadtok.", "head.")),
        LOW_RANK: lambda name: name.startswith(("quadtok.", "head.")) or name.endswith((".up", ".down")),
    }[train_what]
    assert learning == {name for name, _ in model.named_parameters() if expected(name)}


def test_low_rank_begins_as_the_model_and_is_merged_into_its_own_weights(settings):
    chosen = replace(settings, train=LOW_RANK, rank=2)
    torch.manual_seed(0)
    plain = made(chosen, CLASSES).eval()
    adapted = made(chosen, CLASSES).eval()
    adapted.load_state_dict(plain.state_dict())
    choose_learned(adapted, chosen)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    assert torch.equal(adapted(images), plain(images))
    for module in adapted.modules():
        if isinstance(module, low_rank.LowRank):
            nn.init.normal_(module.up, std=0.1)
    merged = low_rank.merged(adapted.state_dict())
    assert merged.keys() == plain.state_dict().keys()
    expected = adapted(images)
    assert not torch.allclose(expected, plain(images), atol=1e-3)
    plain.load_state_dict(merged)
    assert torch.allclose(plain(images), expected, atol=1e-5)


def test_low_rank_reaches_layers_whose_weights_a_block_reads_itself(settings):
    eva = replace(settings, model="eva02_tiny_patch14_224", train=LOW_RANK, rank=2, steps=2)
    grown = {name: up for name, up in train(eva, ALONE).model.named_parameters() if name.endswith(".up")}
    assert any("qkv" in name for name in grown) and all(up.any() for up in grown.values())


def test_what_is_written_loads_into_the_model_as_the_readme_says(settings):
    import timm

    run = train(replace(settings, train=LOW_RANK, rank=2, detail=True, scale_embedding=True, steps=2), ALONE)
    vit = timm.create_model(settings.model, num_classes=CLASSES, **json.loads(NET))
    model = adapt(vit, settings.spec, settings.scorer, detail="subpatch", scale_embedding=True)
    model.load_state_dict(weights(settings))
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    assert torch.allclose(model.eval()(images), run.model.eval()(images), atol=1e-5)


def test_weights_of_new_parts_are_not_dropped(settings, tmp_path):
    torch.save(made(replace(settings, detail=True), CLASSES).state_dict(), tmp_path / "detail.pt")
    again = replace(settings, weights=str(tmp_path / "detail.pt"))
    made(replace(again, detail=True, scale_embedding=True), CLASSES)
    with pytest.raises(WeightsError, match=r"quadtok.subpatch.merge.bias does not fit"):
        made(again, CLASSES)


@pytest.mark.parametrize("content", [[1], {"a": 1}, {1: torch.zeros(1)}])
def test_a_file_without_weights_is_refused(content, settings, tmp_path):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match="odd.pt: holds no state dict"):
        made(replace(settings, weights=str(tmp_path / "odd.pt")), CLASSES)


def test_weights_are_read_from_safetensors(settings, tmp_path):
    kind = pytest.importorskip("safetensors.torch", reason="such files are read by an extra")
    kept, path = made(settings, CLASSES).state_dict(), tmp_path / "kept.safetensors"
    kind.save_file(kept, path)
    again = replace(settings, weights=str(path), seed=settings.seed + 1)
    assert largest_difference(made(again, CLASSES).state_dict(), kept) == 0
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match=r"kept.safetensors: is no whole file of safetensors"):
        made(again, CLASSES)


def test_weights_without_numbers_are_refused(settings, tmp_path):
    torch.save({name: one.to("meta") for name, one in made(settings, CLASSES).state_dict().items()}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"m.pt: (holds weights that are no plain tensors|is no file of weights)"):
        made(replace(settings, weights=str(tmp_path / "m.pt")), CLASSES)


def test_weights_of_a_file_go_into_a_model_of_other_classes(settings, tmp_path):
    torch.save(made(settings, 10).state_dict(), tmp_path / "ten.pt")
    model = made(replace(settings, weights=str(tmp_path / "ten.pt")), CLASSES)
    ten = torch.load(tmp_path / "ten.pt", weights_only=True)
    assert all(torch.equal(one, ten[name]) for name, one in model.state_dict().items() if not name.startswith("head"))
    other = replace(settings, weights=str(tmp_path / "ten.pt"), model_args=NET.replace('"depth": 2', '"depth": 3'))
    with pytest.raises(
        WeightsError, match=r"ten.pt: is of another model than .*: blocks.2.attn.proj.bias does not fit"
    ):
        made(other, CLASSES)


def test_torchvisions_vit_is_trained_too(settings):
    arguments = '{"image_size": 64, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}'
    own = "torchvision.models.vision_transformer:VisionTransformer"
    train(replace(settings, model=own, model_args=arguments, steps=2), ALONE)
    assert "encoder.pos_embedding" in weights(settings)


# What is refused.

REFUSED = {
    "no number of tokens": ({"tokens": None}, "how many tokens"),
    "two numbers": ({"budgets": (16, 40)}, "leave --tokens"),
    "budgets that fall": ({"tokens": None, "budgets": (40, 16)}, "the fewest, then the most"),
    "a grid by a threshold": ({"uniform": True, "threshold": 1.0}, "--uniform has no threshold"),
    "no fine pixels": ({"uniform": True, "detail": True}, "no coarse tokens"),
    "nothing new": ({"train": NEW}, "--train new needs"),
    "mixed features": ({"teacher": SELF, "mixup": 0.5}, "no labels to mix"),
    "an odd batch to mix": ({"cutmix": 1.0, "batch_size": 5}, "give an even --batch-size"),
    "no steps": ({"steps": 0}, "--steps 0 is not from 1"),
    "no tokens": ({"tokens": 0}, "--tokens 0 is not from 1"),
    "checkpoints of no step": ({"keep_every": 0}, "--keep-every 0 is not from 1"),
    "a share above one": ({"smoothing": 1.5}, "--smoothing 1.5 is not from 0 to 1"),
    "no number": ({"lr": float("nan")}, "--lr nan is not from 0"),
    "gradients of length 0": ({"clip": 0.0}, "--clip inf"),
    "fewest tokens below the roots": ({"tokens": None, "budgets": (1, 40)}, "--budgets: num_tokens 1 is fewer"),
    "measuring below the roots": ({"eval_tokens": (28, 1)}, "--eval-tokens: num_tokens 1 is fewer"),
    "fine pixels of fine tokens": ({"detail": True, "max_patch": 8, "tokens": 64}, "raise --max-patch"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_go_together_is_refused_at_once(what, settings):
    given, sentence = REFUSED[what]
    with pytest.raises(QuadtokError, match=sentence):
        replace(settings, **given)


WRONG = {
    "no such folder": (["nowhere"], "nowhere/train: is no folder: a run learns from DATA/train"),
    "JSON that is no object": (["--model-args", "[[1, 2]]"], "is no JSON of the form"),
    "a model without blocks": (["--model-args", NET.replace('"depth": 2', '"depth": 0')], "has no blocks"),
    "a model of other classes": (["--model", f"{__name__}:of_two_classes"], "gives [2] numbers for an image of 3"),
    "a model that ends the program": (["--model", f"{__name__}:leaving"], "cannot be made with --model-args"),
    "an endless rate": (["--lr", "inf"], "--lr inf is not from 0 to 1000"),
    "no such model": (["--model", "vit_wrong"], "has no model 'vit_wrong'"),
    "a model's wrong argument": (["--model-args", '{"depht": 2}'], "cannot be made with --model-args"),
    "no such folder of a model": (["--model", "local-dir:nowhere"], "--model local-dir:nowhere: cannot be made"),
    "no such module": (["--model", "nowhere:vit"], "--model nowhere:vit: cannot be made"),
    "no JSON": (["--model-args", "depth=2"], "is no JSON of the form"),
    "a scorer": (["--scorer", "wrong"], "wrong"),
    "an optimiser": (["--opt", "wrong"], "timm has no --opt wrong"),
    "an augmentation": (["--augment", "wrong"], "timm knows no --augment wrong"),
    "a device": (["--device", "cuda:99"], "there is no such device here"),
    "missing weights": (["--weights", "nowhere.pt"], "nowhere.pt: no such file"),
    "too few tokens": (["--tokens", "1"], "token"),
}


def leaving(**arguments):
    sys.exit(3)


def of_two_classes(num_classes, **arguments):
    import timm

    return timm.create_model("vit_tiny_patch16_224", num_classes=2, **arguments)


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_sentence(what, settings, tmp_path):
    given, sentence = WRONG[what]
    words = [*finetune_words(settings), "--tokens", "28", "--out", str(tmp_path)]
    words = [*given, *words[1:]] if given == ["nowhere"] else [*words, *given]
    with pytest.raises(SystemExit) as end:
        finetune.main(words)
    assert str(end.value).startswith("error: ") and sentence in str(end.value)
    assert "\n" not in str(end.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_photograph_is_named_in_one_sentence(workers, settings, tmp_path):
    shutil.copytree(settings.data, tmp_path / "data")
    broken = tmp_path / "data" / "train" / "class 0" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ImageError) as refused:
        train(replace(settings, data=tmp_path / "data", workers=workers), ALONE)
    assert str(refused.value).count(str(broken)) == 1 and "\n" not in str(refused.value)


def test_photographs_are_those_that_quadtok_finds(settings, tmp_path):
    shutil.copytree(settings.data, tmp_path / "data")
    train_folder = tmp_path / "data" / "train"
    (train_folder / "class 2").rename(tmp_path / "elsewhere")
    (train_folder / "class 2").symlink_to(tmp_path / "elsewhere")  # as subsets of large sets are made
    (train_folder / ".checkpoints").mkdir()
    for hidden in (train_folder / ".checkpoints" / "0.png", train_folder / "class 0" / "._0.png"):
        hidden.write_bytes(b"of another program")
    found = data.training_data(replace(settings, data=tmp_path / "data"))
    assert found.classes == ["class 0", "class 1", "class 2"] and len(found) == 36


def test_folders_without_photographs_are_refused(settings, tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    with pytest.raises(InputError, match="train: there are no images in it"):
        train(replace(settings, data=tmp_path), ALONE)


def test_labels_of_one_class_are_refused(settings, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(settings.data / part / "class 0", tmp_path / part / "one")
    with pytest.raises(InputError, match="train/ has one class, one: to learn without labels give --teacher self"):
        train(replace(settings, data=tmp_path), ALONE)


def test_images_beside_the_folders_of_classes_are_named(settings, tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        Image.new("RGB", (80, 80)).save(tmp_path / part / "alone.png")
    with pytest.raises(InputError, match="alone.png lies in no folder of a class"):
        train(replace(settings, data=tmp_path), ALONE)
    train(replace(settings, data=tmp_path, teacher=SELF, steps=1), ALONE)
