"""Our populations beside other ways, by processor time: the same mathematics in JAX, and figures of known rates."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

from relaxbench.bench import busy, compiled, contenders, jax_population
from relaxbench.bench.cpu_time import OurPopulation, cpu_rate
from relaxbench.bench.population_tables import busy_tables, compiled_tables, contender_tables
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp
from relaxbench.training import compilation
from relaxbench.training.compiled import UnfitError
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job

CPU = torch.device("cpu")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recording by plain operations, which cost about as much as what was recorded."""
    monkeypatch.setattr(compilation, "_compile", lambda graph, arguments: lambda tensors: graph(*tensors))


class Fixed:
    """A contender with a fixed rate, in place of all classes."""

    seconds = 7.0

    def __init__(self, rate: float) -> None:
        self.known = rate

    def rate(self, seconds: float) -> float:
        return self.known


@pytest.mark.parametrize("name", jax_population.RULES)
def test_jax_takes_our_steps(name: str) -> None:
    """From the same weights, with the same mini-batches and without noise, over several outer steps."""
    jax = pytest.importorskip("jax", reason=f"needs {jax_population.INSTALL}")
    task, size, steps = digits_mlp(), 2, 45
    params = {**defaults(RULES[name].wide), **({"temperature": 0.0} if name != "sgd" else {})}
    ours = Population(Oracle(task), RULES[name](), jax_population.TOTAL)
    ours.admit([Job(i, i, params) for i in range(size)])
    start = jax_population.named(task, ours.rule.iterate(ours.state))
    sampler: Any = task.sampler(range(size), [0] * size, steps, CPU)
    rows = torch.stack([sampler.rows(torch.full((size, 1), step)) for step in range(steps)], dim=1)
    ours.advance(steps)
    x, y = (value.numpy() for value in task.tensors["train"])
    state = jax_population.initial(name, start, np.zeros(size, np.int32))
    hyper = {n: np.full(size, v, np.float32) for n, v in params.items() if not isinstance(v, str)}

    def follow(*one: Any) -> Any:
        return jax_population.follow(*one, rule=name, x=x, y=y)

    end = jax.vmap(follow)(state, rows.numpy(), jax.random.split(jax.random.key(0), size), hyper)
    for part, expected in jax_population.named(task, ours.rule.iterate(ours.state)).items():
        found, moved = np.array(end["x"][part]), np.linalg.norm(expected - start[part])
        assert moved > 0.1 and np.linalg.norm(found - expected) < 1e-3 * moved


def test_a_jax_population_draws_every_example_at_most_once_per_epoch_and_goes_on(monkeypatch: Any) -> None:
    pytest.importorskip("jax", reason=f"needs {jax_population.INSTALL}")
    seen: list[Any] = []

    def follow(state: Any, rows: Any, *_: Any, **__: Any) -> Any:
        return {**state, "x": {"rows": rows}, "t": state["t"] + len(rows)}

    monkeypatch.setattr(jax_population, "follow", follow)
    flight = jax_population.JaxPopulation(digits_mlp(), "sgd", 2, defaults(RULES["sgd"].wide))
    for _ in range(2):
        assert flight.call() == 2 * jax_population.STEPS
        seen.append(torch.tensor(flight.state["x"]["rows"].tolist()))
    assert seen[0].shape == (2, 64, 64) and int(seen[0].max()) < 1078
    for member in (0, 1):
        epoch = seen[0][member, :16].flatten()
        assert len(set(epoch.tolist())) == 16 * 64
    assert not torch.equal(seen[0][0], seen[0][1]) and not torch.equal(seen[0], seen[1])


def test_a_thread_that_begins_for_xla_has_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    usual = os.sched_getaffinity(0)
    with jax_population.one_core():
        assert len(os.sched_getaffinity(0)) == 1 and "xla_dump_to= --xla_cpu" in os.environ["XLA_FLAGS"]
    assert os.sched_getaffinity(0) == usual


