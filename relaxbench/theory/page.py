"""The page of the theory: for every landscape the inequality first, then the figures behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.theory import figures
from relaxbench.theory.expectation import Estimate, Expectation
from relaxbench.util import files
from relaxbench.version import __version__


def sentence(result: Expectation) -> str:
    """State what the particles show about the theorem, with its error bars."""
    scene, V = result.scene, result.scene.terminal_title
    means = (
        f"After T = {scene.seconds:g} the mean of {V} is {_pm(result.controlled)} with the control and "
        f"{_pm(result.plain)} without; the theorem promises at most {_pm(result.bound)}"
    )
    verdict = {
        True: f"It holds, by {_pm(result.slack)}",
        None: f"Whether it holds is within the error bars: the slack is {_pm(result.slack)}",
        False: f"The particles violate it, by {_pm(result.slack)}: their time step is too long",
    }[result.holds]
    return f"{means}. {verdict} (on the grid {result.exact.slack:.4f})."


def write_page(results: Sequence[Expectation], directory: Path) -> Path:
    """Write ``theory.html`` into a folder, atomically.

    Raises:
        UserError: if the folder cannot be written.
    """
    templates = html.environment("relaxbench.theory")
    templates.globals |= {"sentence": sentence}
    scenes = [
        {
            "result": result,
            "title": result.scene.make().title,
            "figures": [figures.inequality(result), figures.landscape(result.scene), figures.densities(result)],
        }
        for result in results
    ]
    text = html.page(templates, "theory.html", scenes=scenes, particles=len(results[0].at_end[0]), version=__version__)
    file = directory / "theory.html"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files.write(file, text)
    except OSError as error:
        raise UserError(f"cannot write {str(file)!r}: {error.strerror} (choose another folder)") from error
    return file


def _pm(estimate: Estimate) -> str:
    return f"{estimate.mean:.4f} ± {estimate.half:.4f}"
