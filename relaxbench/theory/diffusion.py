"""Fokker–Planck and Hamilton–Jacobi–Bellman on a grid: a Markov chain that jumps to its neighbours.

dx = −∇Φ ds + β^{-1/2} dW becomes a chain with rates in detailed balance, so that its stationary density is exactly
exp(−2βΦ), and an expectation is a sum. Source of the control: arXiv 1704.04932, section 5, and Cole–Hopf.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import exprel

from relaxbench.theory.grid import Array, Grid


def generator(potential: Array, grid: Grid, beta: float) -> sparse.csr_array:
    """Return rates ``[N, N]`` of the chain for dx = −∇Φ ds + β^{-1/2} dW in a box with reflecting walls; rows sum to 0.

    From i to a neighbour j at distance h: D/h² B((Φ_j − Φ_i)/D), with D = 1/2β and B(z) = z/(exp z − 1)
    (Scharfetter & Gummel). Errors are of order h².

    Args:
        potential: Φ at the points of the grid, ``[N]``.
        grid: of x.
        beta: inverse temperature, positive.
    """
    D, count = 1 / (2 * beta), len(potential)
    numbers = np.arange(count).reshape(grid.shape)
    rates = sparse.csr_array((count, count))
    for dimension, h in enumerate(grid.steps):
        i = np.delete(numbers, -1, axis=dimension).ravel()
        j = np.delete(numbers, 0, axis=dimension).ravel()
        z = (potential[j] - potential[i]) / D
        forth, back = D / h**2 / exprel(z), D / h**2 / exprel(-z)  # B(z) = 1/exprel(z)
        rates = rates + sparse.csr_array((forth, (i, j)), shape=rates.shape)
        rates = rates + sparse.csr_array((back, (j, i)), shape=rates.shape)
    return (rates - sparse.diags_array(rates.sum(axis=1))).tocsr()


def flow(rates: sparse.csr_array, start: Array, seconds: float, snapshots: int) -> Array:
    """Apply exp(s Q) to a vector at s = 0, …, `seconds`: ``[snapshots + 1, N]``.

    Use uniformization: all terms are positive, so that small entries have the same relative accuracy as large ones.

    Args:
        rates: Q for expectations of a function (`start`) of the state at the end; its transpose for densities.
        start: ``[N]``, not negative.
        seconds: time.
        snapshots: number of equal pieces of the time.
    """
    fastest = float(-rates.diagonal().min())
    jump = sparse.eye_array(rates.shape[0]) + rates / fastest
    mean = fastest * seconds / snapshots
    weights = _poisson(mean)
    result = [np.asarray(start, dtype=float)]
    for _ in range(snapshots):
        term, total = result[-1], weights[0] * result[-1]
        for weight in weights[1:]:
            term = jump @ term
            total = total + weight * term
        result.append(total)
    return np.stack(result)


def _poisson(mean: float) -> Array:
    """Return the probabilities of 0, 1, … jumps, without a negligible tail, normalized."""
    count = np.arange(int(mean + 12 * np.sqrt(mean) + 40))
    logs = count * np.log(mean) - mean - np.concatenate([[0.0], np.cumsum(np.log(count[1:]))])
    weights = np.exp(logs)
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class Control:
    """The optimal control of dx = −∇f ds − α ds + β^{-1/2} dW for the cost V(x(T)) + ½∫|α|² ds, from one start.

    Attributes:
        grid: of x.
        times: ``[S + 1]``, from 0 to T.
        value: u(x, s), ``[S + 1, N]``: the cost still to come; α = ∇u.
        plain: density of the uncontrolled x(s), per point of the grid, ``[S + 1, N]``.
        controlled: density of the controlled x(s), likewise.
        terminal: V, ``[N]``.
        start: number of the grid point at which x(0) lies.
    """

    grid: Grid
    times: Array
    value: Array
    plain: Array
    controlled: Array
    terminal: Array
    start: int

    @property
    def plain_loss(self) -> float:
        """E V of the uncontrolled x(T)."""
        return float(self.plain[-1] @ self.terminal)

    @property
    def controlled_loss(self) -> float:
        """E V of the controlled x(T)."""
        return float(self.controlled[-1] @ self.terminal)

    @property
    def cost(self) -> float:
        """½ E ∫ |α|² ds."""
        return float(self.value[0, self.start]) - self.controlled_loss

    @property
    def slack(self) -> float:
        """E V(x_sgd) − ½ E∫|α|² − E V(x_csgd), which the theorem says is not negative."""
        return self.plain_loss - self.cost - self.controlled_loss


def control(f: Array, V: Array, grid: Grid, beta: float, seconds: float, start: int, snapshots: int = 200) -> Control:
    """Solve −u_s = −∇f·∇u − ½|∇u|² + (1/2β)Δu, u(·, T) = V (arXiv 1704.04932, section 5).

    w = exp(−βu) is the expectation of exp(−βV(x(T))) without control; the controlled chain is the uncontrolled one
    conditioned on it (Doob's transform), so that its density is w(x, s)/w(x₀, 0) times the plain one.

    Args:
        f: the loss on the grid, ``[N]``: the drift is −∇f.
        V: the loss at time T, ``[N]``.
        grid: of x, so large that the density vanishes at its walls.
        beta: inverse temperature.
        seconds: T.
        start: number of the grid point x(0).
        snapshots: number of pieces of T; results are kept at their ends.
    """
    rates = generator(f, grid, beta)
    lowest = float(V.min())
    w = flow(rates, np.exp(-beta * (V - lowest)), seconds, snapshots)[::-1]
    at_start = np.zeros(len(f))
    at_start[start] = 1.0
    plain = flow(rates.T.tocsr(), at_start, seconds, snapshots)
    return Control(
        grid=grid,
        times=np.linspace(0, seconds, snapshots + 1),
        value=lowest - np.log(w) / beta,
        plain=plain,
        controlled=w * plain / w[0, start],
        terminal=V,
        start=start,
    )
