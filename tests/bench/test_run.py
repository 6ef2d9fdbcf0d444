"""The command `bench`: its refusals, its output, and equal numbers in terminal, page and file."""

from __future__ import annotations

import html
import io
import json
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from relaxbench.bench import (
    allcnn,
    alone,
    busy,
    compiled,
    contenders,
    ledger,
    memory,
    plan,
    population,
    process_pool,
    residual,
    run,
    steps,
    trials,
)
from relaxbench.bench.page import render
from relaxbench.bench.table import Table, met
from relaxbench.bench.tables import TABLES, step_tables
from relaxbench.cli.console import console
from relaxbench.cli.main import main
from relaxbench.optim.registry import RULES
from relaxbench.training import compilation, engine
from relaxbench.util import files
from tests import browser
from tests.barriers import barriers
from tests.browser import Visit


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 300)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measurement fails the test."""
    for module in PARTS:
        monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("it was measured first"))


PARTS = (population, contenders, compiled, busy, residual, alone, trials, steps, allcnn, memory, ledger, plan)
RATIO = {"ratio": 1.5, "low": 1.25, "high": 1.75}


def figures() -> dict[str, Any]:
    """Figures of every part, as its `measure` returns them."""
    rates = {"ours": [30.0, 31.0], "memory": [20.0, 20.0], "loader": [10.0, 10.0]}
    engine = {"path": "direct", "population": 1, "note": "<the direct path is faster>"}
    against = {
        "memory": RATIO | {"target": 0.95},
        "loader": RATIO | {"workers": 0, "target": None},
        "processes": {"processes": 2, "threads": 1, "target": None, "reason": "a process of 2 ended"},
    }
    used = {"seconds_per_epoch": 321.0, "flops_per_second": 9e10, "fraction": RATIO}
    return {
        "population": {
            "size": 32,
            "methods": {"sgd": {"member_steps": 5e4, "plain_steps": 1e4, "ratio": 5.0, "median_ratio": 4.5}},
        },
        "contenders": {
            "missing": {"jax": "JAX is not installed"},
            "cases": [
                {
                    "rule": "sgd", "size": 32, "ours": "vectorized", "rates": {"vectorized": [2e4], "loader": [1e3]},
                    "against": {"loader": RATIO | {"target": 20.0}},
                }
            ],
        },
        "compiled": {
            "size": 32,
            "rules": {
                "heat": {
                    "rates": {"compiled": [3e4]}, "vectorized": RATIO, "sgd": RATIO | {"target": 0.6}, "seconds": 9.0,
                },
                "lbfgs": {"reason": "<it reads numbers>"},
            },
        },
        "busy": {
            "processes": 2, "load": 0.4,
            "paths": {"vectorized": RATIO | {"rates": {"idle": [2e4], "busy": [1e4]}, "target": 1.3}},
        },
        "residual": {
            "pinn-poisson2d-small": {
                "size": 32, "rates": {"plain": [6e2, 6e2], "vectorized": [4e3, 4e3], "compiled": [9e3, 9e3]},
                "against": {"vectorized": RATIO | {"target": 3.0}, "compiled": RATIO | {"target": None}},
            },
        },
        "alone": {"sgd": RATIO | {"target": None}, "heat": RATIO | {"target": 1.1}},
        "trials": {
            "lenet": {"engine": engine, "batch_size": 128, "budget": 39_000, "rates": rates, "against": against},
            "mnistfc": {"missing": "MNIST is not in 'nowhere'"},
        },
        "steps": {"heat": RATIO | {"gradients": 1.0, "target": None}, "hj": RATIO | {"gradients": 1.0, "target": 1.05}},
        "allcnn": {
            "batch_size": 128, "steps_per_epoch": 351, "flops_per_step": 23e10, "side": 2048, "arithmetic": "float32",
            "rates": {"ours": [0.4, 0.4], "plain": [0.4, 0.4], "product": [1e11] * 2, "convolution": [2e11] * 2},
            "peak": 2e11, "against": RATIO, "ways": {"ours": used, "plain": used},
        },
        "memory": {
            "lenet": {
                "sizes": [2, 6], "parameters": 131_220, "batch_size": 128,
                "rules": {"sgd": {"copies": 3, "stated": 1.2e7, "measured": 2.4e7}},
            }
        },
        "ledger": {
            "within": 0.05, "flops_of_a_gradient": {"profiler": 1.0, "flop_counter": 1.0},
            "rules": {"sgd": {"billed": 1.0, "profiler": 1.0, "flop_counter": 1.06, "own": {"profiler": 0.0}}},
        },
        "plan": {
            "within": 1.5,
            "problems": {
                "digits-mlp": {"planned": 20.0, "taken": 29.0, "budget": 600},
                "rugged-1d": {"planned": 20.0, "taken": 13.0, "budget": 400},
            },
        },
    }  # fmt: skip


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found = figures()
    for module in PARTS:
        part = module.__name__.rsplit(".", 1)[-1]
        monkeypatch.setattr(module, "measure", lambda *_, part=part: found[part])
    return found


class Tables(HTMLParser):
    """The text of every row of every table of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append("".join(self.cell))
            self.cell = None

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)


