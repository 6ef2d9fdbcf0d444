"""Long vectors are updated piece by piece: the same bits, by shorter operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate, islice
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxbench.optim import SGD, ScheduleFreeAdamW, ScheduleFreeSGD, pieces
from relaxbench.optim.hyper import defaults, stack
from relaxbench.optim.pieces import LEAST, by_pieces, in_pieces
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Hyper, Query, Rule, State
from relaxbench.optim.rules import sgd
from relaxbench.problems.digits import digits_mlp
from relaxbench.recording import recorded
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome

ELEMENTWISE = [name for name, rule in RULES.items() if rule.elementwise]
P = 5 * LEAST + 77
"""Parameters: five whole pieces and a rest, which no vector register divides."""


def settings(rule: Rule, members: int) -> Hyper:
    """Defaults, with short inner loops of several lengths."""
    short = [{"inner_steps": 2 + k % 2} if "inner_steps" in rule.wide else {} for k in range(members)]
    values = stack([{**defaults(rule.wide), **own} for own in short], torch.device("cpu"), torch.float32)
    return rule.at(values, torch.full((members, 1), 0.3))


def trained(name: str, members: int) -> State:
    """The state of random members after eleven random gradients."""
    rule, generator = RULES[name](), torch.Generator().manual_seed(3)
    rule.bind([torch.Size([P])])
    hyper = settings(rule, members)
    state = rule.init(torch.randn(members, P, generator=generator), torch.arange(members)[:, None])
    for _ in range(11):
        points = rule.query(state, hyper).points
        grad = torch.randn(points.shape, generator=generator)
        state = rule.answered(state, [grad], torch.zeros(points.shape[:-1]).view(members, -1), hyper)
    return {**state, "iterate": rule.iterate(state)}


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_pieces_give_the_bits_of_the_whole(name: str, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(name, members)
    monkeypatch.setattr(pieces, "PIECE", LEAST // torch.get_num_threads())
    monkeypatch.setattr(pieces, "WORTH", 2)
    taken: list[int] = []
    update = RULES[name].update

    def counted(self: Rule, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        taken.append(grad.shape[-1])
        return update(self, state, grad, loss, hyper)

    monkeypatch.setattr(RULES[name], "update", counted)
    parts = trained(name, members)
    assert taken == [LEAST, LEAST, LEAST, LEAST, LEAST, 77] * 11
    assert parts.keys() == whole.keys()
    for entry, value in whole.items():
        assert torch.equal(parts[entry], value), entry


def test_the_rules_that_join_elements_and_those_that_draw_by_their_place_are_updated_as_a_whole() -> None:
    assert {"muon", "sgld", "sam", "asam", "lpf-sgd", "entropy-sgd", "heat", "lbfgs"}.isdisjoint(ELEMENTWISE)
    assert {"sgd", "adamw", "hj", "hj-implicit", "elastic-sgd", "parle", "schedule-free-sgd"} < {*ELEMENTWISE}


def test_a_class_with_an_update_of_its_own_declares_itself_elementwise_anew() -> None:
    class Clipped(sgd.SGD):
        name = "clipped"

        def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
            return super().update(state, grad / grad.norm(dim=1, keepdim=True), loss, hyper)

    class Renamed(sgd.SGD):
        name = "renamed"

    assert not Clipped.elementwise and Renamed.elementwise


@pytest.mark.parametrize("members", [1, 2, 7])
def test_a_piece_has_elements_of_all_members_for_every_thread(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(pieces, "PIECE", 8 * LEAST)
    size, taken = 200 * LEAST + 5, list[int]()

    def update(state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        taken.append(grad.shape[-1])
        state["x"].sub_(hyper["lr"] * grad)
        state["t"] += 1
        return state

    x, rate = torch.randn(members, size), torch.rand(members, size)
    state = {"x": x.clone(), "t": torch.zeros(members, 1, dtype=torch.int64)}
    grad, loss = torch.randn(members, size), torch.zeros(members, 1)
    found = by_pieces(update, state, [grad], loss, {"lr": rate})
    assert sum(taken) == size and set(taken[:-1]) == {16 // members * LEAST}
    assert torch.equal(found["x"], x - rate * grad) and found["t"].tolist() == [[1]] * members


@pytest.mark.parametrize("why", ["short", "recorded"])
def test_a_short_vector_and_a_recorded_step_stay_whole(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", P + 1 if why == "short" else LEAST)
    monkeypatch.setattr(pieces, "WORTH", 1)
    taken: list[int] = []

    class Counting(sgd.SGD):
        elementwise = True

        def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
            taken.append(grad.shape[-1])
            return state

    halves = [torch.zeros(1, P // 2), torch.zeros(1, P - P // 2)]
    with recorded() if why == "recorded" else nullcontext():
        Counting().answered({"x": torch.zeros(1, P)}, halves, torch.zeros(1, 1), {})
    assert taken == [P]


LENGTHS = st.lists(st.integers(0, 3 * LEAST), min_size=1, max_size=6).filter(any)


@given(lengths=LENGTHS, columns=st.integers(1, 3).map(lambda n: n * LEAST), shape=st.sampled_from([(1,), (2,), (2, 3)]))
def test_parts_of_any_lengths_are_one_gradient(lengths: list[int], columns: int, shape: tuple[int, ...]) -> None:
    parts = list(torch.arange(float(math.prod(shape) * sum(lengths))).view(*shape, -1).split(lengths, dim=-1))
    places = {(part.data_ptr(), part.data_ptr() + 4 * part.shape[-1]) for part in parts}
    copied = list[bool]()

    def update(state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        copied.append(not any(first <= grad.data_ptr() < last for first, last in places))
        return {**state, "x": grad}

    x = torch.zeros(*shape, sum(lengths))
    found = in_pieces(update, {"x": x}, parts, torch.zeros(shape[0], 1), {}, columns)["x"]
    assert found is x and torch.equal(x, torch.cat(parts, dim=-1))
    ends, begins = list(accumulate(lengths)), range(0, sum(lengths), columns)
    across = [any(b < end < min(b + columns, sum(lengths)) for end in ends) for b in begins]
    assert copied == across, "only what lies in several parts is copied"


def test_new_tensors_of_an_update_are_written_into_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """`update` should write in place, but may return others."""
    monkeypatch.setattr(pieces, "PIECE", LEAST // torch.get_num_threads())
    monkeypatch.setattr(pieces, "WORTH", 2)

    def update(state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return {"x": state["x"] - grad, "t": state["t"] + 1}

    x, grad = torch.randn(2, P), torch.randn(2, P)
    found = by_pieces(update, {"x": x.clone(), "t": torch.zeros(2, 1)}, [grad], torch.zeros(2, 1), {})
    assert torch.equal(found["x"], x - grad) and torch.equal(found["t"], torch.ones(2, 1))


def test_a_drop_in_optimizer_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(LEAST, 6)
        optimizer = SGD(model.parameters(), total_steps=8, lr=0.1)
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.randn(4, LEAST)).square().sum().backward()
            optimizer.step()
        return nn.utils.parameters_to_vector(model.parameters()).detach()

    whole = weights()
    called: list[int] = []
    update = sgd.SGD.update

    def counted(self: sgd.SGD, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        called.append(grad.shape[-1])
        return update(self, state, grad, loss, hyper)

    monkeypatch.setattr(sgd.SGD, "update", counted)
    monkeypatch.setattr(pieces, "PIECE", LEAST // torch.get_num_threads())
    monkeypatch.setattr(pieces, "WORTH", 2)
    assert torch.equal(weights(), whole) and len(called) == 7 * 8


@pytest.mark.parametrize("rates", [(0.1, 0.001), (0.001, 0.1), (0.1, 0.0)])
@pytest.mark.parametrize("cls", [ScheduleFreeSGD, ScheduleFreeAdamW])
def test_groups_with_other_step_sizes_average_by_their_own(
    cls: type[Any], rates: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two optimizers, and as in the authors' package, which has the sums of a group in the group."""

    def weights(of: Sequence[Sequence[int]]) -> Tensor:
        found = []
        for groups in of:
            params = [nn.Parameter(torch.linspace(-1, 1, (3 + g) * LEAST + g)) for g in groups]
            own = [{"params": [p], "lr": rates[g]} for p, g in zip(params, groups, strict=True)]
            optimizer = cls(own, total_steps=9, warmup=0.4)
            for _ in range(9):
                optimizer.zero_grad()
                sum((0.5 * (p - 1).square()).sum() for p in params).backward()  # type: ignore[union-attr]
                optimizer.step()
            with optimizer.deployed():
                found += [p.detach().clone() for p in params]
        return torch.cat(found)

    apart = weights([[0], [1]])
    assert torch.equal(weights([[0, 1]]), apart)
    monkeypatch.setattr(pieces, "PIECE", LEAST // torch.get_num_threads())
    monkeypatch.setattr(pieces, "WORTH", 2)
    assert torch.equal(weights([[0, 1]]), apart)


@pytest.mark.parametrize("method", ["sgd", "elastic-sgd"])
@pytest.mark.parametrize(("path", "members"), [("direct", 1), ("direct", 2), ("vectorized", 3)])
def test_a_population_takes_the_same_steps(
    method: str, path: Path, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients then come in parts, one per parameter."""
    task, asked = digits_mlp(dropout=0.2), list[int]()

    def curves() -> list[Any]:
        rule = RULES[method](replicas=2) if method == "elastic-sgd" else RULES[method]()
        population, outcomes = Population(Oracle(task, path), rule, budget=40), list[Outcome]()
        given = iter([Job(k, k, defaults(rule.wide)) for k in range(members)])
        population.run(lambda free: list(islice(given, free)), outcomes.extend, members)
        return [outcome.curve.tolist() for outcome in sorted(outcomes, key=lambda outcome: outcome.job.id)]

    whole = curves()
    in_parts = Oracle.gradient_parts

    def counted(self: Oracle, query: Query) -> tuple[list[Tensor], Tensor]:
        parts, losses = in_parts(self, query)
        asked.append(len(parts))
        return parts, losses

    monkeypatch.setattr(Oracle, "gradient_parts", counted)
    monkeypatch.setattr(pieces, "PIECE", LEAST // torch.get_num_threads())
    monkeypatch.setattr(pieces, "WORTH", 2)
    assert str(curves()) == str(whole)  # with NaN
    separate = path == "vectorized" or (members == 1 and method == "sgd")
    assert set(asked) == {len(task.layout()) if separate else 1}
