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
from sdp_kernels.cpu._gather import (
    gather_8_double,
    gather_8_widened,
    gather_16,
    gather_16_double,
    gather_32,
    gather_64,
)
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


def chebyshev_steps(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor, n_steps: int) -> Tensor:
    """See the public operation."""
    squares = X.new_empty((n_steps, X.shape[1]))
    for step in range(n_steps):
        squares[step] = chebyshev_step(csr, diagonal, X, previous)
        X, previous = previous, X
    return squares


def rounded_chebyshev_step(
    csr: CSR,
    diagonal: Tensor,
    root: Tensor,
    factor: float,
    X: tuple[Tensor, Tensor],
    previous: tuple[Tensor, Tensor],
) -> Tensor:
    """See the public operation."""
    squares = torch.zeros((-(-csr.n_vertices // BLOCK), X[0].shape[1]), dtype=torch.float64)
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy(), diagonal.numpy(), root.numpy())
    (new, new_rounded), (old, old_rounded) = X, previous
    with threads_worth(csr.indices.numel() * new.shape[1]):
        _rounded_chebyshev_step(
            *arrays,
            factor,
            new.numpy(),
            new_rounded.numpy(),
            old.numpy(),
            old_rounded.numpy(),
            squares.numpy(),
        )
    return squares.sum(0)


def mixing_sweeps(
    csr: CSR, class_ptr: Tensor, V: Tensor, omega: float, n_sweeps: int, changes: Tensor | None
) -> None:
    """See the public operation."""
    is_half = V.dtype == torch.float16
    work = V.float()  # V itself where it is float32
    row_changes = None if changes is None else np.empty(csr.n_vertices)
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy(), class_ptr.numpy(), work.numpy())
    with threads_worth(csr.indices.numel() * V.shape[1]):
        for sweep in range(n_sweeps):
            _mixing_sweep(*arrays, np.float32(omega), True if is_half else None, row_changes)
            if changes is not None and row_changes is not None:
                changes[sweep] = row_changes.sum()
    if is_half:
        V.copy_(work)  # exact: rows were rounded one by one


def fields(csr: CSR, V: Tensor) -> tuple[Tensor, Tensor]:
    """See the public operation."""
    lengths = torch.empty(csr.n_vertices, dtype=torch.float64)
    products = torch.empty_like(lengths)
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy())
    with threads_worth(csr.indices.numel() * V.shape[1]):
        _fields(*arrays, V.float().numpy(), lengths.numpy(), products.numpy())
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
    entries, values, rows, last = indices.ctypes.data, weights.ctypes.data, X.ctypes.data, len(indices) - 1
    for block in prange((n + BLOCK - 1) // BLOCK):
        acc = np.empty(c, np.float64)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            for k in range(c):
                acc[k] = diagonal[i] * X[i, k]
            if c == 8:
                gather_8_double(entries, values, indptr[i], indptr[i + 1], last, rows, 8 * c, acc.ctypes.data)
            else:
                for entry in range(indptr[i], indptr[i + 1]):
                    j, weight = indices[entry], weights[entry]
                    for k in range(c):
                        acc[k] += weight * X[j, k]
            for k in range(c):
                new = 2.0 * acc[k] - previous[i, k]
                previous[i, k] = new
                squares[block, k] += new * new


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _rounded_chebyshev_step(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    diagonal: NDArray[np.float64],
    root: NDArray[np.float64],
    factor: float,
    X: NDArray[np.float64],
    X_rounded: NDArray[np.float32],
    previous: NDArray[np.float64],
    previous_rounded: NDArray[np.float32],
    squares: NDArray[np.float64],
) -> None:
    n, c = X.shape
    entries, values, rows, last = (
        indices.ctypes.data,
        weights.ctypes.data,
        X_rounded.ctypes.data,
        len(indices) - 1,
    )
    for block in prange((n + BLOCK - 1) // BLOCK):
        acc = np.empty(c, np.float64)
        sums = np.zeros(c, np.float64)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            for k in range(c):
                acc[k] = diagonal[i] * X_rounded[i, k]
            if c == 8:
                gather_8_widened(
                    entries, values, indptr[i], indptr[i + 1], last, rows, 4 * c, acc.ctypes.data
                )
            else:
                for entry in range(indptr[i], indptr[i + 1]):
                    j, weight = indices[entry], np.float64(weights[entry])
                    for k in range(c):
                        acc[k] += weight * X_rounded[j, k]
            scale = factor * root[i]
            for k in range(c):
                new = 2.0 * X[i, k] - previous[i, k] + scale * acc[k]
                previous[i, k] = new
                previous_rounded[i, k] = np.float32(root[i] * new)
                sums[k] += new * new
        squares[block] = sums


@njit(cache=True, nogil=True, parallel=True, fastmath=FUSED)
def _mixing_sweep(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    class_ptr: NDArray[np.int64],
    V: NDArray[np.float32],
    omega: np.float32,
    is_half: bool | None,
    changes: NDArray[np.float64] | None,
) -> None:
    """`is_half` is True or None, `changes` (n,) or None: numba drops the branches on an argument that is None."""
    for c in range(len(class_ptr) - 1):
        first, last = class_ptr[c], class_ptr[c + 1]
        if (indptr[last] - indptr[first]) * V.shape[1] < SERIAL_WORK:
            _mix_rows(indptr, indices, weights, first, last, V, omega, is_half, changes)
            continue
        for block in prange((last - first + BLOCK - 1) // BLOCK):
            begin = first + block * BLOCK
            end = min(last, begin + BLOCK)
            _mix_rows(indptr, indices, weights, begin, end, V, omega, is_half, changes)


@njit(cache=True, nogil=True, fastmath=FUSED)
def _mix_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    first: int,
    last: int,
    V: NDArray[np.float32],
    omega: np.float32,
    is_half: bool | None,
    changes: NDArray[np.float64] | None,
) -> None:
    r = V.shape[1]
    one = np.float32(1)
    g = np.empty(r, np.float32)
    if changes is not None:
        field, old = np.empty_like(g), np.empty_like(g)
    for i in range(first, last):
        g[:] = 0
        _gather_row(indptr, indices, weights, i, V, g)
        square = np.float32(0)
        for k in range(r):
            square += g[k] * g[k]
        if changes is not None:
            changes[i] = 0
            field[:] = g
        if square == 0:
            continue
        towards = -(one + omega) / np.sqrt(square)
        square = np.float32(0)
        for k in range(r):
            g[k] = towards * g[k] - omega * V[i, k]
            square += g[k] * g[k]
        length = one / np.sqrt(square)
        if is_half is not None:
            for k in range(r):
                g[k] = _nearest_half(length * g[k])
            length = one
        if changes is not None:
            old[:] = V[i]
        for k in range(r):
            V[i, k] = length * g[k]
        if changes is not None:
            change = np.float32(0)
            for k in range(r):
                change += field[k] * (V[i, k] - old[k])
            changes[i] = change


@njit(cache=True, nogil=True, fastmath=FUSED)
def _gather_row(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    i: int,
    V: NDArray[np.float32],
    g: NDArray[np.float32],
) -> None:
    """Adds sum_j w_ij v_j to g."""
    r, begin, end = V.shape[1], indptr[i], indptr[i + 1]
    if r % 16:
        for entry in range(begin, end):
            j, weight = indices[entry], weights[entry]
            for k in range(r):
                g[k] += weight * V[j, k]
        return
    entries, values, last = indices.ctypes.data, weights.ctypes.data, len(indices) - 1
    k = 0
    while k < r:
        rows, out = V.ctypes.data + 4 * k, g.ctypes.data + 4 * k
        if r - k >= 64:
            gather_64(entries, values, begin, end, last, rows, 4 * r, out)
            k += 64
        elif r - k >= 32:
            gather_32(entries, values, begin, end, last, rows, 4 * r, out)
            k += 32
        else:
            gather_16(entries, values, begin, end, last, rows, 4 * r, out)
            k += 16


@njit(cache=True, nogil=True)
def _nearest_half(x: np.float32) -> np.float32:
    """Nearest float16, ties to even, of |x| below 65,520, as a float32."""
    bits = np.float32(x).view(np.int32)
    if (bits & 0x7FFFFFFF) < 0x38800000:  # below 2^-14 halves lie 2^-24 apart
        return np.float32(np.rint(x * np.float32(2.0**24)) * np.float32(2.0**-24))
    bits += 0xFFF + ((bits >> 13) & 1)
    return np.int32(bits & ~0x1FFF).view(np.float32)


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
    entries, values, rows, last = indices.ctypes.data, weights.ctypes.data, V.ctypes.data, len(indices) - 1
    in_vectors = r - r % 16
    for block in prange((n + BLOCK - 1) // BLOCK):
        g = np.empty(r, np.float64)
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            g[:] = 0
            for k in range(0, in_vectors, 16):
                gather_16_double(
                    entries,
                    values,
                    indptr[i],
                    indptr[i + 1],
                    last,
                    rows + 4 * k,
                    4 * r,
                    g.ctypes.data + 8 * k,
                )
            for entry in range(indptr[i], indptr[i + 1] if in_vectors < r else indptr[i]):
                j, weight = indices[entry], np.float64(weights[entry])
                for k in range(in_vectors, r):
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
