"""A finished study to send, and what a tracker has to hold of it, read from the database by SQL alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from relaxbench.store.schema import CURVE_COLUMNS, Curve, Trial
from tests.shared import built_once
from tests.study import tiny

SPEC = tiny.spec(name="sent", looks=[6], trials=1, exploit=1, recommend=2, flatness=False)


def sent_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of the finished study, built once."""

    def build(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            tiny.set_engine(patch)
            tiny.run(folder, SPEC, population=8)

    return built_once(factory, "sent_study", build)


@dataclass(frozen=True)
class Wanted:
    """A run as a tracker has to hold it.

    Attributes:
        place: problem, method, phase, block, number.
        params: hyperparameters.
        curve: quantity → gradients → value, of finite values alone.
        gradients: billed.
    """

    place: tuple[str, str, str, int, int]
    params: dict[str, object]
    curve: dict[str, dict[int, float]]
    gradients: float


def wanted(folder: Path, phases: tuple[str, ...]) -> list[Wanted]:
    """The finished runs of some phases, in the order of their ids."""
    database = tiny.opened(folder)
    query = select(Trial.__table__, Curve.data).join(Curve, Curve.trial_id == Trial.id)
    with database.connect() as connection:
        rows = connection.execute(query.where(Trial.phase.in_(phases), Trial.status == "done").order_by(Trial.id)).all()
    database.dispose()
    runs = []
    for row in rows:
        gradients, *values = tiny.curve(row.data).astype(float)
        curve = {
            name: {int(g): v for g, v in zip(gradients, series, strict=True) if np.isfinite(v)}
            for name, series in zip(CURVE_COLUMNS[1:], values, strict=True)
        }
        billed = row.ledger["gradients"] + row.ledger["jvps"]
        place = (row.problem, row.method, row.phase, row.block, row.number)
        runs.append(Wanted(place, row.params, {k: v for k, v in curve.items() if v}, billed))
    assert runs
    return runs


def assert_same(found: dict[str, dict[int, float]], run: Wanted) -> None:
    """A run's series are its curve, once each, its last values and its bill."""
    curve = {name: series for name, series in found.items() if "/" not in name}
    assert curve.keys() == run.curve.keys()
    for name, series in run.curve.items():
        assert list(curve[name]) == sorted(series)
        np.testing.assert_allclose(list(curve[name].values()), [series[step] for step in sorted(series)], rtol=1e-6)
    assert list(found["ledger/gradients"].values()) == [run.gradients]
