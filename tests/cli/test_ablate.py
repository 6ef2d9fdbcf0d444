"""`ablate`: the study file that it makes, its run with the options of `study`, and what it refuses."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import pytest

from relaxbench.analysis.frames import load_study
from relaxbench.cli.ablate import ablate
from relaxbench.cli.study import study
from relaxbench.study.definition.files import load
from tests.cli.commands import STUDY, nothing_written, printed, refused
from tests.study import tiny

pytestmark = pytest.mark.usefixtures("folder")

MINE = f"""
margin = "10 %"
{STUDY.replace("rosenbrock", "rugged-1d").replace('"sgd", "heat"', '"sgd", "sgd-ema", "my heat"')}
[space]
lr = [0.01, 0.1]
momentum = [0.0, 0.9]
ema_steps = [5.0, 50.0]

[search]
sampler = "random"

[method."my heat"]
rule = "heat"
title = "Mine"
space = {{ sigma_start = [0.1, 1.0] }}
"""


def test_the_printed_file_is_a_study_like_the_one_that_it_is_made_from(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(MINE)
    with nothing_written():
        text = printed(capsys, "ablate", "my heat", "mine.toml", "--print")
    values = tomllib.loads(text)
    assert values["ablation"] == {"methods": ["my heat"], "parts": ["scoping", "noise", "momentum", "inner-steps"]}
    assert values["space"] == {"lr": [0.01, 0.1], "momentum": [0.0, 0.9]}  # no method has the other range
    Path("made.toml").write_text(text)
    made, _ = load(Path("made.toml"))
    given, _ = load(Path("mine.toml"))
    assert made.methods[0] == made.baseline == "my heat" and len(made.methods) == 5
    for key in ("problems", "looks", "trials", "exploit", "recommend", "budget", "margin", "flatness"):
        assert getattr(made, key) == getattr(given, key)
    assert made.method["my heat"] == given.method["my heat"]
    assert made.title_of("my heat-no-noise") == "Mine without noise"
    assert made.name == "tiny-parts-of-my heat"


def test_without_a_file_it_is_the_default_study(capsys: pytest.CaptureFixture[str]) -> None:
    values = tomllib.loads(printed(capsys, "ablate", "entropy-sgd", "--print", "--part", "noise"))
    assert values["problems"] == ["digits-mlp"] and values["looks"] == [10, 20, 40] and values["trials"] == 12
    assert values["ablation"] == {"methods": ["entropy-sgd"], "parts": ["noise"]}


def test_it_runs_what_it_has_written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.set_engine(monkeypatch)
    Path("mine.toml").write_text(STUDY.replace("rosenbrock", "rugged-1d"))
    asked = ("ablate", "heat", "mine.toml", "--part", "noise", "--part", "momentum", "--population", "16")
    out = printed(capsys, *asked)
    assert "Study file: tiny-parts-of-heat.toml" in out
    frames = load_study("relaxbench.db")
    assert frames.methods == ["heat", "heat-no-noise", "heat-no-momentum"] and frames.baseline == "heat"
    assert set(frames.trials["status"]) == {"done"}
    assert {p["momentum"] for p in frames.trials.loc[frames.trials["method"] == "heat-no-momentum", "params"]} == {0.0}
    assert "Heat equation without noise against Heat equation on rugged-1d: " in " ".join(out.split())
    page = Path("reports/tiny-parts-of-heat.html").read_text()
    assert "What is each part of Heat equation worth?" in page
    assert "nothing was run" in printed(capsys, *asked, "--no-report")  # the same command goes on
    assert "nothing was run" in printed(capsys, "study", "tiny-parts-of-heat.toml", "--no-report")
    Path("tiny-parts-of-heat.toml").write_text("# mine now\n")
    assert "'tiny-parts-of-heat.toml' is here already and says something else" in refused(capsys, *asked)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sgd",), "method 'sgd' has no parts that could be left out"),
        (("entropy-sdg",), "did you mean 'entropy-sgd'?"),
        (("heat", "--part", "nois"), "did you mean 'noise'?"),
        (("heat", "nope.toml"), "study file 'nope.toml' does not exist"),
        (("heat", "studies/own-loop.toml"), "the parts of a training script are not known"),
        (("hj-published",), "is run as published"),
        (("heat", "--population", "0"), "--population 0"),  # of `study`, after the file was written
    ],
)
def test_what_cannot_be_taken_apart_leaves_nothing_behind(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, "ablate", *arguments)


def test_it_has_the_options_of_study() -> None:
    own, theirs = (set(inspect.signature(command).parameters) for command in (ablate, study))
    assert own - theirs == {"part", "show"} and theirs <= own
