"""The grid on which all cuts of a graph with integer weights lie.

The cut of a set S is sum_{v in S} deg_v - 2 w(S), w(S) the weight inside S, so every cut is a multiple of

    g = gcd(gcd_v deg_v, 2 gcd_e w_e),   deg_v = sum_u w_uv.

On a toroidal grid with weights of +-1, where every vertex has four edges, all cuts are even: a bound of 1411.9 proves
1410.
"""

from __future__ import annotations

import math

import numpy as np

from sdp.maxcut.graph import Graph


def cut_step(graph: Graph) -> float:
    """The largest known g such that every cut is a multiple of it; 0 where weights are no integers or all zero.

    Complexity: O(n + m).

    >>> cut_step(Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0]))
    2.0
    """
    if not graph.is_integer:
        return 0.0
    weights = graph.weights64.astype(np.int64)
    ends = np.concatenate(([0], np.cumsum(weights)))
    degrees = ends[graph.indptr[1:]] - ends[graph.indptr[:-1]]
    return float(math.gcd(int(np.gcd.reduce(degrees)), 2 * int(np.gcd.reduce(weights))))


def rounded_down(bound: float, step: float) -> float:
    """The largest multiple of the step at most a bound; the bound itself where the step is 0 or it is infinite."""
    if not step or not math.isfinite(bound):
        return bound
    return math.floor(bound / step) * step
