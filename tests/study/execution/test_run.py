"""Studies from beginning to end: exact counts, continued and extended ones, and what a kill cannot break."""

from __future__ import annotations

import json
import math
import signal
import warnings
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from sqlalchemy import select, update

from relaxbench.errors import UserError
from relaxbench.optim.registry import RULES
from relaxbench.problems import problem
from relaxbench.store.database import open_database
from relaxbench.store.schema import Study, Trial, Weights
from relaxbench.store.workers import workers
from relaxbench.study.coordination.distributions import distributions
from relaxbench.study.coordination.optuna_mirror import ID, optuna_storage
from relaxbench.study.definition.spec import StudySpec
from relaxbench.study.execution.options import RunOptions, parse_device
from relaxbench.training import engine as engines
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job
from relaxbench.util.seeds import derive
from tests.study import tiny

Results = dict[Any, Any]

DATA = """
import torch
from relaxbench.problems import SupervisedProblem

torch_x = torch.arange(120.0).view(40, 3).sin() * {scale}
torch_y = (torch_x.sum(1) > 0).long()
problem = SupervisedProblem(
    "mine", lambda: torch.nn.Linear(3, 2),
    lambda: {{s: (torch_x, torch_y) for s in ("train", "validation", "test")}}, batch_size=8, budget=40,
)
"""


def study_row(folder: Path) -> Any:
    database = tiny.opened(folder)
    with database.connect() as connection:
        row = connection.execute(select(Study.__table__)).one()
    database.dispose()
    return row


def sessions(folder: Path) -> list[Any]:
    """The rows of the workers."""
    database = tiny.opened(folder)
    found = workers(database, 1)
    database.dispose()
    return found


