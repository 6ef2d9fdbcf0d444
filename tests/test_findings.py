"""Every ratio in docs/findings.md, claims.md, science.md and the README is recomputed from the committed tables."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from relaxbench.analysis.sentences import ratio

ROOT = Path(__file__).parents[1]
TABLES, SCIENCE = ROOT / "reports" / "atlas" / "atlas", ROOT / "reports" / "science"
CLAIM = re.compile(
    r"`([\w.-]+)@([\d,]+) ([\w-]+)( again)?: (better|worse|equivalent|undecided) ([\d.]+) \(([\d.]+) to ([\d.]+)\)`"
    r"(?:,\s+about\s+([\d,]+)\s+blocks)?"
)
"""A cell in a text: problem, budget, method; "again" for the second seed; verdict, ratio, interval, blocks."""

VERDICTS = ["better", "worse", "equivalent", "undecided", "no claim", "not run"]


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return pd.read_csv(TABLES / "cells.csv")


@pytest.fixture(scope="module")
def verdicts(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the atlas and those of the scientific studies, which have a table each."""
    science = [pd.read_csv(table).assign(study=table.stem) for table in sorted(SCIENCE.glob("*.csv"))]
    return pd.concat([cells, *science], ignore_index=True)


def texts() -> list[tuple[str, str]]:
    return [
        (name, (ROOT / name).read_text(encoding="utf-8"))
        for name in ("docs/findings.md", "docs/claims.md", "docs/science.md", "README.md")
    ]


def interval(cell: pd.Series) -> tuple[float, float]:
    """The repeated simultaneous interval of docs/statistics.md, from ratio, error and freedom."""
    tail = 0.05 / (2 * cell["family"] * cell["looks"])
    half = stats.t.isf(tail, cell["freedom"]) * cell["error"] if cell["error"] else 0.0
    low, high = (cell["ratio"] * math.exp(sign * half) for sign in (-1, 1))
    return (
        (max(low, cell["band_low"]), min(high, cell["band_high"])) if cell["verdict"] == "equivalent" else (low, high)
    )


def test_intervals_and_verdicts_follow_from_their_errors(verdicts: pd.DataFrame) -> None:
    claimed = verdicts[verdicts["low"].notna()]
    assert len(claimed) > 20
    for _, cell in claimed.iterrows():
        low, high = interval(cell)
        assert (low, high) == pytest.approx((cell["low"], cell["high"]), rel=1e-9)
        where = "better" if high < 1 else "worse" if low > 1 else "within"
        assert cell["verdict"] == where or (where == "within" and cell["verdict"] in ("equivalent", "undecided"))


def test_the_stars_are_those_of_benjamini_and_yekutieli(cells: pd.DataFrame) -> None:
    known = cells[cells["low"].notna()]
    p = (
        known["looks"].clip(lower=known["look"])
        * 2
        * stats.t.sf(abs(known["ratio"].map(math.log)) / known["error"], known["freedom"])
    )
    q = stats.false_discovery_control(p.clip(upper=1), method="by")
    different = known["verdict"].isin(["better", "worse"])
    assert (known["holds"] == (q <= 0.05))[different].all() and not known["holds"][
        known["verdict"] == "undecided"
    ].any()


@pytest.mark.parametrize(("name", "text"), texts(), ids=[name for name, _ in texts()])
def test_every_cell_in_a_text_is_that_of_the_table(name: str, text: str, verdicts: pd.DataFrame) -> None:
    for match in CLAIM.finditer(text):
        problem, budget, method, again, verdict, *numbers, needed = match.groups()
        here = (
            (verdicts["base"] == problem)
            & (verdicts["budget"] == float(budget.replace(",", "")))
            & (verdicts["method"] == method)
        )
        found = verdicts[
            here & (verdicts["study"].str.endswith("-seed1") == bool(again)) & (verdicts["verdict"] != "not run")
        ]
        assert len(found) == 1, match.group()
        cell = found.iloc[0]
        assert cell["verdict"] == verdict, match.group()
        assert [ratio(value) for value in (cell["ratio"], *interval(cell))] == numbers, match.group()
        assert needed is None or int(needed.replace(",", "")) == cell["needed"], match.group()


def test_no_other_figure_stands_in_the_findings(cells: pd.DataFrame) -> None:
    """Ratios stand in cells; whole numbers of rows in the table of counts."""
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert len(CLAIM.findall(text)) >= 10
    rest = re.sub(r"```.*?```", "", CLAIM.sub("", text), flags=re.DOTALL)
    assert re.findall(r"\d\.\d+", rest) == []
    for part in ("better", "worse", "equivalent", "undecided"):  # a verdict in prose has its cell in the same paragraph
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", text):
            if re.search(rf"\bis {part}\b", paragraph):
                assert CLAIM.search(paragraph), paragraph


def test_the_counts_of_the_findings_are_those_of_the_table(cells: pd.DataFrame) -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.-]+)@([\d,]+)` \|(.+)\|$", text, flags=re.MULTILINE)
    own = cells[~cells["study"].str.endswith("-seed1") & (cells["verdict"] != "baseline")]
    run = own[own["verdict"] != "not run"].groupby(["base", "budget"])
    assert {(problem, float(budget.replace(",", ""))) for problem, budget, _ in rows} == set(run.groups)
    for problem, budget, numbers in rows:
        counts = run.get_group((problem, float(budget.replace(",", ""))))["verdict"].value_counts()
        assert [int(number) for number in numbers.split("|")] == [counts.get(verdict, 0) for verdict in VERDICTS[:5]]


def test_second_seeds_agree_as_the_findings_say(cells: pd.DataFrame) -> None:
    again = pd.read_csv(TABLES / "repeats.csv")
    said = re.search(
        r"(\d+) of (\d+) comparisons that were made twice overlap", (ROOT / "docs" / "findings.md").read_text()
    )
    assert said and [int(number) for number in said.groups()] == [int(again["overlap"].sum()), len(again)]


def test_no_relaxation_method_is_better_as_the_findings_say(cells: pd.DataFrame) -> None:
    relaxing = cells["method"].str.match("entropy-sgd|hj|heat|elastic-sgd|parle")
    assert set(cells.loc[relaxing, "verdict"]) >= {"worse", "equivalent", "undecided"}
    assert not (relaxing & (cells["verdict"] == "better")).any()
