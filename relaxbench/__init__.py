"""relaxbench: does a relaxation optimizer beat a well-tuned SGD on this model, by how much, and how sure is that?

`run_study` runs a study, `load_study` reads one as pandas frames, `verdicts` are its answers, `best` gives a method's
best settings, and `write_report` writes its page. `optim` has the methods as PyTorch optimizers, `problems` has what
they are compared on, and `trial` makes a training script of your own an arm of a study. A mistake in a request is a
`UserError`. Everything else serves the command line, ``python -m relaxbench``; see docs/architecture.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from relaxbench.errors import UserError as UserError
from relaxbench.errors import missing_library
from relaxbench.version import __version__ as __version__

if TYPE_CHECKING:
    from relaxbench import optim as optim
    from relaxbench import problems as problems
    from relaxbench.analysis.frames import load_study as load_study
    from relaxbench.cli.from_python import best as best
    from relaxbench.cli.from_python import run_study as run_study
    from relaxbench.cli.from_python import verdicts as verdicts
    from relaxbench.cli.from_python import write_report as write_report
    from relaxbench.loop.current import trial as trial

_PLACES = {
    "best": "relaxbench.cli.from_python",
    "load_study": "relaxbench.analysis.frames",
    "run_study": "relaxbench.cli.from_python",
    "verdicts": "relaxbench.cli.from_python",
    "write_report": "relaxbench.cli.from_python",
    "trial": "relaxbench.loop.current",
}
"""Where the functions are."""

__all__ = [
    "UserError",
    "__version__",
    "best",
    "load_study",
    "optim",
    "problems",
    "run_study",
    "trial",
    "verdicts",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # torch, pandas and SQLAlchemy take seconds to import: load each only when it is used.
    try:
        if name in _PLACES:
            return getattr(import_module(_PLACES[name]), name)
        if name in {"optim", "problems"}:
            return import_module(f"relaxbench.{name}")
    except ModuleNotFoundError as error:
        message = missing_library(error)
        if message is None:
            raise
        raise ModuleNotFoundError(message, name=error.name) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