def test_without_jax_or_a_compiler_the_rest_is_measured_and_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contenders, "why_missing", lambda: f"JAX is not installed: {jax_population.INSTALL}")
    monkeypatch.setattr(contenders, "why_not_here", lambda device: "no C++ compiler (g++) is found")
    monkeypatch.setattr(contenders, "OurPopulation", lambda *_: Fixed(300.0))
    monkeypatch.setattr(contenders, "LoaderLoop", lambda: Fixed(10.0))
    found = contenders.measure(CPU, True, lambda what: None)
    assert [[*case["rates"]] for case in found["cases"]] == [["vectorized", "loader"], ["vectorized"]]
    assert found["cases"][0]["against"]["loader"]["ratio"] == 30
    absent, table, _ = contender_tables(found)
    assert [row[0] for row in absent.rows] == [
        "not measured: no C++ compiler (g++) is found",
        "not measured: JAX is not installed: pip install 'relaxbench[bench]'",
    ]
    assert table.title.startswith("sgd on digits-mlp, 32 members")
    assert table.rows[1] == ("PyTorch, DataLoader", "10.0", "30.00 ×", "", "≥ 20.00 × ✓")
    assert "not on cuda" in contender_tables(contenders.measure(torch.device("cuda"), True, print))[0].rows[0][0]
    monkeypatch.setattr(compiled, "why_not_here", lambda device: "no C++ compiler (g++) is found")
    assert compiled_tables(compiled.measure(CPU, True, print))[0].rows[0][0].startswith("not measured: no C++")


def test_all_ways_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {False: 100.0, True: 400.0}
    monkeypatch.setattr(contenders, "why_missing", lambda: None)
    monkeypatch.setattr(contenders, "why_not_here", lambda device: None)
    monkeypatch.setattr(contenders, "OurPopulation", lambda *known: Fixed(rates[known[-1]]))
    monkeypatch.setattr(contenders, "JaxPopulation", lambda *_: Fixed(500.0))
    monkeypatch.setattr(contenders, "LoaderLoop", lambda: Fixed(10.0))
    found = contenders.measure(CPU, False, lambda what: None)
    assert [(case["rule"], case["size"]) for case in found["cases"]] == [*contenders.CASES]
    against = found["cases"][0]["against"]
    assert {way: row["ratio"] for way, row in against.items()} == {"vectorized": 4, "jax": 0.8, "loader": 40}
    assert {len(rounds) for rounds in found["cases"][0]["rates"].values()} == {contenders.ROUNDS}


def test_rules_are_compared_with_sgd_and_those_without_a_compiled_step_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def population(problem: Any, name: str, size: int, is_compiled: bool) -> Fixed:
        if name == "entropy-sgd":
            raise UnfitError("it reads numbers")
        return Fixed(900.0 if is_compiled else 300.0)

    monkeypatch.setattr(compiled, "why_not_here", lambda device: None)
    monkeypatch.setattr(compiled, "OurPopulation", population)
    found = compiled.measure(CPU, True, lambda what: None)
    rows = compiled_tables(found)[0].rows
    assert rows[0] == ("sgd", "900", "3.00 ×", "1.00 ×", "", "≥ 0.60 × ✓", "7 s")
    assert rows[1][0] == "entropy-sgd: no compiled step, it reads numbers"


def test_rates_are_of_processor_time(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by one second per reading: two readings frame each piece of work."""
    clock = iter(range(100))
    monkeypatch.setattr("relaxbench.bench.cpu_time.time.process_time", lambda: float(next(clock)))
    assert cpu_rate(lambda: 8.0, 2.5) == pytest.approx(3 * 8 / 4)
    for is_compiled in (False, True):
        ours = OurPopulation(digits_mlp(), "sgd", 2, is_compiled)
        before = ours.population.slots[0].ledger.gradients
        assert ours.rate(0.5) == 2 * 64 / 2 and ours.population.slots[0].ledger.gradients == before + 64


def test_a_busy_machine_is_busy_only_within_its_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []

    class Popen:
        def __init__(self, command: list[str]) -> None:
            compile(command[-1], "busy", "exec")
            running.append(1)

        def send_signal(self, number: int) -> None:
            running.pop()

        def wait(self) -> None:
            pass

    monkeypatch.setattr(busy.subprocess, "Popen", Popen)
    monkeypatch.setattr(busy, "cores", lambda: 3)
    monkeypatch.setattr(busy, "why_not_here", lambda device: None)
    rates = {0: 120.0, 3: 100.0}
    monkeypatch.setattr(
        busy, "OurPopulation", lambda *_: type("One", (), {"rate": lambda self, s: rates[len(running)]})()
    )
    found = busy.measure(CPU, True, lambda what: None)
    assert not running and found["processes"] == 3 and [*found["paths"]] == ["vectorized", "compiled"]
    row = found["paths"]["compiled"]
    assert row["ratio"] == pytest.approx(1.2) and row["rates"] == {"idle": [120.0] * 3, "busy": [100.0] * 3}
    assert busy_tables(found)[0].rows[0] == ("vectorized", "120", "100", "1.20 ×", "", "≤ 1.30 × ✓")
