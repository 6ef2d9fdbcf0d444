"""L-BFGS against PyTorch's, query by query; members in phases of their own; where it stops, and what it refuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from relaxbench.optim.rule import State
from relaxbench.optim.rules.adam_lbfgs import AdamLBFGS
from relaxbench.optim.rules.lbfgs import LBFGS
from relaxbench.problems import problem
from relaxbench.problems.digits import digits_mlp
from relaxbench.training.method_fit import has_one_batch, why_unfit
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

Function = Callable[[Tensor], Tensor]
DRAWS = torch.Generator().manual_seed(0)
INPUTS = torch.randn(30, 3, generator=DRAWS, dtype=torch.float64)
BASIS = torch.linalg.qr(torch.randn(12, 12, generator=DRAWS, dtype=torch.float64))[0]
A = BASIS @ torch.diag(torch.logspace(-2, 2, 12, dtype=torch.float64)) @ BASIS.T
WEIGHTS = 0.5 * torch.randn(51, generator=DRAWS, dtype=torch.float64)


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * x @ A @ x


def rosenbrock(x: Tensor) -> Tensor:
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def network(x: Tensor) -> Tensor:
    hidden = torch.tanh(INPUTS @ x[:30].view(10, 3).T + x[30:40])
    return (hidden @ x[40:50] + x[50] - torch.sin(1.5 * INPUTS.sum(1))).square().mean()


def flat_valley(x: Tensor) -> Tensor:
    """Lengthens its first steps: the slope is tiny far away."""
    return torch.log1p(1e-6 * (x - 3).square()).sum()


CASES: dict[str, tuple[Function, Tensor]] = {
    "quadratic": (quadratic, torch.linspace(-1, 1, 12, dtype=torch.float64)),
    "rosenbrock": (rosenbrock, torch.tensor([-1.2, 1.0], dtype=torch.float64)),
    "chained": (rosenbrock, torch.linspace(-0.3, -0.2, 10, dtype=torch.float64)),
    "network": (network, WEIGHTS),
    "flat": (flat_valley, torch.tensor([-500.0, 200.0], dtype=torch.float64)),
}


def pytorch(f: Function, start: Tensor, iterations: int, history: int = 50) -> tuple[list[Tensor], Tensor]:
    """The points at which one step of PyTorch's class evaluates the closure, and its iterate after some iterations."""
    x, points = start.clone().requires_grad_(), list[Tensor]()
    optimizer = torch.optim.LBFGS([x], 1, iterations, 1000, 0, 0, history_size=history, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = f(x)
        torch.autograd.backward(loss)
        points.append(x.detach().clone())
        return loss

    optimizer.step(closure)
    return points, x.detach()


def evaluate(f: Function, points: Tensor) -> tuple[Tensor, Tensor]:
    grads, losses = [], []
    for point in points:
        x = point.clone().requires_grad_()
        loss = f(x)
        (grad,) = torch.autograd.grad(loss, x)
        grads.append(grad)
        losses.append(loss.detach())
    return torch.stack(grads), torch.stack(losses)[:, None]


def run(rule: LBFGS, f: Function, starts: Tensor, queries: int, decay: float = 0.0) -> tuple[Tensor, Tensor, State]:
    """All queries ``[queries, K, P]`` and the iterates after them."""
    state = rule.init(starts, torch.zeros(len(starts), 1, dtype=torch.int64))
    hyper = {
        "newton_lr": torch.ones(len(starts), 1, dtype=starts.dtype),
        "weight_decay": torch.full((len(starts), 1), decay, dtype=starts.dtype),
    }
    points, iterates = [], []
    for _ in range(queries):
        points.append(rule.query(state, hyper).points.clone())
        rule.update(state, *evaluate(f, points[-1]), hyper)
        iterates.append(rule.iterate(state).clone())
    return torch.stack(points), torch.stack(iterates), state


@pytest.mark.parametrize("history", [50, 5])
@pytest.mark.parametrize("name", CASES)
def test_queries_are_the_evaluations_of_pytorch(name: str, history: int) -> None:
    """One by one to 1e-9, so that the numbers of evaluations of all line searches are equal, too."""
    f, start = CASES[name]
    theirs = torch.stack(pytorch(f, start, 25, history)[0])[:40]
    ours, _, _ = run(LBFGS(history), f, start[None], len(theirs))
    assert len(theirs) >= (25 if name != "flat" else 12)
    assert float((ours[:, 0] - theirs).abs().max()) <= 1e-9 * max(1.0, float(theirs.abs().max()))


def test_the_iterate_is_that_of_complete_line_searches() -> None:
    f, start = CASES["rosenbrock"]
    _, ours, _ = run(LBFGS(), f, start[None], 30)
    distinct = [a for a, b in itertools.pairwise(ours[:, 0]) if not torch.equal(a, b)]
    assert torch.equal(distinct[0], start) and 10 <= len(distinct) < 28
    for iterations in (1, 2, 5, 9):
        assert torch.allclose(distinct[iterations], pytorch(f, start, iterations)[1], rtol=0, atol=1e-9)


def test_members_in_different_phases_are_what_they_are_alone() -> None:
    starts = torch.tensor([[-1.2, 1.0], [0.0, 0.0], [2.0, -3.0], [1.0, 1.0], [-1.2, 1.0]])
    together, iterates, state = run(LBFGS(4), rosenbrock, starts, 40)
    moves = (iterates[1:] != iterates[:-1]).any(dim=2)
    assert bool((moves[:, 0] != moves[:, 2]).any()), "their searches end at different times"
    for k, start in enumerate(starts):
        alone, alone_iterates, alone_state = run(LBFGS(4), rosenbrock, start[None], 40)
        assert torch.equal(alone[:, 0], together[:, k]) and torch.equal(alone_iterates[:, 0], iterates[:, k])
        assert all(torch.equal(value[0], state[key][k]) for key, value in alone_state.items())
    assert torch.equal(together[:, 0], together[:, 4])
    assert torch.equal(iterates[-1, 3], starts[3]), "a minimum stays where it is"


def test_weight_decay_is_that_of_the_loss() -> None:
    def decayed(x: Tensor) -> Tensor:
        return network(x) + 0.005 * x.square().sum()

    ours, _, _ = run(LBFGS(), network, WEIGHTS[None], 30, decay=0.01)
    theirs, _, _ = run(LBFGS(), decayed, WEIGHTS[None], 30)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


def test_a_search_comes_back_from_a_loss_that_is_not_finite() -> None:
    def walled(x: Tensor) -> Tensor:
        smooth = (torch.tensor([1.0, 30.0]) * (x - 0.9).square()).sum()
        return smooth + (torch.inf if bool((x > 1).any()) else 0.0)

    points, iterates, _ = run(LBFGS(), walled, torch.tensor([[-40.0, 0.7]], dtype=torch.float64), 60)
    assert bool((points > 1).any()), "it has looked behind the wall"
    assert float((iterates[-1] - 0.9).abs().max()) < 1e-6


def test_an_iterate_at_which_the_loss_is_lost_shows_it() -> None:
    _, iterates, _ = run(LBFGS(), lambda x: (x * math.nan).sum(), torch.ones(1, 3), 2)
    assert bool(iterates.isnan().all())


@pytest.mark.parametrize("name", ["digits-mlp", "rosenbrock-noisy"])
@pytest.mark.parametrize("rule", [LBFGS, AdamLBFGS])
def test_mini_batches_that_change_are_refused_in_one_line(name: str, rule: type[LBFGS]) -> None:
    reason = why_unfit(problem(name), rule())
    assert reason and "compares losses of different steps" in reason and "\n" not in reason


def test_problems_with_one_mini_batch_are_taken() -> None:
    assert has_one_batch(problem("linear-net")) and not has_one_batch(digits_mlp(dropout=0.3))
    assert why_unfit(problem("rosenbrock"), LBFGS()) is None


def train(rule: LBFGS, budget: int, stop: int | None = None) -> tuple[Outcome, Population]:
    """A trial on the linear network; checkpointed and continued in another population after `stop` rounds."""
    task, done = problem("linear-net"), list[Outcome]()
    params: dict[str, float | str] = {"newton_lr": 1.0, "weight_decay": 0.0}
    if isinstance(rule, AdamLBFGS):
        params |= {"adam_lr": 0.05, "beta1": 0.9, "beta2": 0.999, "switch": 0.3}
    jobs = [Job(0, 3, dict(params))]
    population = Population(Oracle(task, "vectorized", "float64"), rule, budget)
    left = [stop]

    def go_on(_: Population) -> bool:
        left[0] = None if left[0] is None else left[0] - 1
        return left[0] is None or left[0] > 0

    population.run(lambda free: [jobs.pop() for _ in range(min(free, len(jobs)))], done.extend, 1, go_on)
    if stop is not None:
        jobs.append(Job(0, 3, dict(params), resume=population.checkpoints()[0]))
        population = Population(Oracle(task, "vectorized", "float64"), rule, budget)
        population.run(lambda free: [jobs.pop() for _ in range(min(free, len(jobs)))], done.extend, 1)
    return done[0], population


@pytest.mark.parametrize("rule", [LBFGS, AdamLBFGS])
def test_a_trial_is_billed_per_evaluation_and_continues_with_the_same_bits(rule: type[LBFGS]) -> None:
    whole, _ = train(rule(10), 60)
    resumed, _ = train(rule(10), 60, stop=9)
    assert whole.ledger.total == 60 and torch.equal(whole.weights, resumed.weights)
    assert whole.value < 1e-3


def test_adam_comes_first_and_both_are_pytorchs() -> None:
    """Three tenths of twenty queries are torch.optim.Adam's steps; then PyTorch's L-BFGS goes on from there."""
    start, rule = WEIGHTS, AdamLBFGS()
    values = {"adam_lr": 0.02, "beta1": 0.9, "beta2": 0.99, "switch": 0.3, "newton_lr": 1.0, "weight_decay": 0.01}
    given = {name: torch.tensor([[value]], dtype=torch.float64) for name, value in values.items()}
    state = rule.init(start[None], torch.zeros(1, 1, dtype=torch.int64))
    points = []
    for query in range(20):
        hyper = rule.at(given, torch.tensor([[query / 20]], dtype=torch.float64))
        points.append(rule.query(state, hyper).points[0].clone())
        rule.update(state, *evaluate(network, points[-1][None]), hyper)
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.02, betas=(0.9, 0.99), weight_decay=0.01)
    for query in range(6):
        assert torch.allclose(points[query], x.detach(), rtol=0, atol=1e-12)
        adam.zero_grad()
        torch.autograd.backward(network(x))
        adam.step()
    theirs, _ = pytorch(lambda x: network(x) + 0.005 * x.square().sum(), x.detach(), 13)
    assert torch.allclose(torch.stack(points[6:]), torch.stack(theirs[:14]), rtol=0, atol=1e-9)


def test_members_change_to_l_bfgs_at_their_own_time() -> None:
    rule, K = AdamLBFGS(5), 3
    starts = torch.tensor([[-1.2, 1.0]] * K)
    names = {"adam_lr": 0.01, "beta1": 0.9, "beta2": 0.999, "newton_lr": 1.0, "weight_decay": 0.0}
    given = {name: torch.full((K, 1), value) for name, value in names.items()}
    given["switch"] = torch.tensor([[0.2], [0.5], [0.8]])

    def trace(rows: list[int]) -> Tensor:
        own = {name: value[rows] for name, value in given.items()}
        state = rule.init(starts[rows], torch.zeros(len(rows), 1, dtype=torch.int64))
        iterates = []
        for query in range(40):
            hyper = rule.at(own, torch.full((len(rows), 1), query / 40))
            rule.update(state, *evaluate(rosenbrock, rule.query(state, hyper).points), hyper)
            iterates.append(rule.iterate(state).clone())
        return torch.stack(iterates, dim=1)

    together = trace([0, 1, 2])
    assert torch.equal(together[0, :7], together[2, :7]) and not torch.equal(together[0, -1], together[2, -1])
    for k in range(K):
        assert torch.equal(trace([k])[0], together[k])
