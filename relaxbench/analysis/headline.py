"""The answer about a problem in one sentence, with its figures."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from relaxbench.analysis.sentences import difference_unit, listed, number
from relaxbench.util.text import counted


def headline(rows: pd.DataFrame, titles: Mapping[str, str], baseline: str | None) -> str:
    """The shortest true answer about a problem; empty where nothing is compared.

    Args:
        rows: of `verdicts`, of one problem.
        titles: of the methods.
        baseline: the method that all others are compared with; None where no method is.
    """
    candidates = rows[rows["role"] == "candidate"]
    if candidates.empty or baseline is None:
        return ""
    against = titles[baseline]
    if (candidates["verdict"] == "repeated").any():
        told = candidates.set_index("title")[["called_different", "repeated"]].astype(int)
        return "; ".join(f"{title}: {row.called_different} of {row.repeated}" for title, row in told.iterrows())
    groups = dict(tuple(candidates.groupby("verdict")))
    if set(groups) == {"no claim"}:
        return "No claim can be made yet."
    rest = [
        _verdict(groups[called], called)
        for called in ("worse", "equivalent", "undecided", "no claim")
        if called in groups
    ]
    first = _better(groups["better"], against) if "better" in groups else _none(candidates, against)
    if "better" in groups:
        rest += _at_equal_seconds(groups["better"])
    return f"{first}{': ' if 'better' not in groups else '; '}{', '.join(rest)}." if rest else f"{first}."


def _none(candidates: pd.DataFrame, baseline: str) -> str:
    who = f"{candidates['title'].iloc[0]} is not" if len(candidates) == 1 else "No method is"
    return f"{who} shown to beat {baseline} here"


def _better(rows: pd.DataFrame, baseline: str) -> str:
    if len(rows) == 1:
        row = rows.iloc[0]
        words = f"{row['title']} beats {baseline} here by {_amount(row)} ({_interval(row)})"
    else:
        each = [f"{row['title']} (by {_amount(row)})" for _, row in rows.iterrows()]
        words = f"{listed(each)} beat {baseline} here"
    control = rows["control_title"].iloc[0]
    beaten = rows.loc[rows["control_verdict"] == "better", "title"]
    if not control:
        return words
    if len(beaten) == len(rows):
        return f"{words}, and the best control, {control}, too"
    if beaten.empty:
        return f"{words}, but not shown to beat the best control, {control}"
    return f"{words}; the best control, {control}, is beaten by {listed(beaten)} only"


def _at_equal_seconds(rows: pd.DataFrame) -> list[str]:
    """What becomes of those that are better at equal gradients: who stays better need not be mentioned."""
    lost = rows[rows["seconds_verdict"].isin(["worse", "equivalent", "undecided"])]
    return [
        f"at equal seconds {listed(part['title'])} {'is' if len(part) == 1 else 'are'} {called}"
        for called, part in lost.groupby("seconds_verdict", sort=False)
    ]


def _verdict(rows: pd.DataFrame, called: str) -> str:
    who = f"{listed(rows['title'])} {'is' if len(rows) == 1 else 'are'}"
    if called == "no claim":
        return f"no claim is made of {listed(rows['title'])}"
    if called == "equivalent":
        return f"{who} equivalent within the margin"
    seen = rows["detectable"].astype(float).dropna()
    if called == "undecided" and len(seen):
        row = rows.iloc[0]
        least, most = (number(end, int(row["decimals"])) for end in (seen.min(), seen.max()))
        unit = f" {difference_unit(row)}".rstrip()
        what = f"{least}{unit} or more" if least == most else f"from {least} to {most}{unit}, by the method's spread"
        return f"{who} undecided ({counted(int(rows['compared'].max()), 'block')} can only detect {what})"
    return f"{who} {called}"


def _amount(row: pd.Series) -> str:
    shown = f"{number(-row['difference'], int(row['decimals']))} {difference_unit(row)}".rstrip()
    return shown if row["censored"] else f"{shown} of {row['metric']}"


def _interval(row: pd.Series) -> str:
    low, high = (number(-row[end], int(row["decimals"])) for end in ("high", "low"))
    return f"95 % interval {low} to {high}"
