"""The inner loops of `sdp.maxcut.problem.prepare`: an order of the vertices, a colouring, and the renumbered rows.

Vertices are int32, arrays are made by numpy where they are long (it asks for huge pages, numba does not), and orders
come from counting sorts. All results are functions of the graph alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_NONE = -1
_INSERTED = 48  # vertices up to which insertion sorts them faster than mergesort
_LOW = np.int64(0xFFFFFFFF)
_ONE = np.uint64(1)
# The place of the only bit set in a word: its product with a de Bruijn sequence begins with 6 bits of its own.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_PLACE_OF_BIT = np.empty(64, np.int32)
_PLACE_OF_BIT[[(int(_DE_BRUIJN) << bit) % 2**64 >> 58 for bit in range(64)]] = np.arange(64)


@njit(cache=True, nogil=True)
def cuthill_mckee(indptr: Int64, indices: Int32, degree: Int32, seeds: Int64, order: Int32) -> None:
    """Fills in the Cuthill-McKee order: breadth first, the new neighbours of a vertex by rising degree.

    The order of `scipy.sparse.csgraph.reverse_cuthill_mckee` before it is reversed, ties included.

    Args:
        indptr: (n + 1,), rows of a symmetric pattern without loops.
        indices: (2m,).
        degree: (n,).
        seeds: (n,), all vertices; those not yet reached begin a component, in this order.
        order: (n,), the result.

    Complexity: O(n + m log(largest degree)).
    """
    reached = np.zeros(len(order), np.bool_)
    head, size = 0, 0
    for seed in seeds:
        if size == len(order):
            return
        if reached[seed]:
            continue
        reached[seed] = True
        order[size] = seed
        size += 1
        while head < size:
            i = order[head]
            head += 1
            begin = size
            for entry in range(indptr[i], indptr[i + 1]):
                j = indices[entry]
                if not reached[j]:
                    reached[j] = True
                    order[size] = j
                    size += 1
            if size > begin + 1:
                _by_rising_degree(order[begin:size], degree)


@njit(cache=True, nogil=True)
def _by_rising_degree(vertices: Int32, degree: Int32) -> None:
    """Sorts a list of vertices in place; those of one degree keep their order."""
    if len(vertices) > _INSERTED:
        keys = degree[vertices]
        vertices[:] = vertices[np.argsort(keys, kind="mergesort")]
        return
    for k in range(1, len(vertices)):
        vertex = vertices[k]
        own = degree[vertex]
        place = k
        while place > 0 and degree[vertices[place - 1]] > own:
            vertices[place] = vertices[place - 1]
            place -= 1
        vertices[place] = vertex


@njit(cache=True, nogil=True)
def sorted_by(keys: Int32, n_keys: int, vertices: Int32, order: Int32) -> Int64:
    """Fills in the vertices by rising key, those of one key in the order given; where each key begins, and the end.

    Complexity: O(n + n_keys), a counting sort.
    """
    begins = np.zeros(n_keys + 1, np.int64)
    for k in range(len(keys)):
        begins[keys[k] + 1] += 1
    for key in range(n_keys):
        begins[key + 1] += begins[key]
    free = begins.copy()
    for vertex in vertices:
        key = keys[vertex]
        order[free[key]] = vertex
        free[key] += 1
    return begins


@njit(cache=True, nogil=True)
def greedy_colours(indptr: Int64, indices: Int32, order: Int32, colours: Int32) -> int:
    """Gives each vertex, in this order, the least colour that no neighbour has; returns how many colours there are.

    While a vertex's neighbours use the first 63 colours alone, the bits of one word hold them and nothing branches.

    Args:
        indptr: (n + 1,).
        indices: (2m,).
        order: (n,), all vertices.
        colours: (n,), the result, from 0.

    Complexity: O(n + m).
    """
    colours[:] = 0  # no colour; the others count from 1 until the end
    taken_by = np.full(len(order) + 2, _NONE, np.int32)
    n_colours = 0
    for i in order:
        taken, seen = _ONE, np.int32(0)
        for entry in range(indptr[i], indptr[i + 1]):
            colour = colours[indices[entry]]
            taken |= _ONE << np.uint64(colour & 63)
            seen |= colour
        if seen < 64 and ~taken:
            lowest_free = ~taken & (taken + _ONE)
            colour = _PLACE_OF_BIT[(lowest_free * _DE_BRUIJN) >> np.uint64(58)]
        else:
            for entry in range(indptr[i], indptr[i + 1]):
                taken_by[colours[indices[entry]]] = i
            colour = np.int32(1)
            while taken_by[colour] == i:
                colour += np.int32(1)
        colours[i] = colour
        n_colours = max(n_colours, colour)
    colours -= np.int32(1)
    return n_colours


@njit(cache=True, nogil=True)
def renumber(
    indptr: Int64, indices: Int32, weights: Int32, order: Int32, new_indptr: Int64, pairs: Int64
) -> None:
    """Fills in the rows of the graph whose vertex k is vertex order[k] here, columns rising within a row.

    Walking the new columns in order and appending each to its neighbours' rows leaves every row sorted. A column and
    its weight are written together, since a scattered write costs the same whatever its size. (Gathering rows and
    sorting each takes as long on short rows and twice as long on R-MAT's.)

    Args:
        indptr: (n + 1,).
        indices: (2m,).
        weights: (2m,), the bits of float32 numbers.
        order: (n,).
        new_indptr: (n + 1,), the result: where the rows begin.
        pairs: (2m,), the result: column times 2^32 plus weight; see `split`.

    Complexity: O(n + m).
    """
    n = len(order)
    place = np.empty(n, np.int32)
    new_indptr[0] = 0
    for k in range(n):
        place[order[k]] = k
        new_indptr[k + 1] = new_indptr[k] + indptr[order[k] + 1] - indptr[order[k]]
    end = new_indptr[:-1].copy()
    for k in range(n):
        i, column = order[k], np.int64(k) << 32
        for entry in range(indptr[i], indptr[i + 1]):
            row = place[indices[entry]]
            pairs[end[row]] = column | (np.int64(weights[entry]) & _LOW)
            end[row] += 1


@njit(cache=True, nogil=True)
def split(pairs: Int64, indices: Int32, weights: Int32) -> None:
    """Takes the pairs of `renumber` apart."""
    for entry in range(len(pairs)):
        indices[entry] = np.int32(pairs[entry] >> 32)
        weights[entry] = np.int32(pairs[entry] & _LOW)


@njit(cache=True, nogil=True)
def absolute_sums(indptr: Int64, weights: NDArray[np.float32], sums: NDArray[np.float64]) -> None:
    """Fills in the sum of |w| over each row, (n,), in float64 in the order of the entries."""
    for i in range(len(sums)):
        total = 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            total += abs(np.float64(weights[entry]))
        sums[i] = total
