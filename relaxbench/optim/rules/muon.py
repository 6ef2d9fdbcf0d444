"""Muon: momentum whose matrices are made orthogonal by a Newton–Schulz iteration; AdamW for all that is no matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from relaxbench.optim import schedules
from relaxbench.optim.hyper import MOMENTUM, SCHEDULE, Hyper
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.parts import NO_MOMENTUM, Part
from relaxbench.optim.published import Published
from relaxbench.optim.rule import Query, Rule, State, counters
from relaxbench.optim.rules.adamw import ADAM_LR, DECAY, AdamW, adam
from relaxbench.space import Float, Space, Value

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the iteration X ← a X + (b A + c A²) X with A = X Xᵀ: it brings all singular values near 1, quickly."""
ITERATIONS = 5
LEAST_NORM = 1e-7
MUON_LR = Float(1e-3, 1.0, 0.02, log=True)
BETAS: Mapping[str, Value] = {"beta1": 0.9, "beta2": 0.95}


class Block(NamedTuple):
    """Neighbouring columns of the P parameters that are updated together.

    Attributes:
        columns: which.
        shape: rows and columns of a matrix; None for what AdamW takes.
        scale: the factor s of a matrix.
    """

    columns: slice
    shape: tuple[int, int] | None
    scale: float


