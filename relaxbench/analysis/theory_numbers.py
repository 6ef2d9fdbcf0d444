"""What the theory expects on a landscape, as a report states it.

The numbers come from `relaxbench.theory`, which the report does not import. The command that writes a
report knows both.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theorem:
    """E V(x_csgd(T)) ≤ E V(x_sgd(T)) − ½ E∫|α|² on a landscape, by particles; means with half 95 % intervals.

    Attributes:
        title: of the landscape.
        terminal: how V is called.
        is_loss: whether V is the loss itself, so that it can stand beside what a study measured.
        plain, controlled, bound: E V of SGD (the *theory expectation*), of controlled SGD, and what is promised for it.
        beta, seconds: inverse temperature and T.
        particles: how many of each kind.
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
