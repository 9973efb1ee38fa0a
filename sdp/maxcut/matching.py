"""The matching bound of nearly planar graphs, and the cut that comes with it.

Take any family of cycles in which no edge occurs more than twice. For a cut let J be its uncut positive and its cut
negative edges: |J ∩ C| is odd exactly for the cycles C with an odd number of positive edges. In the graph that has a
node for each cycle and an edge for each edge of the family, between its two cycles or from its only one to a boundary,
J is a T-join with T the frustrated cycles, and so

    maxcut <= sum_{w > 0} w - (least |w|-weight of a T-join).

Equality holds on planar graphs whose faces are the family (Barahona 1982). The least T-join also says which edges to
cut; where no cut does all it asks, as across the seam of a torus, a spanning forest has the last word.

The T-join is found by `pymatching` (Higgott and Gidney 2025), in a process of its own, which can be stopped, or, where
many cycles are frustrated, by `sdp.maxcut.growth`, which gives the proof as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family, _process, growth
from sdp.maxcut.bound import UNIT_ROUNDOFF, Bound
from sdp.maxcut.cycles import CycleFamily
from sdp.maxcut.dual_graph import grid_of
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import CycleRows
from sdp.maxcut.rows import bound_of

TRIED = 100  # least T-joins at most on a torus, where one in ten or so closes both ways round
MOST_ODD = (
    60_000  # frustrated cycles that pymatching is asked to match; 45,000 on a torus take it 2 s, 80,000 23 s
)
MOST_ODD_OPEN = 5000  # the same where there is one T-join to find, not one of each class of a torus


@dataclass(frozen=True)
class Matching:
    """What the least T-join says.

    Attributes:
        bound: deterministic, in units of the graph's weights.
        partition: uint8 (n,) of 0 and 1, the cut read off the T-join.
        rows: what proves the bound, where that is known already.
    """

    bound: Bound
    partition: NDArray[np.uint8]
    rows: CycleRows | None = None


def match(
    graph: Graph,
    family: CycleFamily,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    should_hurry: Callable[[], bool] = lambda: False,
) -> Matching | None:
    """The matching bound of a family of cycles and a cut.

    Weights are rounded down to a grid on which the largest is 2^23, which can only lower the T-join's weight and raise
    the bound; integers up to there are exact.

    Args:
        graph: with weights of either sign.
        family: of that graph, no edge in more than two cycles.
        seed: of the choice among least T-joins, of which there are many where weights are equal.
        should_stop: asked every few milliseconds; True ends the search.
        should_hurry: asked where many cycles are frustrated; True ends the search for a T-join that is least, so that
            time is left for its cut.

    Returns:
        The bound and the cut, or None if it was given up before any T-join was found.

    Raises:
        RuntimeError, OSError: the process that matches could not be started or failed; the message holds its last line.

    Complexity: near O(cycles) on random instances; exponential in nothing, but slow where nearly every cycle is
    frustrated. Beyond `MOST_ODD` frustrated cycles, `MOST_ODD_OPEN` where no torus asks for more than one T-join, see
    `sdp.maxcut.growth`: 500,000 of a toroidal grid of +-1 take some 20 s.
    """
    u, v, weights = graph.edges()
    odd = family.frustrated(weights)
    # Faces on a torus are as many as edges less vertices; elsewhere one T-join is as good as another.
    is_torus = family.n_cycles == graph.n_edges - graph.n_vertices
    if int(odd.sum()) > (MOST_ODD if is_torus else MOST_ODD_OPEN):
        return _match_many(graph, family, seed, should_stop, should_hurry)
    places = np.bincount(family.members, minlength=family.n_edges)
    listed = np.flatnonzero(places)
    grid = grid_of(weights[listed])
    costs = np.floor(np.abs(weights[listed]) / grid)
    column = np.cumsum(places > 0) - 1
    # Columns are edges: a 1 for each cycle an edge lies on.
    incidence = scipy.sparse.csc_matrix(
        (np.ones(family.members.size, np.uint8), (family.cycle_of, column[family.members])),
        shape=(family.n_cycles, listed.size),
    )
    # On the family's edges the T-join's word comes first, then that of heavy edges.
    order = np.lexsort((-np.abs(weights), places == 0))
    answer: NDArray[np.int64] | None = np.zeros(1 + listed.size, np.int64)
    if odd.any():
        answer = _process.run(
            "sdp.maxcut._match",
            {
                "indices": incidence.indices,
                "indptr": incidence.indptr,
                "costs": costs,
                "odd": odd,
                "u": u,
                "v": v,
                "weights": weights,
                "listed": listed,
                "order": order,
                "n_vertices": graph.n_vertices,
                "count": TRIED if is_torus else 1,
                "seed": seed,
            },
            should_stop,
        )
    if answer is None:
        return None
    least, join = float(answer[0]) / 2 * grid, answer[1:].astype(np.bool_)
    sides = _cycle_family.agreeing_sides(
        u, v, order, _cycle_family.wanted(weights, listed, join), graph.n_vertices
    )
    return Matching(Bound(_value(graph, weights, least), "matching", 0.0), sides)


def _match_many(
    graph: Graph,
    family: CycleFamily,
    seed: int,
    should_stop: Callable[[], bool],
    should_hurry: Callable[[], bool],
) -> Matching | None:
    """As `match`, by growing regions: what was found when the search is stopped is worth having."""
    grown = growth.least_join(graph, family, should_stop, should_hurry)
    if grown is None:
        return None
    sides = growth.cut_near(graph, family, grown, seed=seed, should_stop=should_stop)
    return Matching(Bound(bound_of(graph, grown.rows), "matching", 0.0), sides, grown.rows)


def _value(graph: Graph, weights: NDArray[np.float64], least: float) -> float:
    """Sum of the positive weights less that of a least T-join, rounded to the safe side."""
    total = math.fsum(weights[weights > 0].tolist())
    value = total - least
    return float(math.floor(value)) if graph.is_integer else value + 4 * UNIT_ROUNDOFF * (total + least)
