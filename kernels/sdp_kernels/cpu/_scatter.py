"""Tables of sparse maps, and sparse maps on sparse rows: numba loops.

A table holds one uint32 a stored entry of the map: component times 2, plus 1 where the sign is -1. Of a map with s
entries a feature it is (s, n_features), entry b in block b of the components. Dense rows take it sorted (`_steps`).

Every output is the sum, in order of features, of its signed entries: the bits depend on the row and the map alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sdp_kernels.cpu._philox import philox
from sdp_kernels.cpu._vectors import add_four, add_one, prefetch

TASK = 64  # sparse rows that one thread takes at a time
AHEAD = 32  # stored entries by which a table's line is asked for before it is read
_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)

Table = NDArray[np.uint32]


@njit(cache=True, nogil=True, parallel=True)
def fill_table(table: Table, features: NDArray[np.int64], k: int, seed: int, purpose: int) -> None:
    """Signed components of these features: table (s, n), block b of the components is [b k // s, (b + 1) k // s).

    Word b of a feature gives the sign (lowest bit) and the place in the block (the upper 31 bits times the block's
    length, over 2^31: even to 2^-31 of a block's length).
    """
    s, n = table.shape
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
    for i in prange(n):
        row = np.uint64(features[i])
        for call in range((s + 3) // 4):
            words = philox(row & _LOW, row >> _WORD, np.uint64(call), np.uint64(purpose), k0, k1)
            for lane in range(min(4, s - 4 * call)):
                b, word = 4 * call + lane, words[lane]
                start = b * k // s
                length = np.uint64((b + 1) * k // s - start)
                place = np.uint64(start) + ((word >> np.uint64(1)) * length >> np.uint64(31))
                table[b, i] = np.uint32(2 * place + (word & np.uint64(1)))


@njit(cache=True, nogil=True, parallel=True)
def scatter_rows(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    table: Table,
    out: NDArray[Any],
    scale: float,
) -> None:
    """Writes out (n, k) = scale (sparse rows) A^T: A from a table (n_features, s).

    A table of 100,000 features lies in the third-level cache: without asking ahead an entry of s = 8 waited 8 of its
    15 ns for its line.
    """
    n, s = out.shape[0], table.shape[1]
    fours, last = s // 4 * 4, len(indices) - 1
    base = table.ctypes.data
    for task in prange((n + TASK - 1) // TASK):
        for row in range(task * TASK, min(n, (task + 1) * TASK)):
            sums = out[row]
            sums[:] = 0
            at = sums.ctypes.data
            for entry in range(indptr[row], indptr[row + 1]):
                prefetch(base + np.int64(indices[min(entry + AHEAD, last)]) * s * 4)
                words = base + np.int64(indices[entry]) * s * 4
                value = values[entry] * scale
                for b in range(0, fours, 4):
                    add_four(at, words + 4 * b, value)
                for b in range(fours, s):
                    add_one(at, words + 4 * b, value)


@njit(cache=True, nogil=True, parallel=True)
def scatter_listed_rows(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    pointers: NDArray[np.int64],
    table: Table,
    out: NDArray[Any],
    scale: float,
) -> None:
    """As `scatter_rows`, of a map whose feature f has entries pointers[f] to pointers[f + 1] of the table."""
    for row in prange(out.shape[0]):
        sums = out[row]
        sums[:] = 0
        for at in range(indptr[row], indptr[row + 1]):
            value, f = values[at] * scale, indices[at]
            for entry in range(pointers[f], pointers[f + 1]):
                word = table[entry]
                sums[word >> np.uint32(1)] += -value if word & np.uint32(1) else value


@njit(cache=True, nogil=True, parallel=True)
def count_listed(
    counts: NDArray[np.int64], features: NDArray[np.int64], k: int, limit: int, seed: int, purpose: int
) -> None:
    """Stored entries of each of these features: those components whose word, halved, lies below `limit`."""
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
    for i in prange(len(features)):
        row, count = np.uint64(features[i]), np.int64(0)
        for call in range((k + 3) // 4):
            words = philox(row & _LOW, row >> _WORD, np.uint64(call), np.uint64(purpose), k0, k1)
            for lane in range(min(4, k - 4 * call)):
                count += np.int64(words[lane] >> np.uint64(1)) < limit
        counts[i] = count


@njit(cache=True, nogil=True, parallel=True)
def fill_listed(
    pointers: NDArray[np.int64],
    table: Table,
    features: NDArray[np.int64],
    k: int,
    limit: int,
    seed: int,
    purpose: int,
) -> None:
    """The entries that `count_listed` counts, in order of components; the word's lowest bit is the sign."""
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
    for i in prange(len(features)):
        row, at = np.uint64(features[i]), pointers[i]
        for call in range((k + 3) // 4):
            words = philox(row & _LOW, row >> _WORD, np.uint64(call), np.uint64(purpose), k0, k1)
            for lane in range(min(4, k - 4 * call)):
                if np.int64(words[lane] >> np.uint64(1)) < limit:
                    table[at] = np.uint32(2 * (4 * call + lane)) + np.uint32(words[lane] & np.uint64(1))
                    at += 1
