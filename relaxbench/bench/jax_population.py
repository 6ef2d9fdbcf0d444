"""The digits population as people write it in JAX: `jit(vmap(train))`, with `lax.scan` over the steps.

It is written in JAX alone, for its numbers to be compared with ours. XLA's threads are one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxbench.bench.cpu_time import cpu_rate
from relaxbench.problems import SupervisedProblem

RULES = ("sgd", "entropy-sgd")
STEPS = 64
"""Steps of one call of the compiled function; a multiple of a whole epoch is drawn, and the rest left out."""
TOTAL = 10**6
"""Steps over which the schedules run: so many that a benchmark stays at their beginning."""
INSTALL = "pip install 'relaxbench[bench]'"

Tree = dict[str, Any]
"""Arrays by name: the parameters, or a rule's state."""
Update = Callable[[Tree, Tree, Tree], Tree]
"""From state, gradient and hyperparameters to the state after a step."""


def why_missing() -> str | None:
    """Return what to install if JAX is not here; None if it is."""
    return None if find_spec("jax") else f"JAX is not installed: {INSTALL}"


class JaxPopulation:
    """K networks trained in JAX. Satisfies `interleave.Contender`, in member-steps per CPU-second.

    Args:
        problem: digits with a network of two layers.
        rule: one of `RULES`.
        size: K.
        params: hyperparameters by their names, the same for all members.
    """

    def __init__(self, problem: SupervisedProblem, rule: str, size: int, params: Mapping[str, Any]) -> None:
        jax = _jax()
        x, y = (value.numpy() for value in problem.tensors["train"])
        own = {n: np.full(size, v, np.float32) for n, v in params.items() if not isinstance(v, str)}
        start = _stacked(problem, range(size))
        many = partial(train, rule=rule, x=x, y=y, batch=problem.batch_size)
        self.run = jax.jit(jax.vmap(many, in_axes=(0, 0, 0, None)))
        self.size, self.hyper = size, own
        self.keys = jax.random.split(jax.random.key(0), size)
        self.state = initial(rule, start, np.zeros(size, np.int32))
        self.calls = 0
        self.call()  # compiles

    def call(self) -> int:
        """Take `STEPS` steps with every member; return their number."""
        self.state = _jax().block_until_ready(self.run(self.state, self.keys, self.hyper, self.calls))
        self.calls += 1
        return self.size * STEPS

    def rate(self, seconds: float) -> float:
        """Return member-steps per CPU-second over the next stretch, of at least this many CPU-seconds."""
        return cpu_rate(self.call, seconds)


