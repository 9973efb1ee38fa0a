"""Patches of a surface drawn by a family of cycles: regions that are discs, found from the family alone.

Trees in the dual graph, one for each centre, cross some edges. Of those they do not cross, the ones that lie on no
cycle any more once dead ends are taken away again and again (all but the 2-core) can be crossed as well without making
a handle: what is left are the borders of the patches, and on a torus the two ways round it. Changing a T-join inside
discs turns vertices inside them over, so the T-join of a cut remains that of a cut.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut._moats import incident

Int64 = NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def patches(
    faces: Int64, ends: Int64, centres: Int64, n_faces: int, n: int
) -> tuple[Int64, NDArray[np.bool_]]:
    """Patches around centres, each face in the nearest one.

    Args:
        faces: int64 (k, 2), cycles of each edge; `n_faces` stands for none.
        ends: int64 (k, 2), vertices of each edge.
        centres: int64, cycles; a part of the dual graph without any gets one of its own.
        n_faces: number of cycles.
        n: number of vertices.

    Returns:
        The patch of each cycle, int64 (n_faces,), and whether an edge lies inside a patch, bool (k,).

    Complexity: O(k).
    """
    label, crossed = _grow(faces, centres, n_faces)
    at, edges = incident(ends, n)
    left = np.zeros(n, np.int64)
    for e in range(len(ends)):
        if not crossed[e]:
            left[ends[e, 0]] += 1
            left[ends[e, 1]] += 1
    inside = crossed.copy()
    for start in range(n):
        v = start
        while left[v] == 1:  # the only edge that is left there leads on
            left[v] = 0
            for place in range(at[v], at[v + 1]):
                e = edges[place]
                if not inside[e]:
                    inside[e] = True
                    v = ends[e, 0] + ends[e, 1] - v
                    left[v] -= 1
                    break
    for e in range(len(faces)):
        inside[e] &= faces[e, 1] < n_faces
    return label, inside


@numba.njit(cache=True, nogil=True)
def _grow(faces: Int64, centres: Int64, n_faces: int) -> tuple[Int64, NDArray[np.bool_]]:
    """Breadth first from all centres at once: labels of faces, and which edges the trees cross."""
    at, edges = incident(faces, n_faces + 1)
    label = np.full(n_faces, -1)
    crossed = np.zeros(len(faces), np.bool_)
    queue = np.empty(n_faces, np.int64)
    head, tail, count = 0, 0, 0
    for f in centres:
        if label[f] < 0:
            label[f] = count
            queue[tail] = f
            tail, count = tail + 1, count + 1
    for start in range(-1, n_faces):
        if start >= 0:
            if label[start] >= 0:
                continue
            label[start] = count
            queue[tail] = start
            tail, count = tail + 1, count + 1
        while head < tail:
            f = queue[head]
            head += 1
            for place in range(at[f], at[f + 1]):
                e = edges[place]
                x = faces[e, 0] + faces[e, 1] - f
                if x < n_faces and label[x] < 0:
                    label[x] = label[f]
                    crossed[e] = True
                    queue[tail] = x
                    tail += 1
    return label, crossed
