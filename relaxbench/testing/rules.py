"""The conformance suite for rules: what every rule must do."""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from relaxbench.optim.drop_in.classes import drop_in
from relaxbench.optim.hyper import expected
from relaxbench.optim.pieces import LEAST, in_pieces
from relaxbench.optim.published import KINDS
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.optim.wrapped.locate import is_path
from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.space import Choice, Int, Value
from relaxbench.testing.probe import CPU, MEMBERS, TASK, Probe, identical, meter
from relaxbench.testing.runner import require, skip
from relaxbench.testing.wrapped import require_the_steps_of_a_plain_loop
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Job, Outcome


def require_spaces_that_fit(rule: type[Rule]) -> None:
    """Require that the default space, what it fixes and what was published speak of the same hyperparameters.

    Raises:
        AssertionError: naming the first that does not fit.
    """
    for name in rule.wide:
        kept, searched = name in rule.default_fixed, name in rule.space
        require(
            kept != searched, f"{name} must be either in space or in default_fixed, is in {'both' if kept else 'none'}"
        )
    for name in (*rule.space, *rule.default_fixed):
        require(name in rule.wide, f"{name} is not in wide: declare it there")
    settings = {"default_fixed": rule.default_fixed} | {
        f"published for {p.kind!r}": p.values for p in rule.publications
    }
    for where, values in settings.items():
        for name, value in values.items():
            require(name in rule.wide, f"{where} has {name}, which is not in wide")
            wanted = expected(name, rule.wide[name], value)
            require(wanted is None, f"{where}: {name} = {value!r} should be {wanted}")
    for p in rule.publications:
        lacking = [name for name in rule.wide if name not in p.values]
        require(not lacking, f"published for {p.kind!r} lacks {', '.join(lacking)}: give every hyperparameter a value")
        require(bool(p.source), f"published for {p.kind!r} has no source")
        require(p.kind in KINDS, f"published for {p.kind!r}: expected a kind, one of {', '.join(KINDS)}")
        for name in p.assumed:
            require(name in p.values, f"published for {p.kind!r}: assumed has {name}, which has no value")