def train(state: Tree, key: Any, hyper: Tree, call: Any, *, rule: str, x: Any, y: Any, batch: int) -> Tree:
    """Draw the mini-batches of a stretch without replacement, and take its steps: for one member.

    Args:
        state: of the rule.
        key: of the member's draws.
        hyper: a number by name.
        call: number of the stretch.
        rule: one of `RULES`.
        x: training inputs ``[N, D]``.
        y: labels ``[N]``.
        batch: examples of a mini-batch.
    """
    jax = _jax()
    orders, noise = jax.random.split(jax.random.fold_in(key, call))
    per_epoch = len(x) // batch
    epochs = jax.random.split(orders, -(-STEPS // per_epoch))
    rows = jax.vmap(lambda one: jax.random.permutation(one, len(x))[: per_epoch * batch])(epochs)
    return follow(state, rows.reshape(-1, batch)[:STEPS], noise, hyper, rule=rule, x=x, y=y)


def follow(state: Tree, rows: Any, key: Any, hyper: Tree, *, rule: str, x: Any, y: Any) -> Tree:
    """Take one step per mini-batch, whose examples are the rows int ``[steps, B]``."""
    jax = _jax()
    inputs, labels = jax.numpy.asarray(x), jax.numpy.asarray(y)
    update, point = (_sgd, "x") if rule == "sgd" else (partial(_entropy_sgd, key=key), "y")

    def step(now: Tree, index: Any) -> tuple[Tree, None]:
        return update(now, jax.grad(_loss)(now[point], inputs[index], labels[index]), hyper), None

    end: Tree = jax.lax.scan(step, state, rows)[0]
    return end


def initial(rule: str, params: Tree, count: Any) -> Tree:
    """Make the state of a rule at some parameters, after no steps."""
    zero = {name: np.zeros_like(value) for name, value in params.items()}
    if rule == "sgd":
        return {"x": params, "v": zero, "t": count}
    return {"x": params, "y": params, "z": params, "v": zero, "v_x": zero, "t": count}


def named(problem: SupervisedProblem, points: Tensor) -> Tree:
    """Split parameters ``[K, P]`` into arrays: weights ``[K, in, out]`` and biases ``[K, out]`` of two layers."""
    parts = torch.split(points, [shape.numel() for _, shape in problem.layout()], dim=1)
    shaped = [part.reshape(-1, *shape) for part, (_, shape) in zip(parts, problem.layout(), strict=True)]
    first, bias, second, last = (part.mT if part.dim() == 3 else part for part in shaped)
    return {n: v.contiguous().numpy() for n, v in zip("abcd", (first, bias, second, last), strict=True)}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Let threads that begin in this block share one core: XLA makes as many threads as it sees cores."""
    flags = "--xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def _jax() -> ModuleType:
    """Import JAX, which takes a second, when it is used."""
    import jax

    module: ModuleType = jax
    return module


def _stacked(problem: SupervisedProblem, seeds: range) -> Tree:
    return named(problem, torch.stack([problem.init(seed) for seed in seeds]))


def _loss(params: Tree, x: Any, y: Any) -> Any:
    """The mean cross-entropy of a mini-batch."""
    jax = _jax()
    hidden = jax.nn.relu(x @ params["a"] + params["b"])
    scores = jax.nn.log_softmax(hidden @ params["c"] + params["d"])
    return -jax.numpy.take_along_axis(scores, y[:, None], axis=1).mean()


def _each(function: Callable[..., Any], *trees: Tree) -> Tree:
    mapped: Tree = _jax().tree.map(function, *trees)
    return mapped


def _annealed(outer: Any, total: Any) -> Any:
    numpy = _jax().numpy
    return 0.5 * (1 + numpy.cos(numpy.pi * outer / total))


def _sgd(state: Tree, grad: Tree, hyper: Tree) -> Tree:
    """Nesterov's momentum, weight decay, and a cosine."""
    lr = hyper["lr"] * _annealed(state["t"], TOTAL)
    d = _each(lambda g, x: g + hyper["weight_decay"] * x, grad, state["x"])
    v = _each(lambda v, d: hyper["momentum"] * v + d, state["v"], d)
    x = _each(lambda x, d, v: x - lr * (d + hyper["momentum"] * v), state["x"], d, v)
    return {"x": x, "v": v, "t": state["t"] + 1}


def _entropy_sgd(state: Tree, grad: Tree, hyper: Tree, key: Any) -> Tree:
    """An inner Langevin step, and an outer one where L inner steps are done (arXiv 1611.01838, algorithm 1)."""
    jax = _jax()
    length, m, a = hyper["inner_steps"].astype(int), hyper["momentum"], hyper["averaging"]
    progress = (state["t"] // length) / (TOTAL // length)
    gamma = hyper["gamma_start"] * (hyper["gamma_end"] / hyper["gamma_start"]) ** progress
    outer_lr = hyper["outer_lr"] * _annealed(state["t"] // length, TOTAL // length)
    d = _each(lambda g, x, y: g + hyper["weight_decay"] * y + (y - x) / gamma, grad, state["x"], state["y"])
    v = _each(lambda v, d: m * v + d, state["v"], d)
    y = _each(lambda y, d, v: y - hyper["inner_lr"] * (d + m * v), state["y"], d, v)
    scale = jax.numpy.sqrt(2 * hyper["inner_lr"] * hyper["temperature"] / (1 - m))
    keys = jax.random.split(jax.random.fold_in(key, state["t"]), len(y))
    y = {
        name: value + scale * jax.random.normal(one, value.shape)
        for (name, value), one in zip(y.items(), keys, strict=True)
    }
    z = _each(lambda z, y: a * z + (1 - a) * y, state["z"], y)
    due = (state["t"] + 1) % length == 0
    pull = _each(lambda x, z: x - z, state["x"], z)
    v_x = _each(lambda v, d: hyper["outer_momentum"] * v + d, state["v_x"], pull)
    moved = _each(lambda x, d, v: x - outer_lr * (d + hyper["outer_momentum"] * v), state["x"], pull, v_x)

    def chosen(new: Tree, old: Tree) -> Tree:
        return _each(lambda new, old: jax.numpy.where(due, new, old), new, old)

    x, v_x = chosen(moved, state["x"]), chosen(v_x, state["v_x"])
    return {"x": x, "y": chosen(moved, y), "z": chosen(moved, z), "v": v, "v_x": v_x, "t": state["t"] + 1}
