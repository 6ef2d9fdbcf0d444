"""L-BFGS with a strong Wolfe line search, one evaluation of the loss and its gradient per query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim import line_search
from relaxbench.optim.hyper import WEIGHT_DECAY, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.outer_step import outer_step
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, check_replicas, counters, row_sums
from relaxbench.optim.rules.curveball import NEWTON_LR
from relaxbench.recording import recording
from relaxbench.space import Space

HISTORY = 50
"""Pairs that are kept by default."""
LEAST_BEND = 1e-10
"""sᵀy from which a pair (s, y) is kept, as in PyTorch."""
RELEASE = "arXiv 2402.01868 and its code (opt_for_pinns): torch.optim.LBFGS, lr 1, strong_wolfe, history 100"


class LBFGS(Rule):
    """Minimize along d = −H ∇f by a strong Wolfe line search; H is made of the last M pairs of s = Δx and y = Δ∇f.

    With S and Y the pairs in their order, R = triu(SᵀY), D its diagonal and γ = sᵀy/yᵀy of the last pair, the two loops
    of L-BFGS are two triangular systems:

        a = R⁻¹ Sᵀ∇f;  r = γ (∇f − Y a);  d = −(r + S R⁻ᵀ(D a − Yᵀr))

    f has (wd/2)|x|² added. A search first tries the step `newton_lr`; the first one tries min(1, 1/|∇f|₁) `newton_lr`.
    Where d does not descend, or a search makes no progress, the pairs are forgotten and d = −∇f. A query is one
    evaluation of f and ∇f. A search that the budget does not complete changes nothing.

    It compares losses, so all mini-batches must be one and the same.

    Memory: 2 M + 5 copies: S, Y, x, d, the gradients at x and at the best step so far, the new gradient; M² numbers.

    Args:
        history: M, the number of pairs kept.
    """

    name, title = "lbfgs", "L-BFGS"
    source = (
        "Liu & Nocedal, Mathematical Programming 45, 1989; Byrd, Nocedal & Schnabel, Mathematical Programming 63, "
        "1994, theorem 2.2; torch.optim.LBFGS"
    )
    space: ClassVar[Space] = {"newton_lr": NEWTON_LR, "weight_decay": WEIGHT_DECAY}
    publications: ClassVar[tuple[Published, ...]] = (
        Published("equation", {"newton_lr": 1.0, "weight_decay": 0.0}, RELEASE, {}, {"history": 100}),
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "newton_lr": "up to 1, the whole quasi-Newton step and the published value; the line search corrects it",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "newton_lr": Meaning("Step that a line search tries first; 1 is the whole quasi-Newton step"),
    }
    finds_steps = compares_losses = True
    rate = "newton_lr"
    vectors: ClassVar[int] = 5
    copies = 2 * HISTORY + vectors

    def __init__(self, history: int = HISTORY) -> None:
        self.history = check_replicas(history, "history")
        self.copies = 2 * history + self.vectors

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        size = max(1, sum(shape.numel() for shape in shapes))
        numbers = self.history**2 + len(line_search.COLUMNS) + 5
        self.copies = 2 * self.history + self.vectors + -(-2 * numbers // size)  # of 8 bytes; a parameter has 4

    def init(self, x: Tensor, seed: Tensor) -> State:
        K, P = x.shape
        one = torch.ones(K, 1, dtype=torch.float64, device=x.device)
        return {
            "x": x.clone(),
            "d": torch.zeros_like(x),
            "slope": torch.zeros_like(x),
            "low_slope": torch.zeros_like(x),
            "s": x.new_zeros(K, self.history, P),
            "y": x.new_zeros(K, self.history, P),
            "inverse": torch.eye(self.history, dtype=one.dtype, device=x.device).repeat(K, 1, 1),
            "scale": one,
            "search": one.new_zeros(K, len(line_search.COLUMNS)),
            **counters(x, seed),
        }

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(_point(state), state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        self.search(state, grad, loss, hyper, torch.ones_like(state["t"], dtype=torch.bool))
        state["t"] += 1
        return state

    def search(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper, active: Tensor) -> None:
        """Use an evaluation for the members that are active, bool ``[K, 1]``; the others do not change."""
        point, d, decay = _point(state), state["d"], hyper["weight_decay"]
        slope = grad + decay * point
        value = loss.double() + 0.5 * _dot(decay * point, point)
        good = torch.isfinite(value) & torch.isfinite(slope).all(dim=1, keepdim=True)
        now = line_search.unpack(state["search"])
        starts = now["phase"] == line_search.START
        far = torch.full_like(value, torch.inf)
        reach = d.abs().amax(dim=1, keepdim=True).double()
        then, lower, ended = line_search.advance(
            now, torch.where(good, value, far), torch.where(good, _dot(slope, d), far), reach
        )
        lost = torch.where(good, torch.zeros_like(value), torch.full_like(value, torch.nan))
        found = {**now, "low": lost, "low_value": value}  # a member that starts: x, or NaN if f(x) is not finite
        searched = torch.where(starts, line_search.pack(found), line_search.pack(then))
        state["search"].copy_(torch.where(active, searched, state["search"]))
        state["low_slope"].copy_(torch.where(active & (starts | lower), slope, state["low_slope"]))
        reads = "x d slope low_slope s y inverse scale search newton_lr"
        outer_step(active & (starts | ended), state, hyper, reads, _turn)


def _point(state: State) -> Tensor:
    """Return x + τ d."""
    step = line_search.unpack(state["search"])["step"]
    return state["x"] + step.to(state["x"].dtype) * state["d"]


def _turn(state: State, hyper: Hyper) -> State:
    """Accept the low end of a search; begin the next one along a new direction."""
    ended = line_search.unpack(state["search"])
    starts, slope, dtype = ended["phase"] == line_search.START, state["low_slope"], state["x"].dtype
    s, y = ended["low"].to(dtype) * state["d"], slope - state["slope"]
    bend, rate = _dot(s, y), hyper["newton_lr"].double()
    keeps = ~starts & (bend > LEAST_BEND)
    pairs = {
        name: torch.where(keeps[:, None], _append(state[name], pair), state[name])
        for name, pair in (("s", s), ("y", y))
    }
    inverse = torch.where(keeps[:, None], _grown(state["inverse"], pairs["s"], y, bend), state["inverse"])
    scale = torch.where(keeps, bend / _dot(y, y), state["scale"])
    d = _direction(slope, pairs["s"], pairs["y"], inverse, scale)
    fall = _dot(slope, d)
    anew = starts | ~(fall < 0) | (s == 0).all(dim=1, keepdim=True)
    steep = row_sums(slope.abs()).double()
    step = torch.where(anew, (1 / steep).clamp(max=1), torch.ones_like(steep)) * rate
    identity = torch.eye(inverse.shape[1], dtype=inverse.dtype, device=inverse.device)
    search = line_search.begin(ended["low_value"], torch.where(anew, -_dot(slope, slope), fall), step)
    return {
        "x": state["x"] + s,
        "d": torch.where(anew, -slope, d),
        "slope": slope.clone(),
        **{name: torch.where(anew[:, None], torch.zeros_like(pair), pair) for name, pair in pairs.items()},
        "inverse": torch.where(anew[:, None], identity, inverse),
        "scale": torch.where(anew, torch.ones_like(scale), scale),
        "search": line_search.pack(search),
    }


def _direction(slope: Tensor, s: Tensor, y: Tensor, inverse: Tensor, scale: Tensor) -> Tensor:
    """Compute −H ∇f; the rows of `s` and `y` that are not in use are zero, those of R are the identity's."""
    a = _inner(inverse, _inner(s, slope))
    r = scale.to(slope.dtype) * (slope - _combine(a, y))
    diagonal = 1 / inverse.diagonal(dim1=1, dim2=2)
    c = _inner(inverse.mT, diagonal * a - _inner(y, r))
    return -(r + _combine(c, s))