class RuleConformance:
    """Checks of a rule. Subclass it in a test file and set `rule`; pytest finds the rest.

    Attributes:
        rule: the class of the rule.
        options: arguments of its constructor.
        settings: hyperparameters that replace the defaults in the checks.
    """

    rule: ClassVar[type[Rule]]
    options: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[Mapping[str, Value]] = {}

    def test_it_declares_itself(self) -> None:
        """Require a name, a title, a source, hyperparameters with valid defaults, replicas and a price."""
        rule = self._probe.make()
        good = is_path(rule.name) or bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name))
        require(good, f"name {rule.name!r}: expected words-with-dashes")
        for attribute in ("title", "source"):
            require(bool(getattr(rule, attribute, "")), f"{attribute} is missing: expected a line of text")
        require(bool(rule.wide), "space is empty: expected the declared hyperparameters")
        for name, declared in [*rule.wide.items(), *rule.space.items()]:
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
        require_spaces_that_fit(self.rule)
        name_in_use = RULES.get(rule.name, self.rule) is not self.rule
        require(not name_in_use, f"name {rule.name!r} is that of a built-in method: choose another one")

    def test_every_hyperparameter_does_something(self) -> None:
        """Require that, early in a run, every hyperparameter changes the iterates: else a search would waste trials.

        Of a wrapped optimizer only those that are searched by default: the others are arguments of its class, whose
        ranges nobody stated.
        """
        declared_all = self.rule.space if issubclass(self.rule, WrappedRule) else self.rule.wide
        low, high = ({n: getattr(d, end, d.default) for n, d in declared_all.items()} for end in ("low", "high"))
        for name, declared in declared_all.items():
            others = declared.options if isinstance(declared, Choice) else (declared.low, declared.high)
            # It may matter only if other hyperparameters are large or small.
            matters = any(
                self._probe.matters(name, others, {**self._probe.values(), **base}) for base in ({}, low, high)
            )
            require(matters, f"{name} changes nothing, whichever of {list(others)} it is: use it, or do not declare it")

    def test_shapes_and_types_do_not_change(self) -> None:
        """Require state tensors with a first axis K that keep shape and type, and queries with valid mini-batches."""
        for dtype in (torch.float32, torch.float64):
            ensemble = self._probe.ensemble(dtype=dtype)
            x, rule, n = ensemble.rule.iterate(ensemble.state), ensemble.rule, ensemble.rule.replicas
            require(x.shape == (MEMBERS, TASK.size) and x.dtype == dtype, f"iterate is {tuple(x.shape)} of {x.dtype}")
            before = {name: (tuple(value.shape), value.dtype) for name, value in ensemble.state.items()}
            for name, (shape, _) in before.items():
                require(
                    shape[:1] == (MEMBERS,), f"state {name!r} has shape {shape}: its first axis must be the members"
                )
            for _ in range(2 * self._probe.period()):
                if not rule.curvature:
                    query = rule.query(ensemble.state, ensemble.hyper)
                    wanted = (MEMBERS, TASK.size) if n == 1 else (MEMBERS, n, TASK.size)
                    require(
                        query.points.shape == wanted, f"a query's points are {tuple(query.points.shape)}, not {wanted}"
                    )
                    numbers = query.batch
                    good = numbers.shape == (MEMBERS, n) and numbers.dtype == torch.int64
                    require(good, f"a query's batch is {tuple(numbers.shape)} of {numbers.dtype}, not int64 [K, {n}]")
                ensemble.step()
                after = {name: (tuple(value.shape), value.dtype) for name, value in ensemble.state.items()}
                require(after == before, f"a step changed names, shapes or types of the state: {before} → {after}")

    def test_it_starts_at_the_given_parameters(self) -> None:
        """Require that the first iterate equals the initial parameters, and that these are never overwritten."""
        start = torch.stack([TASK.init(seed) for seed in range(MEMBERS)])
        kept = start.clone()
        ensemble = self._probe.ensemble(start=start)
        require(torch.equal(ensemble.rule.iterate(ensemble.state), kept), "the iterate is not the initial parameters")
        for _ in range(self._probe.period() + 1):
            ensemble.step()
        require(torch.equal(start, kept), "a step writes into the initial parameters: copy them in init")

    def test_a_member_is_the_same_alone_and_in_any_slot(self) -> None:
        """Require K-invariance: equal bits alone, among others and in any order, for gradients of any size."""
        steps = 2 * self._probe.period() + 1
        for factor in (1.0,) if self.rule.curvature else (1.0, 1e4, 1e-4):
            together = self._probe.trace(list(range(MEMBERS)), steps, factor)
            for order in ([2], [4, 0, 2], list(range(MEMBERS))[::-1]):
                for place, values in zip(order, self._probe.trace(order, steps, factor), strict=True):
                    times = "" if factor == 1 else f" and gradients are {factor:g} times as large"
                    same = identical(values, together[place])
                    require(same, f"member {place} differs when the population is {order}{times}")

    def test_neighbours_with_other_settings_change_nothing(self) -> None:
        """Require that members do not mix, also if their outer steps end at different times."""
        steps, own = 2 * self._probe.period() + 3, self._probe.values()
        alone = self._probe.mixed([own], [0], steps)[0]
        other = {**own, **{name: d.high for name, d in self.rule.wide.items() if isinstance(d, Int)}}
        other |= {name: own[name] * 0.5 for name in ("lr", "inner_lr", "outer_lr") if isinstance(own.get(name), float)}  # type: ignore[operator]
        require(
            torch.equal(self._probe.mixed([other, own, other], [7, 0, 8], steps)[1], alone),
            "a neighbour's settings leak",
        )

    def test_the_seed_fixes_everything(self) -> None:
        """Require that results depend on the seed alone, and that torch's generator is not used."""
        steps = 2 * self._probe.period() + 1
        torch.manual_seed(1)
        first = self._probe.trace([0, 1], steps)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        second = self._probe.trace([0, 1], steps)
        require(torch.equal(before, torch.get_rng_state()), "it draws from torch's generator: use relaxbench.random")
        same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        require(same, "the same seed gives another result")

    def test_the_state_is_complete_in_the_middle_of_an_inner_loop(self) -> None:
        """Require that a run that is saved, loaded with weights_only=True and continued gives the same bits."""
        period = self._probe.period()
        for stop in {1, period // 2 + 1, period + 1}:
            whole, first, second = (self._probe.ensemble() for _ in range(3))
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
        """Require that NaN, or a gradient a million times as large, of one member does not change the others."""
        steps = 2 * self._probe.period() + 1
        for what, factor in (("a large gradient", 1e6), ("NaN", math.nan)):
            clean, spoilt = (self._probe.ensemble() for _ in range(2))
            meter(spoilt, 2, factor)
            for _ in range(steps):
                clean.step()
                spoilt.step()
            for k in {*range(MEMBERS)} - {2}:
                for name, value in clean.state.items():
                    same = torch.equal(value[k], spoilt.state[name][k])
                    require(same, f"{what} of member 2 reaches {name!r} of member {k}")
        lost = not bool(torch.isfinite(self._probe.make().iterate(spoilt.state)[2]).all())
        require(lost, "a gradient of NaN leaves no trace in the member's own iterate: a divergence would be hidden")

    def test_every_request_is_billed(self) -> None:
        """Require replicas × price × queries gradients at the oracle, and the mini-batches that were announced."""
        rule, ensemble = self._probe.make(), self._probe.ensemble()
        oracle = meter(ensemble)
        queries = 5 * self._probe.period()
        for _ in range(queries):
            ensemble.step()
        declared, requested = queries * rule.price * rule.replicas, oracle.meter.gradients
        require(
            math.isclose(requested, declared, rel_tol=1e-6),
            f"{requested:g} gradients were requested, {declared:g} are billed",
        )
        for query, numbers in enumerate(oracle.meter.batches):
            first = rule.first_batch(query)
            last = max(first + 1, rule.first_batch(query + 1), rule.last_batch(query) + 1)
            good = bool(((numbers >= first) & (numbers < last)).all())
            require(good, f"query {query} uses mini-batches {numbers[0].tolist()}, announced are {first} … {last - 1}")
        job = Job(0, 0, self._probe.values())
        population = Population(
            Oracle(self._probe.task, "direct"), rule, math.ceil(2 * self._probe.period() * rule.price * rule.replicas)
        )
        outcomes: list[Outcome] = []
        queue = [job]
        population.run(lambda free: [queue.pop() for _ in range(min(free, len(queue)))], outcomes.extend, 1)
        bill = outcomes[0].ledger.total
        require(bill <= population.budget + 1e-9, f"{bill:g} gradients were billed for a budget of {population.budget}")

    def test_the_iterate_changes_with_outer_steps_only(self) -> None:
        """Require that the iterate is the result of completed outer steps, whose length is `period`."""
        period, ensemble = self._probe.period(), self._probe.ensemble()
        before = ensemble.rule.iterate(ensemble.state).clone()
        for query in range(1, 3 * period + 1):
            ensemble.step()
            now = ensemble.rule.iterate(ensemble.state).clone()
            if query % period:
                require(
                    torch.equal(now, before),
                    f"the iterate moves at query {query}, in the middle of a period of {period}",
                )
            before = now

    def test_it_takes_no_more_memory_than_it_declares(self) -> None:
        """Require at most `copies` × P values in state and one gradient per replica, and that nothing else is kept."""
        ensemble = self._probe.ensemble()
        one = TASK.size * ensemble.rule.iterate(ensemble.state).element_size()
        held = sum(value[0].numel() * value.element_size() for value in ensemble.state.values()) // one
        gradients = 2 if ensemble.rule.curvature else ensemble.rule.replicas  # Δz, and the point of linearization
        needed, declared = held + gradients, ensemble.rule.copies
        require(
            needed <= declared, f"state and gradients are {needed} copies of the parameters, {declared} are declared"
        )
        sizes = []
        for _ in range(3):
            for _ in range(self._probe.period()):
                ensemble.step()
            sizes.append(len(pickle.dumps(vars(ensemble.rule))))
        grown = (sizes[-1] - sizes[0]) // one
        require(grown == 0, f"next to its state the rule keeps {grown} copies of the parameters more than at first")

    def test_elements_stay_apart_where_it_says_so(self) -> None:
        """Require the same bits of an elementwise rule that updates piece by piece; it only reads the gradient."""
        if not self.rule.elementwise:
            skip("the rule does not declare itself elementwise")
        whole, parts = self._probe.ensemble(), self._probe.ensemble()
        for _ in range(2 * self._probe.period() + 1):
            whole.step()
            grad, loss = parts.oracle.gradient(parts.rule.query(parts.state, parts.hyper))
            before = grad.clone()
            parts.state = in_pieces(parts.rule.update, parts.state, [grad], loss, parts.hyper, LEAST)
            require(identical(grad, before), "`update` writes into the gradient: do not declare elementwise")
            for name, value in whole.state.items():
                other = parts.state[name]
                require(identical(value, other), f"{name!r} depends on other elements: do not declare elementwise")

    def test_it_descends(self) -> None:
        """Require that two hundred gradients lower the loss of a small classifier."""
        ensemble = self._probe.ensemble(inner_steps=None, path="vectorized")
        rule = ensemble.rule
        start = Oracle(TASK, "direct").measure(rule.iterate(ensemble.state), "validation").loss
        for _ in range(math.ceil(200 / rule.price / rule.replicas)):
            ensemble.step()
        end = Oracle(TASK, "direct").measure(rule.iterate(ensemble.state), "validation").loss
        require(bool((end < start).all()), f"the loss goes from {start.mean().item():.3g} to {end.mean().item():.3g}")

    def test_the_drop_in_class_takes_the_same_steps(self) -> None:
        """Require equal iterates in a custom training loop: loss.backward(); optimizer.step().

        Of a wrapped optimizer it is the optimizer itself.
        """
        if self.rule.compares_losses:
            skip("a method that compares losses has no drop-in class")
        if self.rule.curvature:
            skip("the drop-in class of a curvature method takes functions, not gradients: this check does not cover it")
        if issubclass(self.rule, WrappedRule):
            require_the_steps_of_a_plain_loop(self.rule, self._probe)
            return
        rule, period = self._probe.make(), self._probe.period()
        steps = 2 * period
        ensemble = self._probe.ensemble(members=1)
        sampler = TASK.sampler([0], [0], rule.first_batch(steps) + rule.replicas, CPU)
        model = nn.ParameterList([nn.Parameter(part) for part in TASK.unflatten(TASK.init(0)).values()])
        names = [name for name, _ in TASK.layout()]
        total_steps = 10**9 * rule.replicas  # so many that schedules are constant, as in the ensemble
        optimizer = drop_in(self.rule)(
            model.parameters(), total_steps=total_steps, seed=0, **dict(self.options), **self._probe.values()
        )
        batch: dict[str, Tensor] = {}

        def closure() -> float:
            optimizer.zero_grad()
            loss = TASK.loss.value(TASK.outputs(dict(zip(names, model, strict=True)), batch, True), batch)
            torch.autograd.backward(loss)
            return loss.item()

        for query in range(steps):
            ensemble.step()
            if query and rule.first_batch(query) == rule.first_batch(query - 1):
                continue  # one call of step() requests all gradients of a mini-batch
            for replica in range(rule.replicas):
                number = torch.tensor([[rule.first_batch(query) + replica]])
                batch = {name: value[0] for name, value in sampler.batch(number).items()}
                optimizer.step(closure)
        optimizer.eval()
        flat = torch.cat([p.detach().flatten() for p in model])
        away = float((flat - ensemble.rule.iterate(ensemble.state)[0]).abs().max())
        require(away <= 1e-5, f"after {steps} queries the drop-in class is {away:.1g} away from the population")

    @property
    def _probe(self) -> Probe:
        return Probe(self.rule, self.options, self.settings)
