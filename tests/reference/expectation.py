"""The Gaussian expectation in float64 torch: the definition, differentiated by autograd and nothing else.

    phi(L, b, theta) = sum_p weight_p 1/2 [g(b + L xi_p) + g(b - L xi_p)]   (antithetic)
    phi(L, b, theta) = sum_p weight_p g(b + L xi_p)                         (plain)

The samples are an argument, so that an engine and this oracle see the same ones. Results are batch by batch
and columns in the order [L row by row, b, every tensor of theta row by row], as in `sdp_kernels.expectation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

MAX_BATCHES = 32


class NetworkLike(Protocol):
    """What the oracle reads of `sdp_kernels.expectation.Network`."""

    @property
    def activation(self) -> str: ...
    @property
    def loss(self) -> str: ...
    @property
    def target(self) -> float: ...
    @property
    def activate_input(self) -> bool: ...
    @property
    def iota(self) -> float: ...


ACTIVATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda x, iota: x,
    "tanh": lambda x, iota: torch.tanh(x),
    "sigmoid": lambda x, iota: torch.sigmoid(x),
    "softplus": lambda x, iota: torch.logaddexp(iota * x, torch.zeros_like(x)) / iota,
    "gelu": lambda x, iota: x * torch.special.ndtr(x),
    "relu3": lambda x, iota: torch.relu(x) ** 3,
    "erf": lambda x, iota: torch.erf(x),
    "phi_cdf": lambda x, iota: torch.special.ndtr(x),
    "phi": lambda x, iota: torch.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi),
}


def head(z: Tensor, params: Sequence[Tensor], network: NetworkLike) -> Tensor:
    """g(z) of every row: z float64 (n, k) -> (n,)."""

    def act(x: Tensor) -> Tensor:
        return ACTIVATIONS[network.activation](x, network.iota)

    h = act(z) if network.activate_input else z
    *layers, a, c = params
    for A_i, c_i in zip(layers[::2], layers[1::2], strict=True):
        h = act(h @ A_i.T + c_i)
    s = h @ a + c
    if network.loss == "none":
        return s
    if network.loss == "mse":
        return 0.5 * (s - network.target) ** 2
    if network.loss == "logistic":
        return torch.logaddexp(-network.target * s, torch.zeros_like(s))
    raise ValueError(f"no such loss: {network.loss!r}")


def per_draw(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: NetworkLike, xi: Tensor, antithetic: bool
) -> Tensor:
    """g of every draw, or the mean of every pair: xi float64 (n, q) -> (n,)."""
    u = xi @ L.T
    plus = head(b + u, params, network)
    return 0.5 * (plus + head(b - u, params, network)) if antithetic else plus


def ranges(n: int, weighted: bool) -> list[slice]:
    """At most MAX_BATCHES contiguous ranges of ceil(n / MAX_BATCHES) draws; weighted points are one range."""
    size = n if weighted else -(-n // MAX_BATCHES)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def unflatten(
    flat: Tensor, L: Tensor, b: Tensor, params: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The tensors (L, b, params) that a row of columns holds; differentiable."""
    parts = torch.split(flat, [tensor.numel() for tensor in (L, b, *params)])
    shaped = [part.reshape(tensor.shape) for part, tensor in zip(parts, (L, b, *params), strict=True)]
    return shaped[0], shaped[1], shaped[2:]


def batches(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: NetworkLike,
    xi: Tensor,
    *,
    weights: Tensor | None = None,
    antithetic: bool = True,
    directions: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B,), gradients (B, P) and Hessian-vector products (B, m, P) of every batch, all float64.

    Args:
        L: (k, q); any float dtype, as `b` (k,) and `params`.
        b: the shift.
        params: [A_1, c_1, ..., A_D, c_D, a, c].
        network: activation and loss.
        xi: (n, q) samples or points.
        weights: (n,) if the draws are weighted points: one batch, the weighted sum.
        antithetic: whether every row stands for the pair +-xi.
        directions: (m, P), or None for m = 0.
    """
    L, b, *params = (tensor.detach().double() for tensor in (L, b, *params))
    xi = xi.double()
    flat = torch.cat([tensor.reshape(-1) for tensor in (L, b, *params)]).requires_grad_()
    rows = flat.new_empty((0, flat.numel())) if directions is None else directions.double()
    values, grads, hvps = [], [], []
    for batch in ranges(len(xi), weights is not None):
        g = per_draw(*unflatten(flat, L, b, params), network, xi[batch], antithetic)
        value = g.mean() if weights is None else weights.double() @ g
        (grad,) = torch.autograd.grad(value, flat, create_graph=True)
        values.append(value.detach())
        grads.append(grad.detach())
        hvps.append(
            torch.stack(
                [
                    torch.autograd.grad(grad, flat, row, retain_graph=True, materialize_grads=True)[0]
                    if grad.requires_grad
                    else torch.zeros_like(flat)
                    for row in rows
                ]
            )
            if len(rows)
            else rows
        )
    return torch.stack(values), torch.stack(grads), torch.stack(hvps)


def hessian_b(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: NetworkLike,
    xi: Tensor,
    *,
    weights: Tensor | None = None,
    antithetic: bool = True,
) -> Tensor:
    """Second derivative in b of every batch: float64 (B, k, k)."""
    L, b, *params = (tensor.detach().double() for tensor in (L, b, *params))
    xi = xi.double()
    b.requires_grad_()
    found = []
    for batch in ranges(len(xi), weights is not None):
        g = per_draw(L, b, params, network, xi[batch], antithetic)
        value = g.mean() if weights is None else weights.double() @ g
        (grad,) = torch.autograd.grad(value, b, create_graph=True)
        rows = [
            torch.autograd.grad(entry, b, retain_graph=True, materialize_grads=True)[0]
            if grad.requires_grad
            else torch.zeros_like(b)
            for entry in grad
        ]
        found.append(torch.stack(rows))
    return torch.stack(found)


def mean(per_batch: Tensor, n: int, weighted: bool = False) -> Tensor:
    """The mean over all draws of quantities given batch by batch, a short last batch counting less."""
    sizes = torch.tensor(
        [len(range(*batch.indices(n))) for batch in ranges(n, weighted)], dtype=torch.float64
    )
    return torch.tensordot(sizes / sizes.sum(), per_batch, 1)
