"""Random numbers that cannot be replayed are refused with the layer, the line and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from relaxbench.errors import UserError
from relaxbench.problems import Dropout, SupervisedProblem
from relaxbench.training.compatibility import try_out, why_not_vectorized

X = torch.randn(24, 5, 8, generator=torch.Generator().manual_seed(0))
DATA = (X, X[:, 0, :3].argmax(1))


class Net(nn.Module):
    """A layer, a function that calls it, and a classifier."""

    def __init__(self, layer: nn.Module, call: Callable[[Any, Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.layer, self.call, self.head = layer, call, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.call(self.layer, x, self.training).mean(1)))


def of(make: Callable[[], nn.Module], call: Callable[[Any, Tensor, bool], Tensor]) -> SupervisedProblem:
    data = dict.fromkeys(("train", "validation", "test"), DATA)
    return SupervisedProblem("own", lambda: Net(make(), call), lambda: data, batch_size=8)


CASES: list[tuple[str, Callable[[], nn.Module], Callable[[Any, Tensor, bool], Tensor], str]] = [
    (
        "LSTM",
        lambda: nn.LSTM(8, 8, 2, batch_first=True, dropout=0.1),
        lambda m, x, t: m(x)[0],
        "in layer 'layer' (LSTM) (test_draws.py, line",
    ),
    (
        "attention",
        lambda: nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True),
        lambda m, x, t: m(x, x, x)[0],
        "set its dropout = 0.2 to 0 (as model.layer.dropout = 0.0), and put relaxbench.problems.Dropout(0.2) behind it",
    ),
    (
        "transformer",
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True),
        lambda m, x, t: m(x),
        "in layer 'layer.self_attn' (MultiheadAttention)",
    ),
    (
        "function",
        nn.Identity,
        lambda m, x, t: functional.dropout(x, 0.1, t),
        "lambda m, x, t: functional.dropout(x, 0.1, t),), which cannot be replayed: use relaxbench.problems.Dropout",
    ),
    (
        "sdpa",
        nn.Identity,
        lambda m, x, t: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1 if t else 0.0),
        "functional.scaled_dot_product_attention(x, x, x, dropout_p",
    ),
    (
        "depth",
        nn.Identity,
        lambda m, x, t: x if t and torch.rand(()) < 0.5 else 2 * x,
        "for a random factor or branch on torch.ones(1)",
    ),
    ("noise", nn.Identity, lambda m, x, t: x + torch.randn_like(x) if t else x, "x + torch.randn_like(x)"),
    ("alpha", lambda: nn.AlphaDropout(0.1), lambda m, x, t: m(x), "layer 'layer' (AlphaDropout) draws its mask"),
    (
        "max_norm",
        lambda: nn.Embedding(9, 8, max_norm=1.0),
        lambda m, x, t: m(x[..., 0].abs().long()),
        "the model writes into its parameters, as nn.Embedding does with max_norm",
    ),
]


@pytest.mark.parametrize(("make", "call", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_draw_is_refused_with_its_place(make: Any, call: Any, told: str) -> None:
    with pytest.raises(UserError) as refusal:
        try_out(of(make, call))
    assert told in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_the_refusal_advises_is_taken() -> None:
    """A branch that is left out at random, and a transformer without dropout of its attention; both vectorize."""

    def encoder() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        layer.self_attn.dropout = 0.0
        return layer

    for task in (of(lambda: Dropout(0.5), lambda m, x, t: x + m(torch.ones(1)) * x), of(encoder, lambda m, x, t: m(x))):
        try_out(task)
        assert why_not_vectorized(task) is None
