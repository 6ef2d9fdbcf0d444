"""Smoothed landscapes: the viscous Hamilton–Jacobi equation, the inviscid one, and the heat equation.

Each is solved by its representation formula (Cole–Hopf, Hopf–Lax, a Gaussian mean), not by stepping in time, so that
the numbers are exact up to quadrature. Points are ``[M, n]``, n = 1 or 2; t is γ, β the inverse temperature.
Source: Chaudhari et al., arXiv 1704.04932, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from relaxbench.theory.grid import Array, Function, Grid

CHUNK = 2**22
"""Numbers in memory at once: points times grid points."""
NODES = {1: 1201, 2: 161}
"""Quadrature nodes of a standard normal in each dimension, from −9 to 9."""
EDGE = 1e-9
"""Largest share of a quadrature that may lie at the boundary of its grid."""
SMALL = "the grid is too small: exp(−β f(y) − β|x − y|²/2t) does not vanish on its boundary"
COARSE = 2.0
"""Least effective number of grid points per dimension of a quadrature: a Gaussian of width 0.56 steps."""


@dataclass(frozen=True)
class Smoothed:
    """A smoothed landscape at M points.

    Attributes:
        value: ``[M]``.
        gradient: ``[M, n]``.
        hessian: ``[M, n, n]``.
    """

    value: Array
    gradient: Array
    hessian: Array


@dataclass(frozen=True)
class Envelope:
    """A Moreau envelope at M points.

    Attributes:
        value: ``[M]``.
        gradient: (x − prox)/t, ``[M, n]``; one of several where the minimizer is not unique.
        prox: the minimizer y, ``[M, n]``.
    """

    value: Array
    gradient: Array
    prox: Array


def viscous(f: Function, x: Array, t: float, beta: float, grid: Grid) -> Smoothed:
    """Local entropy f_t = −(1/β) log (G_{t/β} * exp(−β f)), which solves u_t = −½|∇u|² + (1/2β)Δu with u(·, 0) = f.

    With y ~ exp(−β f(y) − β|x − y|²/2t): ∇u = (x − E y)/t and D²u = I/t − (β/t²) Cov(y).

    Args:
        f: the landscape.
        x: points, ``[M, n]``.
        t: time, positive.
        beta: inverse temperature, positive.
        grid: of the y; it must contain and resolve their density.

    Raises:
        ValueError: if t or β is not positive, or the grid is too small or too coarse.
    """
    _positive(t=t, beta=beta)
    y, h = grid.points, grid.steps
    n, base, edge = len(h), -beta * f(y), grid.edge
    square = (y[:, :, None] * y[:, None, :]).reshape(-1, n * n)
    parts = []
    for part in _chunks(x, len(y)):
        p = _squared(part, y)  # then, in its place, exp(−β f(y) − β|x − y|²/2t) over its largest value
        p *= -beta / (2 * t)
        p += base
        largest = p.max(axis=1)
        p -= largest[:, None]
        np.exp(p, out=p)
        mass = p.sum(axis=1)
        p /= mass[:, None]
        total = largest + np.log(mass)
        if float(p[:, edge].max()) > EDGE:
            raise ValueError(SMALL)
        if float(1 / (p**2).sum(axis=1).max()) < COARSE**n:
            raise ValueError(f"the grid is too coarse: its steps {h.tolist()} do not resolve the density of y")
        mean = p @ y
        covariance = (p @ square).reshape(-1, n, n) - mean[:, :, None] * mean[:, None, :]
        value = -(total + np.log(grid.cell) - 0.5 * n * np.log(2 * np.pi * t / beta)) / beta
        parts.append((value, (part - mean) / t, np.eye(n) / t - beta / t**2 * covariance))
    return Smoothed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def viscous_value(f: Function, points: Grid, t: float, beta: float, grid: Grid) -> Array:
    """The value of `viscous` at all points of a grid: by one dimension after the other, in a fraction of the time.

    Args:
        f: the landscape.
        points: the x.
        t, beta, grid: as of `viscous`.

    Raises:
        ValueError: as of `viscous`.
    """
    _positive(t=t, beta=beta)
    base, rate = (-beta * f(grid.points)).reshape(grid.shape), beta / (2 * t)
    total = _log_sums(base, points, grid, rate)
    on_edge = np.where(grid.edge.reshape(grid.shape), base, -np.inf)
    if float((_log_sums(on_edge, points, grid, rate) - total).max()) > np.log(EDGE):
        raise ValueError(SMALL)
    n = len(grid.axes)
    if float((2 * total - _log_sums(2 * base, points, grid, 2 * rate)).min()) < n * np.log(COARSE):
        raise ValueError(f"the grid is too coarse: its steps {grid.steps.tolist()} do not resolve the density of y")
    return np.asarray(-(total + np.log(grid.cell) - 0.5 * n * np.log(2 * np.pi * t / beta)) / beta)


def _log_sums(base: Array, points: Grid, grid: Grid, rate: float) -> Array:
    """Return the logarithm of Σ_y exp(base(y) − rate |x − y|²) at the points x, ``[M]``."""
    for x, y in zip(points.axes, grid.axes, strict=True):  # the first axis is summed, that of x becomes the last
        near = -rate * (x[:, None] - y) ** 2
        base = np.moveaxis(logsumexp(near.reshape(*near.shape, *[1] * (base.ndim - 1)) + base, axis=1), 0, -1)
    return base.ravel()


def inviscid(f: Function, x: Array, t: float, grid: Grid) -> Envelope:
    """The Moreau envelope u(x, t) = min_y f(y) + |x − y|²/2t (Hopf–Lax), which solves u_t = −½|∇u|².

    Take the best point of the grid, then search around it with halved steps; this needs no derivative of f.

    Args:
        f: the landscape.
        x: points, ``[M, n]``.
        t: time, positive.
        grid: of the y, fine enough that its best point lies in the right valley.

    Raises:
        ValueError: if t is not positive, or a minimizer lies on the boundary of the grid.
    """
    _positive(t=t)
    y, h, edge = grid.points, grid.steps, grid.edge
    base, n = f(y), len(grid.steps)
    start = []
    for part in _chunks(x, len(y)):
        best = (base + _squared(part, y) / (2 * t)).argmin(axis=1)
        if edge[best].any():
            raise ValueError("the grid is too small: a minimizer of f(y) + |x − y|²/2t lies on its boundary")
        start.append(y[best])
    prox = np.concatenate(start)
    star = np.stack([part.ravel() for part in np.meshgrid(*[[0.0, -1.0, -0.5, 0.5, 1.0]] * n, indexing="ij")], axis=1)
    rows = np.arange(len(x))
    for _ in range(50):
        around = prox[:, None, :] + h * star
        cost = f(around.reshape(-1, n)).reshape(len(x), -1) + ((x[:, None, :] - around) ** 2).sum(-1) / (2 * t)
        prox = around[rows, cost.argmin(axis=1)]  # the centre comes first, so that it wins a tie
        h = h / 2
    value = f(prox) + ((x - prox) ** 2).sum(axis=1) / (2 * t)
    return Envelope(value, (x - prox) / t, prox)


def heat(f: Function, x: Array, t: float, beta: float) -> Smoothed:
    """The loss blurred, v = G_{t/β} * f: solves v_t = (1/2β)Δv with v(·, 0) = f, and is never below the local entropy.

    With ξ ~ N(0, I), σ² = t/β: v = E f(x + σξ), ∇v = E f ξ/σ, D²v = E f (ξξᵀ − I)/σ².

    Raises:
        ValueError: if t or β is not positive.
    """
    _positive(t=t, beta=beta)
    n, sigma = x.shape[1], float(np.sqrt(t / beta))
    nodes = Grid.box([-9.0] * n, [9.0] * n, [NODES[n]] * n)
    xi = nodes.points
    weights = np.exp(-0.5 * (xi**2).sum(axis=1)) * nodes.cell / (2 * np.pi) ** (n / 2)
    second = (xi[:, :, None] * xi[:, None, :] - np.eye(n)) / sigma**2
    parts = []
    for part in _chunks(x, len(xi)):
        values = f((part[:, None, :] + sigma * xi).reshape(-1, n)).reshape(len(part), -1)
        # Subtract the value at the centre, so that derivatives of a constant are exactly zero.
        centred = (values - f(part)[:, None]) * weights
        parts.append((values @ weights, centred @ xi / sigma, np.einsum("my,yab->mab", centred, second)))
    return Smoothed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _squared(x: Array, y: Array) -> Array:
    """Return |x − y|² of every pair, ``[M, N]``."""
    apart = np.zeros((len(x), len(y)))
    for dimension in range(x.shape[1]):
        apart += (x[:, dimension, None] - y[:, dimension]) ** 2
    return apart


def _chunks(x: Array, width: int) -> list[Array]:
    return np.array_split(x, max(1, -(-len(x) * width // CHUNK)))


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} = {value}: expected a positive number")
