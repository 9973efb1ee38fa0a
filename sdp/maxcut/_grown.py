"""What regions have grown to: nested sets with their radii, pairs of odd nodes, and the T-join along shortest paths."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut._growth import grow
from sdp.maxcut._moats import pop, push
from sdp.maxcut._regions import NOBODY, OUTSIDE, Regions, pile_parts, planted, radius, top, within

Int64 = NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def nested_sets(s: Regions) -> tuple[Int64, Int64, Int64]:
    """Of each region the one that holds it, with a larger number, or -1, its odd node or -1, and its radius."""
    size = len(s.shell)
    listed, number = np.empty(size, np.int64), np.full(size, NOBODY)
    count, high = 0, 0
    for v in range(len(s.leaf)):
        if s.leaf[v] < 0 or number[top(s, v)] >= 0:
            continue
        s.pile[0], high = top(s, v), 1
        number[top(s, v)] = 0
        while high:
            high -= 1
            r = s.pile[high]
            listed[count] = r
            count += 1
            high = pile_parts(s, r, high)
    for place in range(count):
        number[listed[place]] = count - 1 - place
    parent, seed, dual = np.full(count, NOBODY), np.full(count, NOBODY), np.empty(count, np.int64)
    for place in range(count):
        r = listed[place]
        k = number[r]
        if s.up[r] >= 0:
            parent[k] = number[s.up[r]]
        dual[k] = radius(s, r)
    for v in range(len(s.leaf)):
        if s.leaf[v] >= 0:
            seed[number[s.leaf[v]]] = v
    return parent, seed, dual


@numba.njit(cache=True, nogil=True)
def couples(s: Regions) -> Int64:
    """Pairs of odd nodes that are matched, int64 (k, 2), the second one `OUTSIDE` where that is so."""
    size = len(s.shell)
    found, count = np.empty((len(s.leaf), 2), np.int64), 0
    holder = np.empty(size + 1, np.int64)
    for v in range(len(s.leaf)):
        if s.leaf[v] < 0:
            continue
        r = top(s, v)
        a, b = s.mate[r, 0], s.mate[r, 1]
        if a != v:
            continue
        if b == OUTSIDE or a < b:
            found[count, 0], found[count, 1] = a, b
            count += 1
        # Regions on the pile, each with the odd node in it that is matched to one outside of it.
        s.pile[0], holder[0], high = r, a, 1
        while high:
            high -= 1
            r, a = s.pile[high], holder[high]
            if s.inner[r] < 0:
                continue
            c = within(s, r, a)
            s.pile[high], holder[high] = c, a
            high += 1
            x = s.ring[c]
            while x != c:
                y = s.ring[x]
                found[count] = s.joint[x]
                count += 1
                s.pile[high], holder[high] = x, s.joint[x, 0]
                s.pile[high + 1], holder[high + 1] = y, s.joint[x, 1]
                high += 2
                x = s.ring[y]
    return found[:count]


@numba.njit(cache=True, nogil=True)
def join_of(s: Regions) -> NDArray[np.bool_]:
    """A T-join, bool (m,): shortest paths between the odd nodes that are matched.

    Complexity: O(pairs x nodes nearer than their mate), with a logarithm for the heap.
    """
    n, m = len(s.leaf), len(s.ends)
    join = np.zeros(m, np.bool_)
    distance, seen, via = np.empty(n + 1, np.int64), np.full(n + 1, NOBODY), np.empty(n + 1, np.int64)
    keys, places = np.empty(2 * m + 1, np.int64), np.empty(2 * m + 1, np.int64)
    pairs = couples(s)
    for k in range(len(pairs)):
        a, b = pairs[k, 0], pairs[k, 1]
        if b == OUTSIDE:
            b = n
        seen[a], distance[a] = k, 0
        v, size = a, 0
        while v != b:
            if v < n:
                for place in range(s.at[v], s.at[v + 1]):
                    e = s.edges[place]
                    x = s.ends[e, 0] + s.ends[e, 1] - v
                    far = distance[v] + s.lengths[e]
                    if seen[x] != k or far < distance[x]:
                        seen[x], distance[x], via[x] = k, far, e
                        size = push(keys, places, size, far, x)
            while True:
                far, v = keys[0], places[0]
                size = pop(keys, places, size)
                if far == distance[v]:
                    break
        while v != a:
            join[via[v]] ^= True
            v = s.ends[via[v], 0] + s.ends[via[v], 1] - v
    return join


@numba.njit(cache=True, nogil=True, parallel=True)
def joins_of_pieces(
    ends: Int64, lengths: Int64, odd: Int64, first_edge: Int64, first_odd: Int64, first_node: Int64
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A least T-join of each of many pieces, all at once.

    Args:
        ends: int64 (m, 2), nodes.
        lengths: int64 (m,), even.
        odd: int64, nodes.
        first_edge: int64 (pieces + 1,), edges of piece p are numbered from the p-th of them on.
        first_odd: int64 (pieces + 1,), as much of `odd`.
        first_node: int64 (pieces + 1,), as much of nodes.

    Returns:
        The T-joins, bool (m,), and which pieces have one, bool (pieces,).
    """
    many = len(first_edge) - 1
    join, found = np.zeros(len(ends), np.bool_), np.zeros(many, np.bool_)
    for p in numba.prange(many):
        low, high, node = first_edge[p], first_edge[p + 1], first_node[p]
        s = planted(
            ends[low:high] - node,
            lengths[low:high],
            odd[first_odd[p] : first_odd[p + 1]] - node,
            first_node[p + 1] - node,
        )
        found[p] = grow(s, 2**62) == 0
        if found[p]:
            join[low:high] = join_of(s)
    return join, found
