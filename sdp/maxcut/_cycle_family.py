"""The inner loops of `sdp.maxcut.cycles`: short cycles found blindly, no edge in more than two of them.

In a drawing on a surface every edge lies on two faces, and the faces around a vertex join its edges to one round.
Keeping shortest cycles while every edge has room for two, and no round closes before it holds all edges of its vertex,
finds the faces of meshes and grids without a drawing.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

ROOM = 2  # cycles an edge may lie on
VISITED = 400  # half-edges in the queue of one search for a cycle, at most
LOOKED_AT = 1000  # half-edges that one search looks at, at most: beside hubs there are no faces to be found
BUDGET = 100  # half-edges looked at for each edge of the graph, at most, while cycles of one length are added


@numba.njit(cache=True, nogil=True)
def half_edges(indptr: Int64, indices: Int32) -> tuple[Int32, Int64]:
    """Edge number of each CSR entry, int32 (2m,), and the entry of its mirror image, int64 (2m,)."""
    n = len(indptr) - 1
    edge = np.empty(len(indices), np.int32)
    mirror = np.empty(len(indices), np.int64)
    free = indptr[:-1].copy()
    count = 0
    for i in range(n):
        for entry in range(indptr[i], indptr[i + 1]):
            j = indices[entry]
            if j < i:
                continue
            # Rows are sorted, so row j meets its smaller neighbours in the order in which their rows come.
            edge[entry] = edge[free[j]] = count
            mirror[entry], mirror[free[j]] = free[j], entry
            free[j] += 1
            count += 1
    return edge, mirror


@numba.njit(cache=True, nogil=True)
def add_cycles(
    indptr: Int64,
    indices: Int32,
    edge: Int32,
    mirror: Int64,
    order: Int64,
    length: int,
    room: NDArray[np.int8],
    chain: Int64,
    size: Int32,
    members: Int32,
    used: int,
) -> int:
    """Adds cycles of one length while edges have room and rounds stay open; returns how much of `members` is used.

    Args:
        indptr: int64 (n + 1,).
        indices: int32 (2m,), rising within a row.
        edge: int32 (2m,), from `half_edges`.
        mirror: int64 (2m,), from `half_edges`.
        order: int64 (n,), vertices in the order in which their cycles are looked for.
        length: of the cycles, at least 3.
        room: int8 (m,), how many more cycles each edge may lie on; counted down.
        chain: int64 (2m,), a forest that joins the entries of a row which faces have made neighbours.
        size: int32 (2m,), entries under each root of it.
        members: int32, edges of the cycles, one cycle after another, each in the order of a walk.
        used: entries of `members` in use.
    """
    seen = np.zeros(len(indices), np.int64)
    stamp = 0
    looked = np.zeros(1, np.int64)
    queue, parent, depth = (
        np.empty(VISITED, np.int64),
        np.empty(VISITED, np.int32),
        np.empty(VISITED, np.int32),
    )
    for u in order:
        for entry in range(indptr[u], indptr[u + 1]):
            while room[edge[entry]] > 0 and looked[0] < BUDGET * len(edge):
                stamp += 1
                end = _search(
                    indptr,
                    indices,
                    edge,
                    mirror,
                    room,
                    chain,
                    size,
                    entry,
                    length,
                    seen,
                    stamp,
                    queue,
                    parent,
                    depth,
                    looked,
                )
                if end < 0:
                    break
                used = _keep(edge, mirror, room, chain, size, queue, parent, end, entry, members, used)
    return used


@numba.njit(cache=True, nogil=True)
def _search(
    indptr: Int64,
    indices: Int32,
    edge: Int32,
    mirror: Int64,
    room: NDArray[np.int8],
    chain: Int64,
    size: Int32,
    entry: int,
    length: int,
    seen: Int64,
    stamp: int,
    queue: Int64,
    parent: Int32,
    depth: Int32,
    looked: Int64,
) -> int:
    """Place in the queue of the last half-edge of a walk of this length that starts with `entry` and closes; or -1."""
    start = indices[mirror[entry]]
    last = looked[0] + LOOKED_AT
    queue[0], parent[0], depth[0] = entry, -1, 1
    seen[entry] = stamp
    head, tail = 0, 1
    while head < tail:
        here = queue[head]
        v = indices[here]
        looked[0] += indptr[v + 1] - indptr[v]
        if looked[0] > last:
            return -1
        for onward in range(indptr[v], indptr[v + 1]):
            if onward == mirror[here] or room[edge[onward]] == 0 or seen[onward] == stamp:
                continue
            x = indices[onward]
            closes = x == start
            if closes != (depth[head] + 1 == length) or not _is_open(
                indptr, v, chain, size, mirror[here], onward
            ):
                continue
            if closes and not _is_open(indptr, x, chain, size, mirror[onward], entry):
                continue
            if not closes and _on_the_way(indices, queue, parent, head, x):
                continue
            if tail == len(queue):
                return -1
            seen[onward] = stamp
            queue[tail], parent[tail], depth[tail] = onward, head, depth[head] + 1
            if closes:
                return tail
            tail += 1
        head += 1
    return -1


@numba.njit(cache=True, nogil=True)
def _on_the_way(indices: Int32, queue: Int64, parent: Int32, place: int, x: int) -> bool:
    while place >= 0:
        if indices[queue[place]] == x:
            return True
        place = parent[place]
    return False


@numba.njit(cache=True, nogil=True)
def _keep(
    edge: Int32,
    mirror: Int64,
    room: NDArray[np.int8],
    chain: Int64,
    size: Int32,
    queue: Int64,
    parent: Int32,
    end: int,
    entry: int,
    members: Int32,
    used: int,
) -> int:
    onward = entry
    place = end
    while place >= 0:
        here = queue[place]
        members[used] = edge[here]
        used += 1
        room[edge[here]] -= 1
        one, other = _first(chain, mirror[here]), _first(chain, onward)
        if one != other:
            chain[one] = other
            size[other] += size[one]
        onward = here
        place = parent[place]
    return used


@numba.njit(cache=True, nogil=True)
def _is_open(indptr: Int64, v: int, chain: Int64, size: Int32, one: int, other: int) -> bool:
    """Whether two entries of row v may become neighbours: not if that closed a round which misses some of the row."""
    root = _first(chain, one)
    return bool(root != _first(chain, other) or size[root] == indptr[v + 1] - indptr[v])


@numba.njit(cache=True, nogil=True)
def _first(chain: Int64, entry: int) -> int:
    while chain[entry] != entry:
        chain[entry] = chain[chain[entry]]
        entry = chain[entry]
    return entry


@numba.njit(cache=True, nogil=True)
def pack(pointers: Int64, members: Int32, capacity: Float64) -> Float64:
    """Multipliers of cycles, float64 (cycles,), that use no edge beyond its capacity but for rounding.

    First every cycle gets its fair share of its scarcest edge, then, in order, what is left.
    """
    count = np.zeros(len(capacity))
    for e in members:
        count[e] += 1.0
    packed = np.empty(len(pointers) - 1)
    left = capacity.copy()
    for c in range(len(packed)):
        share = np.inf
        for at in range(pointers[c], pointers[c + 1]):
            share = min(share, capacity[members[at]] / count[members[at]])
        packed[c] = share
        for at in range(pointers[c], pointers[c + 1]):
            left[members[at]] -= share
    for c in range(len(packed)):
        more = np.inf
        for at in range(pointers[c], pointers[c + 1]):
            more = min(more, left[members[at]])
        if more > 0.0:
            packed[c] += more
            for at in range(pointers[c], pointers[c + 1]):
                left[members[at]] -= more
    return packed


def wanted(weights: Float64, listed: Int64, join: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether an edge shall be cut: positive ones unless they are in the T-join, negative ones if they are.

    Args:
        weights: float64 (m,).
        listed: int64, the edges of the family.
        join: bool, which of those the T-join has.
    """
    crosses: NDArray[np.bool_] = weights > 0
    crosses[listed] ^= join
    return crosses


