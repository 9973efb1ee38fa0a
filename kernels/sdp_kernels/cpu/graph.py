"""CPU twin of `sdp_kernels.graph`: numba over blocks of rows; no row depends on who computes another.

`contract` lets the compiler fuse multiply and add; `reassoc` lets it sum the r squares of one row in
vector lanes. Both are fixed at compile time, so a machine gives the same bits at every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels.cpu._blocks import SERIAL_WORK, threads_worth
from sdp_kernels.graph import CSR

BLOCK = 256  # rows a task: small enough to balance rows of unequal length, large enough to hide the call
FUSED = {"contract", "reassoc"}


def adjacency_product(csr: CSR, X: Tensor) -> Tensor:
    """See the public operation."""
    product = torch.empty_like(X)
    with threads_worth(csr.indices.numel() * X.shape[1]):
        _adjacency_product(
            csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy(), X.numpy(), product.numpy()
        )
    return product


def chebyshev_step(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor) -> Tensor:
    """See the public operation."""
    squares = torch.zeros((-(-csr.n_vertices // BLOCK), X.shape[1]), dtype=torch.float64)
    with threads_worth(csr.indices.numel() * X.shape[1]):
        _chebyshev_step(
            csr.indptr.numpy(),
            csr.indices.numpy(),
            csr.weights.numpy(),
            diagonal.numpy(),
            X.numpy(),
            previous.numpy(),
            squares.numpy(),
        )
    return squares.sum(0)


def mixing_sweep(csr: CSR, class_ptr: Tensor, V: Tensor, omega: float) -> None:
    """See the public operation."""
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy())
    with threads_worth(csr.indices.numel() * V.shape[1]):
        _mixing_sweep(*arrays, class_ptr.numpy(), V.numpy(), np.float32(omega))


def fields(csr: CSR, V: Tensor) -> tuple[Tensor, Tensor]:
    """See the public operation."""
    lengths = torch.empty(csr.n_vertices, dtype=torch.float64)
    products = torch.empty_like(lengths)
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy())
    with threads_worth(csr.indices.numel() * V.shape[1]):
        _fields(*arrays, V.numpy(), lengths.numpy(), products.numpy())
    return lengths, products


def gains(csr: CSR, signs: Tensor) -> Tensor:
    """See the public operation."""
    gained = torch.empty(signs.shape, dtype=torch.float32)
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy())
    with threads_worth(csr.indices.numel() * signs.shape[0]):
        _gains(*arrays, signs.numpy(), gained.numpy())
    return gained


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _adjacency_product(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[Any],
    X: NDArray[Any],
    product: NDArray[Any],
) -> None:
    n, c = X.shape
    for block in prange((n + BLOCK - 1) // BLOCK):
        acc = np.empty(c, X.dtype)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            acc[:] = 0
            for entry in range(indptr[i], indptr[i + 1]):
                j, weight = indices[entry], weights[entry]
                for k in range(c):
                    acc[k] += weight * X[j, k]
            for k in range(c):
                product[i, k] = acc[k]


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _chebyshev_step(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    X: NDArray[np.float64],
    previous: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    n, c = X.shape
    for block in prange((n + BLOCK - 1) // BLOCK):
        acc = np.empty(c, np.float64)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            for k in range(c):
                acc[k] = diagonal[i] * X[i, k]
            for entry in range(indptr[i], indptr[i + 1]):
                j, weight = indices[entry], weights[entry]
                for k in range(c):
                    acc[k] += weight * X[j, k]
            for k in range(c):
                new = 2.0 * acc[k] - previous[i, k]
                previous[i, k] = new
                squares[block, k] += new * new


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _mixing_sweep(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    class_ptr: NDArray[np.int64],
    V: NDArray[np.float32],
    omega: np.float32,
) -> None:
    for c in range(len(class_ptr) - 1):
        first, last = class_ptr[c], class_ptr[c + 1]
        if (indptr[last] - indptr[first]) * V.shape[1] < SERIAL_WORK:
            _mix_rows(indptr, indices, weights, first, last, V, omega)
            continue
        for block in prange((last - first + BLOCK - 1) // BLOCK):
            begin = first + block * BLOCK
            _mix_rows(indptr, indices, weights, begin, min(last, begin + BLOCK), V, omega)


@njit(cache=True, nogil=True, fastmath=FUSED)
def _mix_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    first: int,
    last: int,
    V: NDArray[np.float32],
    omega: np.float32,
) -> None:
    r = V.shape[1]
    one = np.float32(1)
    g = np.empty(r, np.float32)
    for i in range(first, last):
        g[:] = 0
        for entry in range(indptr[i], indptr[i + 1]):
            j, weight = indices[entry], weights[entry]
            for k in range(r):
                g[k] += weight * V[j, k]
        square = np.float32(0)
        for k in range(r):
            square += g[k] * g[k]
        if square == 0:
            continue
        towards = -(one + omega) / np.sqrt(square)
        square = np.float32(0)
        for k in range(r):
            g[k] = towards * g[k] - omega * V[i, k]
            square += g[k] * g[k]
        length = one / np.sqrt(square)
        for k in range(r):
            V[i, k] = length * g[k]


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _fields(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    V: NDArray[np.float32],
    lengths: NDArray[np.float64],
    products: NDArray[np.float64],
) -> None:
    n, r = V.shape
    for block in prange((n + BLOCK - 1) // BLOCK):
        g = np.empty(r, np.float64)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            g[:] = 0
            for entry in range(indptr[i], indptr[i + 1]):
                j, weight = indices[entry], np.float64(weights[entry])
                for k in range(r):
                    g[k] += weight * V[j, k]
            square = 0.0
            product = 0.0
            for k in range(r):
                square += g[k] * g[k]
                product += g[k] * V[i, k]
            lengths[i] = np.sqrt(square)
            products[i] = product


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _gains(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    signs: NDArray[np.int8],
    gained: NDArray[np.float32],
) -> None:
    replicas, n = signs.shape
    n_blocks = (n + BLOCK - 1) // BLOCK
    for task in prange(replicas * n_blocks):
        replica, block = task // n_blocks, task % n_blocks
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            field = np.float32(0)
            for entry in range(indptr[i], indptr[i + 1]):
                field += weights[entry] * signs[replica, indices[entry]]
            gained[replica, i] = field * signs[replica, i]
