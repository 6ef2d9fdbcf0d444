"""L-BFGS of PyTorch as a rule: a step evaluates a closure any number of times, and each evaluation is one query.

Between two queries nothing of the optimizer lives but tensors: the parameters at the beginning of the step, what the
optimizer then held, and the answers that it has had since. For each new answer the step is taken again from its
beginning, up to the evaluation that it asks for next. So every evaluation is billed as the gradient that it is, and
trials are refilled, interrupted and continued as with any other rule.

The mini-batch is fixed within a step: its number is that of the query with which the step begins. A step that the
budget does not complete is billed and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS

from relaxbench.errors import UserError
from relaxbench.optim.hyper import Hyper, stack
from relaxbench.optim.rule import Query, State, counters
from relaxbench.optim.wrapped.arguments import Recipe
from relaxbench.optim.wrapped.generators import untouched
from relaxbench.optim.wrapped.part import dry
from relaxbench.optim.wrapped.rule import SELDOM, WrappedRule
from relaxbench.space import Value

SEARCH = 27
"""Evaluations of a line search beyond `max_eval`, at most: earlier versions of PyTorch count them afterwards."""
COUNTS = ("func_evals", "n_iter")
VECTORS = ("d", "prev_flat_grad")
SCALARS = ("t", "H_diag")
"""Entries of the state that are a number or a tensor of one."""


class LBFGSRule(WrappedRule):
    """The steps of `torch.optim.LBFGS`, or of a class derived from it, one evaluation of the closure per query.

    Source: the docstring of this module. Memory: the parameters twice, `history_size` pairs of vectors, and the
    gradients of the step so far.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made = self.recipe.make([nn.Parameter(torch.zeros(1))], {})
        group = made.param_groups[0]
        self._history, self._most = int(group["history_size"]), int(group["max_eval"]) + SEARCH

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        self._shapes = tuple(shapes)
        size = sum(shape.numel() for shape in shapes)
        columns = 2 + len(VECTORS) + 2 * self._history + self._most
        numbers = 4 * self._most + 8 * (self._numbers() + len(self.recipe.places) + 4)
        self.copies = 1 + columns + -(-numbers // (4 * max(1, size)))

    def init(self, x: Tensor, seed: Tensor) -> State:
        if not self._shapes:
            self.bind([torch.Size([x.shape[1]])])
        count, size = x.shape
        zeros = x.new_zeros
        return {
            "x": x.clone(),
            "at": x.clone(),
            **counters(x, seed),
            "begun": torch.zeros(count, 1, dtype=torch.int64, device=x.device),
            "asked": torch.zeros(count, 1, dtype=torch.int64, device=x.device),
            "losses": zeros(count, self._most),
            "grads": zeros(count, self._most, size),
            "settings": zeros(count, len(self.recipe.places), dtype=torch.float64),
            "vectors": zeros(count, len(VECTORS) + 2 * self._history, size),
            "numbers": zeros(count, self._numbers(), dtype=torch.float64),
        }

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["at"], state["begun"])

    def first_batch(self, query: int) -> int:
        return max(0, query - self._most)

    def last_batch(self, query: int) -> int:
        return query

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        names = [*self.recipe.places]
        settings = torch.cat([hyper[name].double().expand(len(grad), 1) for name in names], dim=1)
        good = (torch.isfinite(grad).all(dim=1) & torch.isfinite(loss[:, 0])).tolist()
        state["t"] += 1
        self._updates += 1
        with untouched(self.recipe.path, grad.device, self._updates % SELDOM == 0):
            for k, asked in enumerate(state["asked"][:, 0].tolist()):
                if not good[k]:
                    self._end(state, k, torch.full_like(grad[k], math.nan))
                    continue
                if asked == 0:
                    state["settings"][k] = settings[k]
                state["grads"][k, asked], state["losses"][k, asked] = grad[k], loss[k, 0]
                self._step(state, k, asked + 1)
        return state

    def iterate(self, state: State) -> Tensor:
        return state["x"]

    def fingerprint(self, params: Mapping[str, Value]) -> list[Tensor]:
        own, size = type(self)(**self.options), 12
        state = own.init(dry(torch.Size([1, size]), 0), torch.zeros(1, 1, dtype=torch.int64))
        hyper = own.at(stack([params], torch.device("cpu"), torch.float64), torch.zeros(1, 1))
        weights = torch.arange(1.0, size + 1, dtype=torch.float64)
        for _ in range(12):
            point = own.query(state, hyper).points
            own.update(state, weights * point, 0.5 * (weights * point.square()).sum(1, keepdim=True), hyper)
        return [state["at"][0], state["x"][0]]

    def start_anew(self) -> None:
        """Nothing is kept beside the state."""

    def evaluations(self, steps: int) -> int:
        """Return how many evaluations complete so many steps, unless a line search needs more than is usual."""
        return steps * (self._most - SEARCH) + 1

    def _numbers(self) -> int:
        return len(COUNTS) + 2 * len(SCALARS) + 2 + self._history

    def _step(self, state: State, k: int, answers: int) -> None:
        """Take the current step of a member with the answers so far; note where it asks for the next one."""
        point = state["x"][k].clone()
        params, begin = [], 0
        for shape in self._shapes:
            params.append(nn.Parameter(point[begin : begin + shape.numel()].view(shape)))
            begin += shape.numel()
        values = dict(zip(self.recipe.places, state["settings"][k].tolist(), strict=True))
        optimizer: Any = self.recipe.make(params, values)
        kept = optimizer.state[params[0]]
        self._load(kept, state, k)
        losses = state["losses"][k]
        given = 0

        def closure() -> Tensor:
            nonlocal given
            if given == answers:
                raise _AsksAgain
            grad, begin = state["grads"][k, given], 0
            for p in params:
                p.grad = grad[begin : begin + p.numel()].view(p.shape)
                begin += p.numel()
            given += 1
            return losses[given - 1]

        try:
            optimizer.step(closure)
        except _AsksAgain:
            if answers == self._most:
                raise UserError(
                    f"optimizer {self.recipe.path!r} evaluates more than {self._most} times in a step: lower max_eval"
                ) from None
            state["asked"][k] = answers
            state["at"][k] = point
            return
        except (ArithmeticError, RuntimeError, ValueError):
            if bool(torch.isfinite(point).all()):
                raise
            point.fill_(math.nan)
        self._save(kept, state, k)
        self._end(state, k, point)

    def _end(self, state: State, k: int, point: Tensor) -> None:
        """Begin the next step of a member at a point, on the mini-batch of the next query."""
        state["x"][k] = state["at"][k] = point
        state["asked"][k], state["begun"][k] = 0, state["t"][k]

    def _load(self, kept: dict[str, Any], state: State, k: int) -> None:
        """Give the optimizer what it held when the step began."""
        numbers, vectors = state["numbers"][k].tolist(), state["vectors"][k]
        kept.update({name: int(numbers[i]) for i, name in enumerate(COUNTS)})
        place = len(COUNTS)
        if not kept["n_iter"]:
            return
        for name in SCALARS:
            value, is_tensor = numbers[place : place + 2]
            kept[name] = vectors.new_tensor(value) if is_tensor else value
            place += 2
        kept["prev_loss"], count = numbers[place], int(numbers[place + 1])
        kept["ro"] = [vectors.new_tensor(value) for value in numbers[place + 2 : place + 2 + count]]
        kept.update({name: vectors[i].clone() for i, name in enumerate(VECTORS)})
        first = len(VECTORS)
        kept["old_dirs"] = list(vectors[first : first + count])
        kept["old_stps"] = list(vectors[first + self._history : first + self._history + count])

    def _save(self, kept: Mapping[str, Any], state: State, k: int) -> None:
        """Store what the optimizer holds after a step."""
        numbers = [float(kept[name]) for name in COUNTS]
        if kept["n_iter"]:
            vectors, first, count = state["vectors"][k], len(VECTORS), len(kept["ro"])
            for name in SCALARS:
                numbers += [float(kept[name]), float(isinstance(kept[name], Tensor))]
            numbers += [float(kept["prev_loss"]), float(count), *(float(value) for value in kept["ro"])]
            for i, name in enumerate(VECTORS):
                vectors[i] = kept[name]
            for begin, name in ((first, "old_dirs"), (first + self._history, "old_stps")):
                if count:
                    vectors[begin : begin + count] = torch.stack(kept[name])
        state["numbers"][k, : len(numbers)] = torch.tensor(numbers, dtype=torch.float64).to(state["numbers"].device)


class _AsksAgain(Exception):  # noqa: N818  (no error)
    """The closure has no answer yet."""


def takes(recipe: Recipe) -> bool:
    """Return whether an optimizer is run by this rule."""
    return issubclass(recipe.cls, LBFGS)
