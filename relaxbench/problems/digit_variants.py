"""Two questions on handwritten digits: a deep residual network with small steps, and classes of unequal sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxbench.problems.digits import digits, mlp
from relaxbench.problems.supervised import SupervisedProblem

SCARCE, SHARE = 5, 0.01
"""Classes of which a share of the training examples is left: those from this digit on."""


class SmallSteps(nn.Module):
    """x ← x + f(x)/L for L blocks f(x) = V tanh(W x + b) + c: Euler's method with L steps for dx/dt = f(x, t).

    Args:
        width: of x.
        blocks: L.
    """

    def __init__(self, width: int = 32, blocks: int = 16) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(64, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits ``[B, 10]``."""
        x = self.enter(pixels)
        for block in self.blocks:
            x = x + block(x) / len(self.blocks)
        logits: Tensor = self.leave(x)
        return logits


def small_steps(name: str = "digits-ode", blocks: int = 16, budget: int = 1000) -> SupervisedProblem:
    """Make a residual network whose steps shrink with its depth, the view of it as a differential equation.

    Args:
        name: as in study files.
        blocks: L.
        budget: gradients per trial.
    """
    return SupervisedProblem(
        name,
        lambda: SmallSteps(blocks=blocks),
        digits,
        batch_size=64,
        budget=budget,
        worst=10.0,
        margin=1.0,
        kind="fully-connected",
        title=f"residual network x + f(x)/{blocks} of {blocks} blocks on digits (Ruseckas, arXiv 1909.03767)",
        source="1,797 handwritten digits of scikit-learn",
        caution="The paper analyses such networks and trains none; with about 360 test images, one is 0.28 points.",
    )


def imbalanced() -> dict[str, tuple[Tensor, Tensor]]:
    """Return the digits with step imbalance: 5 … 9 have a hundredth of their training examples, at least one.

    Validation and test stay balanced: what is judged is the error when all digits are as frequent.
    """
    splits = dict(digits())
    x, y = splits["train"]
    kept = list[Tensor]()
    for label in range(10):
        rows = (y == label).nonzero()[:, 0]
        kept.append(rows if label < SCARCE else rows[: max(1, round(SHARE * len(rows)))])
    rows = torch.cat(kept).sort().values
    return {**splits, "train": (x[rows], y[rows])}


def imbalanced_digits(name: str = "digits-imbalanced", budget: int = 600) -> SupervisedProblem:
    """Make the network on digits of which half the classes are rare in training.

    Args:
        name: as in study files.
        budget: gradients per trial.
    """
    return SupervisedProblem(
        name,
        mlp,
        imbalanced,
        batch_size=64,
        budget=budget,
        worst=20.0,
        margin=1.0,
        kind="fully-connected",
        title="64-32-10 network on digits, 5 … 9 with a hundredth of their examples (step imbalance, arXiv 1906.07413)",
        source="scikit-learn's handwritten digits; validation and test are balanced",
        caution="Five classes have one training example each; with about 360 test images, one is 0.28 points of error.",
    )
