"""What a trial has cost. Nothing is computed from a problem that does not pass through here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

FORWARD = 1 / 3
"""A forward pass alone, in gradients: a backward pass costs two forward passes in matrix products."""


@dataclass
class Ledger:
    """The bill of one trial.

    Attributes:
        gradients: gradients of a mini-batch.
        jvps: Jacobian–vector products and further losses, by their FLOPs in gradient equivalents.
        examples: training examples seen, counted every time.
        measurement: gradient equivalents spent on measuring (held-out splits), outside the budget.
    """

    gradients: int = 0
    jvps: float = 0.0
    examples: int = 0
    measurement: float = 0.0

    def bill_gradient(self, batch_size: int, count: int = 1) -> None:
        """`count` gradients of `batch_size` examples each."""
        self.gradients += count
        self.examples += count * batch_size

    def bill_curvature(self, each: float, count: int = 1) -> None:
        """What `count` steps of a curvature method cost beside their gradient, in gradient equivalents."""
        self.jvps += each * count

    @property
    def total(self) -> float:
        """Gradient equivalents, the currency of the budget."""
        return self.gradients + self.jvps

    def bill_measurement(self, examples: int, batch_size: int) -> None:
        """A forward pass over held-out examples."""
        self.measurement += FORWARD * examples / batch_size

    def as_dict(self) -> dict[str, float]:
        """For the database."""
        return asdict(self)
