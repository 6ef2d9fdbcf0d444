"""relaxbench: does a relaxation optimizer beat a well-tuned SGD on this model, by how much, and how sure is that?

`load_study` reads a study as pandas frames, `optim` has the methods as PyTorch optimizers, `problems` has what they are
compared on, and `trial` makes a training script of your own an arm of a study. Everything else serves the command line,
``python -m relaxbench``; see docs/architecture.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from relaxbench.errors import missing_library
from relaxbench.version import __version__ as __version__

if TYPE_CHECKING:
    from relaxbench import optim as optim
    from relaxbench import problems as problems
    from relaxbench.analysis.frames import load_study as load_study
    from relaxbench.loop.current import trial as trial

__all__ = ["__version__", "load_study", "optim", "problems", "trial"]


def __getattr__(name: str) -> Any:
    # torch, pandas and SQLAlchemy take seconds to import: load each only when it is used.
    try:
        if name == "load_study":
            from relaxbench.analysis.frames import load_study

            return load_study
        if name == "trial":
            from relaxbench.loop.current import trial

            return trial
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
