"""The page of a comparison: one sentence a method first, then what differs, the numbers and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis import sentences
from relaxbench.analysis.caveats import missing
from relaxbench.analysis.compare import SIDES, Side, differences, only_one, sentence
from relaxbench.analysis.frames import StudyFrames, load_study
from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import INK, Look, axis, file_name, layout, plain, row_axis, visible
from relaxbench.store.urls import parse_url, show_url
from relaxbench.util import files
from relaxbench.version import __version__

MARKS = ("circle", "square-open")
"""Of the first study and the other, in every figure."""


def find(text: str, storage: str) -> tuple[str, str | None]:
    """The storage and the study that are meant by one of the two words after ``--compare``.

    Args:
        text: a study of the storage, a database (a URL, or a file whose name ends in .db), or a database and a study
            with # between them.
        storage: the storage of studies without a database of their own.
    """
    place, mark, name = text.rpartition("#")
    if mark and _is_database(place):
        return place, name or None
    return (text, None) if _is_database(text) else (storage, text)


def sides(one: str, other: str, storage: str) -> tuple[Side, Side]:
    """Two studies, under names that tell them apart.

    Args:
        one, other: as for `find`.
        storage: likewise.

    Raises:
        UserError: if one of them does not exist, or both are the same.
    """
    places = [find(text, storage) for text in (one, other)]
    urls = [parse_url(place) for place, _ in places]
    frames = [load_study(place, name) for place, name in places]
    names = [study.name for study in frames]
    if names[0] == names[1] and urls[0] == urls[1]:
        raise UserError(f"--compare {one!r} {other!r}: both are the same study; name two")
    files = [Path(str(url.database)).name for url in urls]
    choices = [
        [(name, file_name(name)) for name in names],
        [(f"{name} in {file}", file_name(f"{name}-{file}")) for name, file in zip(names, files, strict=True)],
        [(f"{n} in {show_url(u)}", f"{file_name(n)}-{k}") for n, u, k in zip(names, urls, SIDES, strict=True)],
    ]
    first, second = next(pair for pair in choices if pair[0] != pair[1])
    return Side(*first, frames[0]), Side(*second, frames[1])


def write_comparison(one: Side, other: Side, table: pd.DataFrame, directory: Path) -> Path:
    """Write ``<directory>/compare-<one>-<other>.html``; it appears whole or not at all.

    Args:
        one, other: the studies.
        table: what `compare` says of them.
        directory: made if it is missing.

    Returns:
        where the page lies.

    Raises:
        UserError: the directory cannot be written.
    """
    page = directory / f"compare-{one.stem}-{other.stem}.html"
    text = render(one, other, table)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files.write(page, text)
    except OSError as error:
        raise UserError(f"cannot write {str(page)!r}: {error.strerror} (choose another folder)") from error
    return page


def render(one: Side, other: Side, table: pd.DataFrame) -> str:
    """The HTML text of the page; ``table`` is from `compare`."""
    templates = html.environment("relaxbench.report")
    templates.filters |= {"number": sentences.number}
    templates.globals |= {"sentence": sentence, "finite": np.isfinite, "difference_unit": sentences.difference_unit}
    problems = list(dict.fromkeys(table["problem"])) if len(table) else []
    seeds = [side.frames.spec.get("seed") for side in (one, other)]
    return html.page(
        templates,
        "compare.html",
        one=one,
        other=other,
        problems=[_problem(one, other, table[table["problem"] == name], name) for name in problems],
        differing=differences(one.frames, other.frames).to_dict("records"),
        alone=[(side, only_one(side.frames, against.frames)) for side, against in ((one, other), (other, one))],
        unfinished=[side.label for side in (one, other) if missing(side.frames)],
        same_seed=seeds[0] is not None and seeds[0] == seeds[1],
        version=__version__,
    )


def figure(table: pd.DataFrame, one: Side, other: Side, problem: str) -> Figure | None:
    """Each method's difference from the baseline in both studies, side by side.

    Args:
        table: rows of `compare` of one problem.
        one, other: the studies.
        problem: its name.
    """
    shown = np.isfinite(table[[f"difference_{side}" for side in SIDES]].to_numpy(dtype=float)).any(axis=1)
    rows = table[shown & (table["obstacle"] == "")].iloc[::-1]
    if rows.empty:
        return None
    look, unit = _look(one.frames), plain(sentences.difference_unit(rows.iloc[0]) or "units")
    spans = rows[[f"{key}_{side}" for side in SIDES for key in ("low", "high")]].astype(float)
    known = spans[spans.notna().all(axis=1)]
    left, right = visible(list(known.min(axis=1)), list(known.max(axis=1))) if len(known) else (-1.0, 1.0)
    drawn = Drawing()
    drawn.add_shape(type="line", x0=0, x1=0, y0=0, y1=1, yref="paper", line={"color": INK, "width": 1}, layer="between")
    for position, (_, row) in enumerate(rows.iterrows()):
        colour, title = look.colours[row["method"]], look.title(row["method"])
        for side, study, mark, shift in zip(SIDES, (one, other), MARKS, (0.16, -0.16), strict=True):
            difference, high = float(row[f"difference_{side}"]), float(row[f"high_{side}"])
            drawn.add(
                "scatter",
                x=single([difference]),
                y=single([position + shift]),
                mode="markers",
                showlegend=False,
                name=title,
                marker={"color": colour, "size": 10, "symbol": mark, "line": {"width": 2, "color": colour}},
                error_x={
                    "type": "data",
                    "array": single([high - difference]),
                    "color": colour,
                    "thickness": 2,
                    "width": 0,
                },
                hovertemplate=f"{title}, {plain(study.label)}: %{{x:+.3~g}} {unit} (±{high - difference:.3g}), "
                f"{row[f'verdict_{side}']}<extra></extra>",
            )
    drawn.update_layout(
        layout(
            height=110 + 46 * len(rows),
            xaxis=axis(f"difference from {look.title(str(look.baseline))} ({unit})<br>← lower is better")
            | {"range": [left, right]},
            yaxis=row_axis([look.title(method) for method in rows["method"]]),
        )
    )
    keys = ["problem", "method", *(f"{key}_{side}" for side in SIDES for key in ("difference", "low", "high"))]
    return Figure(
        f"compare-{file_name(problem)}",
        f"Difference from {look.titles[str(look.baseline)]} in both studies",
        f"Above and filled: {one.label}; below and open: {other.label}. Each mark is a mean difference over blocks "
        "with its unadjusted 95 % interval. What lies beyond the axis is in the table.",
        drawn,
        data=rows[keys].iloc[::-1],
    )


def _problem(one: Side, other: Side, rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """All that the page shows of one problem."""
    drawn = figure(rows, one, other, name)
    return {"about": one.frames.problem(name), "rows": rows.to_dict("records"), "figures": [drawn] if drawn else []}


def _look(frames: StudyFrames) -> Look:
    return Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline)


def _is_database(text: str) -> bool:
    return "://" in text or text.endswith(".db")
