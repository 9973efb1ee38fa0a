"""Exact reductions: a smaller graph with the same maximum cut, up to a constant, and the way back.

For the maximum cut of a graph with weights of either sign, s in {-1, +1}^n:

- degree 1, edge w: the constant grows by max(w, 0);
- degree 2, edges w1 to a and w2 to b: by f = max(w1 + w2, 0), and the edge ab gains max(w1, w2) - f;
- degree 3 (star to triangle), edges w1, w2, w3 to a, b, c: by f = max(w1 + w2 + w3, 0); with
  d1 = max(w1, w2 + w3) - f and d2, d3 likewise, ab gains (d1 + d2 - d3) / 2, ac and bc likewise: a function of three
  spins that is even under turning all of them is such a sum;
- dominating edge, |w_uv| >= sum of the other |w_ux|: some maximum cut has s_u = -sign(w_uv) s_v, so u and v are one;
- twins, w_u. = alpha w_v. and no edge uv: some maximum cut has s_u = sign(alpha) s_v.

Source: the rules are folklore; Ferizovic, Hespe, Lamm, Mnich, Schulz and Strash (2020) and Lange, Andres and Swoboda
(2019) survey stronger ones.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdp.maxcut import _elimination
from sdp.maxcut._elimination import RULES, TWINS, Log
from sdp.maxcut._sums import exact_sum
from sdp.maxcut.bound import UNIT_ROUNDOFF
from sdp.maxcut.graph import Graph

_MOST_EDGES = 2**30  # half-edges are numbered in 32 bits
_EXACT_BITS = 51  # of the sum of all |w|: two bits below what float64 adds exactly, for sums of up to four
_MOST_HALVINGS = 40  # of the weights by rules of degree 3
_MOST_ROUNDS = 50  # of twins: a certificate has a part within a part for each; real graphs took one or two
_LOWEST_EXPONENT = -1000  # of the grid: its numbers and their ratios are no subnormals
_LEAST_ROUNDED = 1e-280  # weight on no grid: errors relative to smaller ones would be subnormal
_LARGEST_LEFT = 1e36  # weight on no grid; graphs take up to 1e37

__all__ = ["RULES", "Reduction", "reduce"]


@dataclass(frozen=True, eq=False, repr=False)
class Reduction:
    """A smaller graph with the same maximum cut: max cut of `original` = constant + unit x max cut of `graph`.

    Attributes:
        original: the graph that was reduced.
        graph: what is left, without isolated vertices; its weights are integers where `is_exact`.
        constant: in units of the original's weights.
        unit: of the weights of `graph`, in units of the original's weights; a power of two.
        lost_weight: the equation above holds within this, in units of the original's weights; 0 where `is_exact`.
        is_exact: whether no weight was rounded on the way. So it is where the original's weights are multiples of one
            power of two and add up to less than 2^51 of it.
        kept: int64 (graph.n_vertices,), the vertices of the original that are left, rising.
        removed: number of vertices that each rule removed.
        log: what was done, vertex by vertex.
    """

    original: Graph
    graph: Graph
    constant: float
    unit: float
    lost_weight: float
    is_exact: bool
    kept: NDArray[np.int64]
    removed: dict[str, int]
    log: Log

    def lift(self, partition: ArrayLike) -> NDArray[np.uint8]:
        """The best partition of the original that extends one of `graph`.

        Args:
            partition: (graph.n_vertices,) of 0 and 1, booleans, or -1 and +1.

        Returns:
            uint8 (original.n_vertices,) of 0 and 1. It cuts constant + unit x what `partition` cuts, give or take
            `lost_weight`, or more: ties and roundings aside, every removed vertex takes its best side.

        Raises:
            ValueError: the shape is another.

        Complexity: O(n).
        """
        part = np.asarray(partition)
        if part.shape != (self.graph.n_vertices,):
            raise ValueError(f"partition must have shape ({self.graph.n_vertices},); got {part.shape}.")
        sides = np.zeros(self.original.n_vertices, np.uint8)
        sides[self.kept] = part > 0
        _elimination.lift(self.log, sides)
        return sides

    def restrict(self, partition: ArrayLike) -> NDArray[np.uint8]:
        """Sides of the vertices that are left, uint8 (graph.n_vertices,), from a partition of the original."""
        return (np.asarray(partition)[self.kept] > 0).astype(np.uint8)

    def value(self, cut_value: float) -> float:
        """Constant + unit x cut_value: the cut of a lifted partition, in units of the original's weights."""
        return self.constant + self.unit * cut_value

    def upper_bound(self, bound: float) -> float:
        """An upper bound on the original's cuts from one on the cuts of `graph`, rounded to the safe side."""
        whole = self.value(bound)
        if not math.isfinite(whole):
            return whole
        if self.is_exact and self.graph.is_integer and bound == math.floor(bound):
            return float(math.floor(whole)) if self.original.is_integer else whole
        return whole + self.lost_weight + 4 * UNIT_ROUNDOFF * (abs(self.constant) + self.unit * abs(bound))

    def __repr__(self) -> str:
        rules = ", ".join(f"{name} {count:,}" for name, count in self.removed.items() if count)
        sizes = f"{self.original.n_vertices:,} -> {self.graph.n_vertices:,} vertices"
        edges = f"{self.original.n_edges:,} -> {self.graph.n_edges:,} edges"
        return f"<Reduction: {sizes}, {edges}; {rules or 'no rule applies'}>"


