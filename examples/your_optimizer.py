"""Compare an optimizer of your own, and PyTorch's Adam, with a tuned SGD on handwritten digits.

python your_optimizer.py

The study is stored in relaxbench.db of the current folder.
"""

import torch

import relaxbench


class Normalized(torch.optim.Optimizer):
    """Step along an average of the gradients, by a length that does not depend on their size."""

    def __init__(self, params, lr=1e-3, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step. All that an optimizer remembers lies in `state` and `param_groups`."""
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                p.sub_(average / (average.norm() + 1e-12), alpha=group["lr"])


# A study for work has more: see studies/optimizers.toml. Six blocks are the fewest that allow a verdict.
STUDY = {
    "name": "lengths",
    "problems": ["digits-mlp"],
    "methods": ["sgd", "adam", "normalized"],
    "looks": [6],
    "trials": 2,
    "exploit": 0,
    "recommend": 0,
    "budget": 60,
    "flatness": False,
    "method": {
        "adam": {"rule": "torch:torch.optim.Adam"},
        "normalized": {"rule": f"torch:{__file__}:Normalized", "space": {"lr": [1e-3, 1.0], "beta": [0.5, 0.99]}},
    },
}

if __name__ == "__main__":  # the study imports this file for the optimizer
    relaxbench.run_study(STUDY, population=16)
