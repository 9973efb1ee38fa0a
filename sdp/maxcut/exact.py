"""The maximum cut of a graph of small treewidth, by dynamic programming.

Vertices are eliminated in an order in which each has few later neighbours N(v), those that elimination has joined to it
included. With f_c the tables of the vertices eliminated before whose first later neighbour is v,

    f_v(s_N) = max_{s_v} sum_{u in N} w_uv [s_u != s_v] + sum_c f_c(s),

a table of 2^|N(v)| numbers. Every graph of up to 21 vertices has such an order, and so have a torus of width 8, most
parts of road networks, series of small cells.

Source: Bertele and Brioschi (1972); Bodlaender and Koster (2010).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee

from sdp.maxcut.bound import UNIT_ROUNDOFF
from sdp.maxcut.graph import Graph

WIDEST = 20  # later neighbours of a vertex: two tables of 8 MB
ALWAYS = 24  # vertices up to which every graph is solved
MOST_VERTICES = 4000  # of a graph that is searched for an order
MOST_ENTRIES = 2**30  # of all tables together, about 5 s
_MEMORY = 2**27  # entries of tables that wait at one time, 1 GB


@dataclass(frozen=True, eq=False)
class Elimination:
    """An order of small width.

    Attributes:
        order: int64 (n,), vertices as they are eliminated.
        later: for each step, the later neighbours int64, in the order of their elimination.
    """

    order: NDArray[np.int64]
    later: tuple[NDArray[np.int64], ...]

    @property
    def width(self) -> int:
        """Largest number of later neighbours."""
        return max((later.size for later in self.later), default=0)

    @property
    def entries(self) -> int:
        """Numbers in all tables together."""
        return sum(2**later.size for later in self.later)


@dataclass(frozen=True, eq=False)
class Exact:
    """A maximum cut.

    Attributes:
        value: of the cut, in units of edge weight.
        upper_bound: the value, or, where weights are no integers, that and what rounding may have hidden.
        partition: uint8 (n,) of 0 and 1.
        order: int64 (n,), of the dynamic program.
    """

    value: float
    upper_bound: float
    partition: NDArray[np.uint8]
    order: NDArray[np.int64]


def elimination(
    graph: Graph, widest: int | None = None, most_entries: int = MOST_ENTRIES
) -> Elimination | None:
    """The greedy order of least fill, or else a sweep across the graph; None if both are too wide.

    Least fill finds the few wide places of irregular graphs. On long grids, where all vertices look alike, it starts
    everywhere at once, and a sweep from one end to the other (Cuthill and McKee 1969) is as wide as the grid.

    Args:
        graph: of at most `MOST_VERTICES` vertices, or there is no order.
        widest: largest number of later neighbours; 20 when None, or as many as there are up to 24 vertices.
        most_entries: in all tables together.

    Complexity: O(n widest^3) set operations.

    >>> elimination(Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0])).width
    2
    """
    if widest is None:
        widest = max(WIDEST, graph.n_vertices - 1) if graph.n_vertices <= ALWAYS else WIDEST
    # Graphs of treewidth w have fewer than w edges a vertex.
    if graph.n_vertices > MOST_VERTICES or graph.n_edges > widest * graph.n_vertices:
        return None
    return _least_fill(graph, widest, most_entries) or _sweep(graph, widest, most_entries)


def _least_fill(graph: Graph, widest: int, most_entries: int) -> Elimination | None:
    near = _neighbours(graph)
    fill = [_fill(near, v, widest) for v in range(graph.n_vertices)]
    heap = [(fill[v], v) for v in range(graph.n_vertices)]
    heapq.heapify(heap)
    steps = _Steps(near, widest, most_entries)
    while heap:
        cost, v = heapq.heappop(heap)
        if steps.is_done[v] or cost != fill[v]:
            continue
        if not steps.take(v):
            return None
        around = set(near[v])
        for u in near[v]:
            if len(near[u]) <= widest:
                around |= near[u]
        for u in around:
            fresh = _fill(near, u, widest)
            if fresh != fill[u]:
                fill[u] = fresh
                heapq.heappush(heap, (fresh, u))
    return steps.elimination()


def _sweep(graph: Graph, widest: int, most_entries: int) -> Elimination | None:
    steps = _Steps(_neighbours(graph), widest, most_entries)
    order = reverse_cuthill_mckee(graph.to_scipy(), symmetric_mode=True)
    return steps.elimination() if all(steps.take(v) for v in order[::-1].tolist()) else None


def _neighbours(graph: Graph) -> list[set[int]]:
    ends = zip(graph.indptr[:-1].tolist(), graph.indptr[1:].tolist(), strict=True)
    return [set(graph.indices[begin:end].tolist()) for begin, end in ends]


class _Steps:
    """An elimination as it goes on: `near` are the neighbours among vertices not yet eliminated."""

    def __init__(self, near: list[set[int]], widest: int, most_entries: int) -> None:
        self.near, self.widest, self.room = near, widest, most_entries
        self.is_done = bytearray(len(near))
        self._order: list[int] = []
        self._later: list[list[int]] = []

    def take(self, v: int) -> bool:
        """Eliminates v; False if that is too wide."""
        near = self.near
        self.room -= 2 ** len(near[v])
        if len(near[v]) > self.widest or self.room < 0:
            return False
        self.is_done[v] = 1
        self._order.append(v)
        self._later.append(list(near[v]))
        for u in near[v]:
            near[u] |= near[v]
            near[u] -= {u, v}
        return True

    def elimination(self) -> Elimination:
        place = np.empty(len(self.near), np.int64)
        place[self._order] = np.arange(place.size)
        rows = (np.array(sorted(row, key=place.__getitem__), np.int64) for row in self._later)
        return Elimination(np.array(self._order, np.int64), tuple(rows))


def _fill(near: list[set[int]], v: int, widest: int) -> int:
    """Pairs of neighbours without an edge; beyond all counts where v has too many neighbours."""
    degree = len(near[v])
    if degree > widest:
        return widest**3 + degree
    return degree * (degree - 1) // 2 - sum(len(near[u] & near[v]) for u in near[v]) // 2


def solve_exactly(
    graph: Graph, found: Elimination, *, should_stop: Callable[[], bool] = lambda: False
) -> Exact | None:
    """A maximum cut by dynamic programming.

    Args:
        graph: with weights of either sign.
        found: an order for this graph.
        should_stop: asked at every vertex; True ends the search.

    Returns:
        The cut, or None if it was stopped or the tables that wait would take more than a gigabyte.

    Complexity: O(sum_v 2^|N(v)|) time; 5 ns an entry.

    >>> graph = Graph.from_edges([0, 1, 2], [1, 2, 0])
    >>> solve_exactly(graph, elimination(graph)).value
    2.0
    """
    n = graph.n_vertices
    place = np.empty(n, np.int64)
    place[found.order] = np.arange(n)
    weights = graph.weights64
    waiting: list[list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = [[] for _ in range(n)]
    choices: list[NDArray[np.uint8]] = []
    held, constant = 0, 0.0
    for v, later in zip(found.order.tolist(), found.later, strict=True):
        if should_stop() or held > _MEMORY:
            return None
        row = slice(graph.indptr[v], graph.indptr[v + 1])
        pull = np.zeros(later.size)
        where = {u: i for i, u in enumerate(later.tolist())}
        for u, w in zip(graph.indices[row].tolist(), weights[row].tolist(), strict=True):
            if u in where:
                pull[where[u]] = w
        joint = _star(pull)
        for scope, table in waiting[v]:
            # Bit i of a table's index is the side of scope[i]; v's own bit is the highest of `joint`.
            steps = np.array([1 << where.get(u, later.size) for u in scope.tolist()], np.int64)
            _add(joint, table, steps)
            held -= table.size
        waiting[v] = []
        table, choice = _best(joint)
        choices.append(choice)
        if later.size:
            waiting[later[0]].append((later, table))
            held += table.size
        else:
            constant += float(table[0])
    sides = np.zeros(n, np.uint8)
    for k in range(n - 1, -1, -1):
        index = sum(1 << i for i, u in enumerate(found.later[k].tolist()) if sides[u])
        sides[found.order[k]] = choices[k][index >> 3] >> (index & 7) & 1
    value = graph.cut_value(sides)
    if graph.is_integer:
        return Exact(value, value, sides, found.order)
    # No weight passes through more additions than there are edges and tables, and all sums are below that of |w|.
    slack = 2 * (graph.n_edges + 2 * n) * UNIT_ROUNDOFF * graph.absolute_weight
    return Exact(value, max(value, constant) + slack, sides, found.order)


@numba.njit(cache=True, nogil=True)
def _star(pull: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (2^(k+1),): weight cut at v by the sides of its k neighbours (low bits) and of v itself (the highest)."""
    k = len(pull)
    joint = np.zeros(2 << k)
    for i in range(k):
        for low in range(1 << i):
            joint[low + (1 << i)] = joint[low] + pull[i]
    top = 1 << k
    for low in range(top):
        joint[top + low] = joint[top - 1 - low]  # v across from all that were on its side
    return joint


@numba.njit(cache=True, nogil=True)
def _add(joint: NDArray[np.float64], table: NDArray[np.float64], steps: NDArray[np.int64]) -> None:
    """Adds a table, bit i of whose index is the bit steps[i] of the joint's."""
    width = 0
    while 1 << width < len(joint):
        width += 1
    part = np.zeros(len(joint), np.int32)  # index of the table for every index of the joint
    for bit in range(width):
        gain = 0
        for i in range(len(steps)):
            if steps[i] == 1 << bit:
                gain = 1 << i
        for low in range(1 << bit):
            part[low + (1 << bit)] = part[low] + gain
    for i in range(len(joint)):
        joint[i] += table[part[i]]


@numba.njit(cache=True, nogil=True)
def _best(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The larger of the two halves, and bits that say where the second is larger."""
    size = len(joint) // 2
    table = np.empty(size)
    choice = np.zeros((size + 7) // 8, np.uint8)
    for i in range(size):
        if joint[size + i] > joint[i]:
            table[i] = joint[size + i]
            choice[i >> 3] |= np.uint8(1 << (i & 7))
        else:
            table[i] = joint[i]
    return table, choice
