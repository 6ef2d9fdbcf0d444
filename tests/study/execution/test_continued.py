"""Studies that are stopped or killed, and continued to the same bits."""

from __future__ import annotations

import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import optuna
import pytest
import torch

from relaxbench.study.coordination.optuna_mirror import ID
from tests.study import tiny
from tests.study.checkpoint_files import content, rewrite
from tests.study.results import Results, assert_mirrored


@pytest.mark.parametrize("stops", [((0, 3), (1, 2), (5, 5), (20, 2)), ((60, 3), (5, 5))])
@pytest.mark.usefixtures("steady")
def test_an_interrupted_study_continues_to_the_same_bits(
    stops: tuple[tuple[int, int], ...], tmp_path: Path, whole: Results
) -> None:
    """Stopped again and again, each time after so many questions of a population of so many, then let run."""
    s, ran = tiny.spec(), 0
    for questions, size in stops:
        summary = tiny.run(tmp_path, s, tiny.After(questions), population=size)
        assert summary.missing > 0 and summary.total == 30
        assert {row.status for row in tiny.rows(tmp_path)} <= {"waiting", "done"}
        ran += summary.ran
    last = tiny.run(tmp_path, s)
    assert last.missing == 0 and ran + last.ran == 30
    assert tiny.results(tmp_path) == whole
    assert_mirrored(tmp_path, s)
    assert not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.usefixtures("steady")
def test_an_interrupted_study_of_a_sampler_continues_to_the_same_bits(tmp_path: Path) -> None:
    """Blocks are run side by side, each by a sampler of its own, whatever the slots and the interruptions."""
    search = {"sampler": "tpe", "options": {"n_startup_trials": 1}, "generation": 1}
    s = tiny.spec(methods=["sgd"], trials=3, exploit=0, recommend=1, flatness=False, search=search)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    tiny.run(tmp_path / "whole", s, population=8)
    for size, questions in ((2, 5), (5, 20)):
        assert tiny.run(tmp_path / "parts", s, tiny.After(questions), population=size).missing > 0
    assert tiny.run(tmp_path / "parts", s).missing == 0
    assert tiny.results(tmp_path / "parts") == tiny.results(tmp_path / "whole")
    assert sorted(key[2] for key in tiny.results(tmp_path / "parts")) == ["confirm"] * 2 + ["explore"] * 6 + [
        "recommend"
    ]
    assert_mirrored(tmp_path / "parts", s)


@pytest.mark.usefixtures("steady")
def test_a_stop_keeps_the_rounds_that_were_done(tmp_path: Path) -> None:
    """A stopped trial goes on from its checkpoint: fewer rounds are left, and the curve is whole."""
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0, looks=[1])
    rounds: list[int] = []
    tiny.run(tmp_path, s, tiny.After(5))
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert len(files) == 2
    done = [content(file)["checkpoint"]["done"] for file in files]
    assert all(0 < n < 40 for n in done)
    tiny.run(tmp_path, s, observe=lambda progress: rounds.append(1))
    assert len(tiny.rows(tmp_path)) == 3 and not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.usefixtures("steady")
def test_a_stopped_study_can_be_looked_at_with_optuna(tmp_path: Path) -> None:
    """What was done until then is there, and nothing else: a dashboard opens the file at any moment."""
    assert tiny.run(tmp_path, tiny.spec(), tiny.After(30)).missing > 0
    done = {row.id for row in tiny.rows(tmp_path) if row.status == "done" and row.phase in ("explore", "exploit")}
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    trials = [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id)]
    storage.engine.dispose()
    assert done and {t.user_attrs[ID] for t in trials} == done and {t.state.name for t in trials} == {"COMPLETE"}


