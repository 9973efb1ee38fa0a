"""CPU twin of `sdp_kernels.expectation`: narrow heads in float32 run fused in numba, all others stream through torch.

Draws of an unfused pass go through memory some 30 times; the fused one keeps a block of them in the caches. Weighted
points are summed in 32 parts, so that threads have something to share; the parts are added in order. What streams runs
on one thread, for the same bits on any number: on two cores that costs wide heads up to a factor of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels import _streamed, gaussian
from sdp_kernels._expectation_problem import LOSSES, Draw, Network
from sdp_kernels.cpu import _head
from sdp_kernels.cpu._activate import KINDS
from sdp_kernels.cpu._blocks import threads_worth
from sdp_kernels.threads import one_thread

WIDEST, DEEPEST = 128, 4  # beyond, a block of layers leaves the second cache
MOST_COLUMNS = 1024  # of xi
DRAWS = (128, 64)  # draws a block with one sign and with two: 128 lanes either way


def value_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> Tensor:
    """As the public `value_batches`."""
    if not is_fused(L, params, precision):
        with one_thread():
            return _streamed.value_batches(L, b, params, network, draw, precision)
    return _run(L, b, params, network, draw, 0)[0]


def grad_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> tuple[Tensor, Tensor]:
    """As the public `grad_batches`."""
    if not is_fused(L, params, precision):
        with one_thread():
            return _streamed.grad_batches(L, b, params, network, draw, precision)
    return _run(L, b, params, network, draw, 1)[:2]


def hvp_batches(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: Network,
    draw: Draw,
    directions: Tensor,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """As the public `hvp_batches`."""
    if not is_fused(L, params, precision):
        with one_thread():
            return _streamed.hvp_batches(L, b, params, network, draw, directions, precision)
    return _run(L, b, params, network, draw, 2, _floats(directions))


def hessian_b_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> Tensor:
    """As the public `hessian_b_batches`."""
    if not is_fused(L, params, precision):
        with one_thread():
            return _streamed.hessian_b_batches(L, b, params, network, draw, precision)
    k = len(b)
    directions = np.zeros((k, sum(tensor.numel() for tensor in (L, b, *params))), np.float32)
    directions[:, L.numel() : L.numel() + k] = np.eye(k, dtype=np.float32)
    return _run(L, b, params, network, draw, 2, directions, only_b=True)[2]


def is_fused(L: Tensor, params: Sequence[Tensor], precision: str) -> bool:
    """Whether the fused pass takes this call."""
    widths = [len(L), *(len(c) for c in params[1:-2:2])]
    is_narrow = max(widths) <= WIDEST and len(widths) - 1 <= DEEPEST
    return is_narrow and precision != "exact" and 0 < L.shape[1] <= MOST_COLUMNS


def _floats(tensor: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.ascontiguousarray(tensor.detach().to(torch.float32).numpy())
    return found


def _transposed(
    columns: NDArray[np.float32], widths: Sequence[int], starts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The same columns (..., P) with every A_i transposed."""
    out = columns.copy()
    for i in range(1, len(widths)):
        here = slice(starts[2 * i], starts[2 * i + 1])
        shape = (*columns.shape[:-1], widths[i], widths[i - 1])
        out[..., here] = columns[..., here].reshape(shape).swapaxes(-1, -2).reshape(out[..., here].shape)
    return out


def _run(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: Network,
    draw: Draw,
    order: int,
    directions: NDArray[np.float32] | None = None,
    only_b: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B,), gradients (B, P) and HVPs (B, m, P or k), float64."""
    tensors = (L, b, *params)
    q, k = L.shape[1], len(b)
    flat = np.concatenate([_floats(tensor).reshape(-1) for tensor in tensors])
    starts = np.concatenate([[0], np.cumsum([tensor.numel() for tensor in tensors])])
    widths = [k, *(len(c) for c in params[1:-2:2])]
    if directions is None:
        directions = np.zeros((0, len(flat)), np.float32)
    moves = np.array([directions[:, i:j].any() for i, j in pairwise(starts)])
    sizes = _streamed.batch_sizes(draw.n)
    batches = np.concatenate([[0], np.cumsum(sizes)])
    points = np.zeros((0, q), np.float32) if draw.points is None else _floats(draw.points)
    weights = np.zeros(0, np.float32) if draw.weights is None else _floats(draw.weights)
    n_signs = 2 if draw.antithetic else 1
    scales = 1.0 / (n_signs * np.array(sizes)) if draw.weights is None else np.full(len(sizes), 1.0 / n_signs)
    m, columns = len(directions), k if only_b else len(flat)
    values = np.zeros(len(sizes))
    grads = np.zeros((len(sizes), len(flat) if order else 0))
    hvps = np.zeros((len(sizes), m, columns if order == 2 else 0))
    work = draw.n * n_signs * (len(flat) + q * 8) * (1 + 2 * order) * (1 + m)
    with threads_worth(work):
        _head.run(
            flat, _transposed(flat, widths, starts), np.array(widths), starts, q, KINDS[network.activation],
            network.activate_input, np.float32(network.iota), LOSSES.index(network.loss), float(network.target),
            batches, scales, DRAWS[n_signs - 1], n_signs, np.array([draw.seed, gaussian.PURPOSE_SAMPLES, draw.first]),
            points, weights, order, only_b, directions, _transposed(directions, widths, starts), moves,
            values, grads, hvps,
        )  # fmt: skip
    found = [torch.from_numpy(array) for array in (values, grads, hvps)]
    if draw.weights is not None:
        found = [_added(array)[None] for array in found]
    return found[0], found[1], found[2]


def _added(parts: Tensor) -> Tensor:
    """Sum over the first dimension, in order."""
    total = torch.zeros_like(parts[0])
    for part in parts:
        total += part
    return total