def _append(pairs: Tensor, new: Tensor) -> Tensor:
    return torch.cat([pairs[:, 1:], new[:, None]], dim=1)


def _grown(inverse: Tensor, s: Tensor, y: Tensor, bend: Tensor) -> Tensor:
    """Compute R⁻¹ without its first row and column, with a last one for the pair that ends in y."""
    M = inverse.shape[1]
    kept = inverse[:, 1:, 1:]
    column = -_inner(kept, _inner(s[:, :-1], y)) / bend
    top = torch.cat([kept, column[:, :, None]], dim=2)
    last = torch.cat([inverse.new_zeros(len(inverse), 1, M - 1), 1 / bend[:, :, None]], dim=2)
    return torch.cat([top, last], dim=1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Compute inner products member by member, float64 ``[K, 1]``."""
    return row_sums(a.double() * b.double())


def _inner(rows: Tensor, v: Tensor) -> Tensor:
    """Multiply matrices ``[K, M, N]`` by vectors ``[K, N]``, float64 ``[K, M]``; on the CPU the same for any K."""
    if rows.device.type == "cpu" and not recording():
        return torch.stack([(own * u).sum(dim=1) for own, u in zip(rows, v, strict=True)]).double()
    return (rows * v[:, None]).sum(dim=2).double()


def _combine(weights: Tensor, rows: Tensor) -> Tensor:
    """Add rows ``[K, M, P]`` times weights ``[K, M]``, ``[K, P]``."""
    weights = weights.to(rows.dtype)[:, :, None]
    if rows.device.type == "cpu" and not recording():
        return torch.stack([(w * own).sum(dim=0) for w, own in zip(weights, rows, strict=True)])
    return (weights * rows).sum(dim=1)