def current(results: Results) -> Results:
    """Without confirm and recommend runs of settings that no longer lead; the rest by what they are."""
    best: dict[Any, Any] = {}
    blocks: dict[Any, Any] = {}
    for key, row in results.items():
        (task, method, phase, block, number), value = key[:5], row[3]
        if phase == "explore":
            blocks.setdefault((task, method, block), []).append((value, number, key[:5]))
        if phase in ("explore", "exploit"):
            best.setdefault((task, method), []).append((value, phase != "explore", block, number, key[:5]))
    leaders = {min(found)[-1] for found in blocks.values()} | {min(found)[-1] for found in best.values()}
    return {key: row for key, row in results.items() if key[5] is None or key[5] in leaders}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of a study of four blocks whose memory suffices."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "choose_engine", lambda problem, place, k=None, precision="float32": tiny.engine(k or 8))
        patch.setattr(engines, "calibrate", lambda *arguments, **options: dict(tiny.COST))
        tiny.run(folder, tiny.spec(blocks=4), population=8)
    return tiny.results(folder)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_memory_does_not_suffice_half_the_slots_go_on_and_nothing_is_lost(
    error: Exception, calm: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = tiny.spec(blocks=4)
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


def assert_mirrored(folder: Path, s: StudySpec) -> None:
    """Optuna, read by its own means, has each explore and exploit trial exactly once, with its value and settings."""
    url = f"sqlite:///{folder / 'study.db'}"
    found = [row for row in tiny.rows(folder) if row.phase in ("explore", "exploit")]
    for name in s.problems:
        for method in s.methods:
            for phase in ("explore", "exploit"):
                mine = {r.id: r for r in found if (r.problem, r.method, r.phase) == (name, method, phase)}
                if not mine:
                    continue
                loaded = optuna.load_study(study_name=f"{s.name}/{name}/{method}/{phase}", storage=url)
                assert sorted(t.user_attrs[ID] for t in loaded.trials) == sorted(mine)
                space = distributions(s.space_of(method, problem(name)))
                for trial in loaded.trials:
                    row = mine[trial.user_attrs[ID]]
                    assert trial.state is optuna.trial.TrialState.COMPLETE
                    assert trial.value == row.value and trial.params == {n: row.params[n] for n in space}
                    assert trial.distributions == space
                    assert (trial.user_attrs["block"], trial.user_attrs["diverged"]) == (row.block, row.diverged)
                assert loaded.best_value == min(row.value for row in mine.values())


# --- one session ------------------------------------------------------------------------------------------------------


def test_a_study_has_exactly_the_trials_that_were_asked_for_and_running_it_again_runs_nothing(tmp_path: Path) -> None:
    """With the engine as it is: measured, chosen and calibrated on this machine."""
    s = tiny.spec()
    first = tiny.run(tmp_path, s, population=None)
    assert first.new and first.ran == first.total == tiny.expected(s) == 36 and first.missing == 0
    found = tiny.rows(tmp_path)
    assert len(found) == 36 and {row.status for row in found} == {"done"}
    for method in s.methods:
        for phase, count in {"explore": 4, "confirm": 2, "exploit": 10, "recommend": 2}.items():
            assert sum((row.method, row.phase) == (method, phase) for row in found) == count
    assert_mirrored(tmp_path, s)
    assert not list((tmp_path / "checkpoints").glob("*"))

    before = tiny.results(tmp_path)
    again = tiny.run(tmp_path, s, population=None)
    assert not again.new and again.ran == 0 and again.missing == 0 and again.total == 36
    assert tiny.results(tmp_path) == before
    manifest = study_row(tmp_path).manifest
    assert manifest["device"] == "cpu"
    assert manifest["engines"]["rosenbrock"]["population"] >= 1
    assert manifest["engines"]["rosenbrock"]["path"] in ("vectorized", "direct")
    assert manifest["torch"] == torch.__version__ and manifest["optuna"] == optuna.__version__
    (worker,) = sessions(tmp_path)
    assert (worker.finished, worker.running, worker.doing) == (36, 0, "") and worker.ended_at >= worker.started_at
    for method in s.methods:
        assert manifest["methods"][method]["calibration"]["rosenbrock"]["seconds_per_gradient"] > 0


def test_rows_follow_from_the_definition(whole: Results) -> None:
    """Winners by validation loss, paired confirm seeds, settings of children, gradients within the budget."""
    s, task = tiny.spec(), problem("rosenbrock")
    values = {key[:5]: row[3] for key, row in whole.items()}
    for (name, method, phase, block, number, parent), row in whole.items():
        seed, params, _, value, diverged, measures, ledger, _, data, _ = row
        period = {"sgd": 1, "heat": dict(params).get("inner_steps")}[method]
        if diverged:
            assert dict(ledger)["gradients"] < 40 and value == task.worst
        else:
            assert dict(ledger)["gradients"] == 40 // period * period
        points = tiny.curve(data)
        assert points[0, -1] == dict(ledger)["gradients"]
        if not diverged:
            assert value == min(dict(measures)["validation_loss"], task.worst) == min(points[2, -1], task.worst)
        if phase == "confirm":
            assert seed == derive(s.seed, "confirm", name, block)  # shared by the methods: blocks are pairs
            rivals = {n: values[name, method, "explore", block, n] for n in range(s.trials)}
            assert parent == (name, method, "explore", block, min(rivals, key=lambda n: (rivals[n], n)))
        if phase == "recommend":
            assert seed == derive(s.seed, "recommend", name, number)
            found = [v for k, v in values.items() if k[1] == method and k[2] in ("explore", "exploit")]
            assert values[parent] == min(found)
        if parent is not None:
            assert params == next(r[1] for k, r in whole.items() if k[:5] == parent)
            assert "test_loss" in dict(measures)
        else:
            assert "test_loss" not in dict(measures)  # the test split is read by winners alone
    seeds = [row[0] for key, row in whole.items() if key[2] in ("explore", "exploit")]
    assert len(set(seeds)) == len(seeds)
    for method in s.methods:
        kept = [key for key, row in whole.items() if row[9] is not None and key[1] == method]
        runs = {key: row[3] for key, row in whole.items() if key[1:3] == (method, "recommend")}
        assert len(kept) == 1 and runs[kept[0]] == min(runs.values())


def test_a_trial_of_the_study_can_be_run_again_by_hand(whole: Results) -> None:
    """Seed and settings of a row are all that a trial depends on."""
    for key, row in list(whole.items())[:: len(whole) // 5]:
        got: list[Any] = []
        queue = [Job(0, row[0], dict(row[1]))]
        one = Population(Oracle(problem("rosenbrock")), RULES[key[1]](), 40)
        one.run(lambda free, queue=queue: [queue.pop() for _ in queue[:free]], got.extend, 1)
        assert got[0].value == row[3]
        assert got[0].curve.tobytes() == row[8]


@pytest.mark.parametrize("population", [1, 64])
@pytest.mark.usefixtures("steady")
def test_the_population_changes_no_result_and_is_stored(population: int, tmp_path: Path, whole: Results) -> None:
    tiny.run(tmp_path, tiny.spec(), population=population)
    assert tiny.results(tmp_path) == whole
    manifest = study_row(tmp_path).manifest
    assert manifest["engines"]["rosenbrock"]["population"] == population
    assert manifest["engines"]["rosenbrock"]["device"] == manifest["device"] == "cpu"


@pytest.mark.usefixtures("steady")
def test_another_seed_is_another_study(tmp_path: Path, whole: Results) -> None:
    tiny.run(tmp_path, tiny.spec(seed=1, exploit=0, recommend=0))
    other = tiny.results(tmp_path)
    assert not {row[0] for row in other.values()} & {row[0] for row in whole.values()}
    values = [{row[3] for row in table.values() if not row[4]} for table in (other, whole)]
    assert all(values) and not values[0] & values[1]


@pytest.mark.usefixtures("steady")
def test_diverged_trials_are_complete_with_the_worst_value_and_marked(tmp_path: Path) -> None:
    wild = {"rule": "sgd", "space": {"lr": [1e6, 1e7]}}
    s = tiny.spec(methods=["sgd", "wild"], method={"wild": wild}, exploit=4, recommend=1)
    assert tiny.run(tmp_path, s).missing == 0
    worst = problem("rosenbrock").worst
    for row in tiny.rows(tmp_path):
        assert row.status == "done" and math.isfinite(row.value) and row.value <= worst
        if row.method == "wild":
            assert row.diverged and row.value == worst
            assert row.measures["validation_metric"] == problem("rosenbrock").worst_metric
            json.dumps(row.measures, allow_nan=False)
    assert any(not row.diverged for row in tiny.rows(tmp_path) if row.method == "sgd")
    assert_mirrored(tmp_path, s)


@pytest.mark.usefixtures("steady")
def test_digits_keeps_what_the_report_needs(tmp_path: Path) -> None:
    s = tiny.spec(problems=["digits-mlp"], methods=["sgd"], exploit=0, recommend=1)
    assert tiny.run(tmp_path, s).missing == 0
    task = problem("digits-mlp")
    for row in tiny.rows(tmp_path):
        if row.phase in ("confirm", "recommend"):
            right = np.unpackbits(np.frombuffer(row.correct, dtype=np.uint8))[: task.test_examples]
            assert row.measures["test_metric"] == pytest.approx(1 - right.mean(), abs=1e-6)
        else:
            assert row.correct is None
    (run,) = [row for row in tiny.rows(tmp_path) if row.phase == "recommend"]
    database = tiny.opened(tmp_path)
    with database.connect() as connection:
        data = connection.scalars(select(Weights.data).where(Weights.trial_id == run.id)).one()
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.float32).copy())
    batch = task.split("test", torch.device("cpu"))
    logits = torch.func.functional_call(task.model.train(False), task.unflatten(flat), (batch["x"],))
    assert (logits.argmax(1) != batch["y"]).float().mean().item() == pytest.approx(
        run.measures["test_metric"], abs=1e-6
    )
    assert torch.nn.functional.cross_entropy(logits, batch["y"]).item() == pytest.approx(
        run.measures["test_loss"], rel=1e-4
    )


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("questions", [0, 1, 5, 47, 150])
@pytest.mark.usefixtures("steady")
def test_an_interrupted_study_continues_to_the_same_bits(questions: int, tmp_path: Path, whole: Results) -> None:
    """Stopped once after so many questions, then, differently sized, again and again, then let run."""
    s = tiny.spec()
    summary = tiny.run(tmp_path, s, tiny.After(questions))
    assert summary.missing > 0 and summary.total == 36
    assert {row.status for row in tiny.rows(tmp_path)} <= {"waiting", "done"}
    ran = summary.ran
    for size in (2, 5):
        ran += tiny.run(tmp_path, s, tiny.After(100), population=size).ran
    last = tiny.run(tmp_path, s)
    assert last.missing == 0 and ran + last.ran == 36
    assert tiny.results(tmp_path) == whole
    assert_mirrored(tmp_path, s)
    assert not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.usefixtures("steady")
