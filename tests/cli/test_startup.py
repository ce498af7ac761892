"""What a user waits for before anything happens."""

import subprocess
import sys

import pytest

import quadtok
from quadtok.cli import commands

HEAVY = ("torch", "torchvision", "numpy", "PIL")
COMMANDS = [[], *(name.split() for name in commands())]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys; from quadtok.cli import run; "
        f"assert run({[*command, '--help']}) == 0; print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code).splitlines()[-1] == "[]"


def test_usage_errors_and_dry_runs_come_before_torch(tmp_path):
    (tmp_path / "a.png").touch()
    code = (
        "import sys; from quadtok.cli import run; "
        f"print(run(['tokenize', {str(tmp_path)!r}, '-n', '101']), run(['tokenize', {str(tmp_path)!r}, '--dry-run']), "
        "'torch' in sys.modules)"
    )
    assert python(code).splitlines()[-1] == "2 0 False"


def test_tokenizing_with_blur_imports_no_torchvision(photo, tmp_path):
    code = (
        "import sys; from quadtok.cli import run; "
        f"print(run(['tokenize', {str(photo)!r}, '-o', {str(tmp_path)!r}, '--scorer', 'blur']), "
        "'torchvision' in sys.modules)"
    )
    assert python(code).splitlines()[-1] == "0 False"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version_is_printed_on_stdout(quadtok_cli, flag):
    result = quadtok_cli(flag)
    assert (result.code, result.out, result.err) == (0, f"{quadtok.__version__}\n", "")


def test_the_module_runs_as_the_command_does():
    shown = subprocess.run([sys.executable, "-m", "quadtok", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"{quadtok.__version__}\n"


@pytest.fixture
def quadtok_cli(request):
    return request.getfixturevalue("quadtok")


def test_every_command_has_help_with_each_of_its_options_explained(quadtok_cli):
    for command in COMMANDS[1:]:
        result = quadtok_cli(*command, "--help")
        assert result.code == 0
        assert "Usage: quadtok " + " ".join(command) in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tokenise"], "error: No such command 'tokenise'"),
        (["tokenize"], "error: Missing argument 'INPUTS...'. Try 'quadtok tokenize --help'."),
        (["tokenize", "x", "--fit", "fill"], "'fill' is not one of 'crop', 'pad', 'squash'"),
        (["tokenize", "x", "--frobnicate"], "No such option"),
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_and_exit_2(quadtok_cli, arguments, message):
    result = quadtok_cli(*arguments)
    assert result.code == 2
    assert len(result.lines) == 1
    assert message in result.err
    assert result.out == ""
