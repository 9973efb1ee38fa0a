"""The inner loops of `sdp.maxcut.matching_dual`: nested blossoms become T-cuts, one for each step of a moat.

A blossom S with dual y_S > 0 is a moat around the region {v : f_S(v) <= 0}, where

    f_S(v) = min_{t in S} (d(t, v) - sum of the duals of the sets inside S that hold t).

Its T-cuts are the regions R(s) = {v : f_S(v) <= s} for 0 <= s < y_S: they change only where s meets a value of f_S. The
moats of a feasible dual do not overlap, so no edge is crossed by more than its length (compare the moats of Juenger and
Pulleyblank 1993 in the plane).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

_FIRST_ROOM = 1024  # entries of an array that grows by doubling


@numba.njit(cache=True, nogil=True)
def incident(ends: Int64, n: int) -> tuple[Int64, Int64]:
    """Edges at each node as compressed rows: pointers int64 (n + 1,), edges int64 (2m,); ends int64 (m, 2)."""
    pointers = np.zeros(n + 1, np.int64)
    for e in range(len(ends)):
        pointers[ends[e, 0] + 1] += 1
        pointers[ends[e, 1] + 1] += 1
    for v in range(n):
        pointers[v + 1] += pointers[v]
    free = pointers[:-1].copy()
    edges = np.empty(pointers[n], np.int64)
    for e in range(len(ends)):
        for side in range(2):
            v = ends[e, side]
            edges[free[v]] = e
            free[v] += 1
    return pointers, edges


@numba.njit(cache=True, nogil=True)
def t_cuts(
    ends: Int64, lengths: Int64, n: int, parent: Int64, seed: Int64, dual: Int64
) -> tuple[Int64, Int64, Int64]:
    """The T-cuts of a laminar family.

    Args:
        ends: int64 (m, 2), nodes of each edge.
        lengths: int64 (m,), > 0, in the unit of `dual`.
        n: number of nodes.
        parent: int64 (k,), the set that holds a set, with a larger number, or -1.
        seed: int64 (k,), the node of a set of one, or -1.
        dual: int64 (k,), >= 0.

    Returns:
        pointers int64 (r + 1,) and edges int64 (pointers[-1],) of the cuts, and the multiplier of each, int64 (r,);
        none if moats overlap.

    Complexity: O(sum over sets of the size of their region + size of the cuts), with a logarithm for the heap.
    """
    at, edges = incident(ends, n)
    k = len(parent)
    first, last, following = np.full(k, -1), np.full(k, -1), np.full(n, -1)
    inside = np.full(n, -1)  # the last set whose region was seen to hold a node
    held = np.zeros(n, np.bool_)  # in the list of some set
    value = np.zeros(n, np.int64)
    pointers, cuts, multipliers = (
        np.zeros(_FIRST_ROOM, np.int64),
        np.empty(_FIRST_ROOM, np.int64),
        np.empty(_FIRST_ROOM, np.int64),
    )
    rows, used = 0, 0
    rim = np.empty(_FIRST_ROOM, np.int64)
    keys, places = np.empty(_FIRST_ROOM, np.int64), np.empty(_FIRST_ROOM, np.int64)
    for s in range(k):
        if seed[s] >= 0:
            if held[seed[s]]:
                return pointers[:1], cuts[:0], multipliers[:0]
            held[seed[s]] = True
            first[s] = last[s] = seed[s]
            value[seed[s]] = 0
        if dual[s] > 0:
            # What the region holds from the start, and what lies around it.
            v = first[s]
            while v >= 0:
                inside[v] = s
                v = following[v]
            rim_size, heap_size = 0, 0
            v = first[s]
            while v >= 0:
                rim, rim_size, keys, places, heap_size = _look_around(
                    ends,
                    lengths,
                    at,
                    edges,
                    v,
                    value,
                    inside,
                    s,
                    dual[s],
                    rim,
                    rim_size,
                    keys,
                    places,
                    heap_size,
                )
                v = following[v]
            level = 0
            while True:
                while heap_size and keys[0] <= level:
                    key, v = keys[0], places[0]
                    heap_size = pop(keys, places, heap_size)
                    if inside[v] == s:
                        continue
                    if held[v]:
                        return pointers[:1], cuts[:0], multipliers[:0]
                    held[v] = True
                    inside[v], value[v] = s, key
                    following[v] = first[s]
                    first[s] = v
                    rim, rim_size, keys, places, heap_size = _look_around(
                        ends,
                        lengths,
                        at,
                        edges,
                        v,
                        value,
                        inside,
                        s,
                        dual[s],
                        rim,
                        rim_size,
                        keys,
                        places,
                        heap_size,
                    )
                while heap_size and inside[places[0]] == s:
                    heap_size = pop(keys, places, heap_size)
                onward = min(keys[0], dual[s]) if heap_size else dual[s]
                kept = 0
                for place in range(rim_size):
                    e = rim[place]
                    if (inside[ends[e, 0]] == s) != (inside[ends[e, 1]] == s):
                        rim[kept] = e
                        kept += 1
                rim_size = kept
                while used + kept > len(cuts):
                    cuts = np.append(cuts, np.empty_like(cuts))
                if rows + 2 > len(pointers):
                    pointers = np.append(pointers, np.empty_like(pointers))
                    multipliers = np.append(multipliers, np.empty_like(multipliers))
                cuts[used : used + kept] = rim[:kept]
                multipliers[rows] = onward - level
                rows, used = rows + 1, used + kept
                pointers[rows] = used
                level = onward
                if level == dual[s]:
                    break
        above = parent[s]
        if above >= 0 and first[s] >= 0:
            v = first[s]
            while v >= 0:
                value[v] -= dual[s]
                v = following[v]
            if first[above] >= 0:
                following[last[above]] = first[s]
            else:
                first[above] = first[s]
            last[above] = last[s]
    return pointers[: rows + 1].copy(), cuts[:used].copy(), multipliers[:rows].copy()


@numba.njit(cache=True, nogil=True)
def _look_around(
    ends: Int64,
    lengths: Int64,
    at: Int64,
    edges: Int64,
    v: int,
    value: Int64,
    inside: Int64,
    s: int,
    limit: int,
    rim: Int64,
    rim_size: int,
    keys: Int64,
    places: Int64,
    heap_size: int,
) -> tuple[Int64, int, Int64, Int64, int]:
    """Adds the edges that leave the region at v to its rim, and the nodes that they reach in time to the heap."""
    for place in range(at[v], at[v + 1]):
        e = edges[place]
        x = ends[e, 0] + ends[e, 1] - v
        if inside[x] == s:
            continue
        if rim_size == len(rim):
            rim = np.append(rim, np.empty_like(rim))
        rim[rim_size] = e
        rim_size += 1
        key = value[v] + lengths[e]
        if key < limit:
            if heap_size == len(keys):
                keys, places = np.append(keys, np.empty_like(keys)), np.append(places, np.empty_like(places))
            heap_size = push(keys, places, heap_size, key, x)
    return rim, rim_size, keys, places, heap_size


@numba.njit(cache=True, nogil=True)
def push(keys: Int64, places: Int64, size: int, key: int, place: int) -> int:
    child = size
    while child > 0:
        above = (child - 1) // 2
        if keys[above] <= key:
            break
        keys[child], places[child] = keys[above], places[above]
        child = above
    keys[child], places[child] = key, place
    return size + 1


@numba.njit(cache=True, nogil=True)
def pop(keys: Int64, places: Int64, size: int) -> int:
    size -= 1
    key, place = keys[size], places[size]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[hole], places[hole] = keys[child], places[child]
        hole = child
    keys[hole], places[hole] = key, place
    return size
