"""Functions whose saddles are known: where plain gradient descent stands still, or nearly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Saddle(NamedTuple):
    """A function of one tensor, a start at or near a saddle, and its least value."""

    f: Callable[[Tensor], Tensor]
    start: Tensor
    least: float


def quadratic(dim: int) -> Saddle:
    """1/2 |x'|^2 - 1/2 y^2 + 1/4 y^4 at its saddle 0; minima at y = +-1 of value -1/4."""

    def f(x: Tensor) -> Tensor:
        return 0.5 * (x[:-1] ** 2).sum() - 0.5 * x[-1] ** 2 + 0.25 * x[-1] ** 4

    return Saddle(f, torch.zeros(dim, dtype=torch.float64), -0.25)


def cosine(dim: int) -> Saddle:
    """1/2 |x'|^2 + cos y at its saddle 0; minima at y = +-pi of value -1.

    Gradient and Hessian have Lipschitz constants of 1: small for its depth, so that few steps are proved to do.
    """

    def f(x: Tensor) -> Tensor:
        return 0.5 * (x[:-1] ** 2).sum() + torch.cos(x[-1])

    return Saddle(f, torch.zeros(dim, dtype=torch.float64), -1.0)


def double_well(dim: int = 1) -> Saddle:
    """Sum of (x^2 - 1)^2 at its maximum 0."""
    return Saddle(lambda x: ((x**2 - 1) ** 2).sum(), torch.zeros(dim, dtype=torch.float64), 0.0)


def factorisation(n: int = 20, rank: int = 3) -> Saddle:
    """1/4 |X X' - M|^2 for M of this rank, at X = 0."""
    A = torch.randn(n, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    M = A @ A.T / n

    def f(X: Tensor) -> Tensor:
        return 0.25 * ((X @ X.T - M) ** 2).sum()

    return Saddle(f, torch.zeros(n, rank, dtype=torch.float64), 0.0)


def octopus(dim: int, L: float = 2.0, gamma: float = 1.0, tau: float = math.e) -> Saddle:
    """The octopus of Du, Jin, Lee, Jordan, Poczos and Singh (2017): a chain of `dim` saddles, each the way to the
    next.

    Plain gradient descent takes (L/gamma)^i times as long to leave the i-th. The start lies near the first, where a
    random initial point would; in all coordinates f is even.
    """

    def g1(x: Tensor) -> Tensor:
        y = x - tau
        return (
            -gamma * x**2
            + (-14 * L + 10 * gamma) / (3 * tau) * y**3
            + (5 * L - 3 * gamma) / (2 * tau**2) * y**4
        )

    def g2(x: Tensor) -> Tensor:
        y = (x - 2 * tau) / tau
        return -gamma - (L + gamma) * (10 * y**3 + 15 * y**4 + 6 * y**5)

    nu = float(-g1(torch.tensor(2 * tau, dtype=torch.float64))) + 4 * L * tau**2

    def f(x: Tensor) -> Tensor:
        x = x * torch.where(x.detach() < 0.0, -1.0, 1.0)  # no kink: near 0 f is a function of x^2
        behind = [float(entry) >= 2 * tau for entry in x.detach()]
        i = behind.index(False) if False in behind else dim
        value = (L * (x[:i] - 4 * tau) ** 2).sum() - i * nu
        if i == dim:
            return value
        if float(x[i].detach()) < tau:
            return value - gamma * x[i] ** 2 + (L * x[i + 1 :] ** 2).sum()
        value = value + g1(x[i]) + (L * x[i + 2 :] ** 2).sum()
        return value + g2(x[i]) * x[i + 1] ** 2 if i + 1 < dim else value

    start = torch.full((dim,), 1e-3, dtype=torch.float64)
    return Saddle(f, start, -dim * nu)


SADDLES: dict[str, Callable[[], Saddle]] = {
    "quadratic, 2": lambda: quadratic(2),
    "quadratic, 30": lambda: quadratic(30),
    "quadratic, 1000": lambda: quadratic(1000),
    "cosine, 2": lambda: cosine(2),
    "double well": double_well,
    "factorisation": factorisation,
    "octopus, 4": lambda: octopus(4),
}