@pytest.mark.usefixtures("steady")
def test_a_checkpoint_that_was_cut_off_is_made_anew(tmp_path: Path, whole: Results) -> None:
    s = tiny.spec()
    tiny.run(tmp_path, s, tiny.After(5))
    files = list((tmp_path / "checkpoints").glob("*.pt"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    tiny.run(tmp_path, s)
    assert tiny.results(tmp_path) == whole


@pytest.mark.usefixtures("steady")
def test_a_checkpoint_that_does_not_fit_is_made_anew(tmp_path: Path, whole: Results) -> None:
    """Whole files, but of a network that was another one then, or of another state."""
    s = tiny.spec()
    tiny.run(tmp_path, s, tiny.After(5))
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert len(files) > 1
    for number, file in enumerate(files):
        found = content(file)
        name = next(iter(found["checkpoint"]["state"]))
        if number % 2:
            found["checkpoint"]["state"][name] = torch.zeros(7)
        else:
            del found["checkpoint"]["state"][name]
        rewrite(file, found)
    tiny.run(tmp_path, s)
    assert tiny.results(tmp_path) == whole


@pytest.mark.usefixtures("steady")
def test_checkpoints_that_others_left_are_gone_when_the_study_is_complete(tmp_path: Path) -> None:
    """Of a trial that was finished elsewhere, or of a process that was killed while it wrote."""
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0, looks=[1])
    tiny.run(tmp_path, s, tiny.After(5))
    (file, *_) = (tmp_path / "checkpoints").glob("*.pt")
    for name in (f"{file.name.split('-')[0]}-999.pt", f"{file.name.split('-')[0]}-999.1234.part", "another-1.pt"):
        (tmp_path / "checkpoints" / name).write_bytes(b"left")
    tiny.run(tmp_path, s)
    assert [path.name for path in (tmp_path / "checkpoints").glob("*")] == ["another-1.pt"]


@pytest.mark.usefixtures("steady")
def test_checkpoints_of_another_storage_are_not_taken_up(tmp_path: Path, whole: Results) -> None:
    """Two databases that share the default folder, or a database that was deleted after Ctrl-C and made anew."""
    tiny.run(tmp_path, tiny.spec(seed=5), tiny.After(5))
    assert list((tmp_path / "checkpoints").glob("*.pt"))
    for file in tmp_path.glob("study.db*"):
        file.unlink()
    tiny.run(tmp_path, tiny.spec())
    assert tiny.results(tmp_path) == whole


KILLS = [
    *(("round", count) for count in (4, 20, 60)),
    *((when, 0) for when in ("within a slice", "before the mirror", "within the mirror")),
]


@pytest.mark.parametrize(("when", "count"), KILLS)
@pytest.mark.usefixtures("steady")
def test_a_killed_study_continues_to_the_same_bits(
    when: str, count: int, tmp_path: Path, whole: Results, processes: ForkServerContext
) -> None:
    s = tiny.spec()
    process = processes.Process(target=tiny.victim, args=(str(tmp_path), s, when, count))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    left = tiny.rows(tmp_path)
    assert len({row.id for row in left}) == len(left)
    if when == "round":
        assert {"running"} < {row.status for row in left}
    elif when == "within a slice":  # of a second's worth, while trials are still waiting
        assert {"done"} < {row.status for row in left}
    else:
        assert len(left) == 30 and {row.status for row in left} == {"done"}
    summary = tiny.run(tmp_path, s)
    assert summary.missing == 0 and summary.ran == sum(row.status != "done" for row in left) + 30 - len(left)
    assert {row.status for row in tiny.rows(tmp_path)} == {"done"}
    assert tiny.results(tmp_path) == whole
    assert_mirrored(tmp_path, s)


def test_two_processes_on_one_study_share_it(tmp_path: Path, whole: Results, processes: ForkServerContext) -> None:
    """The same command twice at once: no trial is run twice, and the results are those of one process."""
    s = tiny.spec()
    workers = [processes.Process(target=tiny.victim, args=(str(tmp_path), s, "never", 0)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = tiny.rows(tmp_path)
    assert len(found) == 30 and {row.status for row in found} == {"done"}
    assert {row.token for row in found} == {1}  # each was claimed once
    assert tiny.results(tmp_path) == whole
    assert_mirrored(tmp_path, s)
