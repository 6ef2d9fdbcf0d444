"""The theory's numbers for a landscape, as a report shows them.

`relaxbench.theory` computes them. The report does not import it: the command that writes a report passes them on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theorem:
    """E V(x_csgd(T)) ≤ E V(x_sgd(T)) − ½ E∫|α|² on a landscape, estimated by particles.

    Each estimate is a mean with the half width of its 95 % interval.

    Attributes:
        title: the landscape's title.
        terminal: the name of V.
        is_loss: whether V is the loss itself, so that it is comparable with a study's results.
        plain: E V of SGD, the *theory expectation*.
        controlled: E V of controlled SGD.
        bound: the theorem's upper bound for `controlled`.
        beta, seconds: inverse temperature and T.
        particles: number of particles of SGD, and of controlled SGD.
    """

    title: str
    terminal: str
    is_loss: bool
    plain: tuple[float, float]
    controlled: tuple[float, float]
    bound: tuple[float, float]
    beta: float
    seconds: float
    particles: int
