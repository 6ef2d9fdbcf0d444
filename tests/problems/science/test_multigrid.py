"""The two-grid method in Fourier space, against matrices on a larger grid; the problem that learns its prolongation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from relaxbench.problems.science.multigrid import Prolongation
from relaxbench.problems.science.two_grid import Grid, convergence_factors, corrected, smoother, stencils

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(5)
CELLS = torch.randn(2, 8, 8, dtype=torch.float64, generator=GENERATOR).exp()
ANGLE = torch.tensor([[math.pi / 8, 0.0], [math.pi / 8, math.pi / 8]], dtype=torch.float64)


def dense(stencil: Tensor) -> Tensor:
    """Return the matrix of a periodic grid, entry by entry."""
    size = len(stencil)
    matrix = torch.zeros(size, size, size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    matrix[i, j, (i + di) % size, (j + dj) % size] += stencil[i, j, di + 1, dj + 1]
    return matrix.view(size**2, size**2)


def test_stencils_are_the_bilinear_elements_of_the_diffusion() -> None:
    """Element matrices of a square, added up cell by cell."""
    own = torch.tensor([[4.0, -1, -1, -2], [-1, 4, -2, -1], [-1, -2, 4, -1], [-2, -1, -1, 4]], dtype=torch.float64) / 6
    size, matrix = 8, torch.zeros(64, 64, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            corners = [(i + a) % size * size + (j + b) % size for a in (0, 1) for b in (0, 1)]
            for row, one in enumerate(corners):
                for column, other in enumerate(corners):
                    matrix[one, other] += CELLS[0, i, j] * own[row, column]
    assert torch.allclose(dense(stencils(CELLS)[0]), matrix, atol=1e-14)


def test_a_mode_of_the_large_grid_is_mapped_as_its_block_says() -> None:
    """exp(iθ·n) v(n mod 8) on 16 × 16 nodes: the block repeated, on which the modes are periodic."""
    grid, stencil = Grid(8), stencils(CELLS)
    block = torch.randn(8, 8, 2, dtype=torch.float64, generator=GENERATOR)
    v = torch.view_as_complex(block)
    n = torch.arange(16, dtype=torch.float64)
    for k in range(2):
        turn = ANGLE[k, 0] * n[:, None] + ANGLE[k, 1] * n[None, :]
        phase = torch.complex(turn.cos(), turn.sin())
        large = dense(stencil[k].repeat(2, 2, 1, 1)).to(torch.complex128) @ (phase * v.repeat(2, 2)).flatten()
        own = (grid.matrix(stencil, ANGLE)[k] @ v.flatten()).view(8, 8)
        assert torch.allclose(large.view(16, 16), phase * own.repeat(2, 2), atol=1e-12)


def test_the_factor_is_the_spectral_radius_of_a_cycle() -> None:
    grid, stencil = Grid(8), stencils(CELLS)
    matrix = grid.matrix(stencil, ANGLE)
    prolongation = grid.prolongation(grid.weights(stencil, grid.black_box(stencil)), ANGLE)
    sweep, one = smoother(matrix), torch.eye(64, dtype=torch.complex128)
    lower = matrix.tril()
    assert torch.allclose(lower @ (one - sweep), matrix, atol=1e-12)
    coarse = torch.linalg.inv(prolongation.mH @ matrix @ prolongation)
    cycle = sweep @ (one - prolongation @ coarse @ prolongation.mH @ matrix) @ sweep
    radius = torch.linalg.eigvals(cycle).abs().amax(dim=-1)
    own = convergence_factors(corrected(prolongation, matrix, sweep @ sweep))
    assert torch.allclose(own, radius, rtol=0.02) and radius.max() < 0.2


def test_every_prolongation_reproduces_constants_and_no_conductivity_means_bilinear() -> None:
    grid, stencil = Grid(8), stencils(CELLS)
    zero = torch.zeros(2, 2, dtype=torch.float64)
    raw = torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=GENERATOR)
    for edges in (grid.normalized(raw), grid.black_box(stencil)):
        rows = grid.prolongation(grid.weights(stencil, edges), zero).sum(dim=-1)
        assert torch.allclose(rows, torch.ones_like(rows), atol=1e-13)
    even = stencils(torch.ones(1, 8, 8, dtype=torch.float64))
    bilinear = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]], dtype=torch.float64)
    assert torch.allclose(grid.weights(even, grid.black_box(even)), bilinear.expand(1, 4, 4, 3, 3), atol=1e-14)


def test_the_loss_is_the_mean_squared_norm_and_examples_are_apart() -> None:
    task = Prolongation("multigrid-prolongation-small", 400)
    params = task.unflatten(task.init(1))
    batch = {name: value[:3] for name, value in task.split("test", CPU).items()}
    outputs = task.outputs(params, batch, True)
    iteration = torch.view_as_complex(outputs.view(3, 64, 64, 2))
    assert float(task.loss.value(outputs, batch)) == pytest.approx(
        float(torch.linalg.matrix_norm(iteration).square().mean()), rel=1e-12
    )
    assert task.score(torch.full_like(outputs, float("nan")), batch) == 1.0
    assert task.score(outputs, batch) == pytest.approx(float(convergence_factors(iteration).mean()))
    everything = torch.cat(
        [task.split(name, CPU)["stencil"][:, 0, 0, 1, 1] for name in ("train", "validation", "test")]
    )
    assert len(set(everything.tolist())) == 256 + 128 + 128