def reduce(graph: Graph, rules: Collection[str] = RULES) -> Reduction:
    """Applies the rules until none applies.

    Weights are computed on a grid finer than the original's by up to 2^40, in float64, which holds them exactly; a
    vertex of degree 3 whose triangle would need a still finer one is left. Weights that lie on no such grid are
    rounded, and `lost_weight` bounds what that costs; if some of those are below 1e-280, nothing is removed.

    Args:
        graph: with weights of either sign.
        rules: names out of `RULES`.

    Returns:
        The reduction.

    Raises:
        ValueError: a rule is not one of `RULES`, or the graph has 2^30 edges or more.

    Complexity: O(n log n + m) for graphs of bounded degree: looking for an edge walks along the shorter row, of at most
    1024 edges, because vertices of degree 2 and 3 between two hubs are left. 60 bytes an edge.

    >>> square = Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0])
    >>> reduction = reduce(square)
    >>> reduction.constant, reduction.lift([]).tolist()
    (4.0, [1, 0, 1, 0])
    """
    unknown = sorted(set(rules) - set(RULES))
    if unknown:
        raise ValueError(f"`rules` must be among {', '.join(RULES)}; got {unknown[0]!r}.")
    if graph.n_edges >= _MOST_EDGES:
        raise ValueError(
            f"a graph to be reduced must have fewer than {_MOST_EDGES:,} edges; got {graph.n_edges:,}."
        )
    u, v, w = graph.edges()
    u, v, w = u[w != 0], v[w != 0], w[w != 0]
    unit = _grid(w)
    exact = unit > 0.0
    net = _elimination.linked(graph.n_vertices, u, v, w / unit if exact else w)
    log = _elimination.empty_log(graph.n_vertices)
    allowed = np.array([rule in rules for rule in RULES])
    if not exact and np.abs(w).min() < _LEAST_ROUNDED:
        allowed[:] = False
    for _ in range(_MOST_ROUNDS):
        _elimination.eliminate(net, log, allowed, exact)
        if not allowed[TWINS]:
            break
        keys = _elimination.neighbourhood_keys(net)
        if not _elimination.merge_twins(net, log, np.argsort(keys, kind="stable"), keys, exact):
            break
    else:
        _elimination.eliminate(net, log, allowed, exact)
    return _reduction(graph, net, log, unit if exact else 1.0, exact)


def _reduction(graph: Graph, net: _elimination.Network, log: Log, unit: float, exact: bool) -> Reduction:
    u, v, w = _elimination.edges_left(net)
    if exact and w.size:  # the coarsest grid on which the weights that are left are integers
        coarse = 2.0 ** float(_lowest_bits(w).min())
        w, unit_left = w / coarse, unit * coarse
    else:
        largest = float(np.abs(w).max(initial=0.0))
        spare = 2.0 ** math.ceil(math.log2(largest / _LARGEST_LEFT)) if largest > _LARGEST_LEFT else 1.0
        w, unit_left = w / spare, unit * spare
    kept = np.flatnonzero(net.degree > 0)
    place = np.cumsum(net.degree > 0) - 1
    length = int(log.length[0])
    used = Log(
        log.length,
        log.vertex[:length].copy(),
        log.rule[:length].copy(),
        log.ends[:length].copy(),
        log.weights[:length].copy(),
        log.constant[:length].copy(),
    )
    return Reduction(
        original=graph,
        graph=Graph.from_edges(place[u], place[v], w, n_vertices=kept.size),
        constant=exact_sum(used.constant) * unit,
        unit=unit_left,
        lost_weight=0.0 if exact else float(net.lost[0]) * (1 + 2.0**-20),
        is_exact=exact,
        kept=kept,
        removed=dict(zip(RULES, net.counts[1:].tolist(), strict=True)),
        log=used,
    )


def _grid(w: NDArray[np.float64]) -> float:
    """A power of two of which all weights are multiples, finer than they need by as much as float64 allows; or 0."""
    if not w.size:
        return 1.0
    lowest = float(_lowest_bits(w).min())
    total = math.log2(exact_sum(np.abs(w)))
    finest = math.ceil(total) - _EXACT_BITS
    unit = max(finest, lowest - _MOST_HALVINGS, _LOWEST_EXPONENT)
    return float(2.0**unit) if unit <= lowest else 0.0


def _lowest_bits(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponent of the lowest bit set in each number, none of them 0."""
    mantissas, exponents = np.frexp(w)
    whole = np.abs(np.ldexp(mantissas, 53)).astype(np.int64)
    return exponents - 53 + np.log2((whole & -whole).astype(np.float64))
