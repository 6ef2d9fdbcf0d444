"""The report of a study: one HTML file that opens offline, and its tables as files next to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from relaxbench.analysis import sentences, worth
from relaxbench.analysis.comparison import VERDICTS
from relaxbench.analysis.findings import Findings
from relaxbench.analysis.theory_numbers import Theorem
from relaxbench.analysis.verdict_table import look_table, verdict_table
from relaxbench.errors import UserError
from relaxbench.pages import html
from relaxbench.pages.theme import Look, file_name
from relaxbench.report import sections
from relaxbench.store.facts import public
from relaxbench.util import files
from relaxbench.util.text import percent

EMBED = 3_000_000
"""Packed tables are part of the page up to this total size in bytes; the other tables, and all curves, are files."""


def write_report(findings: Findings, directory: Path | str, theory: Mapping[str, Theorem] | None = None) -> Path:
    """Write ``<directory>/<study>.html`` and its tables in ``<directory>/<study>/``.

    The tables are CSV files, except for the large table of curves: ``curves.parquet``. Each file appears whole or not
    at all.

    Args:
        findings: the findings of the study.
        directory: where the files go; created if it is missing.
        theory: landscape → the theory's numbers for it (`relaxbench.theory.summary`).

    Returns:
        The path of the page.

    Raises:
        UserError: the directory cannot be written.
    """
    frames = findings.frames
    stem = file_name(frames.name)
    page = Path(directory) / f"{stem}.html"
    folder = Path(directory) / stem
    tables = tables_of(findings)
    texts = {name: files.csv(table) for name, table in tables.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            files.write(folder / f"{name}.csv", text)
        files.write(folder / "curves.parquet", files.parquet(frames.curves))
        files.write(page, render(findings, {name: len(table) for name, table in tables.items()}, texts, theory))
    except OSError as error:
        raise UserError(f"cannot write the report to {directory}: {error.strerror} (choose another folder)") from error
    return page


def tables_of(findings: Findings) -> dict[str, pd.DataFrame]:
    """Return the tables that are part of the page if they are small enough."""
    own = findings.frames.tables()
    return {"verdicts": verdict_table(findings.results), "looks": look_table(findings.results)} | {
        name: own[name] for name in ("confirmations", "blocks", "recommended", "flatness", "trials")
    }


def render(
    findings: Findings, counts: Mapping[str, int], texts: Mapping[str, str], theory: Mapping[str, Theorem] | None = None
) -> str:
    """Return the HTML text of the page.

    Args:
        findings: the findings of the study.
        counts: name of a table → how many rows it has.
        texts: name of a table → its CSV text.
        theory: as for `write_report`.
    """
    frames = findings.frames
    look = Look.of({label: frames.method(label) for label in frames.methods}, frames.baseline, frames.opponents)
    templates = html.environment("relaxbench.report")
    templates.filters |= {
        "number": sentences.number,
        "ratio": sentences.ratio,
        "percent": percent,
        "memory": sentences.memory,
        "setting": sentences.setting,
        "seconds": sentences.seconds,
        "capital": sentences.capital,
    }
    templates.globals |= {
        "amount": sentences.amount,
        "control_sentence": sentences.control_sentence,
        "explanation": sentences.explanation,
        "finite": sentences.finite,
        "longer_sentence": sentences.longer_sentence,
        "scope": sentences.scope,
        "question": question(findings),
        "instead": worth.instead,
        "worth": worth.worth,
        "worth_short": worth.SHORT,
        "seconds_sentence": sentences.seconds_sentence,
        "verdicts": VERDICTS,
    }
    tuned = [label for label in frames.methods if frames.tuning(label)]
    manifest = public(frames.manifest)
    return html.page(
        templates,
        "report.html",
        frames=frames,
        about=frames.manifest,
        problems=sections.problems(findings, look, theory or {}),
        ladders=sections.ladders(findings, look),
        overall=sections.overall(frames, look),
        look=look,
        independent=[label for label in tuned if frames.is_random(label)],
        whole=[label for label in tuned if not frames.is_random(label)],
        missing=findings.missing,
        cautions=findings.cautions,
        counts=counts,
        points=len(frames.curves),
        packed=_packed(texts),
        folder=file_name(frames.name),
        spec_text=json.dumps(frames.spec, indent=2, ensure_ascii=False, default=str),
        manifest_text=json.dumps(manifest, indent=2, ensure_ascii=False, default=str),
    )


def question(findings: Findings) -> str:
    """Return what the study asks, the page's title: it fits the methods that are compared."""
    frames = findings.frames
    baseline = frames.method(frames.baseline)["title"] if frames.baseline else "SGD"
    if frames.repetitions > 1:
        return f"How often is a method called different from {baseline}?"
    others = [frames.method(label) for label in frames.methods if label != frames.baseline]
    candidates = [method for method in others if method["role"] == "candidate"]
    if candidates and all(method["without"] for method in candidates):
        return f"What is each part of {baseline} worth?"
    if not others or any(method["scope"] for method in others):
        return f"Does a relaxation optimizer beat {baseline}?"
    if len(others) == 1:
        return f"Does {others[0]['title']} beat {baseline}?"
    return f"Which of {len(others)} methods beat {baseline}?"


def _packed(texts: Mapping[str, str]) -> dict[str, str]:
    """Packed tables by name, the small ones first; empty for those that would make the page too large."""
    packed, room = {}, EMBED
    for name in sorted(texts, key=lambda name: len(texts[name])):
        data = html.pack(texts[name]) if len(texts[name]) < 40 * EMBED else ""
        packed[name] = data if len(data) <= room else ""
        room -= len(packed[name])
    return {name: packed[name] for name in texts}
