"""The protocols: a rule is a state machine that requests a gradient at a point (`query`) and then uses it (`update`).

The state of a rule is a dict of tensors whose first axis is K, the members of a population. A rule is written once
and serves K = 1 (a custom training loop), K = 64 (many trials in one process) and K = 100,000 (particles on a
landscape). Members never mix: masks go through `torch.where` or row indices, so that the NaN of one member does not
spread to others.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.optim import schedules
from relaxbench.optim.hyper import ANNEALED, Hyper, declare
from relaxbench.optim.meanings import MEANINGS, Meaning
from relaxbench.optim.parts import Part
from relaxbench.optim.pieces import by_pieces, is_long, joined
from relaxbench.optim.published import REASONS, Published
from relaxbench.recording import recording
from relaxbench.space import Space, Value

State = dict[str, Tensor]


class Query(NamedTuple):
    """The point at which a rule requests its next gradient, and the number of the mini-batch.

    Attributes:
        points: ``[K, P]``, or ``[K, n, P]`` for n replicas.
        batch: number of the mini-batch, int64 ``[K, 1]``, or ``[K, n]``: each replica has its own. A rule that needs
            two gradients of one mini-batch repeats the number.
    """

    points: Tensor
    batch: Tensor


class GradientOracle(Protocol):
    """Gradients of a problem, billed. A rule that needs gradients alone has no other access to the problem."""

    def gradient(self, query: Query) -> tuple[Tensor, Tensor]:
        """Compute gradients at the points of a query, of the points' shape, and losses ``[K, 1]`` (or ``[K, n]``)."""
        ...

    def gradient_parts(self, query: Query) -> tuple[list[Tensor], Tensor]:
        """Compute the same, but gradients as tensors that lie next to each other along the last axis.

        Joining them takes as long as a part of the update of a long vector, see `optim.pieces`.
        """
        ...


class Linearization(Protocol):
    """The loss on one mini-batch around points ``[K, P]``: f = L ∘ φ, with φ the model up to its outputs.

    Attributes:
        loss: ``[K, 1]``.
        gradient: ∇L at the outputs, ``[K, B, C]``.
        tangent: Jφ times the direction, ``[K, B, C]``; without a direction zero, and not billed.
    """

    loss: Tensor
    gradient: Tensor
    tangent: Tensor

    def bend(self, tangent: Tensor) -> Tensor:
        """Multiply a tangent by H_L, ``[K, B, C]``."""
        ...

    def pull(self, cotangent: Tensor, keep: bool = False) -> Tensor:
        """Multiply a cotangent by Jφᵀ, ``[K, P]``. It frees the graph, unless `keep` says that it is called again."""
        ...

    def push(self, direction: Tensor) -> Tensor:
        """Multiply a direction ``[K, P]`` by Jφ, ``[K, B, C]``."""
        ...

    def loss_at(self, points: Tensor) -> Tensor:
        """Compute the losses ``[K, 1]`` of the same mini-batch at other points."""
        ...


class CurvatureOracle(Protocol):
    """Curvature, billed by its FLOPs (for CurveBall, arXiv 1805.08095)."""

    def linearize(self, points: Tensor, direction: Tensor | None, batch: Tensor) -> Linearization:
        """Linearize the loss at points ``[K, P]`` on mini-batches ``[K, 1]`` (their numbers).

        Args:
            points: ``[K, P]``.
            direction: of the tangent, ``[K, P]``, or None.
            batch: the numbers, int64 ``[K, 1]``.
        """
        ...


class Oracle(GradientOracle, CurvatureOracle, Protocol):
    """Everything that a rule can request from a problem."""


