"""The page of the atlas: one HTML file that opens offline, and its tables as CSV files next to it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from relaxbench.analysis import sentences
from relaxbench.analysis.comparison import VERDICTS
from relaxbench.analysis.simultaneous import LEVEL
from relaxbench.atlas.atlas import Atlas, column_of
from relaxbench.atlas.cells import NOT_RUN, Cell, Row
from relaxbench.atlas.discovery import holds
from relaxbench.atlas.figures import profile_panels
from relaxbench.atlas.profiles import baseline_profiles
from relaxbench.atlas.repeats import once
from relaxbench.atlas.sources import Entry
from relaxbench.atlas.traits import TRAITS
from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.pages.theme import file_name
from relaxbench.util import files
from relaxbench.util.text import counted, duration, percent
from relaxbench.version import __version__

NAME = "atlas"
"""Name of the page's file."""


@dataclass(frozen=True)
class Summary:
    """A method over all rows, once on each problem at a budget.

    Attributes:
        title, role, arm: of the method.
        counts: verdict → rows. held: claims that also hold over the atlas.
        rows: rows with a ratio and a claim. ratio: their geometric mean, an estimate.
        lowest, highest: the ratios at the ends.
    """

    title: str
    role: str
    arm: str
    counts: Counter[str]
    held: int
    rows: int
    ratio: float
    lowest: float
    highest: float


def write_atlas(atlas: Atlas, directory: Path) -> list[Path]:
    """Write ``<directory>/atlas.html`` and, in ``<directory>/atlas/``, its tables and the manifest of every study.

    Each file appears whole or not at all.

    Args:
        atlas: the studies.
        directory: created if it is missing. A report of a study that lies in it (``NAME.html``) is linked.

    Returns:
        The paths of the page, of the tables and of the manifests.

    Raises:
        UserError: the directory cannot be written.
    """
    page, folder = directory / f"{NAME}.html", directory / NAME
    tables = atlas.tables()
    texts = {name: files.csv(table) for name, table in tables.items()}
    beside = {f"{name}.csv": text for name, text in texts.items()}
    beside |= {f"study-{file_name(entry.label)}.json": _manifest(entry) for entry in atlas.studies}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in beside.items():
            files.write(folder / name, text)
        files.write(page, render(atlas, tables, texts, reports(atlas, directory)))
    except OSError as error:
        raise UserError(f"cannot write {str(page)!r}: {error.strerror} (choose another folder)", "out") from error
    return [page, *(folder / name for name in beside)]


def reports(atlas: Atlas, directory: Path) -> dict[str, str]:
    """Return the reports that lie in the directory: label of a study → name of the file."""
    names = {entry.label: f"{file_name(entry.name)}.html" for entry in atlas.studies}
    shared = Counter(names.values())  # two studies of one name cannot both have left this report
    return {label: name for label, name in names.items() if shared[name] == 1 and (directory / name).is_file()}


def render(atlas: Atlas, tables: Mapping[str, pd.DataFrame], texts: Mapping[str, str], links: Mapping[str, str]) -> str:
    """Return the HTML text of the page.

    Args:
        atlas: the studies.
        tables: of `Atlas.tables`. texts: the same as CSV.
        links: label of a study → address of its report.
    """
    templates = html.environment("relaxbench.atlas")
    templates.filters |= {
        "number": sentences.number,
        "ratio": sentences.ratio,
        "percent": percent,
        "duration": duration,
        "counted": counted,
        "gradients": in_gradients,
    }
    templates.globals |= {"finite": sentences.finite, "verdicts": VERDICTS, "not_run": NOT_RUN, "holds": holds}
    script = templates.loader.get_source(templates, "atlas.js")[0] if templates.loader else ""
    counts: Counter[tuple[str, float]] = Counter(row.key for row in atlas.rows)
    return html.page(
        templates,
        "atlas.html",
        atlas=atlas,
        rows=_ordered(atlas.rows),
        entries={entry.label: entry for entry in atlas.entries},
        repeated={key for key, count in counts.items() if count > 1},
        links=links,
        summaries=summaries(atlas),
        figures=profile_panels(tables["profiles"], baseline_profiles(tables["relative"])),
        traits=_traits(tables["traits"]),
        trait_titles=TRAITS,
        repeats=tables["repeats"].to_dict("records"),
        state=state,
        level=LEVEL,
        sort=Markup(script),
        packed={name: html.pack(text) for name, text in texts.items()},
        counts={name: len(table) for name, table in tables.items()},
        folder=NAME,
        version=__version__,
    )


def summaries(atlas: Atlas) -> list[Summary]:
    """Return one line per method, in the order of the table."""
    found, every = [], once(atlas.cells)
    for column, title in atlas.columns.items():
        cells = [cell for cell in every if column_of(cell) == column]
        counts = Counter(cell.verdict for cell in cells)
        ratios = [cell.ratio for cell in cells if cell.known and cell.verdict != "no claim"]
        found.append(
            Summary(
                title,
                next((cell.role for cell in cells), ""),
                column[1],
                counts,
                sum(holds(cell) for cell in cells),
                len(ratios),
                float(np.exp(np.mean(np.log(ratios)))) if ratios else math.nan,
                min(ratios, default=math.nan),
                max(ratios, default=math.nan),
            )
        )
    return found


def state(cell: Cell, entry: Entry) -> str:
    """Return what to know beside a verdict: that the study goes on, why there is no claim, or what may decide."""
    if cell.look == 0 and cell.waiting and entry.missing:
        return "before its first look"
    if cell.verdict == "no claim":
        return cell.reason
    if cell.waiting and entry.missing:
        return "its study goes on"
    return f"{cell.needed:,.0f} blocks may decide" if math.isfinite(cell.needed) else ""


def in_gradients(count: float) -> str:
    """Return a number of gradients in words: in millions from a tenth of a million on."""
    if count < 1e5:
        return counted(round(count), "gradient")
    return f"{sentences.number(count / 1e6)} million gradients"


def _manifest(entry: Entry) -> str:
    return json.dumps(entry.facts, indent=1, ensure_ascii=False, default=str) + "\n"


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """The rows of one problem together, by budget; problems in the order in which they first came."""
    order = {base: place for place, base in enumerate(dict.fromkeys(row.base for row in rows))}
    return sorted(rows, key=lambda row: (order[row.base], row.budget if math.isfinite(row.budget) else 0.0))


def _traits(table: pd.DataFrame) -> list[tuple[str, dict[str, tuple[float, int]]]]:
    """Method → trait → correlation and number of rows."""
    return [
        (str(title), {str(row.trait): (float(row.correlation), int(row.problems)) for row in part.itertuples()})
        for title, part in table.groupby("title", sort=False)
    ]