def test_a_stop_keeps_the_rounds_that_were_done(tmp_path: Path) -> None:
    """A stopped trial goes on from its checkpoint: fewer rounds are left, and the curve is whole."""
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0, blocks=1)
    rounds: list[int] = []
    tiny.run(tmp_path, s, tiny.After(25))
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert len(files) == 2
    done = [torch.load(file, weights_only=True)["done"] for file in files]
    assert all(0 < n < 40 for n in done)
    tiny.run(tmp_path, s, observe=lambda progress: rounds.append(1))
    assert len(tiny.rows(tmp_path)) == 3 and not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.usefixtures("steady")
def test_a_stopped_study_can_be_looked_at_with_optuna(tmp_path: Path) -> None:
    """What was done until then is there, and nothing else: a dashboard opens the file at any moment."""
    assert tiny.run(tmp_path, tiny.spec(), tiny.After(60)).missing > 0
    done = {row.id for row in tiny.rows(tmp_path) if row.status == "done" and row.phase in ("explore", "exploit")}
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    trials = [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id)]
    storage.engine.dispose()
    assert done and {t.user_attrs[ID] for t in trials} == done and {t.state.name for t in trials} == {"COMPLETE"}


@pytest.mark.usefixtures("steady")
def test_a_checkpoint_that_was_cut_off_is_made_anew(tmp_path: Path, whole: Results) -> None:
    s = tiny.spec()
    tiny.run(tmp_path, s, tiny.After(20))
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
    tiny.run(tmp_path, s, tiny.After(20))
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert len(files) > 1
    for number, file in enumerate(files):
        checkpoint = torch.load(file, weights_only=True)
        name = next(iter(checkpoint["state"]))
        if number % 2:
            checkpoint["state"][name] = torch.zeros(7)
        else:
            del checkpoint["state"][name]
        torch.save(checkpoint, file)
    tiny.run(tmp_path, s)
    assert tiny.results(tmp_path) == whole


