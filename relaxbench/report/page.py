"""The page: everything a reader needs in one HTML file that opens offline, and its tables as CSV beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from relaxbench.errors import UserError
from relaxbench.report import collect, figures, html, sentences
from relaxbench.report.cautions import cautions, missing
from relaxbench.report.figures import Figure
from relaxbench.report.frames import StudyFrames
from relaxbench.report.look import Look, file_name
from relaxbench.report.sharpness import sharpness
from relaxbench.report.verdicts import verdicts

EMBED = 2_000_000
"""Packed tables up to this many bytes travel inside the page; larger ones, and all curves, lie beside it."""

PASSING = ("origins", "turns")
"""What a manifest says for workers alone: where files lie on a machine, and whose turn it is."""


def write_report(frames: StudyFrames, directory: Path | str) -> Path:
    """Write ``<directory>/<study>.html`` and ``<directory>/<study>/*.csv``; each file appears whole or not at all.

    Returns:
        Where the page lies.

    Raises:
        UserError: the directory cannot be written.
    """
    stem = file_name(frames.name)
    page = Path(directory) / f"{stem}.html"
    table = verdicts(frames)
    texts = {name: html.csv(each) for name, each in tables_of(frames, table).items()}
    try:
        (Path(directory) / stem).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            html.write(Path(directory) / stem / f"{name}.csv", text)
        html.write(page, render(frames, table, texts))
    except OSError as error:
        raise UserError(f"cannot write the report to {directory}: {error.strerror} (choose another folder)") from error
    return page


def tables_of(frames: StudyFrames, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables that go with a report; ``table`` is its `verdicts`."""
    return {
        "verdicts": table,
        "blocks": frames.blocks,
        "recommended": frames.recommended,
        "flatness": frames.flatness,
        "trials": frames.trials,
        "curves": frames.curves,
    }


def render(frames: StudyFrames, table: pd.DataFrame, texts: dict[str, str]) -> str:
    """The HTML text of the page, from the verdict table and the CSV texts that it carries inside."""
    look = Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline)
    templates = html.environment()
    templates.filters |= {"number": sentences.number, "memory": memory, "setting": setting}
    templates.globals |= {
        "sentence": sentences.sentence, "explanation": sentences.explanation, "finite": _finite,
        "difference_unit": sentences.difference_unit, "probability": sentences.probability,
    }  # fmt: skip
    packed = [(name, html.pack(text) if name != "curves" else "") for name, text in texts.items()]
    return html.page(
        templates,
        "report.html",
        frames=frames,
        about=frames.manifest,
        problems=[_problem(frames, table, look, name) for name in frames.problems],
        look=look,
        missing=missing(frames),
        cautions=cautions(frames, table),
        counts={name: len(each) for name, each in tables_of(frames, table).items()},
        packed={name: data if len(data) <= EMBED else "" for name, data in packed},
        folder=file_name(frames.name),
        manifest_text=json.dumps(
            {key: value for key, value in frames.manifest.items() if key not in PASSING},
            indent=2,
            ensure_ascii=False,
            default=str,
        ),
    )


def _problem(frames: StudyFrames, table: pd.DataFrame, look: Look, name: str) -> dict[str, Any]:
    """All that the page shows of one problem."""
    about = frames.problem(name)
    rows = table[table["problem"] == name]
    return {
        "name": name,
        "about": about,
        "rows": rows.to_dict("records"),
        "headline": headline(rows, look),
        "results": [] if frames.repetitions > 1 else _results(frames, rows, look, name),
        "curves": _curves(frames, look, name),
        "schedules": _schedules(frames, look, name),
        "search": _some(figures.search(collect.searched(frames, name), look, name)),
        "flatness": _some(_flatness(frames, look, name)),
        "recommended": _recommended(frames, rows, name),
    }


def headline(rows: pd.DataFrame, look: Look) -> str:
    """The shortest true answer about a problem; empty where nothing is compared."""
    candidates = rows[rows["role"] == "candidate"]
    if candidates.empty or look.baseline is None:
        return ""
    baseline = look.titles[look.baseline]
    if (candidates["verdict"] == "repeated").any():
        told = candidates.set_index("title")[["called_different", "repeated"]].astype(int)
        return "; ".join(f"{title}: {row.called_different} of {row.repeated}" for title, row in told.iterrows())
    if (candidates["verdict"] == "no claim").all():
        return "No claim can be made yet."
    better = candidates[candidates["verdict"] == "better"]
    if better.empty:
        who = f"{candidates['title'].iloc[0]} is not" if len(candidates) == 1 else "No method is"
        return f"{who} shown to beat {baseline} here."
    told = f"{sentences.listed(better['title'])} {'beats' if len(better) == 1 else 'beat'} {baseline} here"
    control = better["control_title"].iloc[0]
    beaten = better.loc[better["control_verdict"] == "better", "title"]
    if not control:
        return f"{told}."
    if len(beaten) == len(better):
        return f"{told}, and the best control, {control}, too."
    if beaten.empty:
        return f"{told}, but not shown to beat the best control, {control}."
    return f"{told}; the best control, {control}, is beaten by {sentences.listed(beaten)} only."


def _results(frames: StudyFrames, rows: pd.DataFrame, look: Look, name: str) -> list[Figure]:
    about, values = frames.problem(name), collect.results(frames, name)
    unit = "points" if about["unit"] == "%" else str(about["unit"])
    return _some(
        figures.forest(rows, look, name, unit),
        figures.dots(values, collect.means(values), look, name, str(about["metric"]), str(about["unit"])),
    )


def _curves(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    about = frames.problem(name)
    views = {"validation loss": collect.bands(frames, name, "validation_loss")}
    if not about["censored"]:  # gradients to a tolerance have no curve
        unit = f" ({about['unit']})" if about["unit"] else ""
        metric = str(about["metric"]).replace("test", "validation") + unit
        views[metric] = collect.bands(frames, name, "validation_metric")
    views = {label: frame for label, frame in views.items() if len(frame)}
    return figures.curves(views, look, name) if views else []


def _schedules(frames: StudyFrames, look: Look, name: str) -> list[Figure]:
    return _some(*(
        figures.schedules(collect.schedules(frames, name, method), look, name, method, str(scope))
        for method in frames.methods
        if (scope := frames.method(method)["scope"])
    ))  # fmt: skip


def _flatness(frames: StudyFrames, look: Look, name: str) -> Figure | None:
    about = frames.problem(name)
    if about["censored"]:  # gradients to a tolerance do not generalize
        return None
    return sharpness(collect.confirmed_flatness(frames, name), look, name, str(about["metric"]), str(about["unit"]))


def _recommended(frames: StudyFrames, rows: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """The best setting of each method with its results on fresh seeds."""
    found = []
    for _, row in rows.iterrows():
        of = (frames.recommended["problem"] == name) & (frames.recommended["method"] == row["method"])
        runs = frames.recommended[of]
        if len(runs):
            first = runs.iloc[0]
            found.append({
                "title": row["title"], "params": first["params"], "trial": int(first["source"]),
                "phase": first["source_phase"], "value": float(first["source_value"]), "runs": len(runs),
                "mean": float(runs["test_metric"].mean()), "std": float(runs["test_metric"].std(ddof=1)),
                "decimals": int(row["decimals"]), "unit": row["unit"], "metric": row["metric"],
            })  # fmt: skip
    return found


def memory(value: float | None) -> str:
    """Bytes for people."""
    if not _finite(value):
        return "–"
    size = float(value or 0)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def setting(value: Any) -> str:
    """A hyperparameter's value."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _some(*found: Figure | None) -> list[Figure]:
    return [figure for figure in found if figure is not None]


def _finite(value: Any) -> bool:
    return value is not None and not pd.isna(value) and abs(float(value)) != float("inf")
