"""The probit cut in float64 torch, by another integral than the kernel's, so autograd is its own oracle.

    Phi2(a, b; r) = int_{-inf}^a phi(x) Phi((b - r x) / sqrt(1 - r^2)) dx

with 400 Gauss-Legendre points on [-10, a]; the tests hold it to 1e-13 of scipy's adaptive quadrature.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

POINTS = 400
FAR = 10.0


def bivariate_cdf(a: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """Phi2 of float64 tensors of one shape, |r| < 1; differentiable in all three."""
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(POINTS))
    a, b, r = (tensor[..., None] for tensor in (a, b, r))
    half = 0.5 * (a + FAR)
    x = half * (nodes + 1.0) - FAR
    density = torch.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return (half * weights * density * torch.special.ndtr((b - r * x) / torch.sqrt(1.0 - r**2))).sum(-1)


def cut_probability(a: Tensor, b: Tensor, r: Tensor) -> Tensor:
    return torch.special.ndtr(a) + torch.special.ndtr(b) - 2.0 * bivariate_cdf(a, b, r)


def probit_cut(W: Tensor, V: Tensor, mu: Tensor, beta: float) -> Tensor:
    """sum_{i<j} w_ij P(edge is cut); W (n, n) float64, V (n, r), mu (n,), differentiable in V and mu."""
    i, j = torch.nonzero(torch.triu(W, 1), as_tuple=True)
    s = torch.sqrt(beta**-2 + (V**2).sum(1))
    r = (V[i] * V[j]).sum(1) / (s[i] * s[j])
    return (W[i, j] * cut_probability(mu[i] / s[i], mu[j] / s[j], r)).sum()
