"""A command takes groups of flags; typer sees the flags."""

import inspect
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import pytest
import typer

from quadtok.cli.grouped import Group, grouped
from quadtok.errors import InputError


@dataclass(frozen=True)
class Cut(Group):
    slices: Annotated[int, typer.Option("--slices", "-s", min=1, help="How many.")] = 8
    shape: Annotated[Literal["wedge", "square"], typer.Option(help="Which.")] = "wedge"

    def check(self, context: typer.Context) -> None:
        if self.shape == "square" and self.slices % 2:
            raise InputError("squares come in pairs")


@dataclass(frozen=True)
class Dish(Group):
    names: Annotated[list[str], typer.Argument(help="What is served.")]
    hot: Annotated[bool, typer.Option("--hot/--cold", help="How.")] = True


@dataclass(frozen=True)
class FineCut(Cut):
    slices: Annotated[int, typer.Option("--slices", "-s", min=1, help="Thin ones.")] = 24
    thin: Annotated[bool, typer.Option("--thin", help="Thinner still.")] = False


@pytest.fixture
def served():
    return []


def command_of(function):
    app = typer.Typer(add_completion=False)
    app.command()(grouped(function))
    return typer.main.get_command(app)


def flags_of(command):
    return [parameter.name for parameter in command.params if parameter.name != "help"]


def help_of(function):
    parameters = inspect.signature(grouped(function)).parameters
    return [get_args(parameter.annotation)[1].help for name, parameter in parameters.items() if name != "context"]


@pytest.fixture
def serve(served):
    def serve(context: typer.Context, dish: Dish, cut: Cut, to: Annotated[str, typer.Option(help="Whom.")] = "all"):
        """Serve it."""
        served.append((dish, cut, to))
        return 0

    return command_of(serve)


@pytest.fixture
def call(serve):
    return lambda *arguments: serve.main(list(arguments), standalone_mode=False)


def test_a_command_gets_its_groups_and_its_own_flags(call, served):
    call("soup", "bread", "-s", "3", "--cold", "--to", "me")
    assert served == [(Dish(["soup", "bread"], hot=False), Cut(3, "wedge"), "me")]


def test_what_is_not_typed_is_the_groups_default(call, served):
    call("soup")
    assert served == [(Dish(["soup"]), Cut(), "all")]


def test_typer_sees_flags_in_the_order_of_groups_and_fields(serve):
    assert flags_of(serve) == ["names", "hot", "slices", "shape", "to"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing argument"),
        (["soup", "-s", "0"], "Invalid value for '--slices' / '-s'"),
        (["soup", "--shape", "star"], "'star' is not one of 'wedge', 'square'"),
        (["soup", "--dish", "deep"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors_are_typers(call, served, arguments, told):
    with pytest.raises(Exception) as raised:  # whose home has moved between versions of typer
        call(*arguments)
    assert (told in raised.value.format_message(), served) == (True, [])


def test_a_group_refuses_before_the_command_runs(call, served):
    call("soup", "-s", "4", "--shape", "square")
    with pytest.raises(InputError, match="squares come in pairs"):
        call("soup", "-s", "3", "--shape", "square")
    assert len(served) == 1


def test_a_subclass_changes_one_flag_and_adds_its_own(served):
    def carve(context: typer.Context, cut: FineCut):
        served.append(cut)
        return 0

    command = command_of(carve)
    command.main([], standalone_mode=False)
    command.main(["--shape", "square", "--thin"], standalone_mode=False)
    assert served == [FineCut(24, "wedge"), FineCut(24, "square", thin=True)]
    assert flags_of(command) == ["slices", "shape", "thin"]
    assert help_of(carve) == ["Thin ones.", "Which.", "Thinner still."]


def test_the_command_keeps_its_name_and_its_words():
    def carve(context: typer.Context, cut: Cut) -> int:
        """Carve it."""
        return 0

    command = grouped(carve)
    assert (command.__name__, inspect.getdoc(command)) == ("carve", "Carve it.")
    assert list(inspect.signature(command).parameters) == ["context", "slices", "shape"]
