"""Cycles as a proof: a cycle with an odd number of positive edges leaves one uncut, or a negative one cut.

For a cycle C and a subset F of odd size, every cut x has  sum_F x - sum_{C - F} x <= |F| - 1  (Barahona and Mahjoub
1986). So for any multipliers lambda >= 0 on any list of such rows A

    maxcut <= sum_r lambda_r (|F_r| - 1) + sum_e max(0, w_e - (A^T lambda)_e),

deterministic and checked by one pass over the rows. Here F is the set of positive edges of a frustrated cycle, which
has an odd number of them: while lambda uses no edge beyond |w_e|, every unit of it takes one from the sum of the
positive weights. On meshes that says what the semidefinite relaxation cannot: each triangle leaves an edge uncut, and
an edge lies in two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family
from sdp.maxcut.graph import Graph

LONGEST = 12  # edges of a cycle; faces of road networks have fewer once chains are gone


@dataclass(frozen=True)
class CycleFamily:
    """Cycles of a graph, no edge in more than two of them.

    Attributes:
        pointers: int64 (cycles + 1,); cycle c has edges members[pointers[c]] to members[pointers[c + 1] - 1].
        members: int32, numbers of edges, in the order of `Graph.edges`.
        n_edges: of the graph.
    """

    pointers: NDArray[np.int64]
    members: NDArray[np.int32]
    n_edges: int

    @property
    def n_cycles(self) -> int:
        """Number of cycles."""
        return self.pointers.size - 1

    @property
    def cycle_of(self) -> NDArray[np.int64]:
        """int64, the cycle of each entry of `members`."""
        return np.repeat(np.arange(self.n_cycles), np.diff(self.pointers))

    def frustrated(self, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Bool (cycles,), whether a cycle has an odd number of positive edges; weights float64 (n_edges,)."""
        count = np.bincount(self.cycle_of[weights[self.members] > 0], minlength=self.n_cycles)
        return np.asarray(count % 2 == 1)

    def only(self, kept: NDArray[np.bool_]) -> CycleFamily:
        """The cycles of a mask, bool (cycles,)."""
        lengths = np.diff(self.pointers)[kept]
        pointers = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        return CycleFamily(pointers, self.members[kept[self.cycle_of]], self.n_edges)


def find_cycles(
    graph: Graph, longest: int = LONGEST, should_stop: Callable[[], bool] = lambda: False
) -> CycleFamily:
    """Short cycles, shortest first, that could be faces of one drawing on some surface.

    No edge lies on more than two of them, and those around a vertex join its edges to chains or to one round. So the
    faces of planar and toroidal meshes and grids are found blindly, and those of road networks nearly so.

    Args:
        graph: of any kind; a search that meets a hub, or grows beyond 400 half-edges, is given up.
        longest: number of edges of a cycle.
        should_stop: asked between two lengths.

    Complexity: O(m longest): a search looks at 1,000 half-edges at most, and all for one length at 100 an edge; 2 s for
    a triangulation of 1.5 million edges.

    >>> square = Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0])
    >>> find_cycles(square).n_cycles  # inside and outside
    2
    """
    edge, mirror = _cycle_family.half_edges(graph.indptr, graph.indices)
    # The fewer edges a vertex has, the surer its faces: the triangle around a vertex of degree 3 is none.
    order = np.argsort(np.diff(graph.indptr), kind="stable")
    room = np.full(graph.n_edges, _cycle_family.ROOM, np.int8)
    members = np.empty(_cycle_family.ROOM * graph.n_edges, np.int32)
    chain = np.arange(graph.indices.size)
    size = np.ones(graph.indices.size, np.int32)
    used, lengths = 0, [np.empty(0, np.int64)]
    for length in range(3, longest + 1):
        before = used
        used = _cycle_family.add_cycles(
            graph.indptr, graph.indices, edge, mirror, order, length, room, chain, size, members, before
        )
        lengths.append(np.full((used - before) // length, length))
        if should_stop():
            break
    pointers = np.concatenate(([0], np.cumsum(np.concatenate(lengths)))).astype(np.int64)
    return CycleFamily(pointers, members[:used].copy(), graph.n_edges)
