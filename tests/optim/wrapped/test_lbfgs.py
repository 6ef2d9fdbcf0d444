"""L-BFGS takes the steps of a plain loop bit for bit, and every evaluation of its closure is billed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.wrapped import wrap
from relaxbench.problems import SupervisedProblem
from relaxbench.space import Value
from relaxbench.training.engine import choose_engine
from relaxbench.training.memory import sizes_that_fit
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision
from relaxbench.training.trial import Checkpoint, Job, Outcome

BUDGET = 41
X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
DATA = (X, X[:, :3].argmax(1))
OPTIONS: dict[str, dict[str, Any]] = {
    "fixed step": {"max_iter": 6, "history_size": 4},
    "strong Wolfe": {"max_iter": 5, "history_size": 3, "line_search_fn": "strong_wolfe"},
    "one iteration": {"max_iter": 1, "history_size": 4},
}


def task(batch_size: int) -> SupervisedProblem:
    """A small network; with a batch of all examples its loss is deterministic."""
    return SupervisedProblem(
        "small",
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
        lambda: dict.fromkeys(("train", "validation", "test"), DATA),
        batch_size=batch_size,
        budget=BUDGET,
        rounds=4,
    )


def by_hand(problem: SupervisedProblem, seed: int, lr: float, dtype: torch.dtype, options: Mapping[str, Any]) -> Any:
    """The parameters after the last whole step of the loop that PyTorch's documentation has, and its evaluations."""
    sampler = problem.sampler([seed], [0], BUDGET + 1, torch.device("cpu"))
    params = {name: nn.Parameter(p.to(dtype)) for name, p in problem.unflatten(problem.init(seed)).items()}
    optimizer = torch.optim.LBFGS(list(params.values()), lr=lr, **options)
    evaluations, numbers, found = 0, list[int](), torch.empty(0)
    while evaluations < BUDGET:
        numbers.append(evaluations)
        batch = {name: value[0] for name, value in sampler.batch(torch.tensor([[evaluations]])).items()}

        def closure(batch: dict[str, Tensor] = batch) -> Tensor:
            nonlocal evaluations
            optimizer.zero_grad()
            loss = problem.loss.value(problem.outputs({**params}, batch, True), batch)
            torch.autograd.backward(loss)
            evaluations += 1
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        if evaluations <= BUDGET:
            found = torch.cat([p.detach().flatten() for p in params.values()]).clone()
    return found, numbers


def run(problem: SupervisedProblem, rule: Any, jobs: list[Job], size: int, precision: Precision) -> dict[int, Outcome]:
    queue, found = list(jobs), dict[int, Outcome]()

    def feed(free: int) -> list[Job]:
        taken, queue[:] = queue[:free], queue[free:]
        return taken

    population = Population(Oracle(problem, "direct", precision), rule(), BUDGET)
    population.run(feed, lambda outcomes: found.update({o.job.id: o for o in outcomes}), size)
    return found


def job(rule: Any, seed: int, lr: float, resume: Checkpoint | None = None) -> Job:
    values: dict[str, Value] = {**defaults(rule.wide), "lr": lr, "schedule": "constant"}
    values |= {name: place.default for name, place in rule.recipe.places.items() if name != "lr"}
    return Job(seed, seed, values, resume=resume)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize(("batch_size", "precision"), [(8, "float32"), (40, "float64")])
def test_a_member_goes_where_a_plain_loop_leads(kind: str, batch_size: int, precision: Precision) -> None:
    """Among others, refilled into two slots, and interrupted in the middle of a step."""
    problem, rule = task(batch_size), wrap("torch.optim.LBFGS", **OPTIONS[kind])
    jobs = [job(rule, seed, 0.2 + 0.2 * seed) for seed in range(3)]
    dtype = torch.float64 if precision == "float64" else torch.float32
    expected, _ = by_hand(problem, 1, jobs[1].params["lr"], dtype, OPTIONS[kind])  # type: ignore[arg-type]
    first = Population(Oracle(problem, "direct", precision), rule(), BUDGET)
    first.admit(jobs[:2])
    first.round()
    kept = first.checkpoints()[1]
    assert kind == "one iteration" or int(kept["state"]["asked"])
    for outcomes in (
        run(problem, rule, jobs, 3, precision),
        run(problem, rule, jobs[::-1], 2, precision),
        run(problem, rule, [jobs[2], job(rule, 1, jobs[1].params["lr"], kept)], 2, precision),  # type: ignore[arg-type]
    ):
        assert torch.equal(outcomes[1].weights, expected)
        assert outcomes[1].ledger.gradients == BUDGET and outcomes[1].ledger.examples == BUDGET * batch_size


def test_every_evaluation_of_a_step_is_on_its_mini_batch() -> None:
    problem, rule = task(8), wrap("torch.optim.LBFGS", **OPTIONS["strong Wolfe"])
    _, begun = by_hand(problem, 1, 0.4, torch.float32, OPTIONS["strong Wolfe"])
    population = Population(Oracle(problem, "direct"), rule(), BUDGET)
    population.admit([job(rule, 1, 0.4)])
    asked: list[int] = []
    update = population.rule.update

    def watched(state: Any, *answers: Any) -> Any:
        asked.append(int(state["begun"]))
        return update(state, *answers)

    population.rule.update = watched  # type: ignore[method-assign,assignment]
    for _ in range(3):
        population.round()
    known = [number for number in begun if number < len(asked)]
    assert list(dict.fromkeys(asked)) == known and len(known) < len(asked) / 2


def test_a_gradient_that_is_not_finite_ends_the_trial_as_diverged() -> None:
    rule = wrap("torch.optim.LBFGS", **OPTIONS["fixed step"])
    outcomes = run(task(8), rule, [job(rule, 1, 1e30), job(rule, 2, 0.4)], 2, "float32")
    assert outcomes[1].diverged and not outcomes[2].diverged


OWN = """
import torch


class Counts(torch.optim.LBFGS):
    count = 0

    def step(self, closure):
        self.count += 1
        Counts.count += 1
        for p in self.param_groups[0]["params"]:
            p.data.mul_(1 - 0.01 * Counts.count)
        return super().step(closure)


class Noisy(torch.optim.LBFGS):
    def step(self, closure):
        for p in self.param_groups[0]["params"]:
            p.data.add_(0.0 * torch.rand(()))
        return super().step(closure)
"""


@pytest.mark.parametrize(
    ("name", "told"), [("Counts", "keeps more than PyTorch's L-BFGS"), ("Noisy", "draws from a global generator")]
)
def test_a_class_derived_from_it_must_keep_to_its_state(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(UserError) as error:
        wrap(f"{tmp_path}/own.py:{name}")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_its_memory_is_declared_and_bounds_the_population(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, rule = task(8), wrap("torch.optim.LBFGS", history_size=50)()
    rule.bind([shape for _, shape in problem.layout()])
    state = rule.init(torch.zeros(1, problem.size), torch.zeros(1, 1, dtype=torch.int64))
    bytes_of_state = sum(value.nbytes for value in state.values())
    assert bytes_of_state / (4 * problem.size) + 1 <= rule.copies <= bytes_of_state / (4 * problem.size) + 4
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20})())
    device = torch.device("cpu")
    wide, narrow = (sizes_that_fit(problem, range(1, 300), device, rules=rules) for rules in ((), (rule,)))
    assert max(narrow) < max(wide) / 3
    assert choose_engine(problem, device, None, rules=(rule,)).population <= max(narrow)
