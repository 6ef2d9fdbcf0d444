"""A linear network that fits a degenerate map: a simple problem that is badly conditioned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relaxbench import random
from relaxbench.problems.landscapes.landscape import Landscape
from relaxbench.problems.losses import Batch, loss
from relaxbench.problems.problem import Params
from relaxbench.problems.samplers import WholeData

SAMPLES, INPUTS, HIDDEN, OUTPUTS = 1000, 6, 10, 10


class LinearNet(Landscape):
    """f(W1, W2) = mean |W2 W1 x − A x|² over 1,000 samples x ~ N(0, I) in R⁶, full batch.

    A = diag(1 … 1e-5) U with U ~ U[0, 1]^{10 × 6}, the diagonal falling linearly; W1 and W2 start normal with standard
    deviations 2/16 and 1/10 (Rahimi & Recht's example, as in Henriques et al., arXiv 1805.08095, section 4).
    """

    name, title = "linear-net", "a linear network with a degenerate target"
    data = f"{SAMPLES:,} drawn samples, all in every gradient"
    budget = 400
    batch_size = SAMPLES
    worst = 1e3
    margin = 20.0
    tolerance = 1e-4
    kind = "linear-net"
    ranges = {"lr": (1e-3, 0.3), "inner_lr": (1e-3, 0.3)}

    def __init__(self) -> None:
        super().__init__()
        self.loss = loss("least-squares")
        words = [random.key(torch.tensor([0]), random.DATA, torch.tensor([part])) for part in (0, 1)]
        x = random.normal(words[0], SAMPLES * INPUTS, torch.float64).view(SAMPLES, INPUTS)
        u = random.uniform(words[1], torch.arange(OUTPUTS * INPUTS)).double().view(OUTPUTS, INPUTS)
        a = torch.linspace(1, 1e-5, OUTPUTS, dtype=torch.float64)[:, None] * u
        self._data: Batch = {"x": x.float(), "y": (x @ a.T).float()}

    def layout(self) -> list[tuple[str, torch.Size]]:
        return [("W1", torch.Size([HIDDEN, INPUTS])), ("W2", torch.Size([OUTPUTS, HIDDEN]))]

    def init(self, seed: int) -> Tensor:
        words = random.key(torch.tensor([seed]), random.INIT, torch.tensor([0]))
        spread = [
            torch.full(shape, std).flatten() for (_, shape), std in zip(self.layout(), (2 / 16, 1 / 10), strict=True)
        ]
        return random.normal(words, self.size, torch.float32).flatten() * torch.cat(spread)

    def sampler(self, seeds: Sequence[int], first: Sequence[int], steps: int, device: torch.device) -> WholeData:
        return WholeData(self.split("train", device))

    def split(self, name: str, device: torch.device) -> Batch:
        return {key: value.to(device) for key, value in self._data.items()}

    def outputs(self, params: Params, batch: Batch, training: bool) -> Tensor:
        w1, w2 = params["W1"], params["W2"]
        return batch["x"].to(w1.dtype) @ w1.transpose(-1, -2) @ w2.transpose(-1, -2)
