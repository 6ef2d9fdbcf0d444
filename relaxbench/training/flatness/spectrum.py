"""Estimate the largest eigenvalues of a symmetric matrix, and traces of its functions, from a few products.

The largest eigenvalues are Ritz values of a block Krylov space. A trace tr φ(A) is split as in Chen and Hallman
("Krylov-aware stochastic trace estimation", arXiv 2205.01736), which is Hutch++ (Meyer et al., arXiv 2010.09649) for
functions. Within the first blocks of that space, which contain the outliers, it follows from the Ritz values. Outside
of them, random vectors estimate it, each by a Gauss quadrature (Lanczos). Only the bulk of the spectrum is left for
them, so that a few vectors are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relaxbench import random

BLOCK, BLOCKS, KEPT = 4, 10, 7
"""Vectors per block, blocks of the Krylov space, and number of blocks that the random estimate leaves out."""
PROBES, NODES = 6, 3
"""Random vectors for the rest of a trace, and nodes of the quadrature of each."""
ROUNDING = 1e-5
"""A new vector whose length, relative to the product, is smaller after orthogonalization is rounding noise."""
EXACT = 256
"""Size up to which a matrix is computed in full instead."""
SYMMETRIC = 1e-4
"""Products may differ from symmetry by this share of the largest; rounding makes them differ by 1e-7 in float32."""


class Matrix(Protocol):
    """A symmetric matrix ``[P, P]`` that multiplies vectors ``[P, n]``."""

    def __matmul__(self, vectors: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Spectrum:
    """Estimated eigenvalues with weights, in float64.

    Attributes:
        values: ``[n]``, ascending: all eigenvalues of a small matrix, or Ritz values, the outermost of which are close
            to the outermost eigenvalues and lie within them.
        kept: ``[n]``, weight of each value in the part of a trace that is not estimated at random.
        along: ``[n]``, squares of the components of the given vector.
        nodes, masses: ``[m, s]``, quadratures of the rest by m random vectors; m = 0 if there is no rest.
    """

    values: Tensor
    kept: Tensor
    along: Tensor
    nodes: Tensor
    masses: Tensor

    @property
    def least(self) -> float:
        """The smallest value of the estimate, which is at least the smallest eigenvalue."""
        weighty = self.nodes[self.masses > 1e-12 * self.masses.sum()]
        return float(torch.cat([self.values, weighty]).min())

    def trace(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Return the trace of a function of the matrix, and its standard error (0 if it is exact)."""
        certain = float((function(self.values) * self.kept).sum())
        if not len(self.nodes):
            return certain, 0.0
        samples = (function(self.nodes) * self.masses).sum(dim=1)
        return certain + float(samples.mean()), float(samples.std()) / math.sqrt(len(samples))

    def quadratic(self, function: Callable[[Tensor], Tensor]) -> float:
        """Return gᵀ φ(A) g for the given vector g."""
        return float((function(self.values) * self.along).sum())


def spectrum(matrix: Matrix, vector: Tensor, seed: int) -> Spectrum:
    """Estimate the spectrum of a symmetric matrix ``[P, P]`` with 58 products.

    Args:
        matrix: the matrix A.
        vector: g ``[P]`` of `Spectrum.quadratic`.
        seed: seed of the random vectors.

    Raises:
        ValueError: if a product is not finite, or if the matrix is not symmetric.
    """
    size = len(vector)
    if size <= EXACT:
        full = _finite(matrix @ torch.eye(size).to(vector)).double()
        _refuse_asymmetric(full, float(full.abs().max()))
        values, basis = torch.linalg.eigh((full + full.T) / 2)
        none = values.new_zeros(0, 1)
        return Spectrum(values, torch.ones_like(values), (basis.T @ vector.double()).square(), none, none)
    start = _normal(seed, 0, size, BLOCK, vector)
    start[:, 0] = vector / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)
    basis, projected = _krylov(matrix, start, seed)
    values, turned = torch.linalg.eigh(projected)
    outliers = basis[:, : KEPT * BLOCK]
    probes = torch.where(_normal(seed, 1, size, PROBES, vector) < 0, -1.0, 1.0).to(vector)
    for _ in range(2):  # the second time removes what rounding left
        probes -= outliers @ (outliers.T @ probes)
    nodes, masses = _quadratures(matrix, probes)
    kept = turned[: KEPT * BLOCK].square().sum(dim=0)
    return Spectrum(values, kept, (turned.T @ (basis.T @ vector).double()).square(), nodes, masses)