def test_terminal_page_and_file_say_the_same(known: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    assert main(["bench", "--json", "out/figures.json", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    written = json.loads(Path("out/figures.json").read_text())
    assert {part: written[part] for part in TABLES} == known
    text = Path("reports/bench.html").read_text()
    assert json.loads(html.unescape(text.split('<pre id="figures">')[1].split("</pre>")[0])) == written
    parsed = Tables()
    parsed.feed(text)
    shown = [table for part, (_, tables) in TABLES.items() for table in tables(written[part])]
    assert parsed.rows == [list(row) for table in shown for row in (table.columns, *table.rows)]
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for table in shown:
        rows = [lines.index(" ".join(" ".join(row).split())) for row in table.rows]
        heading = " ".join(lines[lines.index(table.title) + 1 : rows[0]])
        assert sorted(heading.split()) == sorted(" ".join(table.columns).split())
    for words in (
        written["about"]["version"],
        written["machine"]["torch"],
        written["about"]["date"][:10],
        "this machine only",
    ):
        assert words in text
    assert "Page: reports/bench.html" in out and "Figures: out/figures.json" in out
    assert "<the direct" not in text  # text is text, whatever it holds


def test_the_page_is_drawn_in_a_browser_in_light_and_dark_and_on_a_phone(known: dict[str, Any], visit: Visit) -> None:
    assert main(["bench", "--device", "cpu"]) == 0
    schemes: tuple[tuple[int, browser.Scheme], ...] = ((1200, "light"), (390, "dark"))
    for width, scheme in schemes:
        page = visit.open(Path("reports/bench.html"), width, scheme=scheme)
        assert page.locator(".canvas").count() == 4 and browser.undrawn(page) == []
        assert browser.wide(page) <= 0 and barriers(page) == []
        assert "a process of 2 ended" in page.locator("body").inner_text()


def test_parts_are_chosen_and_files_are_whole_after_every_part(
    known: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "measure", interrupted)
    chosen = ["--only", "memory", "--only", "steps"]
    assert main(["bench", *chosen, "--json", "x.json", "--no-report", "--quick"]) == 130
    written = json.loads(Path("x.json").read_text())
    assert set(written) == {"machine", "about", "steps"} and written["about"]["quick"]
    assert [path.name for path in Path().iterdir()] == ["x.json"]
    assert "A quick run." in render(written)


@pytest.mark.parametrize("file", [".", "file/x.json"])
@pytest.mark.parametrize("option", ["--json", "--report"])
@pytest.mark.usefixtures("nothing")
def test_an_unwritable_file_is_refused_before_anything_is_measured(
    option: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    if option == "--report" and file == ".":
        Path("bench.html").mkdir()
    assert main(["bench", option, file]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and option in error
    assert sorted(path.name for path in Path().iterdir() if path.name != "reports") == (
        ["bench.html", "file"] if option == "--report" and file == "." else ["file"]
    )


@pytest.mark.usefixtures("nothing")
def test_without_a_compiler_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["bench", "--compile", "--device", "cpu"]) == 2
    assert "no C++ compiler" in capsys.readouterr().err


def test_a_full_disk_is_reported_in_one_line(
    known: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "write", full)
    assert main(["bench", "--only", "steps", "--json", "x.json"]) == 2
    assert "cannot write the figures to 'x.json': No space left on device" in capsys.readouterr().err


def test_ratios_follow_from_rates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a known clock, 5 times the speed of the loop is reported as 5.00, and half the speed of a step as 2.00."""
    monkeypatch.setattr(population, "plain_steps_per_second", lambda *arguments: 1000.0)
    monkeypatch.setattr(population, "throughput", lambda *arguments, **options: 5000.0)
    monkeypatch.setattr(steps, "_training", lambda device, method, compiled: (lambda: None, 5, 1.0))
    monkeypatch.setattr(steps, "_time_pairs", lambda *arguments: ([0, 1], [1.5, 2.5]))
    assert main(["bench", "--only", "population", "--only", "steps", "--json", "x.json", "--no-report"]) == 0
    out, found = capsys.readouterr().out, json.loads(Path("x.json").read_text())
    assert list(found["population"]["methods"]) == list(RULES) and set(found["steps"]) == set(steps.NAMES)
    for name in RULES:
        assert found["population"]["methods"][name]["ratio"] == 5
    for name in steps.NAMES:
        assert found["steps"][name]["ratio"] == 2
    assert "5.00 ×" in out
    lines = {line.split("  ")[0]: line.rstrip() for line in out.splitlines() if "2.00 ×" in line}
    assert lines["entropy-sgd"].endswith("≤ 1.05 × ✗") and lines["curveball"].endswith("≤ 3.00 × ✓")
    assert lines["adamw"].endswith("2.00 ×")


@pytest.mark.parametrize(
    ("low", "high", "at_most", "at_least"),
    [(1.0, 1.05, "✓", "undecided"), (1.04, 1.06, "undecided", "undecided"), (1.06, 1.2, "✗", "✓"), (0.9, 1, "✓", "✗")],
)
def test_a_target_is_met_only_if_the_whole_interval_meets_it(
    low: float, high: float, at_most: str, at_least: str
) -> None:
    row = {"ratio": (low + high) / 2, "low": low, "high": high, "gradients": 1.0, "target": 1.05}
    assert met(row) == at_most and met(row, at_least=True) == at_least
    assert met(row | {"target": None}) == ""
    assert step_tables({"heat": row})[0].rows[0][-1] == f"≤ 1.05 × {at_most}"


def interpret(graph: torch.fx.GraphModule, arguments: object) -> Any:
    return lambda tensors: graph(*tensors)


def test_a_quick_run_of_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Only sizes are replaced; the numbers are not checked."""
    for module, name, value in (
        (trials, "QUICK", (2, 0.01)), (steps, "QUICK_PAIRS", 1), (steps, "QUICK_LEAST", 1), (steps, "BATCH", 4),
        (allcnn, "QUICK_BATCH", 1), (allcnn, "SIDE", {"cpu": 64}), (allcnn, "SECONDS", 0.0),
        (residual, "QUICK", (1, 0.01)), (busy, "QUICK", (1, 0.0)), (compiled, "QUICK", (("sgd",), 1, 0.0)),
        (contenders, "QUICK", ((("sgd", 2),), 1, 0.0)), (compilation, "_compile", interpret),
        (memory, "QUICK", {"lenet": ("sgd",)}), (process_pool, "cores", lambda: 1),
        (plan, "QUICK", ()), (ledger, "DEPTH", 2), (ledger, "RULES", {"sgd": RULES["sgd"]}),
        (engine, "CANDIDATES", (8, 16)), (engine, "throughput", partial(engine.throughput, seconds=0.0)),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    assert main(["bench", "--quick", "--device", "cpu", "--json", "x.json"]) == 0
    out, found = capsys.readouterr().out, json.loads(Path("x.json").read_text())
    assert set(TABLES) < set(found) and Path("reports/bench.html").stat().st_size > 5e5
    assert re.search(r"^measuring lenet: settings of a DataLoader$", out, re.MULTILINE)
    assert found["trials"]["digits-mlp"]["against"]["processes"]["processes"] == 1
    assert found["about"]["cores"] == run.cores()


def test_costs_alone_are_ratios_to_sgd_with_the_spread_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def calibrate(problem: object, rules: list[Any], *_: object, **__: object) -> list[dict[str, float]]:
        seconds = {"sgd": 2.0, "entropy-sgd": 2.4}
        return [
            {"seconds_per_gradient": seconds.get(r.name, 3.0), "seconds_spread": 0.03, "peak_bytes": 1} for r in rules
        ]

    monkeypatch.setattr(alone, "calibrate", calibrate)
    found = alone.measure(torch.device("cpu"), False, lambda text: None)
    assert list(found) == [*RULES, "sgd again"]
    assert found["sgd"] == {"ratio": 1.0, "low": 1.0, "high": 1.0, "target": None}
    spread = 0.03 * 2**0.5
    expected = {"ratio": 1.2, "low": 1.2 * (1 - spread), "high": 1.2 * (1 + spread), "target": 1.25}
    assert found["entropy-sgd"] == pytest.approx(expected)
    assert found["sgd again"]["ratio"] == 1 and found["sgd again"]["high"] == pytest.approx(1 + spread)


def test_a_narrow_terminal_shows_the_names_of_all_rows_whole() -> None:
    numbers = ("billed", "profiler", "ratio", "FLOP counter", "ratio", "own products", "within 5\N{NO-BREAK SPACE}%")
    rows = tuple((name, "34.67", "34.55", "0.997", "33.79", "0.975", "0", "✓") for name in RULES)
    printed = io.StringIO()
    for part in Table("ledger", ("method", *numbers), rows, "").printed():
        Console(width=80, file=printed, color_system=None).print(part)
    lines = printed.getvalue().splitlines()
    assert [line.split()[0] for line in lines if line.endswith("✓")] == list(RULES)
