"""Every number of a report again, by a script that sees only its files: what it says agrees, and a forgery is found."""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.cli.main import main
from relaxbench.report import load_study, write_report
from relaxbench.report.figures.learning_curves import bands
from tests.atlas.studies import write
from tests.study import tiny
from tests.synthetic import Writer, fill, memory, spec

SCRIPT = Path(__file__).with_name("recompute.py")
DIGITS = """
name = "small"
problems = ["digits-mlp"]
methods = ["sgd", "lookahead", "entropy-sgd", "heat-published"]
baseline = "sgd"
controls = ["lookahead"]
looks = [6]
trials = 3
exploit = 2
recommend = 2
budget = 60
flatness = "full"

[method.heat-published]
rule = "heat"
arm = "published"
"""
MNIST = """
name = "small"
problems = ["mnist-mlp-tanh-small"]
methods = ["sgd", "sgd-ema"]
baseline = "sgd"
controls = ["sgd-ema"]
looks = [6]
trials = 2
exploit = 0
recommend = 0
budget = 10
flatness = false
"""


class Said(NamedTuple):
    """What the script says of a report, and its exit code."""

    code: int
    text: str


Recomputed = Callable[[Path], Said]


@pytest.fixture
def recomputed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Recomputed:
    """The script in this process: to import its libraries takes longer than what it does."""
    monkeypatch.syspath_prepend(SCRIPT.parent)

    def run(page: Path) -> Said:
        capsys.readouterr()
        code = importlib.import_module(SCRIPT.stem).main(str(page))
        return Said(code, capsys.readouterr().out)

    return run


def agreed(said: Said) -> dict[str, int]:
    """How much of what agrees."""
    assert said.code == 0, said.text
    return {what: int(count) for what, count in re.findall(r"^(.+): (\d+) agree$", said.text, re.M)}


EVERYWHERE = {
    "blocks",
    "confirmations",
    "recommended",
    "verdicts",
    "looks",
    "answers",
    "sentences",
    "table",
    "statistics",
    "headline",
    "settings",
    "figure ratio",
    "figure blocks",
    "figure curve",
    "figure target",
    "figure budget",
    "figure best",
    "figure search",
    "figure history",
    "figure cost",
    "figure schedule",
}


def test_a_study_with_a_better_and_a_worse_method(digits_page: Path) -> None:
    """As a person runs it."""
    asked = [sys.executable, "-W", "error", str(SCRIPT), str(digits_page)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    counts = agreed(Said(done.returncode, done.stdout + done.stderr))
    assert counts.keys() >= EVERYWHERE | {"figure importance", "figure looks"}
    assert counts["sentences"] > 50 and counts["verdicts"] > 100 and counts["figure budget"] > 50


def test_two_problems_one_of_them_censored(both_page: Path, recomputed: Recomputed) -> None:
    assert agreed(recomputed(both_page)).keys() >= EVERYWHERE


@pytest.mark.parametrize("study", [DIGITS, MNIST], ids=["digits", "mnist"])
def test_a_study_that_was_run(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recomputed: Recomputed
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.set_engine(monkeypatch)
    Path("small.toml").write_text(study)
    asked = ["study", "small.toml", "--storage", "sqlite:///small.db", "--report", str(tmp_path), "--population", "18"]
    assert main(asked) == 0
    searched = {"recommended", "settings", "figure schedule", "flatness", "figure sharpness"}
    expected = EVERYWHERE | searched if study == DIGITS else EVERYWHERE - searched
    assert agreed(recomputed(tmp_path / "small.html")).keys() >= expected


def test_a_landscape_of_which_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recomputed: Recomputed
) -> None:
    """Too short a budget for any run to come near the minimum: secondary comparisons are described all the same."""
    tiny.set_engine(monkeypatch)
    asked = {"methods": ["sgd", "sgd-ema", "heat"], "controls": ["sgd-ema"], "exploit": 0, "recommend": 1}
    tiny.run(tmp_path, tiny.spec(**asked, looks=[6], trials=1, flatness=False), population=18)
    database = tiny.opened(tmp_path)
    page = write_report(Findings.of(load_study(database)), tmp_path)
    database.dispose()
    counts = agreed(recomputed(page))
    assert counts["answers"] >= 4 and counts["statistics"] >= 4


def test_a_run_that_diverged_after_healthy_measurements(tmp_path: Path, recomputed: Recomputed) -> None:
    file = write(tmp_path / "digits.db")
    with sqlite3.connect(file) as connection:
        one, measures = connection.execute(
            "SELECT id, measures FROM relaxbench_trials WHERE phase = 'confirm' AND method = 'hj'"
        ).fetchone()
        lost = json.dumps(json.loads(measures) | {"validation_metric": 1.0, "test_metric": 1.0, "test_loss": None})
        connection.execute(
            "UPDATE relaxbench_trials SET diverged = 1, value = 10, measures = ? WHERE id = ?", (lost, one)
        )
        (packed,) = connection.execute("SELECT data FROM relaxbench_curves WHERE trial_id = ?", (one,)).fetchone()
        first = np.frombuffer(packed, dtype="<f4").reshape(5, -1)[:, :15].tobytes()  # of 25 points
        connection.execute("UPDATE relaxbench_curves SET data = ? WHERE trial_id = ?", (first, one))
    connection.close()
    frames = load_study(str(file))
    counts = agreed(recomputed(write_report(Findings.of(frames), tmp_path)))
    assert counts["figure curve"] > 20 and counts["figure target"] > 3
    drawn = bands(frames, "digits-mlp", "validation_loss").query("method == 'hj'")
    assert drawn["mean"].iloc[-1] > 10 / drawn["runs"].iloc[-1]


def test_a_study_with_a_pruner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recomputed: Recomputed) -> None:
    """Blocks have different numbers of trials, and a method with a search of its own has no pruner."""
    tiny.set_engine(monkeypatch)
    search = {"sampler": "random", "pruner": "hyperband", "generation": 2, "spot_checks": 0.0}
    asked = {"methods": ["sgd", "sgd-ema"], "exploit": 2, "recommend": 1, "trials": 4, "flatness": False}
    asked |= {"problems": ["digits-mlp"], "budget": 60, "looks": [6], "search": search}
    own = {"sgd-ema": {"search": {"sampler": "random", "generation": 2}}}
    tiny.run(tmp_path, tiny.spec(**asked, method=own), population=18)
    database = tiny.opened(tmp_path)
    frames = load_study(database)
    page = write_report(Findings.of(frames), tmp_path)
    database.dispose()
    sizes = frames.trials.query("phase == 'explore'").groupby(["method", "block"]).size()
    assert sizes["sgd"].nunique() > 1 and set(sizes["sgd-ema"]) == {4}
    assert agreed(recomputed(page))["figure history"] >= 12


