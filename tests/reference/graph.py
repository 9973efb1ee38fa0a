"""Operations on a graph by the definition, in float64 on dense matrices, and cuts by trying all.

Slow on purpose: a dense symmetric matrix W stands for the graph, one vertex after another for a sweep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.reference.cuts import Matrix

Signs = NDArray[np.int8]


def adjacency_product(W: Matrix, X: Matrix) -> Matrix:
    return W @ X


def laplacian_product(W: Matrix, X: Matrix) -> Matrix:
    return (np.diag(W.sum(1)) - W) @ X


def chebyshev(B: Matrix, X: Matrix, k: int) -> Matrix:
    """T_k(B) X from the eigenvectors of B: cos(k acos x), and cosh beyond [-1, 1]; no recurrence."""
    values, vectors = np.linalg.eigh(B)
    inside = np.cos(k * np.arccos(np.clip(values, -1, 1)))
    outside = np.sign(values) ** k * np.cosh(k * np.arccosh(np.maximum(np.abs(values), 1)))
    return np.asarray((vectors * np.where(np.abs(values) <= 1, inside, outside)) @ (vectors.T @ X))


def mixing_sweep(W: Matrix, V: Matrix, omega: float) -> Matrix:
    """One sweep, vertex after vertex in their order."""
    V = V.copy()
    for i in range(len(V)):
        g = W[i] @ V
        length = np.linalg.norm(g)
        if length > 0:
            v = -(1 + omega) * g / length - omega * V[i]
            V[i] = v / np.linalg.norm(v)
    return V


def energy(W: Matrix, V: Matrix) -> float:
    """sum_{i<j} w_ij v_i . v_j."""
    return float((W * (V @ V.T)).sum() / 2)


def fields(W: Matrix, V: Matrix) -> tuple[Matrix, Matrix]:
    g = W @ V
    return np.linalg.norm(g, axis=1), (g * V).sum(1)


def gains(W: Matrix, signs: Signs) -> Matrix:
    """Change of the cut value when each vertex changes sides, for each row of signs (R, n)."""
    s = signs.astype(np.float64)
    return s * (s @ W)


def cut_values(W: Matrix, signs: Signs) -> NDArray[np.float64]:
    """Cut value of each row of signs (R, n), by counting edges."""
    different = signs[:, :, None] != signs[:, None, :]
    return np.asarray((W * different).sum((1, 2)) / 2)


def all_cut_values(W: Matrix) -> NDArray[np.float64]:
    """Cut values of all 2^(n-1) partitions that keep vertex 0 on side 0: bit k - 1 is the side of vertex k.

    Vertex k joins the first k with the sum of its weights to the other side, itself built up by doubling: two
    additions a partition, where trying them one by one takes n^2.
    """
    values = np.zeros(1)
    for k in range(1, len(W)):
        to_side_1 = np.zeros(1)
        for j in range(1, k):
            to_side_1 = np.concatenate((to_side_1, to_side_1 + W[k, j]))
        values = np.concatenate((values + to_side_1, values + W[k, :k].sum() - to_side_1))
    return values


def best_cut(W: Matrix) -> float:
    return float(all_cut_values(W).max())


def best_mixture(W: Matrix, one: Signs, other: Signs) -> float:
    """Best cut among those that take each component of the difference of two partitions from either.

    Components by repeated squaring of the adjacency matrix; the nearer of `other` and its mirror image counts.
    """
    if 2 * (one == other).sum() < len(one):
        other = -other
    differs = one != other
    reach = (np.eye(len(W)) + (W != 0) * np.outer(differs, differs)) > 0
    for _ in range(len(W).bit_length()):
        reach = reach @ reach
    parts = {tuple(row) for row in reach[differs]}
    mixtures = [one]
    for part in parts:
        mixtures += [np.where(part, -s, s) for s in mixtures]
    return float(cut_values(W, np.stack(mixtures)).max())


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox-4x32-10 in Python integers."""
    (a, b, c, d), (key_0, key_1) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            (right >> 32) ^ b ^ key_0,
            right & 0xFFFFFFFF,
            (left >> 32) ^ d ^ key_1,
            left & 0xFFFFFFFF,
        )
        key_0, key_1 = (key_0 + 0x9E3779B9) & 0xFFFFFFFF, (key_1 + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d
