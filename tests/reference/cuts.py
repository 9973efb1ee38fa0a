"""Cuts by the definition, on dense matrices: the oracle of replicas, and graphs small enough for it."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels.graph import CSR

Matrix = NDArray[np.float64]


def csr_of(W: Matrix) -> CSR:
    """The graph of a symmetric matrix; its zeros are no edges, its diagonal is not looked at."""
    W = W * (1.0 - np.eye(len(W)))
    rows, columns = np.nonzero(W)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(W)))))
    arrays = (indptr.astype(np.int64), columns.astype(np.int32), W[rows, columns].astype(np.float32))
    return CSR(*map(torch.from_numpy, arrays))


def dense(csr: CSR) -> Matrix:
    """The symmetric matrix of a graph, float64."""
    n = csr.n_vertices
    W = np.zeros((n, n))
    W[np.repeat(np.arange(n), np.diff(csr.indptr.numpy())), csr.indices.numpy()] = csr.weights.numpy()
    return W


def cut_values(csr: CSR, signs: Tensor) -> Matrix:
    """Cut value of each column of +-1 signs (n, R)."""
    s = signs.numpy().astype(np.float64)
    W = dense(csr)
    return 0.25 * (W.sum() - np.einsum("ir,ij,jr->r", s, W, s))


def best_cut(W: Matrix) -> float:
    """Maximum cut by trying all."""
    n = len(W)
    signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=n - 1)], dtype=np.float64)
    return float(0.25 * (W.sum() - ((signs @ W) * signs).sum(axis=1)).max())


def symmetric(upper: Matrix) -> Matrix:
    upper = np.triu(upper, 1)
    return upper + upper.T


def sparse_random(n: int, mean_degree: float, seed: int) -> Matrix:
    """G(n, p) with weights 1."""
    rng = np.random.default_rng(seed)
    return symmetric((rng.random((n, n)) < mean_degree / n).astype(np.float64))


def dense_random(n: int, seed: int) -> Matrix:
    """Every edge, normal weights of both signs."""
    return symmetric(np.random.default_rng(seed).normal(size=(n, n)))


def signed_torus(side: int, seed: int) -> Matrix:
    """A side x side torus with weights +-1."""
    rng = np.random.default_rng(seed)
    W = np.zeros((side * side, side * side))
    for x, y in itertools.product(range(side), repeat=2):
        for other in ((x + 1) % side * side + y, x * side + (y + 1) % side):
            W[x * side + y, other] = W[other, x * side + y] = rng.choice([-1.0, 1.0])
    return W


def several_components(seed: int) -> Matrix:
    """Two random graphs, a path, an edge of weight -2 and five isolated vertices, shuffled."""
    rng = np.random.default_rng(seed)
    W = np.zeros((80, 80))
    W[:30, :30] = sparse_random(30, 6.0, seed)
    W[30:60, 30:60] = sparse_random(30, 4.0, seed + 1) * 0.5
    W[60:73, 60:73] = np.eye(13, k=1) + np.eye(13, k=-1)
    W[73, 74] = W[74, 73] = -2.0
    order = rng.permutation(80)
    return W[np.ix_(order, order)]


def mixing_method(W: Matrix, rank: int, sweeps: int, seed: int) -> Tensor:
    """Rows of the low-rank relaxation, float32 (n, rank): v_i <- -normalize(sum_j w_ij v_j)."""
    V = np.random.default_rng(seed).normal(size=(len(W), rank))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    for _ in range(sweeps):
        for i in range(len(W)):
            g = W[i] @ V
            length = np.linalg.norm(g)
            if length > 0.0:
                V[i] = -g / length
    return torch.from_numpy(V.astype(np.float32))
