"""Margin, baseline and controls: what was stated first holds, unless a change is declared as one made with open eyes.

No trial depends on them, and every verdict does. Until test data are read they may change. Later, a change is refused,
or restated: it is then recorded, and shown with every verdict.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, exists, select

from relaxbench.errors import UserError
from relaxbench.problems import Problem
from relaxbench.store.facts import Manifest, RestatedFacts
from relaxbench.store.schema import TESTED, Trial


def is_read(connection: Connection, study: int) -> bool:
    """Return whether a run of a study has been measured on the test split."""
    tested = (Trial.study_id == study, Trial.status == "done", Trial.phase.in_(TESTED))
    return bool(connection.scalar(select(exists().where(*tested))))


def restatements(
    manifest: Manifest, old: Mapping[str, Any], new: Mapping[str, Any], problems: Sequence[Problem]
) -> list[RestatedFacts]:
    """Return which statements differ: the baseline, the controls, the margin of a problem.

    Args:
        manifest: of the stored study.
        old: the stored specification.
        new: the merged one.
        problems: those that are here, with their own margins.
    """
    from relaxbench.analysis.equivalence import parse_margin

    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    known = [label for label in old["methods"] if label in (*old["controls"], *new["controls"])]
    was_controls, now_controls = (", ".join(n for n in known if n in spec["controls"]) for spec in (old, new))
    pairs: list[tuple[str, object, object]] = [
        ("baseline", old["baseline"], new["baseline"]),
        ("controls", was_controls, now_controls),  # of methods that are new nothing has been seen
    ]
    own = {problem.name: problem.margin for problem in problems}
    for name, facts in manifest.get("problems", {}).items():
        was = facts["margin"] if old.get("margin") is None else old["margin"]
        now = own.get(name, facts["margin"]) if new["margin"] is None else new["margin"]
        if parse_margin(was) != parse_margin(now):  # "10 %" and "10.0 %" are the same
            pairs.append((f"margin of {name}", was, now))
    return [{"what": what, "was": _plain(was), "now": _plain(now), "at": at} for what, was, now in pairs if was != now]


def refuse_restatements(changes: Sequence[RestatedFacts], study: str) -> None:
    """Check that nothing is stated otherwise.

    Raises:
        UserError: naming what is.
    """
    if changes:
        told = "; ".join(f"{each['what']}: {each['was']} → {each['now']}" for each in changes)
        raise UserError(
            f"study {study!r} has read its test data, and then its verdicts rest on what was stated before ({told}): "
            "change it back, use another study name, or restate it, which every report then says",
            "restate",
        )


def assign_roles(manifest: Manifest, spec: Mapping[str, Any]) -> None:
    """Write the role of every method, also of those that a session does not work on."""
    manifest["methods"] = {label: {**facts, "role": _role(label, spec)} for label, facts in manifest["methods"].items()}


def _role(label: str, spec: Mapping[str, Any]) -> str:
    return "baseline" if label == spec["baseline"] else "control" if label in spec["controls"] else "candidate"


def _plain(value: object) -> str:
    return "none" if value in (None, "") else str(value)
