"""Groups of flags: a frozen dataclass is a group, its fields are flags, and a command takes groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from typing import Any, get_type_hints

import typer


@dataclass(frozen=True)
class Group:
    """Flags that belong together. A subclass is a frozen dataclass of `Annotated[type, typer.Option(…)]` fields.

    A flag's name, type, default and help stand in its field, and what it means in a method beside it. A command that
    differs takes a subclass which declares that field anew.
    """

    def check(self, context: typer.Context) -> None:
        """Refuse what these flags cannot mean, alone or together; done before the command runs. Loads no torch.

        Raises:
            InputError: for the first such flag.
        """


def grouped(command: Callable[..., int]) -> Callable[..., int]:
    """The command as Typer wants it: in place of each group, one parameter for each of its fields.

    The command's first parameter must be `context: typer.Context`.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Group)}
    flags: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            flags += _flags_of(groups[name])
        else:
            flags.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(context: typer.Context, **values: Any) -> int:
        made = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        for group in made.values():
            group.check(context)
        return command(context, **made, **values)

    run.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]  # what Typer and the docs read
    run.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return run


def _flags_of(group: type[Group]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
