
import torch
from torch import nn
from relaxbench.problems import SupervisedProblem

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)
        self.dropout = nn.Dropout(0.1)
        pass
    def forward(self, x):
        return self.last(self.dropout(torch.relu(self.first(x))))

x = torch.arange(120.0).view(40, 3).sin()
y = (x.sum(1) > 0).long()
problem = SupervisedProblem(
    "mine", Model, lambda: {s: (x, y) for s in ("train", "validation", "test")}, loss="cross-entropy", batch_size=8,
    budget=40, rounds=4, worst=10.0, space=None, title="mine",
)
