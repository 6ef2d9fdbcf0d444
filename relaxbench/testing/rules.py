"""What every rule must do, whoever wrote it."""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from relaxbench.optim.drop_in.classes import drop_in
from relaxbench.optim.hyper import defaults, expected, stack
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems.digits import digits_mlp
from relaxbench.space import Choice, Int, Value
from relaxbench.testing.metered_oracle import Metered
from relaxbench.testing.runner import require
from relaxbench.training.ensemble import Ensemble
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Job, Outcome, Population

CPU = torch.device("cpu")
TASK = digits_mlp()
MEMBERS = 5
SHORT = 4
"""Length of an inner loop while it is checked."""


class RuleConformance:
    """Subclass it in a test file, name the rule, and pytest does the rest.

    Attributes:
        rule: the class of the rule.
        options: arguments for its constructor.
        settings: hyperparameters that are to be checked instead of the defaults.
    """

    rule: ClassVar[type[Rule]]
    options: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[Mapping[str, Value]] = {}

    def test_it_declares_itself(self) -> None:
        """A name, a title, a source; hyperparameters whose defaults mean something; memory and price."""
        rule = self._make()
        require(
            bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)), f"name {rule.name!r}: expected words-with-dashes"
        )
        for attribute in ("title", "source"):
            require(bool(getattr(rule, attribute, "")), f"{attribute} is missing: expected a line of text")
        require(bool(rule.space), "space is empty: expected the declared hyperparameters")
        for name, declared in rule.space.items():
            wanted = expected(name, declared, declared.default)
            require(wanted is None, f"the default {declared.default!r} of {name} should be {wanted}")
            if isinstance(declared, Choice):
                require(declared.default in declared.options, f"the default of {name} is not one of its options")
            else:
                inside = declared.low <= declared.default <= declared.high
                require(
                    inside, f"the default {declared.default} of {name} lies outside [{declared.low}, {declared.high}]"
                )
        require(
            rule.replicas >= 1 and rule.price > 0, f"replicas {rule.replicas}, price {rule.price}: expected positive"
        )
        taken = RULES.get(rule.name, self.rule) is not self.rule
        require(not taken, f"name {rule.name!r} is that of a built-in method: choose another one")

    def test_every_hyperparameter_does_something(self) -> None:
        """Early in a run, another value of it leads to other iterates: none wastes trials of a search."""
        low, high = ({n: getattr(d, end, d.default) for n, d in self.rule.space.items()} for end in ("low", "high"))
        for name, declared in self.rule.space.items():
            others = declared.options if isinstance(declared, Choice) else (declared.low, declared.high)
            # It may matter only where others are large or small.
            matters = any(self._matters(name, others, {**self._values(), **base}) for base in ({}, low, high))
            require(matters, f"{name} changes nothing, whichever of {list(others)} it is: use it, or do not declare it")

    def test_shapes_and_types_stay_what_they_are(self) -> None:
        """State tensors begin with the axis of members and keep shape and type; queries name their mini-batches."""
        for dtype in (torch.float32, torch.float64):
            crowd = self._crowd(dtype=dtype)
            x, rule, n = crowd.rule.iterate(crowd.state), crowd.rule, crowd.rule.replicas
            require(x.shape == (MEMBERS, TASK.size) and x.dtype == dtype, f"iterate is {tuple(x.shape)} of {x.dtype}")
            before = {name: (tuple(value.shape), value.dtype) for name, value in crowd.state.items()}
            for name, (shape, _) in before.items():
                require(
                    shape[:1] == (MEMBERS,), f"state {name!r} has shape {shape}: its first axis must be the members"
                )
            for _ in range(2 * self._period()):
                if not rule.curvature:
                    query = rule.query(crowd.state, crowd.hyper)
                    wanted = (MEMBERS, TASK.size) if n == 1 else (MEMBERS, n, TASK.size)
                    require(
                        query.points.shape == wanted, f"a query's points are {tuple(query.points.shape)}, not {wanted}"
                    )
                    numbers = query.batch
                    good = numbers.shape == (MEMBERS, n) and numbers.dtype == torch.int64
                    require(good, f"a query's batch is {tuple(numbers.shape)} of {numbers.dtype}, not int64 [K, {n}]")
                crowd.step()
                after = {name: (tuple(value.shape), value.dtype) for name, value in crowd.state.items()}
                require(after == before, f"a step changed names, shapes or types of the state: {before} → {after}")

    def test_it_begins_where_it_is_put(self) -> None:
        """Before the first step, the iterate is the initial parameters, and those are not written into."""
        start = torch.stack([TASK.init(seed) for seed in range(MEMBERS)])
        kept = start.clone()
        crowd = self._crowd(start=start)
        require(torch.equal(crowd.rule.iterate(crowd.state), kept), "the iterate is not the initial parameters")
        for _ in range(self._period() + 1):
            crowd.step()
        require(torch.equal(start, kept), "a step writes into the initial parameters: copy them in init")

    def test_a_member_is_the_same_alone_and_in_any_slot(self) -> None:
        """K-invariance: bit for bit, alone, in a population, and in another order; also of large and tiny gradients."""
        steps = 2 * self._period() + 1
        for factor in (1.0,) if self.rule.curvature else (1.0, 1e4, 1e-4):
            together = self._trace(list(range(MEMBERS)), steps, factor)
            for order in ([2], [4, 0, 2], list(range(MEMBERS))[::-1]):
                for place, values in zip(order, self._trace(order, steps, factor), strict=True):
                    times = "" if factor == 1 else f" and gradients are {factor:g} times as large"
                    same = _same(values, together[place])
                    require(same, f"member {place} differs when the population is {order}{times}")

    def test_neighbours_with_other_settings_change_nothing(self) -> None:
        """Members never mix, also where their outer steps end at different times."""
        steps, own = 2 * self._period() + 3, self._values()
        alone = self._mixed([own], [0], steps)[0]
        other = {**own, **{name: d.high for name, d in self.rule.space.items() if isinstance(d, Int)}}
        other |= {name: own[name] * 0.5 for name in ("lr", "inner_lr", "outer_lr") if isinstance(own.get(name), float)}  # type: ignore[operator]
        require(
            torch.equal(self._mixed([other, own, other], [7, 0, 8], steps)[1], alone), "a neighbour's settings leak"
        )

    def test_the_seed_fixes_everything(self) -> None:
        """Twice the same, whatever torch's generator does; and that generator is left alone."""
        steps = 2 * self._period() + 1
        torch.manual_seed(1)
        first = self._trace([0, 1], steps)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        second = self._trace([0, 1], steps)
        require(torch.equal(before, torch.get_rng_state()), "it draws from torch's generator: use relaxbench.random")
        same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        require(same, "the same seed gives another result")

    def test_the_state_is_complete_in_the_middle_of_an_inner_loop(self) -> None:
        """Saved, loaded with weights_only=True and continued, it is as if nothing had happened."""
        period = self._period()
        for stop in {1, period // 2 + 1, period + 1}:
            whole, first, second = (self._crowd() for _ in range(3))
            for _ in range(stop + period):
                whole.step()
            for _ in range(stop):
                first.step()
            file = io.BytesIO()
            torch.save(first.state, file)
            file.seek(0)
            second.state = torch.load(file, weights_only=True)
            for _ in range(period):
                second.step()
            same = all(torch.equal(whole.state[name], second.state[name]) for name in whole.state)
            require(
                same,
                f"interrupted after {stop} queries and continued, it goes another way: keep everything in the state",
            )

    def test_nan_stays_with_its_member(self) -> None:
        """One member's NaN never touches its neighbours; nor do gradients a million times as large as theirs."""
        steps = 2 * self._period() + 1
        for what, factor in (("a large gradient", 1e6), ("NaN", math.nan)):
            clean, spoilt = (self._crowd() for _ in range(2))
            _meter(spoilt, 2, factor)
            for _ in range(steps):
                clean.step()
                spoilt.step()
            for k in {*range(MEMBERS)} - {2}:
                for name, value in clean.state.items():
                    same = torch.equal(value[k], spoilt.state[name][k])
                    require(same, f"{what} of member 2 reaches {name!r} of member {k}")
        lost = not bool(torch.isfinite(self._make().iterate(spoilt.state)[2]).all())
        require(lost, "a gradient of NaN leaves no trace in the member's own iterate: a divergence would be hidden")

    def test_everything_that_is_asked_for_is_billed(self) -> None:
        """Gradients counted at the oracle are replicas × price × queries; mini-batches are those announced."""
        rule, crowd = self._make(), self._crowd()
        oracle = _meter(crowd)
        queries = 5 * self._period()
        for _ in range(queries):
            crowd.step()
        declared, counted = queries * rule.price * rule.replicas, oracle.meter.gradients
        require(
            math.isclose(counted, declared, rel_tol=1e-6),
            f"{counted:g} gradients were asked for, {declared:g} are billed",
        )
        for query, numbers in enumerate(oracle.meter.batches):
            first = rule.first_batch(query)
            last = max(first + 1, rule.first_batch(query + 1))
            good = bool(((numbers >= first) & (numbers < last)).all())
            require(good, f"query {query} uses mini-batches {numbers[0].tolist()}, announced are {first} … {last - 1}")
        job = Job(0, 0, self._values())
        population = Population(TASK, rule, math.ceil(2 * self._period() * rule.price * rule.replicas), "direct")
        outcomes: list[Outcome] = []
        queue = [job]
        population.run(lambda free: [queue.pop() for _ in range(min(free, len(queue)))], outcomes.extend, 1)
        bill = outcomes[0].ledger.total
        require(bill <= population.budget + 1e-9, f"{bill:g} gradients were billed for a budget of {population.budget}")

    def test_the_iterate_changes_with_outer_steps_only(self) -> None:
        """What is deployed is the result of completed outer steps, as `period` counts them."""
        period, crowd = self._period(), self._crowd()
        before = crowd.rule.iterate(crowd.state).clone()
        for query in range(1, 3 * period + 1):
            crowd.step()
            now = crowd.rule.iterate(crowd.state).clone()
            if query % period:
                require(
                    torch.equal(now, before),
                    f"the iterate moves at query {query}, in the middle of a period of {period}",
                )
            before = now

    def test_it_takes_no_more_memory_than_it_declares(self) -> None:
        """`copies`: the state in numbers of P values, and a gradient for every replica; nothing is kept elsewhere."""
        crowd = self._crowd()
        one = TASK.size * crowd.rule.iterate(crowd.state).element_size()
        held = sum(value[0].numel() * value.element_size() for value in crowd.state.values()) // one
        gradients = 2 if crowd.rule.curvature else crowd.rule.replicas  # Δz, and the point that is linearized at
        needed, declared = held + gradients, crowd.rule.copies
        require(
            needed <= declared, f"state and gradients are {needed} copies of the parameters, {declared} are declared"
        )
        sizes = []
        for _ in range(3):
            for _ in range(self._period()):
                crowd.step()
            sizes.append(len(pickle.dumps(vars(crowd.rule))))
        grown = (sizes[-1] - sizes[0]) // one
        require(grown == 0, f"beside its state the rule keeps {grown} copies of the parameters more than at first")

    def test_it_descends(self) -> None:
        """With its settings, two hundred gradients lower the loss of a small classifier."""
        crowd = self._crowd(inner_steps=None)
        rule = crowd.rule
        start = Oracle(TASK, "direct").measure(rule.iterate(crowd.state), "validation").loss
        for _ in range(math.ceil(200 / rule.price / rule.replicas)):
            crowd.step()
        end = Oracle(TASK, "direct").measure(rule.iterate(crowd.state), "validation").loss
        require(bool((end < start).all()), f"the loss goes from {start.mean().item():.3g} to {end.mean().item():.3g}")

    def test_the_drop_in_class_takes_the_same_steps(self) -> None:
        """In a training loop of one's own: loss.backward(); optimizer.step()."""
        if self.rule.curvature:
            return  # its loop is another one, and has no gradients to give
        rule, period = self._make(), self._period()
        steps = 2 * period
        crowd = self._crowd(members=1)
        sampler = TASK.sampler([0], [0], rule.first_batch(steps) + rule.replicas, CPU)
        model = nn.ParameterList([nn.Parameter(part) for part in TASK.unflatten(TASK.init(0)).values()])
        names = [name for name, _ in TASK.layout()]
        long = 10**9 * rule.replicas  # so long that schedules stand still, as in the population
        optimizer = drop_in(self.rule)(
            model.parameters(), total_steps=long, seed=0, **dict(self.options), **self._values()
        )
        batch: dict[str, Tensor] = {}

        def closure() -> float:
            optimizer.zero_grad()
            loss = TASK.loss.value(TASK.outputs(dict(zip(names, model, strict=True)), batch, True), batch)
            torch.autograd.backward(loss)
            return loss.item()

        for query in range(steps):
            crowd.step()
            if query and rule.first_batch(query) == rule.first_batch(query - 1):
                continue  # one call of step() asks for all gradients of a mini-batch
            for replica in range(rule.replicas):
                number = torch.tensor([[rule.first_batch(query) + replica]])
                batch = {name: value[0] for name, value in sampler.batch(number).items()}
                optimizer.step(closure)
        optimizer.eval()
        flat = torch.cat([p.detach().flatten() for p in model])
        away = float((flat - crowd.rule.iterate(crowd.state)[0]).abs().max())
        require(away <= 1e-5, f"after {steps} queries the drop-in class is {away:.1g} away from the population")

    def _make(self) -> Rule:
        rule = self.rule(**self.options)
        rule.bind([shape for _, shape in TASK.layout()])
        return rule

    def _values(self, inner_steps: int | None = SHORT) -> dict[str, Value]:
        values = defaults(self.rule.space)
        if inner_steps is not None:
            values |= {name: SHORT for name, d in self.rule.space.items() if isinstance(d, Int) and d.default > SHORT}
        return {**values, **self.settings}

    def _period(self) -> int:
        return int(self._make().period(stack([self._values()], CPU, torch.float32)))

    def _crowd(
        self,
        seeds: Sequence[int] = range(MEMBERS),
        dtype: torch.dtype = torch.float32,
        start: Tensor | None = None,
        members: int = MEMBERS,
        inner_steps: int | None = SHORT,
    ) -> Ensemble:
        seeds = list(seeds)[:members]
        if start is None:
            start = torch.stack([TASK.init(seed) for seed in seeds]).to(dtype)
        return Ensemble(TASK, self._make(), start, seeds, 400, self._values(inner_steps), "direct")

    def _trace(self, seeds: list[int], steps: int, factor: float = 1.0) -> list[Tensor]:
        """All iterates of some members, ``[steps, P]`` each, with gradients and losses multiplied by a factor."""
        crowd, seen = self._crowd(seeds), []
        if factor != 1:
            _meter(crowd, None, factor)
        for _ in range(steps):
            crowd.step()
            seen.append(crowd.rule.iterate(crowd.state).clone())
        return list(torch.stack(seen, dim=1))

    def _matters(self, name: str, others: Sequence[Value], values: dict[str, Value]) -> bool:
        before = self._early(values)
        return any(not _same(before, self._early({**values, name: other})) for other in others)

    def _early(self, values: dict[str, Value]) -> Tensor:
        """Iterates on the way of 64 queries as they are taken after a tenth of a run."""
        crowd, seen = self._crowd(members=2), []
        crowd.hyper = crowd.rule.at(stack([values] * 2, CPU, torch.float32), torch.full((2, 1), 0.1))
        for _ in range(64):
            crowd.step()
            seen.append(crowd.rule.iterate(crowd.state).clone())
        return torch.stack(seen)

    def _mixed(self, settings: list[dict[str, Value]], seeds: list[int], steps: int) -> Tensor:
        """The last iterates of members that differ in their settings."""
        crowd = self._crowd(seeds)
        crowd.hyper = crowd.rule.at(stack(settings, CPU, torch.float32), torch.zeros(len(seeds), 1))
        for _ in range(steps):
            crowd.step()
        return crowd.rule.iterate(crowd.state).clone()


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, NaN included."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _meter(crowd: Ensemble, spoil: int | None = None, factor: float = 1.0) -> Metered:
    """Count what a crowd asks for from now on; see `Metered`."""
    metered = Metered(crowd.oracle, spoil, factor)
    crowd.oracle = metered  # type: ignore[assignment]
    return metered