class Muon(Rule):
    """B ← μ B + (1 − μ) g;  x ← x − η_M (wd x + s NS((1 − μ) g + μ B)) for matrices;  AdamW for the rest.

    NS takes five steps of the Newton–Schulz iteration from B/|B|, after which the singular values lie near 1. A matrix
    of m rows and n columns has s = √max(1, m/n). The filters of a convolution are one matrix with a row per output
    channel, and s = 1. All parameters of two or more dimensions are matrices. The authors leave the first and the last
    of them (embeddings, filters at the input, the head) to AdamW, as `adam_first` and `adam_last` do.

    The iteration runs for all members at once, in the precision of the parameters.

    Memory: 4 copies: x, B (AdamW's m), AdamW's v, the gradient. v is not used at matrices.

    Args:
        adam_first: Leave the first matrix to AdamW.
        adam_last: Leave the last matrix to AdamW.
        bfloat16: Run the iteration in bfloat16, as the authors do; slow on a CPU.
    """

    name, title = "muon", "Muon"
    source = "Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; torch.optim.Muon"
    wide: ClassVar[Space] = {
        "muon_lr": MUON_LR,
        "adam_lr": ADAM_LR,
        "momentum": replace(MOMENTUM, default=0.95),
        "beta1": AdamW.wide["beta1"],
        "beta2": Float(0.9, 0.9999, 0.95, below=1.0),
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    space: ClassVar[Space] = {
        "muon_lr": MUON_LR,
        "adam_lr": ADAM_LR,
        "decoupled_decay": DECAY,
        "schedule": SCHEDULE,
    }
    default_fixed: ClassVar[Mapping[str, Value]] = {"momentum": 0.95, **BETAS}
    publications = (
        Published(
            "transformer",
            {
                "muon_lr": 0.02,
                "adam_lr": 3e-4,
                "momentum": 0.95,
                **BETAS,
                "decoupled_decay": 0.01,
                "schedule": "constant",
            },
            "the README and the defaults of github.com/KellerJordan/Muon",
            {"schedule": "the README gives none"},
            {"adam_first": True, "adam_last": True},
        ),
    )
    parts = (
        Part("orthogonality", "orthogonal matrices", "AdamW for all parameters", rule="adamw"),
        NO_MOMENTUM,
    )
    reasons: ClassVar[Mapping[str, str]] = {
        "muon_lr": "as many decades as SGD's step size, around the published 0.02; at 1 a step replaces a matrix whose "
        "singular values are 1",
        "adam_lr": "AdamW's range",
        "momentum": "0.95 in the code and in PyTorch; the authors tune step size and decay alone",
        "beta1": "0.9 in the code",
        "beta2": "0.95 in the code",
        "decoupled_decay": "AdamW's range, around the published 0.01 and PyTorch's 0.1",
    }
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "muon_lr": Meaning("Step size η_M of matrices, about the size of a step of their singular values", "parameter"),
        "momentum": Meaning("Weight μ of the past in the mean B of the gradients of matrices"),
        "adam_lr": Meaning("Step size η of the parameters that AdamW takes", "parameter"),
    }
    copies = 4
    rate = "muon_lr"
    ages = frozenset({"forgotten1", "forgotten2"})

    def __init__(self, adam_first: bool = False, adam_last: bool = False, bfloat16: bool = False) -> None:
        self.adam_first, self.adam_last, self.bfloat16 = adam_first, adam_last, bfloat16
        self.blocks: list[Block] = []

    @classmethod
    def unfit(cls, shapes: Sequence[torch.Size]) -> str | None:
        if any(len(shape) > 1 for shape in shapes):
            return None
        return "Muon takes matrices, of which the model has none: take AdamW"

    def bind(self, shapes: Sequence[torch.Size]) -> None:
        """Divide the parameters into matrices and the rest.

        Raises:
            ValueError: if the options leave no matrix to Muon.
        """
        matrices = [i for i, shape in enumerate(shapes) if len(shape) > 1]
        taken = matrices[int(self.adam_first) : len(matrices) - int(self.adam_last)]
        if matrices and not taken:
            raise ValueError(
                f"adam_first = {self.adam_first}, adam_last = {self.adam_last} leave no matrix to Muon, for the model "
                f"has {len(matrices)}: set one of them to false"
            )
        self.blocks, begin = [], 0
        for i, shape in enumerate(shapes):
            end = begin + shape.numel()
            matrix = (shape[0], shape[1:].numel()) if i in taken and shape.numel() else None
            scale = math.sqrt(max(1, shape[0] / shape[1])) if matrix and len(shape) == 2 else 1.0
            if matrix is None and self.blocks and self.blocks[-1].shape is None:
                begin = self.blocks.pop().columns.start
            self.blocks.append(Block(slice(begin, end), matrix, scale))
            begin = end

    def init(self, x: Tensor, seed: Tensor) -> State:
        zero, one = x.new_zeros(x.shape), x.new_ones(len(x), 1)
        moments = {"m": zero, "v": zero.clone(), "forgotten1": one, "forgotten2": one.clone()}
        return {"x": x.clone(), **moments, **counters(x, seed)}

    def retune(self, state: State, before: Hyper, after: Hyper) -> None:
        AdamW.retune(self, state, before, after)  # type: ignore[arg-type]

    def at(self, hyper: Hyper, progress: Tensor) -> dict[str, Tensor]:
        now = super().at(hyper, progress)
        now["adam_lr"] = hyper["adam_lr"] * schedules.step_size(hyper["schedule"], progress)
        return now

    def query(self, state: State, hyper: Hyper) -> Query:
        return Query(state["x"], state["t"])

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        state["forgotten1"].mul_(hyper["beta1"])
        state["forgotten2"].mul_(hyper["beta2"])
        for block in self.blocks or [Block(slice(0, grad.shape[1]), None, 1.0)]:
            part, now = _columns(state, block.columns), _columns(hyper, block.columns)
            g = grad[:, block.columns]
            if block.shape is None:
                step = adam(part, g, now)
                part["x"].sub_(now["adam_lr"] * (now["decoupled_decay"] * part["x"] + step))
            else:
                self._matrix(part, g, now, block.shape, block.scale)
        state["t"] += 1
        return state

    def _matrix(self, part: State, g: Tensor, hyper: Hyper, shape: tuple[int, int], scale: float) -> None:
        m, momentum, rate = part["m"], hyper["momentum"], hyper["muon_lr"]
        fresh = (1 - momentum) * g
        m.mul_(momentum).add_(fresh)
        ahead = fresh + momentum * m
        step = self._orthogonal(ahead.reshape(-1, *shape)).reshape(ahead.shape)
        part["x"].sub_(rate * (hyper["decoupled_decay"] * part["x"] + scale * step))

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        """Bring the singular values of matrices ``[K, m, n]`` near 1."""
        a, b, c = COEFFICIENTS
        x = matrices.to(torch.bfloat16) if self.bfloat16 else matrices
        tall = x.shape[1] > x.shape[2]
        x = x.mT if tall else x
        # One vector per member, so that sums run in the same order for any K.
        x = x / x.reshape(len(x), -1).norm(dim=1).clamp(min=LEAST_NORM)[:, None, None]
        for _ in range(ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return (x.mT if tall else x).to(matrices.dtype)


def _columns(values: Hyper, columns: slice) -> State:
    """View some columns of what has one per parameter; the rest has one per member."""
    return {name: value[:, columns] if value.shape[1] > 1 else value for name, value in values.items()}
