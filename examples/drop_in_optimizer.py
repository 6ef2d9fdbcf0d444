"""Train a network with Entropy-SGD and with torch.optim.SGD, with equally many gradients.

python drop_in_optimizer.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from relaxbench.optim import EntropySGD

STEPS, BATCH = 600, 32

images, labels = load_digits(return_X_y=True)
X, Y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
TRAIN, TEST = slice(0, 1200), slice(1200, None)


def new_model() -> nn.Module:
    """Return the network with the same weights every time, and begin the same sequence of mini-batches."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take one step on a random mini-batch: one gradient for either optimizer."""
    batch = torch.randint(len(X[TRAIN]), (BATCH,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(X[batch]), Y[batch]).backward()
    optimizer.step()


def report(name: str, model: nn.Module) -> None:
    """Print the share of test examples that a model classifies wrongly."""
    with torch.no_grad():
        error = (model(X[TEST]).argmax(dim=1) != Y[TEST]).float().mean()
    print(f"{name:12} {STEPS} gradients, test error {100 * error:.2f} %")


if __name__ == "__main__":
    model = new_model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, STEPS)
    for _ in range(STEPS):
        step(model, sgd)
        cosine.step()
    report("SGD", model)

    model = new_model()
    entropy_sgd = EntropySGD(model.parameters(), total_steps=STEPS, inner_steps=10, outer_lr=1.0)
    for _ in range(STEPS):
        step(model, entropy_sgd)  # its own cosine schedule runs over total_steps
    with entropy_sgd.deployed():  # between steps the model holds the point of the next gradient
        report("Entropy-SGD", model)

    print("One run with default settings is no evidence: study_your_problem.py tunes both and gives a verdict.")