class Rule:
    """A rule that needs gradients alone. Subclasses implement `init`, `query`, `update`, and `iterate` if it is not x.

    Attributes:
        name: as in study files, e.g. ``"entropy-sgd"``.
        title: as in sentences, e.g. ``"Entropy-SGD"``.
        source: paper and equation or algorithm of the mathematics.
        wide: all hyperparameters with ranges that suit any problem; where it is not declared, it is `space`.
        space: what a study searches by default: ranges around the published settings.
        default_fixed: the hyperparameters that `space` lacks, with the values at which a study then keeps them.
        limited: hyperparameters whose default range theory limits: a problem may narrow it, but not move it.
        publications: the authors' settings, by kind of problem; the first serves where none is of the problem's kind.
        published: the values of the first publication; empty if there is none.
        overruled: hyperparameters that have no effect where an option of the constructor is set, with its name.
        parts: what can be left out of the rule, for `relaxbench ablate`; empty for a rule that others build on.
        reasons: why `space` and `default_fixed` are as they are, where `optim.published` has no reason or another one.
        copies: memory, in copies of the P parameters, the gradient included.
        rate: the step size that a schedule anneals; of an inner and an outer step size, `anneal` names it.
        scope: ``"gamma"`` or ``"sigma"`` if the rule smooths the loss over a scheduled scope.
        ages: entries of the state, ``[K, 1]``, that count the past; ``[K, P]`` after parameters were added later.
        averages: entries of the state that average past points; writing into the parameters does not move them.
        hyper_dtype: type of the hyperparameters; None for that of the parameters.
        capturable: whether a step can be recorded and replayed on a device: it reads no number on the host.
        elementwise: whether an element of the state depends on the same element of gradients and parameters alone, and
            `update` only reads the gradient; a long vector is then updated piece by piece. A class with an `update` of
            its own declares it anew.
        meanings: of the hyperparameters that only this rule has, or uses in another sense than `optim.meanings`.
        replicas: n, points of a query; fixed for the whole population.
        price: cost of the answer to a query, in gradients per replica.
        curvature: whether the rule needs more than gradients; it then implements `step` instead of `query` and
            `update`.
        finds_steps: whether the rule finds the length of its steps by itself, so that no schedule anneals it.
        compares_losses: whether the rule compares the losses of several queries, so that their mini-batches must be one
            and the same.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    wide: ClassVar[Space]
    space: ClassVar[Space]
    default_fixed: ClassVar[Mapping[str, Value]] = {}
    limited: ClassVar[frozenset[str]] = frozenset()
    publications: ClassVar[tuple[Published, ...]] = ()
    overruled: ClassVar[Mapping[str, str]] = {}
    parts: ClassVar[tuple[Part, ...]] = ()
    published: ClassVar[Mapping[str, Value]] = {}
    reasons: ClassVar[Mapping[str, str]] = {}
    copies: int
    hyper_dtype: ClassVar[torch.dtype | None] = None
    capturable: ClassVar[bool] = True
    rate: ClassVar[str] = "lr"
    scope: ClassVar[str | None] = None
    elementwise: ClassVar[bool] = False
    ages: ClassVar[frozenset[str]] = frozenset()
    averages: ClassVar[frozenset[str]] = frozenset()
    meanings: ClassVar[Mapping[str, Meaning]] = {}
    replicas: int = 1
    price: float = 1.0
    curvature: ClassVar[bool] = False
    finds_steps: ClassVar[bool] = False
    compares_losses: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        own = cls.__dict__
        if "space" in own or "wide" in own:  # nothing is inherited that may lack a hyperparameter of the new space
            cls.wide, cls.space = own.get("wide", own.get("space")), own.get("space", own.get("wide"))
            cls.default_fixed = own.get("default_fixed", {})
            cls.publications = own.get("publications", ())
            cls.parts = own.get("parts", ())
        if "update" in own and "elementwise" not in own:
            cls.elementwise = False  # it may join elements which its base class keeps apart
        declare(getattr(cls, "wide", {}))
        cls.published = cls.publications[0].values if cls.publications else {}

    @classmethod
    def meaning(cls, name: str) -> Meaning | None:
        """Return the meaning of a hyperparameter; None if neither the rule nor the shared table has it."""
        return cls.meanings.get(name, MEANINGS.get(name))

    @classmethod
    def reason(cls, name: str) -> str:
        """Return why a hyperparameter is searched, or fixed, as it is by default; "" if nothing says so."""
        return cls.reasons.get(name, REASONS.get(name, ""))

    @classmethod
    def publication(cls, kind: str) -> Published | None:
        """Return the publication for a kind of problem, or else the first one; None if there is none."""
        own = [publication for publication in cls.publications if publication.kind == kind]
        return next(iter([*own, *cls.publications]), None)

    @classmethod
    def published_for(cls, kind: str) -> Mapping[str, Value]:
        """Return the published values for a kind of problem, see `publication`; empty if there are none."""
        publication = cls.publication(kind)
        return publication.values if publication else {}

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of the constructor's arguments, which a study file states as options."""
        return [*inspect.signature(cls).parameters]

    @classmethod
    def refusal(cls, values: Mapping[str, Value]) -> str | None:
        """Return why values within the declared limits are impossible; None if they are not."""
        return None

    @classmethod
    def origin(cls) -> str:
        """Return the code of another package that takes the steps, with the package's version; "" if none does."""
        return ""

    def fingerprint(self, params: Mapping[str, Value]) -> list[Tensor]:
        """Return further numbers that tell this rule from others with other code, computed in float64."""
        return []

    @classmethod
    def unfit(cls, shapes: Sequence[torch.Size]) -> str | None:
        """Return why the rule cannot train parameters of these shapes; None if it can."""
        return None

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        """Receive, before `init`, the shapes of the tensors that lie one after another in the P parameters."""

    def init(self, x: Tensor, seed: Tensor) -> State:
        """Make the state at the start from parameters ``[K, P]`` and seeds int64 ``[K, 1]``."""
        raise NotImplementedError

    def query(self, state: State, hyper: Hyper) -> Query:
        """Request the next gradient."""
        raise NotImplementedError

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        """Use the answer to a query (see `GradientOracle`): writes into the tensors of `state` and returns it."""
        raise NotImplementedError

    def step(self, state: State, oracle: Oracle, hyper: Hyper) -> tuple[State, Tensor]:
        """Query once and update. Trainers call this.

        Returns:
            the new state, and the losses ``[K, 1]`` (or ``[K, n]``).
        """
        query = self.query(state, hyper)
        if self.elementwise and is_long([query.points]):
            parts, loss = oracle.gradient_parts(query)
        else:
            grad, loss = oracle.gradient(query)
            parts = [grad]
        return self.answered(state, parts, loss, hyper), loss

    def answered(self, state: State, parts: Sequence[Tensor], loss: Tensor, hyper: Hyper) -> State:
        """Return the state after `update`, which is called piece by piece where that is faster.

        Args:
            state, loss, hyper: see `update`.
            parts: the gradient, as tensors that lie next to each other along its last axis.
        """
        if self.elementwise and is_long(parts):
            return by_pieces(self.update, state, parts, loss, hyper)
        return self.update(state, joined(parts), loss, hyper)

    def iterate(self, state: State) -> Tensor:
        """Return the parameters ``[K, P]`` to evaluate and deploy: those of the last completed outer step."""
        return state["x"]

    def period(self, hyper: Hyper) -> Tensor:
        """Return the number of queries per outer step, int64 ``[K, 1]``."""
        any_value = next(iter(hyper.values()))
        return torch.ones_like(any_value[..., :1], dtype=torch.int64)

    def first_batch(self, query: int) -> int:
        """Return the number of the (first) mini-batch of a query: the query's own number, times n for n replicas."""
        return query * self.replicas

    def last_batch(self, query: int) -> int:
        """Return the largest number of the first mini-batch of a query; rules know it, unless they choose it late."""
        return self.first_batch(query)

    def retune(self, state: State, before: Hyper, after: Hyper) -> None:
        """Adapt the state, in place, when other code has changed hyperparameters in mid-training; studies never do."""

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        """Return the hyperparameters at a progress ``[..., K, 1]``: the step size annealed, γ (or σ²) scoped."""
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
    """Make the part of the state that every rule has: answered queries and the seed, int64 ``[K, 1]`` each."""
    return {"t": torch.zeros(x.shape[0], 1, dtype=torch.int64, device=x.device), "seed": seed.clone()}