@numba.njit(cache=True, nogil=True)
def agreeing_sides(u: Int32, v: Int32, order: Int64, crosses: NDArray[np.bool_], n: int) -> NDArray[np.uint8]:
    """Sides uint8 (n,) that agree with what is asked of the edges, the first in order first.

    Args:
        u: int32 (m,), first vertex of each edge.
        v: int32 (m,), second vertex.
        order: int64, edges; one that closes a cycle is not listened to.
        crosses: bool (m,), whether an edge shall be cut.
        n: number of vertices.
    """
    parent = np.arange(n)
    apart = np.zeros(n, np.uint8)  # whether a vertex lies across from its parent
    for e in order:
        a, side_a = _root(parent, apart, u[e])
        b, side_b = _root(parent, apart, v[e])
        if a != b:
            parent[a] = b
            apart[a] = side_a ^ side_b ^ np.uint8(crosses[e])
    sides = np.empty(n, np.uint8)
    for i in range(n):
        sides[i] = _root(parent, apart, i)[1]
    return sides


@numba.njit(cache=True, nogil=True)
def _root(parent: Int64, apart: NDArray[np.uint8], i: int) -> tuple[int, np.uint8]:
    """The root of i, and whether i lies across from it; paths are made short."""
    root, side = i, np.uint8(0)
    while parent[root] != root:
        side ^= apart[root]
        root = parent[root]
    total = side
    while parent[i] != root and i != root:
        onward, step = parent[i], apart[i]
        parent[i], apart[i] = root, side
        side ^= step
        i = onward
    return root, total
