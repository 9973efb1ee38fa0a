"""Random maps as explicit float64 matrices (D, k), scaled, from the counters that `sdp_kernels` documents."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sdp_kernels import gaussian

Matrix = NDArray[np.float64]
NORMALS, SIGNS, BLOCKED, INDEPENDENT, SRHT_SIGNS, SRHT_ROWS = 201, 202, 203, 204, 205, 206  # purposes


def words(n_rows: int, n_columns: int, seed: int, purpose: int) -> NDArray[np.int64]:
    """The 32-bit words of rows and columns from 0 on; `tests/kernels/test_gaussian.py` holds them to the definition."""
    made = gaussian.uniform_bits((n_rows, n_columns), seed=seed, purpose=purpose)
    return made.numpy().view(np.uint32).astype(np.int64)


def normals(D: int, k: int, seed: int) -> Matrix:
    made = gaussian.normal((D, k), seed=seed, purpose=NORMALS)
    return np.asarray(made.numpy().astype(np.float64) / math.sqrt(k))


def signs(D: int, k: int, seed: int) -> Matrix:
    made = gaussian.rademacher((D, k), seed=seed, purpose=SIGNS)
    return np.asarray(made.numpy().astype(np.float64) / math.sqrt(k))


def blocked(D: int, k: int, s: int, seed: int) -> Matrix:
    A = np.zeros((D, k))
    for feature, row in enumerate(words(D, s, seed, BLOCKED).tolist()):
        for b, word in enumerate(row):
            start, end = b * k // s, (b + 1) * k // s
            A[feature, start + (word // 2) * (end - start) // 2**31] = -1 if word % 2 else 1
    return A / math.sqrt(s)


def independent(D: int, k: int, density: float, seed: int) -> Matrix:
    word, limit = words(D, k, seed, INDEPENDENT), round(density * 2**31)
    return np.asarray(np.where(word // 2 < limit, 1 - 2 * (word % 2), 0) / math.sqrt(limit / 2**31 * k))


def hadamard(N: int) -> Matrix:
    """Sylvester's matrix by its recursion."""
    H = np.ones((1, 1))
    while len(H) < N:
        H = np.block([[H, H], [H, -H]])
    return H


def srht(D: int, k: int, seed: int) -> Matrix:
    N = 1
    while N < D:
        N *= 2
    word = words(N, 2, seed, SRHT_ROWS)
    keys = [(high << 32) + low for high, low in word.tolist()]
    kept = sorted(sorted(range(N), key=keys.__getitem__)[:k])
    flips = gaussian.rademacher((1, D), seed=seed, purpose=SRHT_SIGNS).numpy()[0]
    return np.asarray((hadamard(N)[kept, :D] * flips).T / math.sqrt(k))
