"""The numbers in a report's sentences and tables, against those recomputed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from recompute_claims import PREFIXES
from recompute_read import Report

NUMBER = r"[−+]?\d[\d,]*(?:\.\d+)?"
INTERVAL = re.compile(rf"95 % interval ({NUMBER}) to ({NUMBER}) over (\d+) block")
AMOUNT = re.compile(rf"(?:is|takes) ({NUMBER}) [^(]*?(lower|higher|fewer|more|less)\b")
DETECTABLE = re.compile(rf"blocks? can only detect ({NUMBER})")
ALONE = re.compile(rf"\(p = ({NUMBER})\), but not after Holm's correction for (\d+) comparisons \(p = ({NUMBER})\)")
VERDICT = re.compile(r"(better|worse|equivalent|undecided|no claim)\b")
PARTS = re.compile(r"(?=At equal seconds(?: \(| against))|(?=Against the best control, )")


def told(report: Report, what: str, numbers: Sequence[str], known: Sequence[float]) -> None:
    """Check numbers as they are written, each to its own last decimal."""
    report.check(what, len(numbers), len(known))
    for text, value in zip(numbers, known, strict=False):
        decimals = len(text.partition(".")[2])
        report.check(what, float(text.replace("−", "-").replace(",", "")), value, decimals)


def check_words(report: Report, claims: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    """The answers, the headlines and the tables of verdicts, statistics and settings."""
    problems = list(dict.fromkeys(report.verdicts["problem"]))
    rows = {problem: [row for (name, _), row in report.rows.items() if name == problem] for problem in problems}
    asked = [
        row
        for problem in problems
        for row in sorted(rows[problem], key=lambda row: row["role"])
        if row["verdict"] != "baseline" and row["role"] in ("candidate", "control")
    ]
    report.check("answers: one a method", len(report.page.answers), len(asked))
    for answer, row in zip(report.page.answers, asked, strict=False):
        text = " ".join(answer.split())
        if row["repetitions"] > 1:
            counts = re.findall(r"in (\d+) of (\d+) repetition", text)[0]
            told(report, "answers: repetitions", counts, [row["called_different"], row["repeated"]])
            continue
        for part in PARTS.split(text):
            timed = "seconds_" if part.startswith("At equal seconds") else ""
            prefix = ("control_" if part.startswith("Against the best control") else "") + timed
            check_sentence(report, part, claims.get((row["problem"], row["method"], prefix)), whole=not prefix)
    tables = [[[" ".join(cell.split()) for cell in line] for line in table] for table in report.page.tables if table]
    verdicts = [
        table for table in tables if {"Verdict", "At equal seconds"} <= {cell.split(",")[0] for cell in table[0]}
    ]
    for table, problem in zip(verdicts, problems, strict=False):
        for line, row in zip(table[1:], rows[problem], strict=True):
            check_line(report, line, row, claims)
    every = [line for table in tables if table[0][0] == "Comparison" for line in table[1:]]
    finite = [
        claims[row["problem"], row["method"], prefix]
        for problem in problems
        for row in rows[problem]
        for prefix in PREFIXES
        if "p" in claims.get((row["problem"], row["method"], prefix), {})
    ]
    for line, claim in zip(every, finite, strict=bool(every)):
        if claim["sound"]:
            shown = [cell for cell in (*line[3:8], *line[9:]) if cell != "–"]
            keys = ("compared", "p", "p_holm", "p_exact", "p_equivalence", "correlation", "probability_better")
            told(report, "statistics", shown, [claim[key] for key in keys if np.isfinite(claim[key])])
            report.check("statistics: verdict", line[2], claim["verdict"])
    for headline, problem in zip(report.page.headlines, problems, strict=False):
        better = [row for row in rows[problem] if row["role"] == "candidate" and row["verdict"] == "better"]
        amounts = re.findall(rf" by ({NUMBER}) (?:points|gradients?|\S+ of )", headline.replace("\n", " "))
        differences = [-claims[problem, row["method"], ""]["difference"] for row in better]
        told(report, "headline", amounts, differences)
    found = [line for table in tables if table[0][1:2] == ["Setting"] for line in table[1:]]
    known = report.recommended.groupby(["problem", "method"])["test_metric"].agg(["mean", "std", "size"])
    known = [known.loc[key] for key in report.rows if key in known.index]
    for line, runs in zip(found, known, strict=True):
        numbers = [value for value in runs if np.isfinite(value)]
        told(report, "settings", re.findall(NUMBER, line[3]), numbers)


def check_sentence(report: Report, text: str, claim: dict[str, Any] | None, whole: bool) -> None:
    """How much, how sure and the verdict, in words; a whole sentence says more than those that follow it."""
    if claim is None:
        return
    called = VERDICT.search(text)
    report.check("sentences: verdict", called[0] if called else "", claim["verdict"])
    if not claim["sound"]:
        report.check("sentences: no claim has no interval", len(INTERVAL.findall(text)), 0)
        return
    told(report, "sentences: interval", INTERVAL.findall(text)[0], [claim["low"], claim["high"], claim["compared"]])
    if amount := AMOUNT.search(text):
        told(report, "sentences: amount", [amount[1]], [abs(claim["difference"])])
        report.check("sentences: direction", amount[2] in ("lower", "fewer", "less"), claim["difference"] < 0)
    else:
        report.check("sentences: the same", claim["difference"], 0.0)
    if alone := ALONE.search(text):
        told(report, "sentences: p", alone.groups(), [claim["p"], claim["family"], claim["p_holm"]])
    report.check(
        "sentences: exact",
        "exact permutation test does not confirm" in text,
        whole and claim["verdict"] in ("better", "worse") and claim["p_exact"] > 0.05,
    )
    report.check(
        "sentences: detectable",
        bool(DETECTABLE.search(text)),
        whole and claim["verdict"] == "undecided" and claim["spread"] > 1e-12,
    )


def check_line(report: Report, line: list[str], row: Any, claims: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    """A line of the verdict table."""
    told(report, "table: mean", re.findall(NUMBER, line[1]), [x for x in (row["mean"], row["std"]) if np.isfinite(x)])
    for cell, prefix in zip((line[2], line[4], line[5]), PREFIXES, strict=False):
        claim = claims.get((row["problem"], row["method"], prefix), {})
        known = [claim[key] for key in ("difference", "low", "high")] if "p" in claim and claim["sound"] else []
        if known or cell == "–":
            told(report, f"table: {prefix}difference", re.findall(NUMBER, cell), known)
    if row["verdict"] != "baseline":
        report.check("table: verdict", line[3], claims[row["problem"], row["method"], ""]["verdict"])
