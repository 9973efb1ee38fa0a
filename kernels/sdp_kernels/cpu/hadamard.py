"""numba twin of `sdp_kernels.hadamard`; the loops are `_butterflies`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp_kernels._rows import array_of
from sdp_kernels.cpu import _butterflies
from sdp_kernels.cpu._blocks import threads_worth
from sdp_kernels.cpu._vectors import RUN
from sdp_kernels.cpu.gaussian import rademacher
from sdp_kernels.cpu.projection import Dense, Sparse, csr_of, row_chunks

WORK_A_LEVEL = 2  # entries of a sampled row that cost what one number costs at one level of a transform


def fwht(X: Dense, out: Dense) -> None:
    """Writes out (n, N) = X H, rows filled up with zeros to N; X may be `out`."""
    target, n = array_of(out), out.shape[1]
    with threads_worth(target.size * max(1, n.bit_length())):
        for start, rows in row_chunks(X, out):
            _butterflies.whole(rows, n, _butterflies.padded_length(n), target[start : start + len(rows)])


def srht(X: Dense, n: int, samples: Dense, out: Dense, seed: int, purpose: int, scale: float) -> None:
    """Writes out (rows, k) = scale times entries `samples` of H D x, x filled up with zeros to n."""
    target = array_of(out)
    places = array_of(samples)
    if n >= RUN:
        places = places + _butterflies.PAD * (places // RUN)
    signs = _signs(X.shape[1], seed, purpose, target)
    with threads_worth(X.shape[0] * n * max(1, n.bit_length())):
        for start, rows in row_chunks(X, out):
            factor = target.dtype.type(scale)
            block = target[start : start + len(rows)]
            _butterflies.sampled(rows, n, _butterflies.padded_length(n), signs, places, block, factor)


def srht_of_rows(
    rows: Sparse,
    n_features: int,
    n: int,
    samples: Dense,
    out: Dense,
    seed: int,
    purpose: int,
    scale: float,
) -> None:
    """As `srht` for sparse rows: a row of few entries sums columns of H, others are transformed."""
    target = array_of(out)
    csr = csr_of(rows, target.dtype)
    work = WORK_A_LEVEL * n * max(1, n.bit_length())
    if n > 1 << 32:  # positions of columns of H are 32-bit words there
        work = 0
    signs = _signs(n_features, seed, purpose, target)
    with threads_worth(len(csr[1]) * out.shape[1]):
        length = _butterflies.padded_length(n)
        _butterflies.sampled_sparse(
            *csr, n, length, signs, array_of(samples), work, target, target.dtype.type(scale)
        )


def _signs(n: int, seed: int, purpose: int, like: NDArray[Any]) -> NDArray[Any]:
    signs = np.empty((1, n), dtype=np.int8)
    rademacher(signs, seed, purpose, 0, 0)
    row: NDArray[Any] = signs[0].astype(like.dtype)
    return row
