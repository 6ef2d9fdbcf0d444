"""The protocols: a rule is a machine that says where it wants its next gradient and is then given it.

The state of a rule is a dict of tensors whose first axis is K, the members of a population. A rule is written once
and serves K = 1 (a training loop of one's own), K = 64 (many trials in one process) and K = 100,000 (particles on a
landscape). Members never mix: masks go through `torch.where` or row indices, so that one member's NaN stays with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.optim import schedules
from relaxbench.optim.hyper import ANNEALED, Hyper, SearchSpace, declare
from relaxbench.optim.meanings import MEANINGS, Meaning

State = dict[str, Tensor]


class Query(NamedTuple):
    """Where a rule wants its next gradient, and of which mini-batch.

    Attributes:
        points: ``[K, P]``, or ``[K, n, P]`` for n replicas.
        batch: number of the mini-batch, int64 ``[K, 1]``, or ``[K, n]``: each replica has its own. A rule that asks
            twice on one batch repeats the number.
    """

    points: Tensor
    batch: Tensor


class GradientOracle(Protocol):
    """Gradients, billed: the only way in which a rule meets a problem."""

    def gradient(self, query: Query) -> tuple[Tensor, Tensor]:
        """Gradients at the points of a query, of their shape, and losses ``[K, 1]`` (or ``[K, n]``)."""
        ...


class Linearization(Protocol):
    """The loss on one mini-batch around points ``[K, P]``: f = L ∘ φ, with φ the model up to its outputs.

    Attributes:
        loss: ``[K, 1]``.
        gradient: ∇L at the outputs, ``[K, B, C]``.
        tangent: Jφ times the direction that was given, ``[K, B, C]``.
    """

    loss: Tensor
    gradient: Tensor
    tangent: Tensor

    def bend(self, tangent: Tensor) -> Tensor:
        """H_L times a tangent, ``[K, B, C]``."""
        ...

    def pull(self, cotangent: Tensor) -> Tensor:
        """Jφᵀ times a cotangent, ``[K, P]``. Once: the graph is then gone."""
        ...

    def push(self, direction: Tensor) -> Tensor:
        """Jφ times a direction ``[K, P]``, ``[K, B, C]``."""
        ...

    def loss_at(self, points: Tensor) -> Tensor:
        """Losses ``[K, 1]`` of the same mini-batch elsewhere."""
        ...


class CurvatureOracle(Protocol):
    """Curvature, billed by its FLOPs (for CurveBall, arXiv 1805.08095)."""

    def linearize(self, points: Tensor, direction: Tensor, batch: Tensor) -> Linearization:
        """The loss on mini-batches with numbers ``[K, 1]`` around points ``[K, P]``, along directions ``[K, P]``."""
        ...


class Oracle(GradientOracle, CurvatureOracle, Protocol):
    """All that a rule may ask a problem."""


class Rule:
    """A rule that needs gradients alone. Subclasses write `init`, `query`, `update` and, where it is not x, `iterate`.

    Attributes:
        name: as in study files, e.g. ``"entropy-sgd"``.
        title: as in sentences, e.g. ``"Entropy-SGD"``.
        source: where the mathematics comes from.
        space: the declared hyperparameters.
        copies: memory, in copies of the P parameters, the gradient included.
        rate: the step size that a schedule anneals; with an inner and an outer one, `anneal` says which.
        scope: ``"gamma"`` or ``"sigma"`` if the rule smooths the loss over a scheduled scope.
        meanings: of the hyperparameters that only this rule has, or uses in another sense than `optim.meanings`.
        replicas: n, points of a query; fixed for the whole population.
        price: what the answer to a query costs, in gradients a replica.
        curvature: whether the rule asks for more than gradients; it then writes `step` instead of the other two.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    space: ClassVar[SearchSpace]
    copies: int
    rate: ClassVar[str] = "lr"
    scope: ClassVar[str | None] = None
    meanings: ClassVar[Mapping[str, Meaning]] = {}
    replicas: int = 1
    price: float = 1.0
    curvature: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        declare(cls.__dict__.get("space", {}))

    @classmethod
    def meaning(cls, name: str) -> Meaning | None:
        """What a hyperparameter is; None if neither the rule nor the shared table says so."""
        return cls.meanings.get(name, MEANINGS.get(name))

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        """Told, before `init`, the shapes of the tensors that lie one after another in the P parameters."""

    def init(self, x: Tensor, seed: Tensor) -> State:
        """The state at the start, from parameters ``[K, P]`` and seeds int64 ``[K, 1]``."""
        raise NotImplementedError

    def query(self, state: State, hyper: Hyper) -> Query:
        """Where the next gradient is wanted."""
        raise NotImplementedError

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        """The state after the answer to a query (see `GradientOracle`). Writes into the tensors of `state`."""
        raise NotImplementedError

    def step(self, state: State, oracle: Oracle, hyper: Hyper) -> tuple[State, Tensor]:
        """Ask once and use the answer: the new state and the losses ``[K, 1]`` (or ``[K, n]``). What trainers call."""
        grad, loss = oracle.gradient(self.query(state, hyper))
        return self.update(state, grad, loss, hyper), loss

    def iterate(self, state: State) -> Tensor:
        """The parameters ``[K, P]`` that are evaluated and deployed: those of the last completed outer step."""
        return state["x"]

    def period(self, hyper: Hyper) -> Tensor:
        """Queries in an outer step, int64 ``[K, 1]``."""
        any_value = next(iter(hyper.values()))
        return torch.ones_like(any_value[..., :1], dtype=torch.int64)

    def first_batch(self, query: int) -> int:
        """Number of the (first) mini-batch of a query: the number of the query itself, times n for n replicas."""
        return query * self.replicas

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        """Hyperparameters as scheduled at some progress ``[..., K, 1]``: step sizes annealed, γ (σ²) scoped."""
        now = dict(hyper)
        if "schedule" in hyper:
            factor = schedules.step_size(hyper["schedule"], progress)
            if "anneal" in hyper:
                for index, which in enumerate(ANNEALED):
                    rate = hyper[f"{which}_lr"]
                    now[f"{which}_lr"] = torch.where(hyper["anneal"] == index, rate * factor, rate)
            else:
                now[self.rate] = hyper[self.rate] * factor
        if self.scope == "gamma":
            now["gamma"] = schedules.scope(hyper["scoping"], hyper["gamma_start"], hyper["gamma_end"], progress)
        elif self.scope == "sigma":
            start, end = hyper["sigma_start"] ** 2, hyper["sigma_end"] ** 2
            now["sigma"] = schedules.scope(hyper["scoping"], start, end, progress).sqrt()
        return now


