"""The numbers in a report's sentences and tables, against those recomputed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from recompute_claims import PREFIXES
from recompute_read import Report

Claims: TypeAlias = dict[tuple[str, str, str], dict[str, Any]]
"""Comparisons by problem, method and prefix."""

NUMBER = r"[−+]?\d[\d,]*(?:\.\d+)?"
AMOUNT = re.compile(
    rf"({NUMBER}) times (?:its|.*?'s) [^,(]*?(?:, ({NUMBER}) to ({NUMBER}) [^(]*)?"
    rf"\(({NUMBER})[^)]*? at (?:its|.*?'s) ({NUMBER})"
)
SUMMARY = re.compile(rf"({NUMBER}) times .*?'s .*?, ({NUMBER}) to ({NUMBER})$")
VERDICT = re.compile(r"(better|worse|equivalent|undecided|no claim|not tested)\b")
LOOK = re.compile(r"look (\d+) of (\d+), after (\d+) block")


def told(report: Report, what: str, numbers: Sequence[str], known: Sequence[float]) -> None:
    """Check numbers as they are written, each to its own last decimal."""
    report.check(what, len(numbers), len(known))
    for text, value in zip(numbers, known, strict=False):
        decimals = len(text.partition(".")[2])
        report.check(what, float(text.replace("−", "-").replace(",", "")), value, decimals)


def check_words(report: Report, claims: Claims) -> None:
    """The answers, the headlines and the tables of verdicts, statistics and settings."""
    problems = list(dict.fromkeys(report.verdicts["problem"]))
    rows = {problem: [row for (name, _), row in report.rows.items() if name == problem] for problem in problems}
    asked = [
        row
        for problem in problems
        for row in sorted(rows[problem], key=lambda row: row["role"])
        if row["verdict"] != "baseline" and row["role"] in ("candidate", "control")
    ]
    report.check("answers: one per method", len(report.page.answers), len(asked))
    for answer, row in zip(report.page.answers, asked, strict=False):
        check_answer(report, [" ".join(part.split()) for part in answer.split("\x1e")], row, claims)
    tables = [[[" ".join(cell.split()) for cell in line] for line in table] for table in report.page.tables if table]
    verdicts = [table for table in tables if {"Verdict", "Equal seconds"} <= set(table[0])]
    for table, problem in zip(verdicts, problems, strict=False):
        for line, row in zip(table[1:], rows[problem], strict=True):
            check_line(report, line, row, claims)
    check_statistics(report, tables, rows, claims)
    check_headlines(report, problems, rows, claims)
    found = [line for table in tables if table[0][1:2] == ["Setting"] for line in table[1:]]
    known = report.recommended.groupby(["problem", "method"])["test_metric"].agg(["mean", "std", "size"])
    known = [known.loc[key] for key in report.rows if key in known.index]
    for line, runs in zip(found, known, strict=True):
        numbers = [value for value in runs if np.isfinite(value)]
        told(report, "settings", re.findall(NUMBER, line[3]), numbers)


def check_answer(report: Report, parts: list[str], row: Any, claims: Claims) -> None:
    """The line of a method, the sentences that open from it, and those of its further comparisons."""
    summary, sentence, *others = parts
    if row["repetitions"] > 1:
        counts = re.findall(r"in (\d+) of (\d+)", summary)[0]
        told(report, "answers: repetitions", counts, [row["called_different"], row["repeated"]])
        return
    claim = claims[row["problem"], row["method"], ""]
    called = VERDICT.search(summary)
    report.check("answers: verdict", called[0] if called else "", claim["verdict"])
    if claim["verdict"] == "no claim":
        report.check("answers: no claim has no interval", bool(AMOUNT.search(sentence)), False)
        return
    amount = SUMMARY.search(summary)
    told(report, "answers: line", amount.groups() if amount else [], [claim[key] for key in ("ratio", "low", "high")])
    check_sentence(report, sentence, claim)
    at = LOOK.search(sentence)
    known = [claim["look"], len(report.declared), claim["compared_blocks"]]
    if claim["look"] <= len(report.declared):
        told(report, "answers: look", at.groups() if at else [], known)
    for text in others:
        if text.startswith("Its settings were published"):
            report.check("answers: settings", text, " ".join(str(row["settings"]).split()))
            continue
        prefix = "control_" if text.startswith("Against the best control") else "longer_"
        prefix = "seconds_" if text.startswith("At equal seconds") else prefix
        other = claims[row["problem"], row["method"], prefix]
        called = VERDICT.search(text)
        report.check("sentences: verdict", called[0] if called else "", other["verdict"])
        if other["verdict"] != "no claim":
            check_sentence(report, text, other)


def check_sentence(report: Report, text: str, claim: dict[str, Any]) -> None:
    """How much and how sure, in words: the interval stands on the side that the verdict names."""
    amount = AMOUNT.search(text)
    report.check("sentences: an amount", bool(amount), True)
    if not amount:
        return
    numbers = [number for number in amount.groups()[:3] if number]
    known = [value for value in (claim["ratio"], claim["low"], claim["high"]) if np.isfinite(value)]
    told(report, "sentences: ratio", numbers, known)
    points = claim["reference_level"] * (claim["ratio"] - 1)
    told(report, "sentences: points", amount.groups()[3:], [points, claim["reference_level"]])
    if len(numbers) == 3:
        low, high = (float(number.replace(",", "")) for number in numbers[1:])
        side = "better" if high < 1 else "worse" if low > 1 else "neither"
        word = claim["verdict"] if claim["verdict"] in ("better", "worse") else "neither"
        report.check("sentences: the interval is the verdict", side, word)


def check_line(report: Report, line: list[str], row: Any, claims: Claims) -> None:
    """A line of the verdict table."""
    told(report, "table: level", re.findall(NUMBER, line[2]), [row["level"]] if np.isfinite(row["level"]) else [])
    for cell, prefix in ((line[3], ""), (line[6], "seconds_"), (line[7], "control_")):
        claim = claims.get((row["problem"], row["method"], prefix), {})
        known = [claim[key] for key in ("ratio", "low", "high") if key in claim and np.isfinite(claim[key])]
        if cell != "–":
            told(report, f"table: {prefix}ratio", re.findall(NUMBER, cell), known)
    if row["verdict"] not in ("baseline", "repeated"):
        report.check("table: verdict", line[1], claims[row["problem"], row["method"], ""]["verdict"])
    if line[9:] and line[9] != "–":
        counts = [row["disaster_count"], row["disaster_runs"], 100 * row["disaster_bound"]]
        told(report, "table: disasters", re.findall(NUMBER, line[9]), counts)


def check_statistics(report: Report, tables: list[list[list[str]]], rows: dict[str, list[Any]], claims: Claims) -> None:
    """The table of every statistic."""
    lines = [line for table in tables if table[0][0] == "Comparison" for line in table[1:]]
    known = [
        claims[row["problem"], row["method"], prefix]
        for problem in rows.values()
        for row in problem
        for prefix in PREFIXES
        if np.isfinite(claims.get((row["problem"], row["method"], prefix), {}).get("ratio", np.nan))
    ]
    for line, claim in zip(lines, known, strict=bool(lines)):
        keys = ("ratio", "low", "high", "error", "freedom", "band_low", "band_high")
        if claim["verdict"] not in ("no claim", "not tested"):
            numbers = [cell for cell in line[3:10] if cell != "–"]
            told(report, "statistics", numbers, [claim[key] for key in keys if np.isfinite(claim.get(key, np.nan))])
        report.check("statistics: verdict", line[2], claim["verdict"])


def check_headlines(report: Report, problems: list[str], rows: dict[str, list[Any]], claims: Claims) -> None:
    """The ratios in the headlines, of methods that are better and worse."""
    for headline, problem in zip(report.page.headlines, problems, strict=False):
        text = " ".join(headline.split())
        groups = {
            word: [
                claims[problem, row["method"], ""]
                for row in rows[problem]
                if row["role"] == "candidate" and row["verdict"] == word
            ]
            for word in ("better", "worse")
        }
        better = [claim["ratio"] for claim in groups["better"]]
        if len(better) == 1:
            ends = [groups["better"][0][key] for key in ("ratio", "low", "high")]
            pattern = (
                rf"(?:beats .*? here|, but .*? does): ({NUMBER}) times (?:its|.*?'s) .*? \(({NUMBER}) to ({NUMBER})\)"
            )
            found = re.search(pattern, text)
            told(report, "headline", found.groups() if found else [], ends)
        elif better:
            told(report, "headline", re.findall(rf"\(({NUMBER})\)", text), better)
        worse = re.search(r"worse \(([^)]*) times\)", text)
        known = [each["ratio"] for each in groups["worse"]]
        if len(known) > 3:  # counted, with the least and the greatest ratio
            told(report, "headline", re.findall(r"(\d+) methods are worse", text), [len(known)])
            known = [min(known), max(known)]
        told(report, "headline", re.findall(NUMBER, worse[1]) if worse else [], known)
