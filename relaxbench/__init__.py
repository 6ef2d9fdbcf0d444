"""relaxbench: does a relaxation optimizer beat a well-tuned SGD on this model, by how much, and how sure is that?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxbench.analysis.frames import load_study as load_study

from relaxbench.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    # pandas and SQLAlchemy take a second to import: not for those who want an optimizer.
    if name == "load_study":
        from relaxbench.analysis.frames import load_study

        return load_study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
