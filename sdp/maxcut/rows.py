"""Rows of cycles with multipliers: their bound, and those of a family of cycles packed without a solver."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family
from sdp.maxcut.bound import UNIT_ROUNDOFF, Bound
from sdp.maxcut.cycles import CycleFamily
from sdp.maxcut.graph import Graph
from sdp.maxcut.proof import CycleRows


def row_of_each(rows: CycleRows) -> NDArray[np.int64]:
    """int64, the row of each entry of `rows.members`."""
    return np.repeat(np.arange(rows.multipliers.size), np.diff(rows.pointers))


def used_by(rows: CycleRows, n_edges: int) -> NDArray[np.float64]:
    """A^T lambda, float64 (n_edges,): what the rows take from each edge's weight."""
    each = rows.multipliers[row_of_each(rows)]
    signed = np.where(rows.in_F, each, -each)
    return np.asarray(np.bincount(rows.members, signed, minlength=n_edges), np.float64)


def bound_of(graph: Graph, rows: CycleRows) -> float:
    """The bound sum_r lambda_r (|F_r| - 1) + sum_e max(0, w_e - (A^T lambda)_e), rounded to the safe side.

    Args:
        graph: with weights of either sign.
        rows: of its edges.

    Returns:
        The bound, in units of the graph's weights; rounded down where those are integers.

    Complexity: O(members).
    """
    weights = graph.edges()[2]
    each = rows.multipliers[row_of_each(rows)]
    sizes = np.bincount(row_of_each(rows)[rows.in_F], minlength=rows.multipliers.size)
    right = math.fsum((rows.multipliers * (sizes - 1)).tolist())
    left = math.fsum(np.maximum(weights - used_by(rows, weights.size), 0.0).tolist())
    # Sums of k terms by `bincount` are off by k - 1 roundings of at most the sum of their sizes.
    terms = int(np.bincount(rows.members, minlength=1).max())
    rounded = right + left + math.fsum(np.abs(weights).tolist()) + max(terms, 1) * math.fsum(each.tolist())
    exact = graph.is_integer and _is_grid(rows.multipliers, rounded)
    value = right + left + (0.0 if exact else 4 * UNIT_ROUNDOFF * rounded)
    return float(math.floor(value)) if graph.is_integer else value


def packing_bound(graph: Graph, family: CycleFamily) -> Bound:
    """Bound of a fractional packing of the family's frustrated cycles; deterministic.

    Args:
        graph: with weights of either sign.
        family: of that graph.

    Returns:
        The bound, in units of the graph's weights, rounded to the safe side.

    Complexity: O(m).
    """
    return Bound(bound_of(graph, packing_rows(graph, family)), "cycle packing", 0.0)


def packing_rows(graph: Graph, family: CycleFamily) -> CycleRows:
    """The rows of `packing_bound`: frustrated cycles of a family, their positive edges in F."""
    weights = graph.edges()[2]
    odd = family.only(family.frustrated(weights))
    packed = _cycle_family.pack(odd.pointers, odd.members, np.abs(weights))
    members = odd.members.astype(np.int64)
    return CycleRows(odd.pointers, members, weights[members] > 0, np.maximum(packed, 0.0))


def _is_grid(multipliers: NDArray[np.float64], total: float) -> bool:
    """Whether sums of integers and these halves, and their parts, are exact in float64."""
    return total < 2.0**52 and bool(np.array_equal(2 * multipliers, np.rint(2 * multipliers)))
