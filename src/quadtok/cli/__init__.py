"""The command line: the app, and the boundary where errors become one line and an exit code.

Nothing here or in the modules imported here loads torch; commands import what they need when they run.
Exit codes: 0 all done, 1 some inputs failed, 2 usage, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Annotated

import typer

from quadtok import __version__
from quadtok.cli.bench import bench
from quadtok.cli.calibrate import calibrate
from quadtok.cli.info import info
from quadtok.cli.oracle import oracle
from quadtok.cli.plans import plans
from quadtok.cli.reverse import reverse
from quadtok.cli.terminal import (
    escape_what_a_stream_cannot_show,
    open_closed_streams,
    say_error,
    show_tracebacks,
    tracebacks_are_shown,
)
from quadtok.cli.tokenize import tokenize
from quadtok.cli.visualize import visualize
from quadtok.errors import InputError, QuadtokError, described

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: quadtok tokenize photos/ -o tokens/ -n 100 · "
    "Exit codes: 0 all done, 1 some inputs failed, 2 usage, 130 interrupted",
)
app.command(epilog="find . -name '*.jpg' -print0 | quadtok tokenize -0 - -o tokens/ --json > log.jsonl")(tokenize)
app.command(
    epilog="quadtok visualize tokens/ -o pictures/ · quadtok visualize cat.jpg --compare blur,random --tokens 40,100"
)(visualize)
app.command(
    epilog="quadtok reverse tokens/ -o restored/ · quadtok reverse cat.pt --to features --features cat.features.pt"
)(reverse)
app.command(
    epilog="quadtok calibrate photos/ -n 100 --at-most 160 · quadtok tokenize photos/ --threshold T -n 160 -o tokens/"
)(calibrate)
app.command(
    epilog="quadtok oracle photos/ -o maps/ · quadtok tokenize photos/ --scorer precomputed --maps maps/ -o tokens/"
)(oracle)
app.command(epilog="quadtok bench --impl zcurve · quadtok bench photos/ --scorer blur -b 1,8,64 --plot b.png")(bench)
app.command(epilog="quadtok info tokens/ --check · quadtok info (the environment, for bug reports)")(info)
app.add_typer(plans, name="plans")


def commands() -> dict[str, tuple[Callable[..., int], str]]:
    """Every command by its name, with the examples below its help; `plans merge` is one."""
    groups = [("", app), *((f"{group.name} ", group.typer_instance) for group in app.registered_groups)]
    return {
        f"{prefix}{info.callback.__name__}": (info.callback, info.epilog or "")
        for prefix, group in groups
        for info in (group.registered_commands if group else ())
        if info.callback
    }


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def quadtok(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", envvar="QUADTOK_DEBUG")] = False,
) -> None:
    """Turn images into mixed-resolution quadtree tokens for Vision Transformers."""
    if debug:
        show_tracebacks()


def main() -> None:
    """Run the command line and exit with its code."""
    open_closed_streams()
    escape_what_a_stream_cannot_show()
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our stdout went away, as `head` does
        _forget_stdout()
        code = 141
    except OSError as problem:
        _forget_stdout()
        say_error(f"stdout cannot be written ({problem.strerror})")
        code = 1
    sys.exit(code)


def _forget_stdout() -> None:
    """Python would try once more to write what is left, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def run(arguments: list[str]) -> int:
    """Run the command line on these arguments; the exit code."""
    # In a context of its own: what one run sets is not there in the next.
    return copy_context().run(_run, arguments)


def _run(arguments: list[str]) -> int:
    try:
        _check_working_folder()
        return app(arguments, prog_name="quadtok", standalone_mode=False) or 0
    except BrokenPipeError:
        raise
    except Exception as problem:
        # typer raises its vendored click's exceptions, whose home has moved between versions: told by what they can do.
        describe = getattr(problem, "format_message", None)
        if describe is not None:
            return _usage_error(problem, describe())
        if tracebacks_are_shown():
            raise
        if isinstance(problem, QuadtokError):
            say_error(str(problem))
            return 2
        defect = ": a defect of quadtok; please report it with what 'quadtok --debug …' shows"
        say_error(described(problem) + defect * (not isinstance(problem, OSError)))  # such as a full stdout
        return 1


def _check_working_folder() -> None:
    """Without one no relative path means anything, and libraries that torch loads end the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the working folder is no longer there: cd to one that is") from None


def _usage_error(problem: Exception, message: str) -> int:
    if message:
        command = getattr(getattr(problem, "ctx", None), "command_path", "quadtok")
        say_error(f"{message.removeprefix('Value error, ')} Try '{command} --help'.")
    return int(getattr(problem, "exit_code", 2))
