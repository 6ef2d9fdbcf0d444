"""A two-grid method for diffusion on a periodic block, in Fourier space: stencils, prolongation, its iteration matrix.

−∇·(g∇u) on a grid of G × G nodes, discretized by bilinear elements: nine numbers per node, `stencils`. The block is
repeated in all directions, and a function on the whole grid is a Fourier mode of angle θ per node times a function on
the block; there the operator is the matrix A(θ) ``[G², G²]``. Every second node in either direction is a coarse one.
The prolongation P(θ) ``[G², G²/4]`` has weights of the nine fine nodes around a coarse one. With one sweep S of
Gauss–Seidel before and after, the error of a cycle is multiplied by S (I − P (PᴴAP)⁻¹ PᴴA) S, similar to
C = S² − P (PᴴAP)⁻¹ Pᴴ A S².
"""

from __future__ import annotations

import torch
from torch import Tensor

OFFSETS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
"""The nine neighbours of a node, itself in the middle: the order of a stencil's numbers, ``[3, 3]``."""
POWERS, AVERAGED = 30, 10
"""Steps of the power iteration, and those at its end over which the growth is averaged."""


def stencils(conductivity: Tensor) -> Tensor:
    """Return the stencils ``[N, G, G, 3, 3]`` for conductivities g ``[N, G, G]`` of the cells.

    Cell (i, j) lies between the nodes (i, j) and (i + 1, j + 1).
    """
    upper, left = conductivity, conductivity.roll(1, 1)
    right, corner = conductivity.roll(1, 2), left.roll(1, 2)
    a = conductivity.new_zeros(*conductivity.shape, 3, 3)
    a[..., 2, 1], a[..., 0, 1] = -(upper + right) / 6, -(left + corner) / 6
    a[..., 1, 2], a[..., 1, 0] = -(upper + left) / 6, -(right + corner) / 6
    a[..., 2, 2], a[..., 0, 0], a[..., 2, 0], a[..., 0, 2] = -upper / 3, -corner / 3, -right / 3, -left / 3
    a[..., 1, 1] = -a.sum(dim=(-1, -2))
    return a


