"""The matching bound with its proof: T-cuts whose multipliers add up to the weight of a least T-join.

A least T-join in the dual graph of a family of cycles (see `sdp.maxcut.matching`) weighs as much as the best fractional
packing of T-cuts (Edmonds and Johnson 1973). A T-cut parts the family's cycles in two; its edges are the symmetric
difference of the cycles on one side, an Eulerian set with an odd number of positive edges, so it is a row of
`proof.CycleRows` with F its positive edges. While no edge is used beyond |w_e|, the bound of the rows is

    sum_{w > 0} w - (sum of the multipliers),

which is the matching bound, checked by one pass over the rows.

The packing comes from the dual of a least matching of the frustrated cycles, a laminar family of odd sets found by
`fusion_blossom` (Wu and Zhong 2023) in a process of its own: another code than the one that finds the T-join, and
another route to the same number. Each set is then cut into moats. Beyond `MOST_ODD` frustrated cycles the dual comes
from `sdp.maxcut.growth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from sdp.maxcut import _moats, _process, growth
from sdp.maxcut.bound import Bound
from sdp.maxcut.cycles import CycleFamily
from sdp.maxcut.dual_graph import check_packing, dual_graph, grid_of
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import CycleRows
from sdp.maxcut.rows import bound_of

Int64 = NDArray[np.int64]

MOST_ODD = (
    30_000  # cycles whose dual fusion_blossom is asked for; 45,000 on a torus take it 12 s, growing 2 s
)


@dataclass(frozen=True, eq=False)
class MatchingDual:
    """What proves the matching bound.

    Attributes:
        rows: T-cuts with multipliers; halves of integers where the weights are integers below 2^23.
        least: sum of the multipliers, in units of the weights: the weight of a least T-join on the grid of weights, or
            less where a search of many frustrated cycles was stopped.
        bound: of the rows, deterministic.
    """

    rows: CycleRows
    least: float
    bound: Bound


def matching_dual(
    graph: Graph, family: CycleFamily, *, should_stop: Callable[[], bool] = lambda: False
) -> MatchingDual | None:
    """T-cuts and multipliers that prove the matching bound of a family of cycles.

    Weights are rounded down to the grid of `matching.match`, so that both find the same number, or to a finer one
    beyond `MOST_ODD` frustrated cycles.

    Args:
        graph: with weights of either sign.
        family: of that graph, no edge in more than two cycles.
        should_stop: asked every few milliseconds while the matching runs; True ends the search.

    Returns:
        The proof, or None if it was given up.

    Raises:
        RuntimeError, OSError: the process that matches could not be started or failed, or what it found is no packing
            of T-cuts.

    Complexity: that of the matching, which grows faster than the number of cycles, and O(members of the rows).
    """
    weights = graph.edges()[2]
    odd = family.frustrated(weights)
    if int(odd.sum()) > MOST_ODD:
        grown = growth.least_join(graph, family, should_stop)
        return None if grown is None else _proof(graph, grown.rows, grown.least)
    faces, edges = dual_graph(family)
    grid = grid_of(weights[edges])
    # Duals of matchings are halves: the unit is half of the grid's.
    lengths = 2 * np.floor(np.abs(weights[edges]) / grid).astype(np.int64)
    found = _least_dual(faces, lengths, odd, should_stop)
    if found is None:
        return None
    pointers, cuts, steps = found
    members = edges[cuts]
    rows = CycleRows(pointers, members, weights[members] > 0, (steps * (grid / 2)).astype(np.float64))
    return _proof(graph, rows, int(steps.sum()) * (grid / 2))


def _proof(graph: Graph, rows: CycleRows, least: float) -> MatchingDual:
    return MatchingDual(rows, least, Bound(bound_of(graph, rows), "matching", 0.0))


def _least_dual(
    ends: Int64, lengths: Int64, odd: NDArray[np.bool_], should_stop: Callable[[], bool]
) -> tuple[Int64, Int64, Int64] | None:
    """The best packing of T-cuts for even lengths, int64 (k,); its cuts are places in `ends`, int64 (k, 2)."""
    node, n = _contraction(ends, odd.size + 1, lengths == 0)
    parity = np.zeros(n, np.int64)
    np.add.at(parity, node[:-1], odd)
    parity[node[-1]] = 0  # the outside is never odd
    frustrated = np.flatnonzero(parity % 2)
    ends = node[ends]
    apart = np.flatnonzero(ends[:, 0] != ends[:, 1])
    ends, lengths = ends[apart], lengths[apart]
    sets = np.empty((3, 0), np.int64)
    if frustrated.size:
        found = _process.run(
            "sdp.maxcut._blossoms",
            {**_problem(ends, lengths, n, int(node[-1])), "odd": frustrated, "n_inner": n},
            should_stop,
        )
        if found is None:
            return None
        sets = found
    pointers, cuts, steps = _moats.t_cuts(ends, lengths, n, *sets)
    check_packing(lengths, pointers, cuts, steps, int(sets[2].sum()))
    return pointers, apart[cuts], steps


def _contraction(ends: Int64, n: int, free: NDArray[np.bool_]) -> tuple[Int64, int]:
    """Nodes joined by edges that cost nothing become one: new numbers, int64 (n,), and how many there are."""
    joined = scipy.sparse.coo_matrix((np.ones(int(free.sum()), np.int8), tuple(ends[free].T)), shape=(n, n))
    count, node = scipy.sparse.csgraph.connected_components(joined, directed=False)
    return node.astype(np.int64), int(count)


def _problem(ends: Int64, lengths: Int64, n: int, outside: int) -> dict[str, NDArray[np.int64]]:
    """The matching's graph: of parallel edges the shortest, and an outer node for each node next to the outside."""
    low, high = ends.min(1), ends.max(1)
    order = np.lexsort((lengths, high, low))
    low, high, lengths = low[order], high[order], lengths[order]
    shortest = np.ones(low.size, np.bool_)
    shortest[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    pairs, lengths = np.stack([low, high], 1)[shortest], lengths[shortest]
    # Blossoms that reach the same outer node would be in each other's way.
    outward = np.flatnonzero((pairs == outside).any(1))
    pairs[outward, 0] = pairs[outward].sum(1) - outside
    pairs[outward, 1] = n + np.arange(outward.size)
    return {"ends": pairs, "lengths": lengths}
