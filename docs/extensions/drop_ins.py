"""Show the drop-in optimizers in the API reference as they are at run time: composed from their rules."""

from __future__ import annotations

import inspect
from typing import Any

import griffe

from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS

CLASSES = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in DROP_INS.values()}


class DropIns(griffe.Extension):
    """Replace the docstrings and constructors that griffe reads in the source."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Take both from the imported class."""
        if cls.path not in CLASSES:
            return
        drop_in: type[RuleOptimizer] = CLASSES[cls.path]
        cls.docstring = griffe.Docstring(inspect.getdoc(drop_in) or "", parent=cls, parser=griffe.Parser.google)
        parameters = [
            griffe.Parameter(
                p.name,
                annotation=inspect.formatannotation(p.annotation),
                kind=griffe.ParameterKind.keyword_only
                if p.kind is p.KEYWORD_ONLY
                else griffe.ParameterKind.positional_or_keyword,
                default=None if p.default is p.empty else repr(p.default),
            )
            for p in inspect.signature(drop_in).parameters.values()
        ]
        this = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        cls["__init__"] = griffe.Function("__init__", parameters=griffe.Parameters(this, *parameters))
