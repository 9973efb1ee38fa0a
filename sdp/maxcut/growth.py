"""Least T-joins of many frustrated cycles, with their proof, by growing regions in the dual graph of the family.

Beyond some ten thousand frustrated cycles `pymatching` and `fusion_blossom` take minutes where, as on toroidal grids of
+-1, the regions that they grow become large: those of 400 x 400 take `pymatching` 23 seconds. Here (`_growth.py`) only
the smaller ones of the regions that make a blossom are numbered anew: those of 400 x 400 take 2.4 seconds, those of
1000 x 1000 some 20. What has grown is a packing of T-cuts at any time, so that the search may be stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family, _grown, _moats
from sdp.maxcut._growth import grow
from sdp.maxcut._patches import patches
from sdp.maxcut._regions import Regions, planted
from sdp.maxcut.cycles import CycleFamily
from sdp.maxcut.dual_graph import check_packing, dual_graph, grid_of
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import CycleRows

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

BITS = 36  # of the largest weight on the grid: sums over 30 million edges stay below 2^62
EVENTS = 20_000  # between two questions whether to stop: some 20 ms
PATCH = 2500  # cycles of a patch in which a cut is bettered ...
LARGE_PATCH = 10_000  # ... and of one in which that ends: small ones set most of a seam right, in less time
PASSES = 3  # over other patches each, in vain, before patches become large or a cut is let be
PIECES = 64  # patches between two questions whether to stop


@dataclass(frozen=True, eq=False)
class Grown:
    """What growing gave.

    Attributes:
        rows: T-cuts with multipliers, halves of integers on the grid of weights.
        least: sum of the multipliers, in units of the weights: at most the weight of a least T-join.
        join: bool (edges of the family, in the order of their numbers), a T-join of that weight if `is_least`; else
            another one, or, if there was no time for that, one of the pairs found so far.
        is_least: whether the search came to its end.
    """

    rows: CycleRows
    least: float
    join: Bool
    is_least: bool


def least_join(
    graph: Graph,
    family: CycleFamily,
    should_stop: Callable[[], bool] = lambda: False,
    should_hurry: Callable[[], bool] = lambda: False,
) -> Grown | None:
    """A least T-join of the frustrated cycles and the T-cuts that prove it.

    Weights are rounded down to a grid on which the largest is below 2^36; integers up to there are exact.

    Args:
        graph: with weights of either sign.
        family: of that graph, no edge in more than two cycles.
        should_stop: asked every twenty milliseconds or so; True ends the search.
        should_hurry: asked as often; True ends the search for a least T-join: what is not matched by then is matched by
            itself, which is soon done.

    Returns:
        What has grown, or None if a part of the family has no T-join, which its cycles then contradict.

    Raises:
        RuntimeError: what has grown is no packing of T-cuts, or weighs another sum than the T-join.

    Complexity: near O(m log m) on random instances: 5 events a cycle on toroidal grids of any size.
    """
    faces, edges = dual_graph(family)
    weights = graph.edges()[2]
    grid = grid_of(weights[edges], BITS)
    lengths = 2 * np.floor(np.abs(weights[edges]) / grid).astype(np.int64)
    proper = np.flatnonzero(faces[:, 0] != faces[:, 1])
    ends, lengths = faces[proper], lengths[proper]
    odd = family.frustrated(weights)
    regions = planted(ends, lengths, np.flatnonzero(odd), family.n_cycles)
    left = _grow(regions, lambda: should_stop() or should_hurry())
    if left < 0:
        return None
    sets = _grown.nested_sets(regions)
    pointers, cuts, steps = _moats.t_cuts(ends, lengths, family.n_cycles + 1, *sets)
    total = int(sets[2].sum())
    check_packing(lengths, pointers, cuts, steps, total)
    join = np.zeros(len(faces), np.bool_)
    join[proper] = _grown.join_of(regions)
    if left > 0:
        rest = odd ^ _odd_nodes(faces[join], family.n_cycles)
        regions = planted(ends, lengths, np.flatnonzero(rest), family.n_cycles)
        _grow(regions, should_stop)
        join[proper] ^= _grown.join_of(regions)
    elif int(lengths[join[proper]].sum()) != total:
        raise RuntimeError("the T-join and its dual do not weigh the same.")
    members = edges[proper[cuts]]
    rows = CycleRows(pointers, members, weights[members] > 0, (steps * (grid / 2)).astype(np.float64))
    return Grown(rows, total * (grid / 2), join, left == 0)


def _grow(regions: Regions, should_stop: Callable[[], bool]) -> int:
    """Grows until all are matched or it is time to stop; how many trees are left, negative if they always will be."""
    left = grow(regions, EVENTS)
    while left > 0 and not should_stop():
        left = grow(regions, EVENTS)
    return left


def _odd_nodes(ends: Int64, n: int) -> Bool:
    """Which of the nodes 0 to n - 1 an odd number of edges, int64 (m, 2), end at."""
    odd: Bool = np.bincount(ends.ravel(), minlength=n + 1)[:n] % 2 == 1
    return odd


def cut_near(
    graph: Graph, family: CycleFamily, grown: Grown, *, seed: int, should_stop: Callable[[], bool]
) -> NDArray[np.uint8]:
    """The cut of a T-join, bettered within patches where no cut does all that the T-join asks.

    Args:
        graph: the graph.
        family: of that graph.
        grown: by `least_join`.
        seed: of the patches.
        should_stop: asked after some patches each; True ends the search.

    Returns:
        The sides, uint8 (n,).
    """
    search = _Bettering(graph, family, np.random.Generator(np.random.Philox(key=seed)), should_stop)
    sides = search.sides(grown.join)
    join = search.join(sides)
    for size in (PATCH, LARGE_PATCH):
        in_vain = 0
        while in_vain < PASSES and search.weight(join) > grown.least and not should_stop():
            after = search.join(search.sides(search.bettered(join, family.n_cycles // size + 1)))
            if search.weight(after) < search.weight(join):
                in_vain, join = 0, after
            else:
                in_vain += 1
    return search.sides(join)


class _Bettering:
    """T-joins of cuts, made lighter within patches of the surface that the family draws."""

    def __init__(
        self,
        graph: Graph,
        family: CycleFamily,
        rng: np.random.Generator,
        should_stop: Callable[[], bool],
    ) -> None:
        self.rng, self.should_stop = rng, should_stop
        self.n_cycles, self.n_vertices = family.n_cycles, graph.n_vertices
        self.faces, self.listed = dual_graph(family)
        self.u, self.v, self.weights = graph.edges()
        self.ends = np.stack([self.u, self.v], 1)[self.listed].astype(np.int64)
        self.costs = np.abs(self.weights[self.listed])
        self.lengths = 2 * np.floor(self.costs / grid_of(self.weights[self.listed], BITS)).astype(np.int64)
        self.odd = family.frustrated(self.weights)
        unlisted = np.ones(self.weights.size, np.bool_)
        unlisted[self.listed] = False
        # On the family's edges the T-join's word comes first, then that of heavy edges.
        self.order = np.lexsort((-np.abs(self.weights), unlisted))

    def sides(self, join: Bool) -> NDArray[np.uint8]:
        """Of the cut that a T-join asks for, as far as there is one."""
        crosses = _cycle_family.wanted(self.weights, self.listed, join)
        return _cycle_family.agreeing_sides(self.u, self.v, self.order, crosses, self.n_vertices)

    def join(self, sides: NDArray[np.uint8]) -> Bool:
        """Of the family's edges those that are positive and not cut, or negative and cut."""
        cut = sides[self.u] != sides[self.v]
        own: Bool = (cut != (self.weights > 0))[self.listed]
        return own

    def weight(self, join: Bool) -> float:
        return float(self.costs[join].sum())

    def bettered(self, join: Bool, many: int) -> Bool:
        """A T-join that is least within each of so many patches, or some of them if it is time to stop."""
        centres = self.rng.integers(0, self.n_cycles, many)
        label, inside = patches(self.faces, self.ends, centres, self.n_cycles, self.n_vertices)
        odd = np.flatnonzero(self.odd ^ _odd_nodes(self.faces[join & ~inside], self.n_cycles))
        many = int(label.max()) + 1
        nodes = np.argsort(label, kind="stable")
        number = np.empty(self.n_cycles, np.int64)
        number[nodes] = np.arange(self.n_cycles)
        places = np.flatnonzero(inside & (self.faces[:, 0] != self.faces[:, 1]))
        where = label[self.faces[places, 0]]
        by_label = np.argsort(where, kind="stable")
        places, where = places[by_label], where[by_label]
        odd = odd[np.argsort(label[odd], kind="stable")]
        first_edge, first_odd, first_node = (
            np.searchsorted(labels, np.arange(many + 1)) for labels in (where, label[odd], label[nodes])
        )
        after = join.copy()
        for low in range(0, many, PIECES):
            if self.should_stop():
                break
            high = min(low + PIECES, many)
            edges, odds = slice(first_edge[low], first_edge[high]), slice(first_odd[low], first_odd[high])
            chosen, found = _grown.joins_of_pieces(
                number[self.faces[places[edges]]],
                self.lengths[places[edges]],
                number[odd[odds]],
                first_edge[low : high + 1] - first_edge[low],
                first_odd[low : high + 1] - first_odd[low],
                first_node[low : high + 1],
            )
            known = np.repeat(found, np.diff(first_edge[low : high + 1]))
            after[places[edges][known]] = chosen[known]
        return after
