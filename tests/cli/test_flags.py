"""What flags mean, and that a flag means the same in every command."""

import inspect
from fractions import Fraction
from typing import get_args

import pytest
import typer

from quadtok.cli import app, commands
from quadtok.cli.flags import Grid
from quadtok.cli.flags.scorer import parse_options
from quadtok.errors import InputError, SpecError
from quadtok.geometry import Budget, parse_budget, parse_size
from quadtok.names import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_IMAGE_SIZE,
    DEFAULT_MAX_PATCH,
    DEFAULT_MIN_PATCH,
    DEFAULT_PIXEL_DTYPE,
    DEFAULT_QUADTREE,
    MAX_PIXELS,
    ScorerName,
)

FUNCTIONS = {name: command for name, (command, _) in commands().items()}


def command_called(name):
    """As typer made it; of `plans merge`, the inner one."""
    found = typer.main.get_command(app)
    for part in name.split():
        found = found.commands[part]
    return found


COMMANDS = {name: command_called(name) for name in FUNCTIONS}


@pytest.mark.parametrize(
    ("text", "size"),
    [("256", (256, 256)), ("384x512", (384, 512)), ("384×512", (384, 512)), ("native", None)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "256x", "-256", "1.5", "256x256x3", "9" * 5000])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(InputError, match="image_size .* is none of N, HxW and native"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("100", Budget(count=100)),
        ("40%", Budget(share=Fraction(2, 5))),
        ("12.5%", Budget(share=Fraction(1, 8))),
        ("100%", Budget(share=Fraction(1))),
    ],
)
def test_budgets(text, budget):
    assert parse_budget(text) == budget
    assert str(budget) == text


@pytest.mark.parametrize("text", ["", "many", "1.5", "-3", "0%", "101%", "40 %", "%", "9" * 5000])
def test_other_texts_are_no_budgets(text):
    with pytest.raises(InputError, match="num_tokens"):
        parse_budget(text)


def geometry(image_size="256", fit=None, **flags):
    return Grid(image_size=image_size, **flags).geometry(fit)


def test_a_fixed_size_wants_a_reachable_count():
    assert geometry().spec(256, 256).num_tokens == 100
    with pytest.raises(SpecError, match="Try 100 or 103"):
        geometry(tokens="101")


@pytest.mark.parametrize(("tokens", "count"), [("40%", 100), ("39.9%", 100), ("39%", 97), ("100%", 256), ("6.25%", 16)])
def test_a_percentage_is_rounded_down_to_a_reachable_count(tokens, count):
    assert geometry(tokens=tokens).spec(256, 256).num_tokens == count


def test_a_percentage_below_the_roots_is_refused():
    with pytest.raises(SpecError, match="fewer than the 16 roots"):
        geometry(tokens="5%")


@pytest.mark.parametrize(("size", "count"), [((448, 640), 100), ((64, 64), 16), ((64, 128), 32), ((448, 704), 98)])
def test_any_count_with_native_sizes_is_rounded_down(size, count):
    assert geometry("native").spec(*size).num_tokens == count


def test_native_sizes_check_the_patch_sizes_at_once():
    with pytest.raises(SpecError, match="use max_patch 48 or 96"):
        geometry("native", min_patch=12)


def test_the_fit_is_crop_for_fixed_and_pad_for_native_sizes():
    assert geometry().fit == "crop"
    assert geometry("native").fit == "pad"
    assert geometry("native", fit="squash").fit == "squash"


def test_scorer_options_are_typed():
    assert parse_options(["stride=16", "high_res_fraction=0.5", "error=mse", "thresholds=5.75,4", "words=1,a"]) == {
        "stride": 16,
        "high_res_fraction": 0.5,
        "error": "mse",
        "thresholds": [5.75, 4],
        "words": "1,a",
    }
    with pytest.raises(InputError, match="'stride' is not of the form key=value"):
        parse_options(["stride"])


def flags_of(command):
    """flag → type, default, and what `--help` says of it, of a command; arguments aside."""
    names = {parameter.name: max(parameter.opts, key=len) for parameter in COMMANDS[command].params}
    flags = {}
    for name, parameter in inspect.signature(FUNCTIONS[command]).parameters.items():
        if name in names and names[name].startswith("--"):
            kind, option = get_args(parameter.annotation)
            shown = (option.help, option.metavar, option.rich_help_panel, option.show_default, option.envvar)
            flags[names[name]] = (kind, parameter.default, *shown, option.min, option.max)
    return flags


# What one command has otherwise, and why.
OTHERWISE = {
    ("visualize", "--tokens"): "takes several",
    ("visualize", "--output"): "the ending says what is drawn",
    ("bench", "--impl"): "takes several",
    ("bench", "--tokens"): "has no threshold",
    ("calibrate", "--tokens"): "is a mean",
    ("oracle", "--model"): "looks, and is not timed: it has a default",
    ("oracle", "--weights"): "of that classifier, not of a scorer",
    ("oracle", "--format"): "of maps, not of tokens",
    ("bench", "--scorer"): "takes several, and has no maps",
    ("bench", "--seed"): "of random images, too",
    ("bench", "--device"): "times more than the scorer",
    ("bench", "--dtype"): "of images, not of stored pixels",
    ("bench", "--json"): "a line a row, not an input",
    ("plans merge", "--output"): "must be given",
    ("plans merge", "--overwrite"): "there is no other policy",
}


def test_a_flag_is_the_same_in_every_command_that_has_it():
    seen = {}
    for command in COMMANDS:
        for flag, facts in flags_of(command).items():
            if (command, flag) not in OTHERWISE:
                assert seen.setdefault(flag, facts) == facts, f"{command} {flag}"


@pytest.mark.parametrize(("command", "flag"), OTHERWISE)
def test_what_is_otherwise_is_otherwise(command, flag):
    others = [flags_of(other)[flag] for other in COMMANDS if other != command and flag in flags_of(other)]
    assert others and flags_of(command)[flag] not in others


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_has_more_than_ten_parameters(command):
    assert len(inspect.signature(inspect.unwrap(FUNCTIONS[command])).parameters) <= 10


def test_commands_that_read_images_read_them_by_the_same_flags():
    reading = {"--fit", "--background", "--exif", "--draft", "--max-pixels"}
    commands = {"tokenize", "visualize", "calibrate", "oracle", "bench"}
    assert {command for command in COMMANDS if reading & flags_of(command).keys()} == commands
    assert all(reading <= flags_of(command).keys() for command in commands)


@pytest.mark.parametrize(
    ("flag", "default"),
    [
        ("--scorer", None),
        ("--impl", DEFAULT_QUADTREE),
        ("--tokens", None),
        ("--image-size", str(DEFAULT_IMAGE_SIZE)),
        ("--min-patch", DEFAULT_MIN_PATCH),
        ("--max-patch", DEFAULT_MAX_PATCH),
        ("--dtype", DEFAULT_PIXEL_DTYPE),
        ("--batch-size", DEFAULT_BATCH_SIZE),
        ("--max-pixels", MAX_PIXELS),
    ],
)
def test_defaults_are_those_of_the_functions(flag, default):
    assert flags_of("tokenize")[flag][1] == default


@pytest.mark.parametrize("command", ["tokenize", "visualize"])
def test_help_lists_every_scorer_that_there_is(command):
    (scorer,) = (parameter for parameter in COMMANDS[command].params if parameter.name == "scorer")
    assert scorer.metavar.split("|") == [*get_args(ScorerName), "MODULE:NAME"]
