"""What a command's help calls the values of its options: a flag takes none, and no name is one of Python's types."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

NAMES = {"bool": "", "str": "TEXT", "int": "NUMBER", "float": "NUMBER", "list[str]": "TEXT", "Path": "PATH"}
"""By type, where an option does not name its value itself."""


class Command(TyperCommand):
    """A command whose help names values in plain words."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with a name for the value of each option."""
        return _named(super().get_params(ctx))


class Group(TyperGroup):
    """All commands, with the options before them named in the same way."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with a name for the value of each option."""
        return _named(super().get_params(ctx))


def _named(params: list[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, TyperOption) and param.metavar is None:
            param.metavar = NAMES.get(param.bare_type())
    return params
