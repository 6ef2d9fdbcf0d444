"""Define a problem of your own, tune two methods on it, and print the verdict.

python study_your_problem.py

The study is stored in relaxbench.db of the current folder, its report in reports/. Run it again with "more_blocks": 6
to extend it.
"""

import torch
from sklearn.datasets import make_moons
from torch import nn

import relaxbench
from relaxbench.problems import SupervisedProblem


def model() -> nn.Module:
    """Return a small network with fresh weights."""
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


def data() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the three splits: training, validation for tuning, and a test split that is read once."""
    points, labels = make_moons(1200, noise=0.25, random_state=0)
    x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
    return {
        "train": (x[:200], y[:200]),
        "validation": (x[200:600], y[200:600]),
        "test": (x[600:], y[600:]),
    }


# A trial has 100 gradients. Methods whose test errors differ by less than 1 % are equivalent.
problem = SupervisedProblem("moons", model, data, batch_size=20, budget=100, margin=1.0)

# A study for work has more: see studies/digits.toml. Six blocks are the fewest that allow a verdict.
STUDY = {
    "name": "moons",
    "problems": [__file__],
    "methods": ["sgd", "entropy-sgd"],
    "looks": [6],
    "trials": 4,
    "exploit": 0,
    "recommend": 0,
    "flatness": False,
}

if __name__ == "__main__":  # the study imports this file for its problem
    study = relaxbench.run_study(STUDY, population=32, report="reports")
    table = relaxbench.verdicts(study)
    print(table[["problem", "method", "verdict", "ratio", "low", "high"]].round(2).to_string(index=False))
