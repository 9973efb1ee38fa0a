"""Small signed graphs of many kinds, as hypothesis draws them, and graphs from dense matrices."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np

from sdp.maxcut.graph import Graph
from tests.reference.cuts import Matrix, symmetric

LARGEST = 18  # vertices: all 131,072 partitions take a millisecond
WEIGHTS = ("ones", "signs", "integers", "large integers", "negative", "normal", "decades", "zeros too")
SHAPES = ("random", "dense", "components", "isolated", "tree", "cycle", "bipartite")


def graph_of(W: Matrix) -> Graph:
    """The graph of a symmetric matrix; its zeros are no edges."""
    u, v = np.nonzero(np.triu(W, 1))
    return Graph.from_edges(u, v, W[u, v], n_vertices=len(W))


def small_matrix(n: int, shape: str, weights: str, seed: int) -> Matrix:
    """A symmetric matrix without diagonal, of up to `LARGEST` vertices."""
    rng = np.random.default_rng(seed)
    u, v = np.triu_indices(n, 1)
    kept = rng.random(u.size) < {"dense": 1.0, "isolated": 0.15}.get(shape, rng.uniform(0.2, 0.7))
    if shape == "components":
        part = rng.integers(0, 3, n)
        kept &= part[u] == part[v]
    elif shape == "isolated":
        alone = rng.random(n) < 0.4
        kept &= ~(alone[u] | alone[v])
    elif shape == "tree":
        parent = np.array([rng.integers(0, max(k, 1)) for k in range(n)])
        kept = parent[v] == u
    elif shape == "cycle":
        kept = (v == u + 1) | ((u == 0) & (v == n - 1))
    elif shape == "bipartite":
        side = rng.integers(0, 2, n)
        kept &= side[u] != side[v]
    draws: dict[str, Callable[[], Matrix]] = {
        "ones": lambda: np.ones(u.size),
        "signs": lambda: rng.choice([-1.0, 1.0], u.size),
        "integers": lambda: rng.integers(-9, 10, u.size).astype(float),
        "large integers": lambda: rng.integers(-(2**40), 2**40, u.size).astype(float),
        "negative": lambda: -rng.random(u.size),
        "normal": lambda: rng.normal(size=u.size),
        "decades": lambda: rng.normal(size=u.size) * 10.0 ** rng.uniform(-30, 30, u.size),
        "zeros too": lambda: rng.normal(size=u.size) * (rng.random(u.size) < 0.5),
    }
    W = np.zeros((n, n))
    W[u, v] = draws[weights]() * kept
    return symmetric(W)


@st.composite
def small_matrices(draw: st.DrawFn) -> tuple[Matrix, int]:
    """A matrix and a seed for whatever else a test draws."""
    n = draw(st.integers(2, LARGEST))
    shape, weights = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(WEIGHTS))
    seed = draw(st.integers(0, 2**31 - 1))
    return small_matrix(n, shape, weights, seed), seed