def test_runs_that_do_not_vary(tmp_path: Path, recomputed: Recomputed) -> None:
    """Every run of a method ends alike: 2 × 6 blocks without variance, though sums of the logarithm of 4.5 % round."""
    asked = spec(methods=["sgd", "hj"], controls=[], looks=[6], trials=3, exploit=2, recommend=2)
    database = fill(Writer(memory(), asked), {"hj": 0.5}, spread=0.0)
    page = write_report(Findings.of(load_study(database)), tmp_path)
    said = recomputed(page)
    assert "freedom" not in said.text and agreed(said)
    assert (pd.read_csv(page.with_suffix("") / "verdicts.csv")["freedom"].dropna() == 10).all()


FORGERIES = {
    "blocks": ("digits/blocks.csv", r"(digits-mlp,hj,4,\d+,)(\d+)", r"\g<1>1000001"),
    "verdicts": ("digits/verdicts.csv", r",better,", ",worse,"),
    "confirmations": ("digits/confirmations.csv", r"(digits-mlp,hj,0,\d+,\d+,\d+,0\.)\d", r"\g<1>9"),
    "looks": ("digits/looks.csv", r",undecided,", ",worse,"),
    "answers": ("digits.html", r"better</span>", "worse</span>"),
    "recommended": ("digits/recommended.csv", r"(explore|exploit),0\.\d", r"\g<1>,0.9"),
    "sentences": ("digits.html", r"(test error, 0\.\d+ to )0\.(\d+ at once)", r"\g<1>1.\g<2>"),
    "table": ("digits.html", r'(<span class="range">)0\.(\d+ to)', r"\g<1>3.\g<2>"),
    "statistics": ("digits.html", r'(<td class="n">0\.)(\d{3})(\d</td>)', r"\g<1>777\g<3>"),
    "headline": ("digits.html", r"beats SGD here: 0\.", "beats SGD here: 2."),
    "settings": ("digits.html", r"\d(\.\d\d</span> <span class=\"range\">± [\d.]+, 10 seeds)", r"9\g<1>"),
}


def test_forged_numbers_are_found(digits_page: Path, tmp_path: Path, recomputed: Recomputed) -> None:
    shutil.copy(digits_page, tmp_path)
    shutil.copytree(digits_page.with_suffix(""), tmp_path / "digits")
    for name, pattern, other in FORGERIES.values():
        text = (tmp_path / name).read_text().replace("\u00a0", " ")
        changed = re.sub(pattern, other, text, count=1)
        assert changed != text, pattern
        (tmp_path / name).write_text(changed)
    said = recomputed(tmp_path / "digits.html")
    assert said.code == 1 and set(re.findall(r"^WRONG (\w+)", said.text, re.M)) >= FORGERIES.keys(), said.text


FIGURES = {
    "ratio",
    "looks",
    "blocks",
    "curve",
    "target",
    "budget",
    "best",
    "search",
    "history",
    "cost",
    "importance",
    "schedule",
}


def test_forged_data_of_figures_are_found(digits_page: Path, tmp_path: Path, recomputed: Recomputed) -> None:
    """Of every kind of figure one number, the last with decimals in its CSV's first line, gets another first digit."""
    text = digits_page.read_text()
    for kind in FIGURES:
        packed = re.search(rf'"key": "{kind}-[^"]*".*?"csv": "([^"]+)"', text)
        assert packed
        header, first, *rest = gzip.decompress(base64.b64decode(packed[1])).decode().split("\n")
        cells = first.split(",")
        place = max(at for at, cell in enumerate(cells) if re.fullmatch(r"-?\d+\.\d{3,}(e-\d+)?", cell))
        cells[place] = re.sub(r"[1-9]", lambda digit: str(int(digit[0]) % 9 + 1), cells[place], count=1)
        table = "\n".join([header, ",".join(cells), *rest])
        text = text.replace(packed[1], base64.b64encode(gzip.compress(table.encode(), mtime=0)).decode())
    (tmp_path / "digits.html").write_text(text)
    shutil.copytree(digits_page.with_suffix(""), tmp_path / "digits")
    said = recomputed(tmp_path / "digits.html")
    assert said.code == 1 and set(re.findall(r"^WRONG figure (\w+)", said.text, re.M)) == FIGURES, said.text