def amount(size: int) -> tuple[int, float]:
    """How many vectors a product of `spectrum` has for a matrix of this size, and how many such products it takes."""
    return (size, 1) if size <= EXACT else (BLOCK, BLOCKS + NODES * PROBES / BLOCK)


def products(size: int) -> tuple[int, int]:
    """How many vectors `spectrum` multiplies a matrix of this size with, and in how many products."""
    return (size, 1) if size <= EXACT else (BLOCK * BLOCKS + NODES * PROBES, BLOCKS + NODES)


def _krylov(matrix: Matrix, start: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis Q ``[P, n]`` of start, A start, A² start, …; and QᵀAQ in float64.

    If that space has fewer dimensions (a matrix with few different eigenvalues), random vectors complete it.
    """
    count = BLOCK * BLOCKS
    basis, projected = start.new_empty(len(start), count), start.new_zeros(count, count, dtype=torch.float64)
    block: Tensor = torch.linalg.qr(start).Q
    for end in range(BLOCK, count + 1, BLOCK):
        basis[:, end - BLOCK : end] = block
        so_far = basis[:, :end]
        image = _finite(matrix @ block)
        projected[:end, end - BLOCK : end] = so_far.T @ image
        if end == BLOCK:
            _refuse_asymmetric(projected[:end, :end], float(image.norm(dim=0).max()))
        block, triangle = torch.linalg.qr(image - so_far @ (so_far.T @ image))
        lost = triangle.diagonal().abs() <= ROUNDING * image.norm(dim=0).max()
        if bool(lost.any()):
            block = torch.where(lost, _normal(seed, end, len(block), BLOCK, block), block)
        # Once more: vectors that were nearly dependent are not orthogonal yet.
        block = torch.linalg.qr(block - so_far @ (so_far.T @ block)).Q
    return basis, projected.triu() + projected.triu(1).T


def _quadratures(matrix: Matrix, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Run Lanczos from each of the vectors ``[P, m]``; return nodes and masses ``[m, NODES]`` of vᵀ φ(A) v."""
    norms = probes.norm(dim=0)
    before, vectors, beta = torch.zeros_like(probes), probes / norms, torch.zeros_like(norms)
    tridiagonal = torch.zeros(probes.shape[1], NODES, NODES, dtype=torch.float64, device=probes.device)
    for step in range(NODES):
        image = _finite(matrix @ vectors) - beta * before
        alpha, length = (image * vectors).sum(dim=0), image.norm(dim=0)
        tridiagonal[:, step, step] = alpha.double()
        image -= alpha * vectors
        beta = image.norm(dim=0)
        beta = torch.where(beta > ROUNDING * length, beta, 0.0)  # the quadrature has no more nodes
        if step + 1 < NODES:
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = beta.double()
        before, vectors = vectors, torch.where(beta > 0, image / beta, 0.0)
    nodes, turned = torch.linalg.eigh(tridiagonal)
    return nodes, turned[:, 0].square() * norms.double().square()[:, None]


def _normal(seed: int, step: int, size: int, count: int, like: Tensor) -> Tensor:
    """Draw normal numbers ``[size, count]``, a function of the seed."""
    place = like.device
    words = random.key(torch.tensor([seed], device=place), random.PROBES, torch.tensor([step], device=place))
    return random.normal(words, size * count).view(count, size).T.to(like).contiguous()


def _refuse_asymmetric(square: Tensor, scale: float) -> None:
    """Check a matrix, or uᵀAv and vᵀAu for some vectors: second derivatives that are wrong are seldom symmetric.

    Raises:
        ValueError: if it is not symmetric.
    """
    if float((square - square.T).abs().max()) > SYMMETRIC * scale:
        raise ValueError("the Hessian is not symmetric: a layer has a wrong second derivative (weight_norm has one)")


def _finite(product: Tensor) -> Tensor:
    if not bool(torch.isfinite(product).all()):
        raise ValueError("a product with the Hessian is not finite")
    return product
