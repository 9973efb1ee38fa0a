"""Biconnected blocks: parts of a graph that share single vertices and whose cuts are independent.

A maximum cut of a graph is made of maximum cuts of its blocks: switching all sides beyond a shared vertex changes no
other block's cut. So values and bounds add over blocks.

Source: Hopcroft and Tarjan (1973).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut import _cycle_family
from sdp.maxcut.graph import Graph

_NONE = -1


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a graph, or several that make an induced subgraph.

    Attributes:
        whole: the graph.
        vertices: int64 (b,), rising, in the whole graph's numbers.
        edges: int64, rising, positions in the whole graph's `edges()`; the block's own `edges()` come in this order.
    """

    whole: Graph
    vertices: NDArray[np.int64]
    edges: NDArray[np.int64]

    @cached_property
    def graph(self) -> Graph:
        """The block by itself; its vertex i is vertices[i]."""
        if self.edges.size == self.whole.n_edges and self.vertices.size == self.whole.n_vertices:
            return self.whole
        u, v, w = (array[self.edges] for array in self.whole.edges())
        place = np.empty(self.whole.n_vertices, np.int64)
        place[self.vertices] = np.arange(self.vertices.size)
        return Graph.from_edges(place[u], place[v], w, n_vertices=self.vertices.size)


def edge_blocks(graph: Graph) -> tuple[NDArray[np.int32], int]:
    """The block of each edge, int32 (m,) in the order of `graph.edges()`, and the number of blocks.

    Complexity: O(n + m).

    >>> edge_blocks(Graph.from_edges([0, 1, 2, 2], [1, 2, 0, 3]))[1]  # a triangle and a bridge
    2
    """
    edge, _ = _cycle_family.half_edges(graph.indptr, graph.indices)
    labels = np.empty(graph.n_edges, np.int32)
    return labels, int(_label(graph.indptr, graph.indices, edge, labels))


def blocks(graph: Graph) -> list[Block]:
    """All blocks, the one of most edges first; isolated vertices are in none.

    Complexity: O(n + m log m).
    """
    label, count = edge_blocks(graph)
    u, v, _ = graph.edges()
    sizes = np.bincount(label, minlength=count)
    order = np.argsort(label, kind="stable")
    ends = np.concatenate(([0], np.cumsum(sizes)))
    found = []
    for number in np.argsort(-sizes, kind="stable"):
        edges = order[ends[number] : ends[number + 1]]
        found.append(Block(graph, _ends(u[edges], v[edges], graph.n_vertices), edges))
    return found


def _ends(u: NDArray[np.int32], v: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """The vertices of some edges, rising."""
    if 8 * u.size < n:
        return np.unique(np.concatenate((u, v))).astype(np.int64)
    held = np.zeros(n, np.bool_)
    held[u] = held[v] = True
    return np.flatnonzero(held)


def glue(n_vertices: int, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Sides uint8 (n_vertices,) that agree with those of every part, up to turning it over as a whole.

    Args:
        n_vertices: of the graph.
        parts: vertices int64 (b,) and sides uint8 (b,) of each; no two share more than one vertex, nor do any close a
            ring, so that all can be had.

    Complexity: O(n).
    """
    hub = [np.broadcast_to(vertices[:1], vertices.shape) for vertices, _ in parts]
    apart = [sides != sides[:1] for _, sides in parts]
    u = np.concatenate([np.empty(0, np.int64), *hub]).astype(np.int32)
    v = np.concatenate([np.empty(0, np.int64), *(vertices for vertices, _ in parts)]).astype(np.int32)
    crosses = np.concatenate([np.empty(0, np.bool_), *apart])
    return _cycle_family.agreeing_sides(u, v, np.arange(u.size), crosses, n_vertices)


@numba.njit(cache=True, nogil=True)
def _label(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], edge: NDArray[np.int32], labels: NDArray[np.int32]
) -> int:
    """Fills in the block of each edge by a depth-first search without recursion; the number of blocks."""
    n = len(indptr) - 1
    depth = np.full(n, _NONE, np.int64)
    low = np.empty(n, np.int64)
    entry_of = indptr[:-1].copy()
    above = np.full(n, _NONE, np.int64)  # the edge to the parent
    path = np.empty(n, np.int64)
    waiting = np.empty(len(labels), np.int32)
    n_waiting = n_blocks = 0
    begun = np.empty(n, np.int64)  # how many edges waited when a vertex was reached
    for root in range(n):
        if depth[root] != _NONE:
            continue
        path[0], length = root, 1
        depth[root] = low[root] = 0
        while length:
            u = path[length - 1]
            if entry_of[u] < indptr[u + 1]:
                entry = entry_of[u]
                entry_of[u] += 1
                v, e = indices[entry], edge[entry]
                if e == above[u]:
                    continue
                if depth[v] == _NONE:
                    begun[v] = n_waiting
                    waiting[n_waiting] = e
                    n_waiting += 1
                    above[v], depth[v], low[v] = e, length, length
                    path[length] = v
                    length += 1
                elif depth[v] < depth[u]:
                    waiting[n_waiting] = e
                    n_waiting += 1
                    low[u] = min(low[u], depth[v])
                continue
            length -= 1
            if length:
                parent = path[length - 1]
                low[parent] = min(low[parent], low[u])
                if low[u] >= depth[parent]:
                    while n_waiting > begun[u]:
                        n_waiting -= 1
                        labels[waiting[n_waiting]] = n_blocks
                    n_blocks += 1
    return n_blocks
