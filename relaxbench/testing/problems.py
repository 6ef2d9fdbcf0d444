"""The conformance suite for problems: what every problem must do."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import grad, vjp

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.published import KINDS
from relaxbench.optim.registry import RULES
from relaxbench.problems import Batch, Problem, SupervisedProblem
from relaxbench.problems import problem as problem_of
from relaxbench.problems.arguments import check_margin
from relaxbench.testing.runner import require, skip
from relaxbench.training.compatibility import try_out, why_not_vectorized
from relaxbench.training.method_fit import has_one_batch, why_unfit
from relaxbench.training.oracle import OnBatch, Oracle, Path
from relaxbench.training.population import Population
from relaxbench.training.trial import Checkpoint, Job, Outcome

CPU = torch.device("cpu")
SEEDS = (3, 2**62 + 5, 0)


class ProblemConformance:
    """Checks of a problem. Subclass it in a test file and set `problem`; pytest finds the rest.

    Attributes:
        problem: a name, the path of a Python file, or a function without arguments that returns the problem.
    """

    problem: ClassVar[str | Callable[[], Problem]]

    def test_it_declares_itself(self) -> None:
        """Require a name, a title, a budget, a worst value, a margin, and ranges with low < high."""
        p = self._make()
        for attribute in ("name", "title", "metric"):
            require(bool(getattr(p, attribute, "")), f"{attribute} is missing: expected a line of text")
        for attribute in ("budget", "rounds", "batch_size", "worst", "worst_metric"):
            value = getattr(p, attribute, None)
            good = isinstance(value, (int, float)) and 0 < value < math.inf
            require(good, f"{attribute} = {value!r}: expected a positive number")
        check_margin(p.name, p.margin)
        largest = (p.worst_metric if p.tolerance is None else p.budget) * p.metric_scale
        if isinstance(p.margin, int | float):
            told = f"margin = {p.margin:g}: expected less than {largest:g}, the largest {p.metric}"
            require(p.margin < largest, told)
        for name, (low, high) in p.space.items():
            require(low < high, f"space[{name!r}] = ({low:g}, {high:g}): expected low < high")
        known = ", ".join(KINDS)
        require(p.kind in (*KINDS, ""), f"kind {p.kind!r}: expected one of {known}, or none")
        require(p.size >= 1, f"it has {p.size} parameters")
        require(
            p.fingerprint() == self._make().fingerprint(), "two of it have different data: draw them from a fixed seed"
        )

    def test_it_can_be_trained_and_measured(self) -> None:
        """Require finite losses on a mini-batch and in a measurement, smaller than the worst."""
        p = self._make()
        try:
            try_out(p)
        except UserError as error:
            raise AssertionError(str(error)) from None
        for seed in SEEDS:
            loss = Oracle(p, "direct").measure(p.init(seed)[None], "validation").loss.item()
            require(loss < p.worst, f"the loss at the start, {loss:g}, is no better than worst = {p.worst:g}")

    def test_shapes_equal_the_layout(self) -> None:
        """Require P parameters in the order of the layout, and mini-batches with a first axis K."""
        p = self._make()
        x = p.init(SEEDS[0])
        require(
            x.shape == (p.size,) and x.is_floating_point(), f"init gives {tuple(x.shape)} of {x.dtype}, not [{p.size}]"
        )
        for name, shape in p.layout():
            actual = p.unflatten(x)[name].shape
            require(actual == shape, f"parameter {name!r} is {tuple(actual)}, the layout says {tuple(shape)}")
        batch = self._batch(p, 0)
        for name, value in batch.items():
            require(value.shape[:1] == (len(SEEDS),), f"batch[{name!r}] is {tuple(value.shape)}: first axis = members")
        right = p.correct(self._outputs(p, x, p.split("test", CPU)), p.split("test", CPU))
        examples = p.test_examples
        good = right is None or (right.dtype == torch.bool and (examples is None or right.shape == (examples,)))
        require(good, f"correct() gives {right.shape if right is not None else None}, not bool [{examples}]")

    def test_seeds_fix_weights_and_mini_batches(self) -> None:
        """Require weights and mini-batches that depend on the seed, and not on torch's generator."""
        first, second = self._make(), self._make()
        torch.manual_seed(1)
        starts = [first.init(seed) for seed in SEEDS]
        before = torch.get_rng_state()
        batches = self._batch(first, 4)
        require(
            torch.equal(before, torch.get_rng_state()),
            "mini-batches draw from torch's generator: use relaxbench.random",
        )
        torch.manual_seed(2)
        same = all(torch.equal(start, second.init(seed)) for start, seed in zip(starts, SEEDS, strict=True))
        require(same, "init(seed) is not a function of the seed")
        pretrained = isinstance(first, SupervisedProblem) and first.adapted.starts_pretrained
        differ = pretrained or not torch.equal(starts[0], starts[1])
        require(differ, f"seeds {SEEDS[0]} and {SEEDS[1]} give the same start")
        require(_same(batches, self._batch(second, 4)), "mini-batches are not a function of the seed and their number")

    def test_mini_batches_depend_on_their_member_only(self) -> None:
        """Require mini-batches that depend neither on other members nor on the first number of a round."""
        p = self._make()
        together = self._batch(p, 4)
        for k, seed in enumerate(SEEDS):
            alone = p.sampler([seed], [3], 3, CPU).batch(torch.tensor([[4]]))
            require(
                _same({n: v[k : k + 1] for n, v in together.items()}, alone),
                f"member {k} is given other examples alone",
            )

    def test_nan_stays_with_its_member(self) -> None:
        """Require that NaN in one member does not change the gradients of the others. Skip gradients that vary."""
        p = self._make()
        points, batch = torch.stack([p.init(seed) for seed in SEEDS]), self._batch(p, 0)
        direct = self._skip_varying(p, points, batch)
        spoilt = points.clone()
        spoilt[1] = float("nan")
        for path in self._paths(p):
            clean = direct if path == "direct" else Oracle(p, path).gradient_on(points, batch)[0]
            dirty, _ = Oracle(p, path).gradient_on(spoilt, batch)
            for k in (0, 2):
                require(torch.equal(clean[k], dirty[k]), f"on the {path} path, NaN of member 1 reaches member {k}")

    def test_measurements_are_repeatable(self) -> None:
        """Require deterministic measurements that do not depend on the number of members."""
        p = self._make()
        points = torch.stack([p.init(seed) for seed in SEEDS[:2]])
        for path in self._paths(p):
            for split in ("validation", "test"):
                first, second = (Oracle(p, path).measure(points, split) for _ in range(2))
                require(
                    not bool(first.loss.isnan().any()),
                    f"the {split} loss is not a number: look for NaN or infinity among the {split} examples",
                )
                require(
                    torch.equal(first.loss, second.loss), f"the {split} loss changes from one measurement to the next"
                )
                alone = Oracle(p, path).measure(points[:1], split).loss
                require(torch.allclose(alone, first.loss[:1], rtol=1e-5), f"the {split} loss depends on the neighbours")

    def test_both_paths_give_the_same_gradients(self) -> None:
        """Require equal gradients, vectorized and member by member. Skip a problem that does not vectorize."""
        p = self._make()
        if obstacle := self._obstacle(p):
            skip(f"there is only the direct path: {obstacle}")
        paths = self._paths(p)
        points, batch = torch.stack([p.init(seed) for seed in SEEDS]), self._batch(p, 0)
        if p.loss.name == "none" or not any(value.is_floating_point() for value in batch.values()):
            points = points.double()
        grads = [Oracle(p, path).gradient_on(points, batch)[0] for path in paths]
        largest = float(grads[0].abs().max())
        away = max(float((other - grads[0]).abs().max()) for other in grads)
        require(away <= 1e-4 * largest, f"the paths' gradients differ by {away / largest:.1g} of the largest entry")

    def test_the_loss_has_its_declared_derivatives(self) -> None:
        """Require that ∇L and H_L of the loss equal automatic differentiation. Skip a loss without derivatives."""
        p = self._make()
        if not p.loss.convex:
            skip(f"the loss {p.loss.name!r} declares no derivatives in the outputs: curvature methods do not use it")
        one = {name: value[0] for name, value in self._batch(p, 0).items()}
        outputs = p.outputs(p.unflatten(p.init(SEEDS[0])), one, True).detach().double()
        one = {name: value.double() if value.is_floating_point() else value for name, value in one.items()}
        v = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
        slope: Tensor = grad(p.loss.value)(outputs, one)
        bend: Tensor = vjp(lambda at: grad(p.loss.value)(at, one), outputs)[1](v)[0]  # symmetric: H v = Hᵀv
        declared = OnBatch(p.loss, {name: value[None] for name, value in one.items()})
        own = declared.gradient(outputs[None])[0], declared.curvature(outputs[None], v[None])[0]
        for name, value, exact in zip(("gradient", "curvature"), own, (slope, bend), strict=True):
            good = torch.allclose(value, exact, rtol=1e-3, atol=1e-5 * float(exact.abs().max()))
            require(good, f"the loss's {name} is not its derivative")

    def test_every_method_takes_a_step_on_it(self) -> None:
        """Require a step of every built-in rule that takes parameters of its shapes.

        Skip, with the reason, where curvature alone is not available.
        """
        p = self._make()
        shapes = [shape for _, shape in p.layout()]
        suited = [cls for cls in RULES.values() if cls.unfit(shapes) is None]
        # Two conjugate gradients are of the same operations as twenty.
        brief = {"levenberg-marquardt": {"cg_steps": 2}}
        rules = [cls(**brief.get(cls.name, {})) for cls in suited if p.loss.convex or not cls.curvature]
        vectorizes = self._obstacle(p) is None
        tried = ((rule, why_unfit(p, rule, vectorizes)) for rule in rules if not rule.compares_losses)
        unfit = {rule: reason for rule, reason in tried if reason}
        for rule, reason in unfit.items():
            require(rule.curvature, f"{rule.name} cannot take a step: {reason}")
        if has_one_batch(p):
            for rule in rules:
                obstacle = why_unfit(p, rule) if rule.compares_losses else None
                require(obstacle is None, f"{rule.name} cannot take a step: {obstacle}")
        for rule, reason in unfit.items():
            skip(f"{rule.name} cannot train it: {reason}; study --skip-unfit leaves it out")

    def test_an_interrupted_trial_continues_with_the_same_bits(self) -> None:
        """Require the same bits from a trial that is checkpointed after a round and resumed in another population.

        Skip a model that draws from torch's generator, whose bits no checkpoint can repeat.
        """
        p, rule = self._make(), RULES["sgd"]
        self._skip_drawing(p)
        params = {
            **defaults(rule.wide),
            **p.fixed,
            **{name: low for name, (low, _) in p.space.items() if name == "lr"},
        }
        p.rounds = 3  # measurements of large problems are slow
        budget = min(p.budget, 6)

        def finish(resume: Checkpoint | None, rounds: int | None = None) -> tuple[list[Outcome], dict[int, Checkpoint]]:
            population, done = Population(Oracle(p, "direct"), rule(), budget), list[Outcome]()
            jobs = [Job(0, SEEDS[0], dict(params), resume=resume)]
            left = [rounds]

            def go_on(_: Population) -> bool:
                left[0] = None if left[0] is None else left[0] - 1
                return left[0] is None or left[0] > 0

            population.run(lambda free: [jobs.pop() for _ in range(min(free, len(jobs)))], done.extend, 1, go_on)
            return done, population.checkpoints()

        whole, _ = finish(None)
        _, kept = finish(None, rounds=2)
        resumed, _ = finish(kept[0])
        require(torch.equal(whole[0].weights, resumed[0].weights), "the weights differ after an interruption")
        require(whole[0].value == resumed[0].value, "the value differs after an interruption")

    def _make(self) -> Problem:
        source: Any = inspect.getattr_static(self, "problem")  # a function, not a method
        return problem_of(source) if isinstance(source, str) else getattr(source, "__func__", source)()

    def _obstacle(self, p: Problem) -> str | None:
        """Return why the problem does not vectorize, None if it does; tried once."""
        if not hasattr(self, "_known_obstacle"):
            self._known_obstacle = why_not_vectorized(p)
        return self._known_obstacle

    def _paths(self, p: Problem) -> list[Path]:
        return ["direct"] if self._obstacle(p) else ["direct", "vectorized"]

    def _skip_varying(self, p: Problem, points: Tensor, batch: Batch) -> Tensor:
        """Return gradients; skip a check that a model fails whose gradients vary: another check names the reason."""
        first, second = (Oracle(p, "direct").gradient_on(points, batch)[0] for _ in range(2))
        if not torch.equal(first, second):
            skip("gradients change from one call to the next: see 'it can be trained and measured'")
        return first

    def _skip_drawing(self, p: Problem) -> None:
        """Skip a check that a model fails which draws random numbers of its own: another check names the layer."""
        before = torch.get_rng_state()
        Oracle(p, "direct").gradient_on(torch.stack([p.init(seed) for seed in SEEDS]), self._batch(p, 0))
        if not torch.equal(before, torch.get_rng_state()):
            skip("the model draws from torch's generator: see 'it can be trained and measured'")

    def _batch(self, p: Problem, number: int) -> Batch:
        """Return the mini-batches with this number of three members."""
        numbers = torch.full((len(SEEDS), 1), number)
        return p.sampler(SEEDS, [0] * len(SEEDS), number + 1, CPU).batch(numbers)

    def _outputs(self, p: Problem, x: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad():
            return p.outputs(p.unflatten(x), batch, False)


def _same(first: Batch, second: Batch) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