def check_replicas(replicas: Any, name: str = "replicas") -> int:
    """Check a number of replicas, or of other things under another name, and return it.

    Raises:
        ValueError: if it is not an integer of at least 1.
    """
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 1:
        raise ValueError(f"{name} = {replicas!r}: expected an integer of at least 1")
    return replicas


def own_batches(state: State, replicas: int) -> Tensor:
    """Return the numbers of a query's mini-batches, int64 ``[K, n]``: one per replica, none used twice."""
    return state["t"] * replicas + torch.arange(replicas, device=state["t"].device)


def replicate(x: Tensor, replicas: int) -> Tensor:
    """Copy ``[K, P]`` into n equal replicas ``[K, n, P]``."""
    return x[:, None].repeat(1, replicas, 1)


def expand_for_replicas(values: Tensor, like: Tensor) -> Tensor:
    """View ``[K, 1]`` (or ``[K, P]``) so that it broadcasts with `like`, which may be ``[K, n, P]``."""
    return values if like.dim() == values.dim() else values[:, None]


def nesterov(velocity: Tensor, momentum: Tensor, direction: Tensor) -> Tensor:
    """Apply PyTorch's Nesterov form N(v, d): v ← m v + d in place; return d + m v."""
    velocity.mul_(momentum).add_(direction)
    return (momentum * velocity).add_(direction)  # a new tensor, which callers may change in place


def standard_normal(state: State, size: int, dtype: torch.dtype, scale: Tensor | None = None) -> Tensor:
    """Draw noise ``[K, size]`` for the current query of every member, times a scale ``[K, 1]`` or ``[K, size]``."""
    return random.noise(state["seed"], random.NOISE, state["t"], size, dtype, scale)


def row_sums(values: Tensor) -> Tensor:
    """Sum over all axes but the first, ``[K, 1]``; on the CPU in the same order for any K."""
    if values.device.type == "cpu" and not recording():
        return torch.stack([row.sum() for row in values])[:, None]
    return values.flatten(1).sum(dim=1, keepdim=True)


def uniform_value(mask: Tensor) -> bool | None:
    """Return the common value of a mask ``[K, 1]``; None if members differ or it cannot be read at no cost."""
    if mask.device.type != "cpu" or recording():
        return None
    return True if bool(mask.all()) else None if bool(mask.any()) else False


def place(count: Tensor, period: Tensor) -> Tensor | int:
    """Return count modulo period, int64 ``[K, 1]``.

    For a single member on the CPU it is an integer: one step of a tiny network consists of about 80 operations, and a
    rule should not add ten of them to find out whether an outer step ends.
    """
    if count.numel() == 1 and count.device.type == "cpu" and not recording():
        return int(count) % int(period)
    return count % period.to(torch.int64)
