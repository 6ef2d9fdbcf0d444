"""Settings as published: the words name the publication and the kind of problem that it is for."""

from __future__ import annotations

from typing import Any

import pytest

from relaxbench.analysis.caveats import cautions
from relaxbench.analysis.publications import origin, origins
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.analysis.verdicts import verdicts
from relaxbench.report import load_study
from relaxbench.store.facts import PublicationFacts, method_facts
from tests.synthetic import Writer, manifest, memory, spec

FITS: PublicationFacts = {"kind": "a network", "source": "Paper 1.", "wanted": "a network", "fits": True}
OTHER: PublicationFacts = {**FITS, "wanted": "a function", "fits": False}
UNSAID: PublicationFacts = {**OTHER, "wanted": ""}
STARTS = "Its settings were published for a network: Paper 1."


@pytest.mark.parametrize(
    ("published", "words"),
    [
        (None, ""),
        (FITS, STARTS),
        (OTHER, f"{STARTS} They may not suit this problem: for a function the rule has no published settings."),
        (UNSAID, f"{STARTS} This is the rule's first publication: the problem does not state its kind, so they may"),
    ],
)
def test_where_settings_come_from(published: PublicationFacts | None, words: str) -> None:
    assert origin(published).startswith(words) and bool(words) == bool(origin(published))


def test_one_line_per_method_and_publication() -> None:
    about: dict[str, Any] = {"title": "Mine", "publications": {"p": FITS, "q": OTHER, "r": FITS}}
    methods = {"sgd": method_facts({}, "sgd"), "mine": {**method_facts({}, "mine"), **about}}
    lines = origins(methods, ["p", "q", "r", "s"])  # type: ignore[arg-type]
    assert [line.split(": its settings")[0] for line in lines] == ["Mine on p, r", "Mine on q"]


@pytest.mark.parametrize("published", [FITS, OTHER, UNSAID])
def test_a_report_warns_of_settings_for_another_kind_of_problem(published: PublicationFacts) -> None:
    asked = spec(methods=["sgd", "hj"], controls=[])
    about = manifest(asked)
    about["methods"]["hj"] |= {"arm": "published", "publications": {"digits-mlp": published}}
    frames = load_study(Writer(memory(), asked, about).close())
    results = verdicts(frames)
    warned = [line for line in cautions(frames, results) if "published" in line]
    assert len(warned) == (not published["fits"])
    assert all(line.startswith("Hamilton–Jacobi on digits-mlp: its settings were published for") for line in warned)
    table = verdict_table(results).set_index("method")
    assert table.loc["hj", "settings"] == origin(published) and table.loc["hj", "borrowed"] == (not published["fits"])
    assert table.loc["sgd", "settings"] == "" and not table.loc["sgd", "borrowed"]