@pytest.mark.usefixtures("steady")
def test_checkpoints_that_others_left_are_gone_when_the_study_is_complete(tmp_path: Path) -> None:
    """Of a trial that was finished elsewhere, or of a process that was killed while it wrote."""
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0, blocks=1)
    tiny.run(tmp_path, s, tiny.After(25))
    (file, *_) = (tmp_path / "checkpoints").glob("*.pt")
    for name in (f"{file.name.split('-')[0]}-999.pt", f"{file.name.split('-')[0]}-999.1234.part", "another-1.pt"):
        (tmp_path / "checkpoints" / name).write_bytes(b"left")
    tiny.run(tmp_path, s)
    assert [path.name for path in (tmp_path / "checkpoints").glob("*")] == ["another-1.pt"]


@pytest.mark.usefixtures("steady")
def test_checkpoints_of_another_storage_are_not_taken_up(tmp_path: Path, whole: Results) -> None:
    """Two databases that share the default folder, or a database that was deleted after Ctrl-C and made anew."""
    tiny.run(tmp_path, tiny.spec(seed=5), tiny.After(20))
    assert list((tmp_path / "checkpoints").glob("*.pt"))
    for file in tmp_path.glob("study.db*"):
        file.unlink()
    tiny.run(tmp_path, tiny.spec())
    assert tiny.results(tmp_path) == whole


