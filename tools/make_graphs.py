"""Seeded families of graphs for tests and scaling: the same arguments give the same graph everywhere.

    python -m tools.make_graphs torus --rows 100 --cols 200 --seed 81 --out G81-like.txt.gz

Everything is vectorised; 10^7 edges take some seconds. The families and their sources: `random_sparse`
(Erdős and Rényi's G(n, m)), `torus` (rudy's toroidal_grid_2D, the family of Gset's G11 and G81), `rmat`
(Chakrabarti, Zhan and Faloutsos 2004), `preferential_attachment` (Barabási and Albert 1999, by the scheme
of Batagelj and Brandes 2005), `planted_cut` (a hidden bisection that most edges cross), `triangulation` (Delaunay's, of
random points: planar). `gset` makes graphs of the published collection again: see `tools/gset.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from sdp.maxcut.graph import Graph
from sdp.maxcut.io import write_graph
from tools.gset import gset

Weights = Literal["ones", "signs", "normal"]
Int64 = NDArray[np.int64]

# What a stream of random numbers is for; each family adds the seed.
_STRUCTURE, _WEIGHTS, _SIDES = range(3)
_RMAT_CORNERS = (0.57, 0.19, 0.19)  # Graph500's a, b, c


def random_sparse(n: int, average_degree: float, weights: Weights = "ones", seed: int = 0) -> Graph:
    """G(n, m): m = round(n average_degree / 2) edges, every set of m pairs equally likely.

    Args:
        n: number of vertices.
        average_degree: 2m / n; at most n - 1.
        weights: "ones", "signs" for +1 and -1 at even odds, or "normal" for standard normal numbers.
        seed: the seed.

    Raises:
        ValueError: there are not so many pairs.

    Complexity: O(m log m).
    """
    n_edges = round(n * average_degree / 2)
    n_pairs = n * (n - 1) // 2
    if not 0 <= n_edges <= n_pairs:
        raise ValueError(f"average_degree must lie in [0, n - 1] = [0, {n - 1}]; got {average_degree}.")
    rng = _stream(seed, _STRUCTURE)
    chosen = np.zeros(0, np.int64)
    if 3 * n_edges > n_pairs:  # dense: drawing until all differ would take long
        chosen = rng.permutation(n_pairs)[:n_edges]
    while chosen.size < n_edges:
        drawn = rng.integers(0, n_pairs, n_edges - chosen.size + n_edges // 50 + 8)
        chosen = _sorted_set(np.concatenate((chosen, drawn)))
    if chosen.size > n_edges:  # sorted, so a random subset, not the first
        chosen = np.delete(chosen, rng.choice(chosen.size, chosen.size - n_edges, replace=False))
    u, v = _pair(chosen)
    return _graph(u, v, n, weights, seed, f"random-{n}-{average_degree:g}")


def torus(rows: int, cols: int, weights: Weights = "signs", seed: int = 0) -> Graph:
    """A toroidal grid, vertex (r, c) = r cols + c, joined to its right and lower neighbours.

    Args:
        rows: number of rows, at least 3, so that no edge is given twice.
        cols: number of columns, at least 3.
        weights: "signs" for +1 and -1 at even odds as in G11, G32, G57 and G81, "ones" as in G48, or "normal".
        seed: the seed.

    Raises:
        ValueError: a side is below 3.
    """
    if min(rows, cols) < 3:
        raise ValueError(f"both sides of a torus must be at least 3; got {rows} x {cols}.")
    vertex = np.arange(rows * cols, dtype=np.int64).reshape(rows, cols)
    right, lower = np.roll(vertex, -1, axis=1), np.roll(vertex, -1, axis=0)
    u = np.concatenate((vertex.ravel(), vertex.ravel()))
    v = np.concatenate((right.ravel(), lower.ravel()))
    return _graph(u, v, rows * cols, weights, seed, f"torus-{rows}x{cols}")


def rmat(scale: int, edge_factor: float, weights: Weights = "ones", seed: int = 0) -> Graph:
    """R-MAT: 2^scale vertices; each edge falls into a quarter of the matrix, scale times over.

    Loops and repeated edges are left out, so that there are somewhat fewer than edge_factor 2^scale edges;
    vertices are renamed at random, so that their numbers tell nothing of their degrees.

    Args:
        scale: binary logarithm of the number of vertices, 1 to 30.
        edge_factor: edges drawn per vertex.
        weights: "ones" or "signs".
        seed: the seed.

    Complexity: O(m scale).
    """
    if not 1 <= scale <= 30:
        raise ValueError(f"scale must lie in [1, 30]; got {scale}.")
    n = 1 << scale
    n_edges = round(n * edge_factor)
    rng = _stream(seed, _STRUCTURE)
    corner = np.cumsum(_RMAT_CORNERS, dtype=np.float32)
    u, v = np.zeros(n_edges, np.int64), np.zeros(n_edges, np.int64)
    for _ in range(scale):
        quarter = rng.random(n_edges, np.float32)
        is_lower = quarter >= corner[1]
        is_right = (quarter >= corner[0]) & ~is_lower | (quarter >= corner[2])
        u = 2 * u + is_lower
        v = 2 * v + is_right
    names = rng.permutation(n)
    u, v = _distinct(names[u], names[v], n)
    return _graph(u, v, n, weights, seed, f"rmat-{scale}-{edge_factor:g}")


def preferential_attachment(n: int, degree: int, weights: Weights = "ones", seed: int = 0) -> Graph:
    """Vertices arrive one by one, each with `degree` edges to ends chosen in proportion to their degrees.

    In the list of all ends, end 2k is the new vertex of edge k, and end 2k + 1 copies a random earlier end,
    itself perhaps a copy: all copies are followed at once, some log2(m) times. Loops and repeated edges are
    left out.

    Args:
        n: number of vertices.
        degree: edges of each new vertex.
        weights: "ones" or "signs".
        seed: the seed.

    Complexity: O(m log m).
    """
    if n < 0 or degree < 1:
        raise ValueError(f"n must not be negative and degree at least 1; got {n} and {degree}.")
    rng = _stream(seed, _STRUCTURE)
    k = np.arange(n * degree, dtype=np.int64)
    copied = rng.integers(0, 2 * k + 1)  # an earlier end, or the edge's own new vertex
    source = copied.copy()
    while (is_copy := source % 2 == 1).any():
        source[is_copy] = copied[source[is_copy] // 2]
    u, v = _distinct(k // degree, source // 2 // degree, n)
    return _graph(u, v, n, weights, seed, f"attachment-{n}-{degree}")


def planted_cut(n: int, average_degree: float, across: float = 0.9, seed: int = 0) -> Graph:
    """A hidden bisection: about n average_degree / 2 edges of weight 1, each across it with this probability.

    Loops and repeated edges are left out. `planted_sides` gives the bisection, whose cut is about
    `across` of all edges; it need not be the largest.

    Args:
        n: number of vertices, even and at least 4.
        average_degree: 2m / n, before repetitions are left out.
        across: probability that an edge crosses, from 0 to 1.
        seed: the seed.
    """
    if n < 4 or n % 2:
        raise ValueError(f"n must be even and at least 4; got {n}.")
    if not 0 <= across <= 1:
        raise ValueError(f"across must lie in [0, 1]; got {across}.")
    rng = _stream(seed, _STRUCTURE)
    n_edges = round(n * average_degree / 2)
    members = np.argsort(planted_sides(n, seed), kind="stable").reshape(2, n // 2)
    side = rng.integers(0, 2, n_edges)
    other = side ^ (rng.random(n_edges) < across)
    u = members[side, rng.integers(0, n // 2, n_edges)]
    v = members[other, rng.integers(0, n // 2, n_edges)]
    u, v = _distinct(u, v, n)
    return _graph(u, v, n, "ones", seed, f"planted-{n}-{average_degree:g}-{across:g}")


def planted_sides(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """The bisection hidden in `planted_cut(n, ..., seed=seed)`: uint8 (n,), half of it 1."""
    return _stream(seed, _SIDES).permutation(np.arange(n, dtype=np.int64) % 2).astype(np.uint8)


def triangulation(n: int, weights: Weights = "signs", seed: int = 0) -> Graph:
    """Delaunay's triangulation of random points in the unit square: planar, with about 3n edges.

    Args:
        n: number of vertices, at least 3.
        weights: as for `random_sparse`.
        seed: the seed.

    Raises:
        ValueError: there are fewer than 3 points.

    Complexity: O(n log n).
    """
    if n < 3:
        raise ValueError(f"n must be at least 3; got {n}.")
    corners = Delaunay(_stream(seed, _STRUCTURE).random((n, 2))).simplices.astype(np.int64)
    u, v = _distinct(corners.ravel(), np.roll(corners, -1, axis=1).ravel(), n)
    return _graph(u, v, n, weights, seed, f"triangulation-{n}")


def _graph(u: Int64, v: Int64, n: int, weights: Weights, seed: int, name: str) -> Graph:
    """A graph of distinct edges with weights of this kind."""
    if weights not in get_args(Weights):
        raise ValueError(f'weights must be "ones", "signs" or "normal"; got {weights!r}.')
    w: NDArray[np.float64] | None = None
    if weights == "signs":
        w = 2.0 * _stream(seed, _WEIGHTS).integers(0, 2, u.size).astype(np.float64) - 1.0
    elif weights == "normal":
        w = _stream(seed, _WEIGHTS).standard_normal(u.size)
    if w is not None:
        name += f"-{weights}"
    return dataclasses.replace(Graph.from_edges(u, v, w, n_vertices=n), name=f"{name}-seed{seed}")


def _stream(seed: int, purpose: int) -> np.random.Generator:
    """Random numbers for one purpose, independent of those for another."""
    return np.random.Generator(np.random.PCG64([seed, purpose]))


def _distinct(u: Int64, v: Int64, n: int) -> tuple[Int64, Int64]:
    """The distinct edges of a list, without loops, sorted."""
    key = np.minimum(u, v) * n + np.maximum(u, v)  # n <= 2^31, so this fits 63 bits
    key = _sorted_set(key[u != v])
    return key // n, key % n


def _sorted_set(keys: Int64) -> Int64:
    """The distinct numbers of an array, rising; 20 times as fast as np.unique, which hashes first."""
    keys = np.sort(keys)
    is_new: NDArray[np.bool_] = np.diff(keys, prepend=-1) != 0
    return keys[is_new]


def _pair(index: Int64) -> tuple[Int64, Int64]:
    """The pair u < v at this place of the list (0, 1), (0, 2), (1, 2), (0, 3), ...: v (v - 1) / 2 + u."""
    v = ((1 + np.sqrt(8.0 * index + 1)) / 2).astype(np.int64)
    v -= v * (v - 1) // 2 > index  # the root may have been rounded past an integer, either way
    v += (v + 1) * v // 2 <= index
    return index - v * (v - 1) // 2, v


_FAMILIES: dict[str, tuple[Callable[..., Graph], dict[str, type]]] = {
    "random": (random_sparse, {"n": int, "average_degree": float, "weights": str}),
    "torus": (torus, {"rows": int, "cols": int, "weights": str}),
    "rmat": (rmat, {"scale": int, "edge_factor": float, "weights": str}),
    "attachment": (preferential_attachment, {"n": int, "degree": int, "weights": str}),
    "planted": (planted_cut, {"n": int, "average_degree": float, "across": float}),
    "triangulation": (triangulation, {"n": int, "weights": str}),
    "gset": (gset, {"name": str}),
}
_OPTIONAL = ("weights", "across")


def main(arguments: list[str] | None = None) -> None:
    """Makes one graph and writes it in rudy format."""
    parser = argparse.ArgumentParser(description="Make a graph of a seeded family.")
    commands = parser.add_subparsers(dest="family", required=True)
    for family, (make, options) in _FAMILIES.items():
        command = commands.add_parser(family, help=(make.__doc__ or "").partition("\n")[0])
        for option, kind in options.items():
            choices = get_args(Weights) if option == "weights" else None
            flag = f"--{option.replace('_', '-')}"
            command.add_argument(flag, type=kind, choices=choices, required=option not in _OPTIONAL)
        if family != "gset":  # a published graph has the seed that it was published with
            command.add_argument("--seed", type=int, default=0)
        command.add_argument("--out", required=True, help="file in rudy format; gzip when it ends in .gz")
    chosen = vars(parser.parse_args(arguments))
    make, out = _FAMILIES[chosen.pop("family")][0], chosen.pop("out")
    start = time.perf_counter()
    try:
        graph = make(**{option: value for option, value in chosen.items() if value is not None})
        write_graph(graph, out)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{out}: {graph!r}, in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
