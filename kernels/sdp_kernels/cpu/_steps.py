"""Sparse maps on dense rows: numba loops over steps, each of which adds a few features to one component.

Rows go 16 at a time. A panel of features (256 KiB, which the second-level cache holds) is transposed to vectors of 16
rows, and of the map's stored entries in the panel a table of steps is made, once for all rows:

    step (component c, words w_1 .. w_N):   sums[c] += +-panel[w_1 // 2], ..., += +-panel[w_N // 2],  - where w is odd

A sum stays in its register for a step. Adding each feature to its components one by one, which this replaced, reads and
writes a vector of sums for every entry: 4.1 cycles an entry (EPYC 9004) where steps of four take 2.8, most of it the
way of the panel from the second-level cache. A component's entries, less than a step or several, come in the order of
features, and are filled up with a vector of -0.0, whose addition changes no bit. So every output is the sum, in order
of features, of its signed entries: the bits depend on the row and the map alone.

Steps of one component wait for each other, so between its first and its second come the first ones of GROUP
components, whose sums the first-level cache holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sdp_kernels.cpu._vectors import LANES, add_step_1, add_step_2, add_step_4, prefetch, transpose

PANEL_BYTES = 1 << 18
GROUP = 128  # components, of which a step each is taken in turn: 8 KiB of float32 sums
AHEAD = 256  # bytes of a row by which its lines are asked for before they are transposed
ALIGNED = 64  # bytes: a vector of 16 float32 in one cache line

Table = NDArray[np.uint32]


class Steps(NamedTuple):
    """A sparse map, sorted for `multiply`.

    Attributes:
        starts: int64 (n_panels + 1,), panel p has steps starts[p] to starts[p + 1].
        words: uint32 (n_steps, 1 + N): component, then N features of the panel times 2, plus 1 where the sign is -1.
        panel: features a panel, a multiple of 16; feature `panel` is -0.0.
    """

    starts: NDArray[np.int64]
    words: Table
    panel: int


def steps_of(pointers: NDArray[np.int64], table: Table, k: int, itemsize: int) -> Steps:
    """Steps of a map whose feature f has entries pointers[f] to pointers[f + 1] of a table as `_scatter` has them.

    Args:
        pointers: int64 (n_features + 1,).
        table: uint32, component times 2 plus sign, the components below k.
        k: number of components.
        itemsize: bytes of the numbers that are summed.

    Complexity: 4 ns a stored entry; 8 bytes a stored entry at most beside the table while it is made, 5 to 8 kept.
    """
    n_features = len(pointers) - 1
    most = PANEL_BYTES // (LANES * itemsize)
    even = -(-n_features // -(-n_features // most))  # panels of about one length
    panel = -(-even // LANES) * LANES
    n_panels = -(-n_features // panel)
    # Cycles a step were 3.7, 5.5 and 10.2 of one, two and four entries; filling up spoils what a long one saves where
    # a component has few entries in a panel.
    entries = len(table) / (n_panels * k)
    width = 4 if entries >= 16 else 2 if entries >= 2 else 1
    counts = np.empty(n_panels, dtype=np.int64)
    _count(counts, pointers, table, panel, k, width)
    starts = np.concatenate(([0], np.cumsum(counts)))
    words = np.empty((starts[-1], 1 + width), dtype=np.uint32)
    _fill(starts, words, pointers, table, panel, k)
    return Steps(starts, words, panel)


@njit(cache=True, nogil=True, parallel=True)
def _count(
    counts: NDArray[np.int64], pointers: NDArray[np.int64], table: Table, panel: int, k: int, width: int
) -> None:
    n = len(pointers) - 1
    for p in prange(len(counts)):
        counts[p] = _steps_in(table[pointers[p * panel] : pointers[min(n, (p + 1) * panel)]], k, width)


@njit(cache=True, nogil=True)
def _steps_in(table: Table, k: int, width: int) -> int:
    entries = np.zeros(k, dtype=np.int64)
    for word in table:
        entries[word >> 1] += 1
    total = 0
    for c in range(k):
        total += (entries[c] + width - 1) // width
    return total


@njit(cache=True, nogil=True, parallel=True)
def _fill(
    starts: NDArray[np.int64], words: Table, pointers: NDArray[np.int64], table: Table, panel: int, k: int
) -> None:
    n = len(pointers) - 1
    for p in prange(len(starts) - 1):
        first, last = p * panel, min(n, (p + 1) * panel)
        _fill_panel(words[starts[p] : starts[p + 1]], pointers[first : last + 1], table, panel, k)


@njit(cache=True, nogil=True)
def _fill_panel(words: Table, pointers: NDArray[np.int64], table: Table, panel: int, k: int) -> None:
    width, at = words.shape[1] - 1, 0
    begins, entries = _by_component(pointers, table, k)
    for group in range(0, k, GROUP):
        taken, is_left = 0, True
        while is_left:
            is_left = False
            for c in range(group, min(k, group + GROUP)):
                left = begins[c + 1] - begins[c] - taken
                if left > 0:
                    words[at, 0] = c
                    for i in range(width):
                        entry = entries[begins[c] + taken + i] if i < left else np.uint32(2 * panel)
                        words[at, 1 + i] = entry
                    at += 1
                    is_left = is_left or left > width
            taken += width


@njit(cache=True, nogil=True)
def _by_component(pointers: NDArray[np.int64], table: Table, k: int) -> Any:
    """Entries of a panel's features by component, then by feature, and where each component's begin."""
    begins = np.zeros(k + 1, dtype=np.int64)
    for word in table[pointers[0] : pointers[-1]]:
        begins[(word >> 1) + 1] += 1
    for c in range(k):
        begins[c + 1] += begins[c]
    place = begins[:k].copy()
    entries = np.empty(pointers[-1] - pointers[0], dtype=np.uint32)
    for f in range(len(pointers) - 1):
        for e in range(pointers[f], pointers[f + 1]):
            c = table[e] >> 1
            entries[place[c]] = np.uint32(2 * f) | (table[e] & np.uint32(1))
            place[c] += 1
    return begins, entries


@njit(cache=True, nogil=True)
def _vectors(count: int, like: NDArray[Any]) -> NDArray[Any]:
    """Uninitialised (count, LANES), each vector within as few cache lines as it can be."""
    room = np.empty((count * LANES + ALIGNED), dtype=like.dtype)
    start = -room.ctypes.data % ALIGNED // room.itemsize
    return room[start : start + count * LANES].reshape((count, LANES))


@njit(cache=True, nogil=True)
def _load(
    X: NDArray[Any], first: int, start: int, width: int, edge: NDArray[Any], panel: NDArray[Any]
) -> None:
    """Features [start, start + width) of rows [first, first + LANES): panel (width or more, LANES)."""
    vector, count = LANES * panel.itemsize, min(LANES, len(X) - first)
    rows, stride, write = X[first:, start:].ctypes.data, X.strides[0], panel.ctypes.data
    for j in range(0, width, LANES):
        read, step, some = rows + j * X.itemsize, stride, min(LANES, width - j)
        if count == LANES and some == LANES:
            for i in range(LANES):
                prefetch(read + i * stride + AHEAD)
        else:
            edge[:count, :some] = X[first : first + count, start + j : start + j + some]
            read, step = edge.ctypes.data, edge.strides[0]
        transpose(read, step, write + j * vector, vector, X, panel)


@njit(cache=True, nogil=True)
def _store(sums: NDArray[Any], first: int, edge: NDArray[Any], out: NDArray[Any], scale: float) -> None:
    """Rows [first, first + LANES) of out (n, k): sums (k or more, LANES) transposed, times scale."""
    numbers = sums.reshape(-1)
    for i in range(len(numbers)):
        numbers[i] *= scale
    vector, k, count = LANES * sums.itemsize, out.shape[1], min(LANES, len(out) - first)
    read, rows, stride = sums.ctypes.data, out[first:].ctypes.data, out.strides[0]
    for j in range(0, k, LANES):
        write, step, some = rows + j * out.itemsize, stride, min(LANES, k - j)
        is_whole = count == LANES and some == LANES
        if not is_whole:
            write, step = edge.ctypes.data, edge.strides[0]
        transpose(read + j * vector, vector, write, step, sums, out)
        if not is_whole:
            out[first : first + count, j : j + some] = edge[:count, :some]


@njit(cache=True, nogil=True)
def _multiply_tile(
    X: NDArray[Any],
    first: int,
    starts: NDArray[np.int64],
    words: Table,
    panel: int,
    out: NDArray[Any],
    scale: float,
) -> None:
    """Rows [first, first + LANES) of out."""
    n_features, width = X.shape[1], words.shape[1] - 1
    sums = _vectors((out.shape[1] + LANES - 1) // LANES * LANES, out)
    sums[:] = 0
    loaded = _vectors(panel + 1, out)
    loaded[panel] = -0.0
    edge_in, edge_out = np.zeros((LANES, LANES), dtype=X.dtype), np.empty((LANES, LANES), dtype=out.dtype)
    to, read = sums.ctypes.data, loaded.ctypes.data
    for p in range(len(starts) - 1):
        start = p * panel
        _load(X, first, start, min(panel, n_features - start), edge_in, loaded)
        steps, count = words.ctypes.data + starts[p] * 4 * (1 + width), starts[p + 1] - starts[p]
        if width == 4:
            add_step_4(to, read, steps, count, sums)
        elif width == 2:
            add_step_2(to, read, steps, count, sums)
        else:
            add_step_1(to, read, steps, count, sums)
    _store(sums, first, edge_out, out, scale)


@njit(cache=True, nogil=True, parallel=True)
def multiply(
    X: NDArray[Any], starts: NDArray[np.int64], words: Table, panel: int, out: NDArray[Any], scale: float
) -> None:
    """Writes out (n, k) = scale X A^T, A in steps.

    X (n, n_features) float32, float64 or uint8, unit stride along rows; out and scale float64 if X is, else float32.
    """
    for tile in prange((len(X) + LANES - 1) // LANES):
        _multiply_tile(X, tile * LANES, starts, words, panel, out, scale)