KILLS = [
    *(("round", count) for count in (12, 60, 200)),
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
        assert len(left) == 36 and {row.status for row in left} == {"done"}
    summary = tiny.run(tmp_path, s)
    assert summary.missing == 0 and summary.ran == sum(row.status != "done" for row in left) + 36 - len(left)
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
    assert len(found) == 36 and {row.status for row in found} == {"done"}
    assert {row.token for row in found} == {1}  # each was claimed once
    assert tiny.results(tmp_path) == whole
    assert_mirrored(tmp_path, s)


# --- extended ---------------------------------------------------------------------------------------------------------

EXTENSIONS: list[dict[str, Any]] = [
    {"blocks": 3},
    {"trials": 4},
    {"exploit": 13},
    {"recommend": 3},
    {"methods": ["sgd", "heat", "lookahead"]},
    {"blocks": 3, "trials": 3, "methods": ["lookahead", "sgd", "heat"], "problems": ["rosenbrock", "rugged-1d"]},
]


@pytest.mark.parametrize("change", EXTENSIONS, ids=lambda change: "+".join(change))
@pytest.mark.usefixtures("steady")
def test_an_extended_study_runs_only_what_is_missing(change: dict[str, Any], tmp_path: Path) -> None:
    """What counts in the end is, bit for bit, the study that would have been asked for at once."""
    small = tiny.spec(exploit=6 if "exploit" in change else 2)
    large = tiny.spec(**{"exploit": 2, **change})
    tiny.run(tmp_path, small)
    before = {row.id: row for row in tiny.rows(tmp_path)}
    summary = tiny.run(tmp_path, large)
    after = {row.id: row for row in tiny.rows(tmp_path)}
    assert not summary.new and summary.missing == 0 and summary.total == tiny.expected(large)
    ignored = {"mirrored"}
    for number, row in before.items():  # nothing that was done is touched
        assert {k: v for k, v in row._mapping.items() if k not in ignored} == {
            k: v for k, v in after[number]._mapping.items() if k not in ignored
        }
    assert summary.ran == len(after) - len(before)
    assert {row.status for row in after.values()} == {"done"}
    counted = current(tiny.results(tmp_path))
    assert len(counted) == tiny.expected(large)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    tiny.run(fresh, large)
    assert counted == tiny.results(fresh)
    assert_mirrored(tmp_path, large)
    assert tiny.run(tmp_path, large).ran == 0


@pytest.mark.usefixtures("steady")
def test_confirm_runs_of_a_changed_winner_are_superseded(tmp_path: Path) -> None:
    """Seeds are tried until an extension by trials changes the winner of a block, which most do."""
    s = tiny.spec(methods=["sgd"], blocks=4, exploit=0, recommend=2)
    tiny.run(tmp_path, s)
    tiny.run(tmp_path, s.model_copy(update={"trials": 6}))
    found = tiny.rows(tmp_path)
    values = {row.id: row.value for row in found}
    confirmed: dict[int, list[Any]] = {}
    for row in found:
        if row.phase == "confirm":
            confirmed.setdefault(row.block, []).append(row)
    assert any(len(rows) == 2 for rows in confirmed.values())  # both are kept; the winner's counts
    for block, rows in confirmed.items():
        best = min((r for r in found if (r.phase, r.block) == ("explore", block)), key=lambda r: (r.value, r.number))
        assert best.id in {row.parent for row in rows}
        assert len({row.seed for row in rows}) == 1
    winner = min((row for row in found if row.phase == "explore"), key=lambda row: (row.value, row.id))
    assert sum(row.phase == "recommend" and row.parent == winner.id for row in found) == 2
    assert values[winner.id] == min(row.value for row in found if row.phase == "explore")


@pytest.mark.usefixtures("steady")
def test_the_weights_kept_are_those_of_the_current_best_settings(tmp_path: Path) -> None:
    """Also when an earlier winner's runs happened to end lower: `best` prints the settings beside them."""
    s = tiny.spec(methods=["sgd"], blocks=1, trials=1, exploit=0, recommend=1)
    tiny.run(tmp_path, s)
    database = open_database(str(tmp_path / "study.db"))
    with database.begin() as connection:  # an unlucky trial whose settings then did very well
        connection.execute(update(Trial).where(Trial.phase == "explore").values(value=99.0))
        connection.execute(update(Trial).where(Trial.phase == "recommend").values(value=-1.0))
    database.dispose()
    tiny.run(tmp_path, s.model_copy(update={"trials": 4}))
    found = tiny.rows(tmp_path)
    best = min((row for row in found if row.phase == "explore"), key=lambda row: (row.value, row.id))
    mine = {row.id for row in found if row.phase == "recommend" and row.parent == best.id}
    database = tiny.opened(tmp_path)
    with database.connect() as connection:
        kept = set(connection.scalars(select(Weights.trial_id)))
    database.dispose()
    assert len(mine) == 1 and kept == mine


@pytest.mark.usefixtures("steady")
def test_running_a_part_of_a_study_keeps_what_is_known_of_the_rest(tmp_path: Path) -> None:
    both = tiny.spec(methods=["sgd"], problems=["rosenbrock", "rugged-1d"], blocks=1, exploit=0, recommend=0)
    tiny.run(tmp_path, both)
    tiny.run(tmp_path, both.model_copy(update={"problems": ["rosenbrock"], "blocks": 2}))
    row = study_row(tmp_path)
    assert row.spec["problems"] == ["rosenbrock", "rugged-1d"]
    assert set(row.manifest["problems"]) == set(row.manifest["engines"]) == {"rosenbrock", "rugged-1d"}
    assert set(row.manifest["methods"]["sgd"]["spaces"]) == {"rosenbrock", "rugged-1d"}


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"seed": 1}, "seed: 0 → 1"),
        ({"budget": 41}, "budget: 40 → 41"),
        ({"blocks": 1}, "blocks: 2 → 1 (may grow, not shrink)"),
        ({"trials": 1}, "trials: 2 → 1"),
        ({"space": {"lr": [1e-4, 1e-2]}}, "space:"),
    ],
)
@pytest.mark.usefixtures("steady")
def test_a_changed_study_is_refused_with_the_difference(change: dict[str, Any], names: str, tmp_path: Path) -> None:
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0)
    tiny.run(tmp_path, s, tiny.After(0))
    before, stored = tiny.results(tmp_path), study_row(tmp_path)
    with pytest.raises(UserError) as refused:
        tiny.run(tmp_path, tiny.spec(**{"methods": ["sgd"], "exploit": 0, "recommend": 0, **change}))
    assert names in str(refused.value) and "\n" not in str(refused.value)
    assert tiny.results(tmp_path) == before and study_row(tmp_path) == stored


