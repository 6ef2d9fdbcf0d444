"""The page that compares two studies: one sentence per method, numbers and figures, and the differing circumstances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis import sentences
from relaxbench.analysis.caveats import missing
from relaxbench.analysis.compare import SIDES, Contrast, Side, differences, only_one, sentence
from relaxbench.analysis.comparison import Comparison
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.analysis.progress import progress
from relaxbench.analysis.sentences import ratio
from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import Look, axis, file_name, layout, plain, row_axis
from relaxbench.report.figures.ratios import ratio_axis, reference_shapes, span, whiskers
from relaxbench.store.urls import parse_url, place_of, show_url
from relaxbench.util import files
from relaxbench.version import __version__

MARKS = ("circle", "square-open")
"""The marks of the first study and of the other in every figure."""


def sides(one: str, other: str, storage: str) -> tuple[Side, Side]:
    """Load two studies and give them different labels.

    Args:
        one, other, storage: as for `place_of`.

    Raises:
        UserError: if one of them does not exist, or both are the same.
    """
    places = [place_of(text, storage) for text in (one, other)]
    urls = [parse_url(place) for place, _ in places]
    frames = [load_study(place, name) for place, name in places]
    names = [study.name for study in frames]
    if names[0] == names[1] and urls[0] == urls[1]:
        raise UserError(f"{one!r} and {other!r}: both are the same study; name two different ones", "compare")
    files = [Path(str(url.database)).name for url in urls]
    choices = [
        [(name, file_name(name)) for name in names],
        [(f"{name} in {file}", file_name(f"{name}-{file}")) for name, file in zip(names, files, strict=True)],
        [(f"{n} in {show_url(u)}", f"{file_name(n)}-{k}") for n, u, k in zip(names, urls, SIDES, strict=True)],
    ]
    first, second = next(pair for pair in choices if pair[0] != pair[1])
    return Side(*first, frames[0]), Side(*second, frames[1])


def write_comparison(one: Side, other: Side, contrasts: Sequence[Contrast], directory: Path) -> Path:
    """Write ``<directory>/compare-<one>-<other>.html``; it appears whole or not at all.

    Args:
        one, other: the studies.
        contrasts: of `compare`.
        directory: created if it is missing.

    Returns:
        The path of the page.

    Raises:
        UserError: the directory cannot be written.
    """
    page = directory / f"compare-{one.stem}-{other.stem}.html"
    text = render(one, other, contrasts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files.write(page, text)
    except OSError as error:
        raise UserError(f"cannot write {str(page)!r}: {error.strerror} (choose another folder)") from error
    return page


def render(one: Side, other: Side, contrasts: Sequence[Contrast]) -> str:
    """Return the HTML text of the page; ``contrasts`` are of `compare`."""
    templates = html.environment("relaxbench.report")
    templates.filters |= {"number": sentences.number, "ratio": sentences.ratio}
    templates.globals |= {"sentence": sentence, "finite": np.isfinite}
    problems = list(dict.fromkeys(contrast.one.problem for contrast in contrasts))
    seeds = [side.frames.spec.get("seed") for side in (one, other)]
    return html.page(
        templates,
        "compare.html",
        one=one,
        other=other,
        problems=[_problem(one, other, contrasts, name) for name in problems],
        differing=differences(one.frames, other.frames).to_dict("records"),
        alone=[(side, only_one(side.frames, against.frames)) for side, against in ((one, other), (other, one))],
        unfinished=[side.label for side in (one, other) if missing(side.frames, progress(side.frames))],
        same_seed=seeds[0] is not None and seeds[0] == seeds[1],
        version=__version__,
    )


def figure(contrasts: Sequence[Contrast], one: Side, other: Side) -> Figure | None:
    """Draw each method's ratio to the baseline in both studies, one above the other.

    Args:
        contrasts: of `compare`, of one problem.
        one, other: the studies.
    """
    rows = [contrast for contrast in contrasts if not contrast.obstacle and any(_known(contrast))]
    if not rows:
        return None
    problem = rows[0].one.problem
    look, drawing = _look(one.frames), Drawing()
    for shape in reference_shapes(None):
        drawing.add_shape(**shape)
    known = [comparison for contrast in rows for comparison in _known(contrast) if comparison]
    left, right = span(end for each in known for end in (each.ratio, each.low, each.high))
    for position, contrast in enumerate(reversed(rows)):
        colour, title = look.colours[contrast.one.method], look.title(contrast.one.method)
        for comparison, study, symbol, shift in zip(_known(contrast), (one, other), MARKS, (0.16, -0.16), strict=True):
            if comparison is None:
                continue
            interval = f" ({ratio(comparison.low)} to {ratio(comparison.high)})" if comparison.claimed else ""
            drawing.add(
                "scatter",
                x=single([comparison.ratio]),
                y=single([position + shift]),
                mode="markers",
                showlegend=False,
                name=title,
                marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
                error_x=whiskers(comparison.ratio, comparison.low, comparison.high, colour),
                hovertemplate=f"{title}, {plain(study.label)}: {ratio(comparison.ratio)} times{interval}, "
                f"{comparison.verdict}<extra></extra>",
            )
    baseline, metric = look.title(str(look.baseline)), plain(known[0].metric)
    drawing.update_layout(
        layout(
            height=110 + 46 * len(rows),
            xaxis=axis(f"times {baseline}'s {metric}<br>← lower is better") | ratio_axis(left, right),
            yaxis=row_axis([look.row(contrast.one.method) for contrast in reversed(rows)]),
        )
    )
    return Figure(
        f"compare-{file_name(problem)}",
        f"Ratio to {look.titles[str(look.baseline)]} in both studies",
        f"Above and filled: {one.label}; below and open: {other.label}. Each mark is a ratio with the interval that "
        "its own study's verdict is read from.",
        drawing,
        data=_data(rows),
    )


def _known(contrast: Contrast) -> list[Comparison | None]:
    """The comparison with the baseline in each study; None where there is no ratio."""
    comparisons = [result.against("baseline") for result in contrast.results]
    return [comparison if comparison and comparison.known else None for comparison in comparisons]


def _data(rows: Sequence[Contrast]) -> pd.DataFrame:
    """The numbers that are drawn."""
    table = []
    for contrast in rows:
        row: dict[str, str | float] = {"problem": contrast.one.problem, "method": contrast.one.method}
        for side, comparison in zip(SIDES, _known(contrast), strict=True):
            for key in ("ratio", "low", "high"):
                row[f"{key}_{side}"] = getattr(comparison, key) if comparison else math.nan
        table.append(row)
    return pd.DataFrame(table)


def _problem(one: Side, other: Side, contrasts: Sequence[Contrast], name: str) -> dict[str, Any]:
    """Everything that the page shows of one problem."""
    own = [contrast for contrast in contrasts if contrast.one.problem == name]
    forest = figure(own, one, other)
    return {"about": one.frames.problem(name), "contrasts": own, "figures": [forest] if forest else []}


def _look(frames: StudyFrames) -> Look:
    return Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline)
