"""Graphs of the Gset collection, made again from the arguments that its authors gave to their generator.

    python -m tools.make_graphs gset --name G55 --out G55

Helmberg and Rendl (A spectral bundle method for semidefinite programming, 2000) made the Gset graphs by Rinaldi's rudy,
which draws from the Stanford GraphBase's portable generator, Knuth's `gb_flip`. Its seeds follow from the size of the
graph, so that the random and the toroidal graphs need no download. G1, G2, G11, G22, G32, G43, G57, G60, G70 and G81
were compared with the published files, edge by edge; of G55 the sizes and parts of the list were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from sdp.maxcut.graph import Graph

_MASK = 0x7FFFFFFF  # gb_flip's numbers have 31 bits

# Name -> vertices, percent of all pairs, seed.
RANDOM = {
    "G1": (800, 6.0, 8001),
    "G2": (800, 6.0, 8002),
    "G22": (2000, 1.0, 20001),
    "G43": (1000, 2.0, 10001),
    "G55": (5000, 0.1, 50001),
    "G60": (7000, 0.07, 70001),
    "G70": (10000, 0.02, 100001),
}
# Name -> rows, columns, seed of the signs.
TORI = {
    "G11": (100, 8, 8001),
    "G32": (100, 20, 20003),
    "G57": (100, 50, 50001),
    "G81": (200, 100, 200001),
}


def gset(name: str) -> Graph:
    """The Gset graph of this name, vertices in the published order.

    Raises:
        ValueError: it is none of those that can be made here.

    Complexity: O(m).
    """
    if name in RANDOM:
        graph = _random(*RANDOM[name])
    elif name in TORI:
        graph = _torus(*TORI[name])
    else:
        raise ValueError(f"name must be one of {', '.join([*RANDOM, *TORI])}; got {name!r}.")
    return dataclasses.replace(graph, name=name)


def _random(n: int, percent: float, seed: int) -> Graph:
    """Pairs drawn until this share of all differs."""
    numbers = _flips(seed)
    chosen: dict[tuple[int, int], None] = {}
    n_edges = int(n * (n - 1) * percent / 200 + 0.5)
    while len(chosen) < n_edges:
        u, v = _below(numbers, n), _below(numbers, n)
        if u != v:
            chosen[min(u, v), max(u, v)] = None
    u, v = np.array(list(chosen), np.int64).T
    return Graph.from_edges(u, v, n_vertices=n)


def _torus(rows: int, cols: int, seed: int) -> Graph:
    """A toroidal grid, vertex (r, c) = r cols + c, its signs drawn edge by edge."""
    n = rows * cols
    edges = [
        (u, v)
        for u in range(n)
        # Above, below, left, right, as rudy lists them; each edge once, at its smaller end.
        for v in ((u - cols) % n, (u + cols) % n, _beside(u, -1, cols), _beside(u, 1, cols))
        if u < v
    ]
    numbers = _flips(seed)
    signs = [2.0 * _below(numbers, 2) - 1.0 for _ in edges]
    u, v = np.array(edges, np.int64).T
    return Graph.from_edges(u, v, np.array(signs), n_vertices=n)


def _beside(u: int, step: int, cols: int) -> int:
    return u // cols * cols + (u + step) % cols


def _below(numbers: Iterator[int], bound: int) -> int:
    """The next number below `bound`, every one equally likely: numbers of the last, broken stretch are skipped."""
    whole = (_MASK + 1) // bound * bound
    return next(number for number in numbers if number < whole) % bound


def _flips(seed: int) -> Iterator[int]:
    """`gb_flip` of The Stanford GraphBase (Knuth 1993): a[n] = a[n - 55] - a[n - 24] mod 2^31, given in reverse."""
    table = [0] * 55 + [seed & _MASK]
    before, following, bits = seed & _MASK, 1, seed & _MASK
    place = 21
    while place:
        table[place] = following
        bits = 0x40000000 + (bits >> 1) if bits & 1 else bits >> 1
        following = (before - following - bits) & _MASK
        before = table[place]
        place = (place + 21) % 55
    for _ in range(5):
        _renew(table)
    while True:
        yield from table[54:0:-1]
        _renew(table)
        yield table[55]


def _renew(table: list[int]) -> None:
    """The next 55 numbers, in place."""
    for place in range(1, 56):
        table[place] = (table[place] - table[(place + 30) % 55 + 1]) & _MASK
