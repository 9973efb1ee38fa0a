"""E g(Wx + b) by the definition: over all of R^d, by a tensor rule of high order, or in closed form; float64 torch.

Nothing here reduces the law of x: it is what the reduction is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Head = Callable[[Tensor], Tensor]


def nodes(d: int, order: int) -> tuple[Tensor, Tensor]:
    """All order^d Gauss-Hermite nodes (n, d) of N(0, I_d) and their weights (n,), none dropped."""
    axis, weight = np.polynomial.hermite_e.hermegauss(order)
    grid = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), -1).reshape(-1, d)
    weights = np.stack(np.meshgrid(*[weight] * d, indexing="ij"), -1).reshape(-1, d).prod(-1)
    return torch.from_numpy(grid), torch.from_numpy(weights / math.sqrt(2.0 * math.pi) ** d)


def full_space_value(head: Head, W: Tensor, b: Tensor, order: int) -> Tensor:
    """sum_i weight_i g(W x_i + b) over nodes x_i of R^d, differentiable in W, b and the head."""
    x, weights = nodes(W.shape[1], order)
    return weights @ head(x @ W.T + b)


class ClosedForm(NamedTuple):
    """A head whose expectation is known.

    Attributes:
        head: z (..., k) -> (...).
        W: (k, d) float64.
        b: (k,).
        value: (W, b) -> E g(Wx + b), differentiable by autograd.
    """

    head: Head
    W: Tensor
    b: Tensor
    value: Callable[[Tensor, Tensor], Tensor]


def random_point(k: int, d: int, rank: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """W (k, d) float64 of this rank with rows of norm about `scale`, and b (k,) of half that size."""
    generator = np.random.default_rng(seed)
    W = generator.normal(size=(k, rank)) @ generator.normal(size=(rank, d)) / math.sqrt(max(1, rank) * d)
    return torch.from_numpy(scale * W), torch.from_numpy(0.5 * scale * generator.normal(size=k))


def quadratic(k: int = 5, d: int = 8, rank: int = 5, seed: int = 0) -> ClosedForm:
    """g = 1/2 z^T A z + c^T z: E g = 1/2 tr(A W W^T) + 1/2 b^T A b + c^T b."""
    generator = np.random.default_rng(seed + 100)
    A = torch.from_numpy(generator.normal(size=(k, k)))
    A, c = 0.5 * (A + A.T), torch.from_numpy(generator.normal(size=k))

    def head(z: Tensor) -> Tensor:
        return 0.5 * ((z @ A.to(z)) * z).sum(-1) + z @ c.to(z)

    def value(W: Tensor, b: Tensor) -> Tensor:
        return 0.5 * (A * (W @ W.T)).sum() + 0.5 * b @ A @ b + c @ b

    return ClosedForm(head, *random_point(k, d, rank, seed), value)


def double_well(k: int = 1, d: int = 6, rank: int = 1, seed: int = 0) -> ClosedForm:
    """g = sum_i (z_i^2 - 1)^2: E g = sum_i b^4 + 6 b^2 w^2 + 3 w^4 - 2 (b^2 + w^2) + 1, w the norm of row i."""

    def head(z: Tensor) -> Tensor:
        return ((z**2 - 1) ** 2).sum(-1)

    def value(W: Tensor, b: Tensor) -> Tensor:
        w2 = (W**2).sum(1)
        return (b**4 + 6 * b**2 * w2 + 3 * w2**2 - 2 * (b**2 + w2) + 1).sum()

    return ClosedForm(head, *random_point(k, d, rank, seed), value)


def probit(k: int = 5, d: int = 8, rank: int = 5, seed: int = 0, steepness: float = 1.0) -> ClosedForm:
    """g = Phi(a^T z + c): E g = Phi((a^T b + c) / sqrt(1 + |W^T a|^2))."""
    generator = np.random.default_rng(seed + 200)
    a, c = torch.from_numpy(steepness * generator.normal(size=k)), 0.3

    def head(z: Tensor) -> Tensor:
        return torch.special.ndtr(z @ a.to(z) + c)

    def value(W: Tensor, b: Tensor) -> Tensor:
        return torch.special.ndtr((a @ b + c) / torch.sqrt(1.0 + ((W.T @ a) ** 2).sum()))

    return ClosedForm(head, *random_point(k, d, rank, seed), value)


CLOSED_FORMS = {"quadratic": quadratic, "double well": double_well, "probit": probit}


def derivatives(form: ClosedForm) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient in W (k, d), in b (k,), and the Hessian in b (k, k)."""
    W, b = form.W.clone().requires_grad_(True), form.b.clone().requires_grad_(True)
    dW, db = torch.autograd.grad(form.value(W, b), (W, b))
    H = torch.autograd.functional.hessian(lambda b: form.value(form.W, b), form.b)
    return dW, db, H
