"""What a tracker gets of a study: one `TrackedRun` per training run, and one `Summary`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relaxbench.analysis.findings import Findings
from relaxbench.analysis.frames import StudyFrames
from relaxbench.analysis.sentences import sentence
from relaxbench.analysis.verdict_table import verdict_table
from relaxbench.store.facts import SpecFacts
from relaxbench.store.schema import CURVE_COLUMNS, FINISHED, PHASES, TESTED
from relaxbench.trackers.tracker import Which

LEDGER = ("gradients", "jvps", "examples", "measurement")
RESULTS = ("train_loss", "validation_loss", "validation_metric", "test_loss", "test_metric", "seconds")
VERDICTS = ("problem", "method", "verdict", "reason", "ratio", "low", "high", "blocks", "level", "unit")
"""Columns of the verdict table that a tracker shows; the file has all of them."""


@dataclass(frozen=True)
class TrackedRun:
    """A finished training run.

    Attributes:
        id: the same whenever and from wherever the run is sent: it follows from the study's key and the run's place.
        name: for people.
        group: the study, with its key.
        params: hyperparameters.
        facts: problem, method, phase, block, number, seed, and whether it diverged.
        curve: points in order: gradients, and the values measured there; only finite ones.
        results: the last values (``final/…``) and the bill (``ledger/…``, in gradient equivalents and examples).
    """

    id: str
    name: str
    group: str
    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    curve: Sequence[tuple[int, Mapping[str, float]]]
    results: Mapping[str, float]

    @property
    def end(self) -> int:
        """The gradients after which the run ended."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def rows(self) -> list[tuple[int, dict[str, float]]]:
        """The curve, with the results in its last point."""
        return [*((step, dict(values)) for step, values in self.curve[:-1]), (self.end, {**self._last, **self.results})]

    @property
    def _last(self) -> Mapping[str, float]:
        return self.curve[-1][1] if self.curve else {}


@dataclass(frozen=True)
class Summary:
    """A study as a whole.

    Attributes:
        id, name, group: as those of a run.
        facts: what the study compares, and how.
        step: the number of its finished trials.
        numbers: ratio and interval of every method against the baseline (``verdict/PROBLEM/METHOD/ratio``).
        sentences: one per problem and method, as in the terminal.
        verdicts: the verdict table.
        ledger: gradients billed per purpose: one row per problem and method.
        page: the HTML report; None to send none.
    """

    id: str
    name: str
    group: str
    facts: Mapping[str, Any]
    step: int
    numbers: Mapping[str, float]
    sentences: Sequence[str]
    verdicts: pd.DataFrame
    ledger: pd.DataFrame
    page: Path | None = None

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables to show, by name: few columns, texts and finite numbers."""
        shown = self.verdicts[[column for column in VERDICTS if column in self.verdicts]]
        return {"verdicts": shown.astype(object).where(shown.notna(), None), "ledger": self.ledger}


def group_of(frames: StudyFrames) -> str:
    """Return the name of all runs of a study together; its key keeps studies of one name apart."""
    return f"{frames.name}-{frames.manifest.get('key', '')}".rstrip("-")


def tracked_runs(frames: StudyFrames, which: Which) -> Iterator[TrackedRun]:
    """Yield the finished runs of a study in the order of its plan.

    Args:
        frames: the study.
        which: ``"winners"`` or ``"trials"``.
    """
    trials, group = frames.trials, group_of(frames)
    places = {row.id: (row.phase, int(row.block), int(row.number)) for row in trials.itertuples()}
    finished = trials[trials["status"].isin(FINISHED)]
    chosen = finished[finished["phase"].isin(TESTED)] if which == "winners" else finished
    points = dict(iter(frames.curves.groupby("trial_id", sort=False)))
    for row in chosen.to_dict("records"):
        place = (row["problem"], row["method"], *places[row["id"]], places.get(row["parent"]))
        digest = hashlib.sha256(repr((frames.manifest.get("key", frames.name), place)).encode()).hexdigest()[:12]
        facts = {key: row[key] for key in ("problem", "method", "phase", "block", "number", "seed")}
        results = {f"final/{key}": row[key] for key in RESULTS} | {f"ledger/{key}": row[key] for key in LEDGER}
        yield TrackedRun(
            id=digest,
            name=f"{row['problem']} {row['method']} {row['phase']} {row['block']}.{row['number']} {digest[:6]}",
            group=group,
            params=dict(row["params"]),
            facts={**facts, "study": frames.name, "status": row["status"], "diverged": bool(row["diverged"])},
            curve=_curve(points.get(row["id"])),
            results=_finite(results),
        )


def summary_of(findings: Findings, page: Path | None = None) -> Summary:
    """Return what is sent of a study as a whole.

    Args:
        findings: of the study.
        page: its report, if it is sent.
    """
    frames, verdicts = findings.frames, verdict_table(findings.results)
    numbers = {}
    for row in verdicts.to_dict("records"):
        for column in ("ratio", "low", "high"):
            numbers[f"verdict/{row['problem']}/{row['method']}/{column}"] = row[column]
    return Summary(
        id=hashlib.sha256(repr((frames.manifest.get("key", frames.name), "summary")).encode()).hexdigest()[:12],
        name=f"{frames.name} (verdicts)",
        group=group_of(frames),
        facts=_facts(frames.spec) | {"version": frames.manifest.get("version", "")},
        step=int(frames.trials["status"].isin(FINISHED).sum()),
        numbers=_finite(numbers),
        sentences=[sentence(result) for result in findings.results],
        verdicts=verdicts,
        ledger=ledger_of(frames.trials),
        page=page,
    )


def ledger_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what was billed: one row per problem and method, in gradient equivalents.

    Columns: problem, method; gradients of every phase; measurement, which no budget pays for.
    """
    done, keys = trials[trials["status"].isin(FINISHED)], ["problem", "method"]
    billed = done.groupby([*keys, "phase"], sort=False)["gradients"].sum().unstack(fill_value=0.0)
    billed = billed.reindex(columns=[phase for phase in PHASES if phase in set(done["phase"])])
    billed["measurement"] = done.groupby(keys)["measurement"].sum()
    billed.columns.name = None
    return billed.reset_index()


def _curve(points: pd.DataFrame | None) -> list[tuple[int, dict[str, float]]]:
    if points is None:
        return []
    names = CURVE_COLUMNS[1:]
    values = points[list(CURVE_COLUMNS)].to_numpy(dtype=np.float64)
    return [(round(row[0]), _finite(dict(zip(names, row[1:].tolist(), strict=True)))) for row in values]


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}


def _facts(spec: SpecFacts) -> dict[str, Any]:
    """Return what describes a study in a line each; its whole file is part of the report."""
    keys = ("problems", "methods", "baseline", "looks", "trials", "exploit", "recommend", "seed", "precision")
    stated: Mapping[str, Any] = spec
    texts = {key: stated.get(key) for key in keys}
    return {key: ", ".join(map(str, v)) if isinstance(v, list) else v for key, v in texts.items() if v is not None}
