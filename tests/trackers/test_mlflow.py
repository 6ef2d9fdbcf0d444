"""MLflow with a local SQLite store, read back by MLflow's client, and with a server that dies."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from relaxbench.errors import UserError
from relaxbench.trackers.runs import Summary, TrackedRun
from relaxbench.trackers.sending import Sending
from relaxbench.trackers.tracker import Destination
from tests.trackers.mlflow_server import serving
from tests.trackers.studies import assert_same, wanted

ours: Any = None
"""Our module for MLflow, which is imported for its tests alone: every process collects them, and it takes seconds."""
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    global ours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        pytest.importorskip("mlflow", reason="needs pip install 'relaxbench[mlflow]'")
        from relaxbench.trackers import mlflow as ours


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow keeps files of a local store in the current folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An address with the tables of MLflow, which take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def found(store: str, project: str) -> tuple[Any, dict[str, Any]]:
    """MLflow's client, and the runs of an experiment by our ids: each once."""
    client = ours.MlflowClient(tracking_uri=store)
    runs = client.search_runs([client.get_experiment_by_name(project).experiment_id], max_results=1000)
    by_id = {run.data.tags["relaxbench.run"]: run for run in runs}
    assert len(by_id) == len(runs)
    return client, by_id


def series(client: Any, run: Any) -> dict[str, dict[int, float]]:
    """The history of every metric: each step once."""
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    tables = {name: {point.step: point.value for point in history} for name, history in histories.items()}
    assert all(len(tables[name]) == len(history) for name, history in histories.items())
    return tables


def test_an_interrupted_log_continues_and_runs_are_read_back(
    store: str, sent_study: Path, runs: list[TrackedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    destination, some = Destination("mlflow", project="runs", where=store), runs[:5]

    def refuse(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch:  # the points of the third run are there, and its end is not
        count, end = [0], ours.MlflowClient.set_terminated

        def terminate(self: Any, id: str) -> None:
            count[0] += 1
            (refuse if count[0] == 3 else end)(self, id)

        patch.setattr(ours.MlflowClient, "set_terminated", terminate)
        broken = Sending(destination)
        broken.send(some)
    assert (broken.sent, broken.left) == (2, 3) and broken.reason == "the server is gone"
    whole = Sending(destination)
    whole.send(some)
    assert (whole.sent, whole.present, whole.left, whole.reason) == (3, 2, 0, "")
    client, there = found(store, "runs")
    assert there.keys() == {run.id for run in some}
    for run, row in zip(some, wanted(sent_study, ("confirm", "recommend")), strict=False):
        mine = there[run.id]
        assert mine.info.status == "FINISHED" and mine.info.run_name == run.name
        assert {name: mine.data.params[name] for name in row.params} == {n: str(v) for n, v in row.params.items()}
        assert_same(series(client, mine), row)


@pytest.mark.parametrize("answered", [0, 3, 9])
def test_a_server_that_dies_gets_the_rest_when_it_is_back(
    answered: int, runs: list[TrackedRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever request was its last one, nothing is there twice; and MLflow prints nothing on our output."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    some = runs[:3]
    with serving() as server:
        live = Sending(Destination("mlflow", project="p", where=server.address))  # as it follows a study
        server.answers = answered
        live.send(some)
        assert live.reason == "Remote end closed connection without response" and live.sent + live.left == len(some)
        sent = live.sent
        live.send(some)
        assert live.reason and live.sent == sent and (sent > 0) == (answered == 9)
        server.answers = None
        live.send(some)
        assert (live.reason, live.sent, live.left, live.present) == ("", len(some), 0, 0)
        there = [run for run in server.runs.values() if run["info"]["status"] != "DELETED"]
    assert [run["info"] for run in there] == [
        {"run_id": run["info"]["run_id"], "run_name": own.name, "status": "FINISHED"}
        for run, own in zip(there, some, strict=True)
    ]
    for run, own in zip(there, some, strict=True):
        points = [(point["key"], point["step"], point["value"]) for point in run["data"]["metrics"]]
        assert points == [(key, step, value) for step, values in own.rows for key, value in values.items()]
        params = {param["key"]: param["value"] for param in run["data"]["params"]}
        assert params == {key: str(value) for key, value in {**own.params, **own.facts}.items()}
    assert capsys.readouterr().out == ""


def test_the_summary_is_one_run_with_its_files(store: str, summary: Summary, tmp_path: Path) -> None:
    for _ in range(2):
        sending = Sending(Destination("mlflow", project="summary", where=store))
        sending.summarize(summary)
        assert sending.reason == ""
    client, there = found(store, "summary")
    (run,) = there.values()
    assert series(client, run) == {name: {summary.step: value} for name, value in summary.numbers.items()}
    assert run.data.params["methods"] == "sgd, heat"
    files = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert (files / "sent.html").read_text() == "<p>The report.</p>"
    assert pd.read_csv(files / "verdicts.csv")["verdict"].tolist() == summary.verdicts["verdict"].tolist()


def test_a_folder_into_which_mlflow_does_not_write_is_refused_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tracking_uri: str | None) -> None:
        raise ours.MlflowException(
            f"The filesystem tracking backend (e.g., './mlruns') is in maintenance mode: {tracking_uri}"
        )

    monkeypatch.setattr(ours, "MlflowClient", refuse)
    with pytest.raises(
        UserError, match=r"where '/some': .* a server or a database, such as http://.* sqlite:///"
    ) as told:
        ours.connect(Destination("mlflow", where="/some"))
    assert "maintenance" not in str(told.value) and told.value.settings == ("where",)


def test_an_address_is_shown_without_its_password() -> None:
    tracker = ours.Mlflow("p", "http://someone:secret@localhost:1/x")
    assert tracker.place == "experiment 'p' in http://localhost:1/x"