@pytest.mark.usefixtures("steady")
def test_a_study_whose_data_have_changed_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(DATA.format(scale=1))
    s = tiny.spec(problems=[str(file)], methods=["sgd"], exploit=0, recommend=0)
    tiny.run(tmp_path, s)
    assert study_row(tmp_path).spec["problems"] == ["mine"]
    before, stored = tiny.results(tmp_path), study_row(tmp_path)
    file.write_text(DATA.format(scale=2))
    with pytest.raises(UserError, match=r"data of problem 'mine' have changed .*→") as refused:
        tiny.run(tmp_path, s.model_copy(update={"blocks": 3}))
    assert "\n" not in str(refused.value)
    assert study_row(tmp_path) == stored
    assert tiny.results(tmp_path) == before


@pytest.mark.usefixtures("steady")
def test_two_problems_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their trials would fall on the same rows."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(DATA.format(scale=1))
    s = tiny.spec(problems=[str(tmp_path / "a.py"), str(tmp_path / "b.py")], methods=["sgd"], exploit=0, recommend=0)
    with pytest.raises(UserError, match="'mine'"):
        tiny.run(tmp_path, s)


@pytest.mark.usefixtures("steady")
def test_a_budget_below_one_outer_step_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="budget"):
        tiny.run(tmp_path, tiny.spec(budget=10))
    database = tiny.opened(tmp_path)
    with database.connect() as connection:
        assert connection.execute(select(Study.id)).all() == []
    database.dispose()


@pytest.mark.usefixtures("steady")
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "study.db"))
    with pytest.raises(UserError, match="cuda:77"):
        tiny.run_in(database, tiny.spec(), RunOptions(device=parse_device("cuda:77")))
    with database.connect() as connection:
        assert connection.execute(select(Study.id)).all() == []
    database.dispose()


# --- told -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("steady")
def test_progress_adds_up(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def observe(progress: Sequence[Any]) -> None:
        seen.append((sum(p.done for p in progress), min(p.best for p in progress)))

    s = tiny.spec(exploit=4)
    tiny.run(tmp_path, s, observe=observe)
    done, best = zip(*seen, strict=True)
    assert list(done) == sorted(done) and done[-1] == tiny.expected(s)
    found = tiny.rows(tmp_path)
    assert best[-1] == min(row.value for row in found)
    assert list(best) == sorted(best, reverse=True)


@pytest.mark.usefixtures("steady")
def test_the_mirror_is_open_to_optuna_and_its_own_storage(tmp_path: Path) -> None:
    s = tiny.spec(methods=["sgd"], recommend=0)
    tiny.run(tmp_path, s)
    database = tiny.opened(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage = optuna_storage(database)
    names = {study.study_name for study in optuna.get_all_study_summaries(storage)}
    assert names == {"tiny/rosenbrock/sgd/explore", "tiny/rosenbrock/sgd/exploit"}
    database.dispose()


def test_the_engine_is_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int | None] = []

    def choose(task: Any, place: torch.device, population: int | None, precision: str) -> Any:
        calls.append(population)
        return tiny.engine(population or 8)

    monkeypatch.setattr(engines, "choose_engine", choose)
    monkeypatch.setattr(engines, "calibrate", lambda *a, **k: dict(tiny.COST))
    s = tiny.spec(methods=["sgd"], exploit=0, recommend=0)
    tiny.run(tmp_path, s, tiny.After(6), population=None)
    tiny.run(tmp_path, s, tiny.After(6), population=None)
    tiny.run(tmp_path, s, population=4)
    assert calls == [None]
    assert study_row(tmp_path).manifest["engines"]["rosenbrock"]["population"] == 4
    assert len(sessions(tmp_path)) == 3