class Grid:
    """A periodic block of G × G nodes with its coarse nodes, and the index tensors that it needs.

    Args:
        size: G, even.
    """

    def __init__(self, size: int = 8) -> None:
        self.size, self.coarse = size, size // 2
        node = torch.arange(size * size).view(size, size)
        self.around = torch.stack([node.roll((-i, -j), (0, 1)) for i, j in OFFSETS], dim=-1)  # [G, G, 9]
        near = self.around[::2, ::2]  # [G/2, G/2, 9], fine nodes around a coarse one
        self.cross = near[..., [4, 1, 7, 3, 5]]  # itself, and its four nearest
        self.diagonal = {(i, j): near[..., OFFSETS.index((i, j))] for i in (-1, 1) for j in (-1, 1)}
        # Adds the nine weights of every coarse node to the entries of P.
        self.spread = torch.zeros(size**2, self.coarse**2, self.coarse**2 * 9, dtype=torch.float64)
        for coarse, fine in enumerate(near.reshape(-1, 9).tolist()):
            for k, row in enumerate(fine):
                self.spread[row, coarse, 9 * coarse + k] += 1

    def phases(self, angle: Tensor) -> Tensor:
        """Return exp(iθ·d) for the nine offsets d, complex ``[…, 9]``, for angles θ ``[…, 2]``."""
        turn = angle @ torch.tensor(OFFSETS, dtype=angle.dtype, device=angle.device).T
        return torch.complex(turn.cos(), turn.sin())

    def matrix(self, stencil: Tensor, angle: Tensor) -> Tensor:
        """Return A(θ), complex ``[N, G², G²]``, for stencils ``[N, G, G, 3, 3]`` and angles ``[N, 2]``."""
        count = len(stencil)
        values = stencil.reshape(count, -1, 9) * self.phases(angle)[:, None, :]
        columns = self.around.view(1, -1, 9).expand(count, -1, 9)
        return values.new_zeros(count, self.size**2, self.size**2).scatter_add_(2, columns, values)

    def prolongation(self, weights: Tensor, angle: Tensor) -> Tensor:
        """Return P(θ), complex ``[N, G², G²/4]``, for weights ``[N, G/2, G/2, 3, 3]`` around coarse nodes."""
        values = weights.flatten(-2) * self.phases(-angle)[..., None, None, :]
        spread = self.spread.flatten(0, 1).T.to(values.dtype)
        return (values.flatten(-3) @ spread).view(*values.shape[:-3], self.size**2, self.coarse**2)

    def features(self, stencil: Tensor) -> Tensor:
        """Return the stencils at a coarse node and its four nearest, over its central number: ``[N, G/2, G/2, 45]``."""
        near = stencil.flatten(-4, -3)[..., self.cross, :, :].flatten(-3)
        return near / near[..., 4:5]

    def normalized(self, raw: Tensor) -> Tensor:
        """Return edge weights that add up to 1 at every fine node between two coarse ones.

        Args:
            raw: numbers ``[N, G/2, G/2, 4]`` of the edges towards (0, +1), (0, −1), (+1, 0), (−1, 0).
        """
        right, left, up, down = raw.unbind(-1)
        parts = [
            right - left.roll(-1, -1),
            left - right.roll(1, -1),
            up - down.roll(-1, -2),
            down - up.roll(1, -2),
        ]
        return torch.stack(parts, dim=-1).sigmoid()

    def black_box(self, stencil: Tensor) -> Tensor:
        """Return the edge weights of black-box multigrid (Dendy, 1982), ``[N, G/2, G/2, 4]``: see `normalized`."""
        flat, edges = stencil.flatten(-4, -3), list[Tensor]()
        for place, along, side in ((4, -1, 0), (3, -1, 2), (2, -2, 0), (1, -2, 2)):  # side: towards the coarse node
            lines = flat[..., self.cross[..., place], :, :].sum(dim=-2 if along == -1 else -1)
            edges.append(-lines[..., side] / lines[..., 1])
        return torch.stack(edges, dim=-1)

    def weights(self, stencil: Tensor, edges: Tensor) -> Tensor:
        """Return all weights ``[N, G/2, G/2, 3, 3]`` around coarse nodes; A P = 0 gives those of corners."""
        flat = stencil.flatten(-4, -3)
        right, left, up, down = edges.unbind(-1)

        def corner(i: int, j: int, beside: Tensor, above: Tensor) -> Tensor:
            s = flat[..., self.diagonal[i, j], :, :]
            known = s[..., 1 - i, 1 - j] + s[..., 1 - i, 1] * beside + s[..., 1, 1 - j] * above
            return -known / s[..., 1, 1]

        rows = [
            [corner(-1, -1, left, down), down, corner(-1, 1, right, down)],
            [left, torch.ones_like(left), right],
            [corner(1, -1, left, up), up, corner(1, 1, right, up)],
        ]
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def smoother(matrix: Tensor) -> Tensor:
    """Return a sweep of Gauss–Seidel, the matrix S = I − L⁻¹A with L the lower triangle of A."""
    lower = matrix.tril()
    sweep: Tensor = torch.linalg.solve_triangular(lower, lower - matrix, upper=False)
    return sweep


def corrected(prolongation: Tensor, matrix: Tensor, smooth: Tensor) -> Tensor:
    """Return C = S² − P (PᴴAP)⁻¹ PᴴAS², for S² ``[…, G², G²]``."""
    adjoint = prolongation.mH @ matrix
    correction: Tensor = torch.linalg.solve(adjoint @ prolongation, adjoint @ smooth)
    return smooth - prolongation @ correction


def convergence_factors(iteration: Tensor) -> Tensor:
    """Return the factors by which a cycle reduces an error, real ``[N]``: by power iteration on C ``[N, n, n]``."""
    turn = 0.7 * torch.arange(iteration.shape[-1], device=iteration.device, dtype=torch.float64) ** 2
    vector = torch.complex(turn.cos(), turn.sin())[:, None]
    growth = list[Tensor]()
    for _ in range(POWERS):
        vector = iteration @ vector
        norm = vector.norm(dim=-2, keepdim=True)
        vector = vector / norm
        growth.append(norm.flatten())
    return torch.stack(growth[-AVERAGED:]).log().mean(dim=0).exp()
