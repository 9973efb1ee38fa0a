"""The dual graph of a family of cycles: a node for each cycle, an edge for each edge of the family.

An edge joins its two cycles, or its only one to the outside. T-joins of this graph, T the frustrated cycles, are what
`sdp.maxcut.matching` looks for, and T-cuts are what proves that there is no lighter one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.cycles import CycleFamily

Int64 = NDArray[np.int64]

_LOWEST_EXPONENT = -1000  # of the grid; weights below count as 0


def dual_graph(family: CycleFamily) -> tuple[Int64, Int64]:
    """Cycles int64 (k, 2) of the family's edges, in the order of their numbers, int64 (k,).

    The second cycle of an edge that lies on one only is `family.n_cycles`, the outside.
    """
    order = np.argsort(family.members, kind="stable")
    edges, first, count = np.unique(family.members[order], return_index=True, return_counts=True)
    cycle = np.append(family.cycle_of[order], family.n_cycles)
    second = np.where(count > 1, first + 1, cycle.size - 1)
    return np.stack([cycle[first], cycle[second]], 1), edges.astype(np.int64)


def grid_of(weights: NDArray[np.float64], bits: int = 23) -> float:
    """A power of two, 1 where that will do for integers, that brings the largest |w| below 2^bits."""
    exponent = max(math.frexp(float(np.abs(weights).max(initial=0.0)))[1] - bits, _LOWEST_EXPONENT)
    whole = bool(np.array_equal(weights, np.rint(weights)))
    return 2.0 ** max(exponent, 0) if whole else 2.0**exponent


def check_packing(lengths: Int64, pointers: Int64, cuts: Int64, steps: Int64, total: int) -> None:
    """Refuses what is no packing of T-cuts with that total.

    Raises:
        RuntimeError: it is none.
    """
    used = np.zeros(lengths.size, np.int64)
    np.add.at(used, cuts, np.repeat(steps, np.diff(pointers)))
    if (steps < 0).any() or int(steps.sum()) != total or (used > lengths).any():
        raise RuntimeError("the matching's dual does not add up to a packing of T-cuts.")
