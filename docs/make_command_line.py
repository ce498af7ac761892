"""Write docs/command-line.md from the app: `python docs/make_command_line.py`; tests/test_docs.py holds it up to date.

Reads the commands' annotated signatures, not typer's help, which looks different from version to version.
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from quadtok.cli import commands

PAGE = Path(__file__).parent / "command-line.md"
INTRODUCTION = """# The command line

*Made from the app by `python docs/make_command_line.py`; do not edit.*

Flags mean the same in every command. Data goes to stdout, everything else to stderr. Exit codes: 0 all done, 1 some
inputs failed (the rest is written), 2 usage, 130 interrupted, 143 terminated.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(name, *command) for name, command in commands().items())])


def section(name: str, command: Callable[..., Any], epilog: str) -> str:
    """One command: what it does, examples, and a table of its arguments and options for each panel."""
    panels: dict[str, list[str]] = {}
    hints = get_type_hints(command, include_extras=True)
    for argument, parameter in inspect.signature(command).parameters.items():
        if hints[argument] is typer.Context:
            continue
        kind, option = get_args(hints[argument])
        panels.setdefault(option.rich_help_panel or "Input", []).append(row(argument, kind, option, parameter.default))
    tables = [f"| {panel} | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n" for panel, rows in panels.items()]
    examples = "\n".join(f"- `{example.strip()}`" for example in epilog.split("·"))
    return f"## quadtok {name}\n\n{inspect.getdoc(command)}\n\n{examples}\n\n" + "\n".join(tables)


def row(name: str, kind: Any, option: Any, default: Any) -> str:
    """One parameter as a row of a table."""
    # In Annotated[…, typer.Option("--tokens", "-n")] the first name stands where the default used to.
    first = [option.default] if isinstance(option.default, str) and option.default.startswith("-") else []
    flags = [flag for declared in [*first, *(option.param_decls or ())] for flag in declared.split("/")]
    if isinstance(option, OptionInfo) and not flags:
        flags = [f"--{name.replace('_', '-')}"]
    metavar = (
        option.metavar
        or "|".join(choices(kind))
        or ("N" if int in (kind, *get_args(kind)) and option.min is not None else "")
    )
    text = re.sub(r"\\\[", "[", option.help)
    variable = f" (environment: `{option.envvar}`)" if option.envvar else ""
    cells = [" ".join([*(f"`{flag}`" for flag in flags), metavar]).strip(), text + variable, shown(option, default)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def choices(kind: Any) -> list[str]:
    """The values of a Literal, also inside `Literal[…] | None`."""
    literals = [kind, *get_args(kind)]
    return [str(value) for literal in literals if get_origin(literal) is Literal for value in get_args(literal)]


def shown(option: Any, default: Any) -> str:
    """What holds where nothing is said."""
    if isinstance(option.show_default, str):
        return option.show_default
    return "" if default in (None, False, inspect.Parameter.empty) or (default == 0 and option.count) else str(default)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
