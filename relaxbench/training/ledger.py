"""The cost of a trial. Every gradient, product and measurement of a problem is billed here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from relaxbench.problems.measurements import FORWARD


@dataclass
class Ledger:
    """The bill of one trial.

    Attributes:
        gradients: number of mini-batch gradients.
        jvps: Jacobian–vector products and further losses, by their FLOPs, in gradient equivalents.
        examples: number of training examples in all gradients, with repetitions.
        measurement: gradient equivalents of measurements (held-out splits), which are not part of the budget.
    """

    gradients: int = 0
    jvps: float = 0.0
    examples: int = 0
    measurement: float = 0.0

    def bill_gradient(self, batch_size: int, count: int = 1) -> None:
        """Bill `count` gradients of `batch_size` examples each."""
        self.gradients += count
        self.examples += count * batch_size

    def bill_curvature(self, cost: float, count: int = 1) -> None:
        """Bill `count` steps of a curvature method at `cost` gradient equivalents each, their gradients excluded."""
        self.jvps += cost * count

    @property
    def total(self) -> float:
        """Gradient equivalents that count towards the budget."""
        return self.gradients + self.jvps

    def bill_measurement(self, examples: int, batch_size: int) -> None:
        """Bill a forward pass over held-out examples."""
        self.measurement += FORWARD * examples / batch_size

    def as_dict(self) -> dict[str, float]:
        """Return the bill as the database stores it."""
        return asdict(self)
