"""Studies whose memory does not suffice: half the slots, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.errors import UserError
from relaxbench.training.population import Population
from tests.study import tiny
from tests.study.results import Results, study_row


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of a study of four blocks whose memory suffices."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        tiny.set_engine(patch)
        tiny.run(folder, tiny.spec(looks=[4], exploit=4), population=8)
    return tiny.results(folder)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_memory_does_not_suffice_half_the_slots_go_on_and_nothing_is_lost(
    error: Exception, calm: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = tiny.spec(looks=[4], exploit=4)
    tiny.set_engine(monkeypatch)
    round_, sizes, said = Population.round, list[int](), list[str]()

    def tight(self: Population) -> Any:
        sizes.append(len(self.slots))
        if len(self.slots) > 2 and any(slot.done for slot in self.slots):  # in the middle of a trial
            raise error
        return round_(self)

    monkeypatch.setattr(Population, "round", tight)
    summary = tiny.run(tmp_path, s, population=8, announce=said.append)
    assert summary.missing == 0 and max(sizes) == 8 and sizes[-1] <= 2
    assert tiny.results(tmp_path) == calm
    assert [line for line in said if "memory" in line] == [
        "rosenbrock: memory did not suffice for K = 8; going on with K = 4",
        "rosenbrock: memory did not suffice for K = 4; going on with K = 2",
    ]
    assert study_row(tmp_path).manifest["engines"]["rosenbrock"]["population"] == 2


@pytest.mark.parametrize("place", ["advance", "round"])  # while the cost is measured, and in a trial
def test_a_trial_that_does_not_fit_alone_ends_the_study_in_one_line_and_frees_its_trials(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tight(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Population, place, tight)
    with pytest.raises(UserError, match="does not fit into the memory of cpu even with a single trial"):
        tiny.run(tmp_path, tiny.spec(), population=2)
    assert {row.status for row in tiny.rows(tmp_path)} == {"waiting"}