def counters(x: Tensor, seed: Tensor) -> State:
    """The part of a state that every rule has: queries answered so far and the seed, int64 ``[K, 1]`` each."""
    return {"t": torch.zeros(x.shape[0], 1, dtype=torch.int64, device=x.device), "seed": seed.clone()}


def counted(replicas: Any) -> int:
    """A number of replicas that is one.

    Raises:
        ValueError: if it is not an integer of at least 1.
    """
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 1:
        raise ValueError(f"replicas = {replicas!r}: expected an integer of at least 1")
    return replicas


def own_batches(state: State, replicas: int) -> Tensor:
    """Numbers of the mini-batches of a query, int64 ``[K, n]``: one for each replica, none used twice."""
    return state["t"] * replicas + torch.arange(replicas, device=state["t"].device)


def replicated(x: Tensor, replicas: int) -> Tensor:
    """``[K, P]`` as n equal replicas ``[K, n, P]``."""
    return x[:, None].repeat(1, replicas, 1)


def nesterov(velocity: Tensor, momentum: Tensor, direction: Tensor) -> Tensor:
    """PyTorch's Nesterov form N(v, d): v ← m v + d in place; returns d + m v."""
    velocity.mul_(momentum).add_(direction)
    return (momentum * velocity).add_(direction)  # new, so that callers may go on in place


def standard_normal(state: State, size: int, dtype: torch.dtype, step: Tensor | None = None) -> Tensor:
    """Noise ``[K, size]`` for the current gradient of every member (or for another step of its count)."""
    return random.normal(random.key(state["seed"], random.NOISE, state["t"] if step is None else step), size, dtype)


def row_sums(values: Tensor) -> Tensor:
    """Sums over all axes but the first, ``[K, 1]``; on the CPU member by member, in the same order for any K."""
    if values.device.type == "cpu":
        return torch.stack([row.sum() for row in values])[:, None]
    return values.flatten(1).sum(dim=1, keepdim=True)


def uniform_value(mask: Tensor) -> bool | None:
    """What a mask ``[K, 1]`` is for all members; None if they differ, or where a device would have to be waited for."""
    if mask.device.type != "cpu":
        return None
    return True if bool(mask.all()) else None if bool(mask.any()) else False


def outer_step(due: Tensor, state: State, hyper: Hyper, reads: str, step: Callable[[State, Hyper], State]) -> None:
    """Give the members that are due their outer step, and leave the others as they are.

    Args:
        due: bool ``[K, 1]``.
        state: the population's state; the entries that `step` returns are written.
        hyper: the population's hyperparameters.
        reads: the names in `state` and `hyper` that `step` needs, separated by spaces.
        step: from the entries of some members to their new ones; must neither write into what it is given nor return
            it.
    """
    part = {name: state[name] for name in reads.split() if name in state}
    values = {name: hyper[name] for name in reads.split() if name in hyper}
    (_by_rows if due.device.type == "cpu" else _by_mask)(due, state, part, values, step)


OuterStep = Callable[[State, Hyper], State]


def _by_rows(due: Tensor, state: State, part: State, values: Hyper, step: OuterStep) -> None:
    """Compute only the rows that are due: a few of K, most of the time."""
    rows = due.flatten().nonzero().flatten()
    if len(rows) == len(due):
        for name, value in step(part, values).items():
            state[name].copy_(value)
    elif len(rows):
        new = step(*({n: v.index_select(0, rows) for n, v in each.items()} for each in (part, values)))
        for name, value in new.items():
            state[name].index_copy_(0, rows, value)


def _by_mask(due: Tensor, state: State, part: State, values: Hyper, step: OuterStep) -> None:
    """Compute all rows and take those that are due: no wait for the device, so that a step can be captured."""
    for name, value in step(part, values).items():
        state[name].copy_(torch.where(expand_for_replicas(due, value), value, state[name]))


def expand_for_replicas(values: Tensor, like: Tensor) -> Tensor:
    """``[K, 1]`` (or ``[K, P]``) as something that broadcasts with `like`, also where that is ``[K, n, P]``."""
    return values if like.dim() == values.dim() else values[:, None]
