"""Compressed rows from entries in any order, and sums over them: the numba kernels under `Graph`.

Entries are sorted by two counting sorts, first by column, then by row: O(n + m) time, and stable, so that
repeated entries are added in the order in which they came. An entry and its mirror image are placed in the
same step, hence both halves of a symmetric matrix hold the same bits.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def sorted_rows(
    n: int, rows: Int64, cols: Int64, weights: Float64, mirrored: bool
) -> tuple[Int64, Int32, Float64]:
    """Rows of an n x n matrix, sorted by column, repeated entries summed.

    Args:
        n: number of rows.
        rows: int64 (m,), every one in [0, n); not checked.
        cols: int64 (m,), every one in [0, n), m < 2^31; not checked.
        weights: float64 (m,).
        mirrored: whether entry (i, j) also stands for (j, i).

    Returns:
        indptr int64 (n + 1,), indices int32 (nnz,), weights float64 (nnz,).

    Complexity: O(n + m) time; 8 bytes an entry of scratch, 12 an entry of result.
    """
    m = rows.size
    size = 2 * m if mirrored else m
    indptr = np.zeros(n + 1, np.int64)
    column_start = np.zeros(n + 1, np.int64)
    for k in range(m):
        indptr[rows[k] + 1] += 1
        column_start[cols[k] + 1] += 1
        if mirrored:
            indptr[cols[k] + 1] += 1
            column_start[rows[k] + 1] += 1
    for i in range(n):
        indptr[i + 1] += indptr[i]
        column_start[i + 1] += column_start[i]

    row_of = np.empty(size, np.int32)
    entry_of = np.empty(size, np.int32)  # m < 2^31
    free = column_start[:n].copy()
    for k in range(m):
        p = free[cols[k]]
        free[cols[k]] = p + 1
        row_of[p] = rows[k]
        entry_of[p] = k
        if mirrored:
            p = free[rows[k]]
            free[rows[k]] = p + 1
            row_of[p] = cols[k]
            entry_of[p] = k

    indices = np.empty(size, np.int32)
    values = np.empty(size, np.float64)
    free[:] = indptr[:n]
    for j in range(n):
        for q in range(column_start[j], column_start[j + 1]):
            p = free[row_of[q]]
            free[row_of[q]] = p + 1
            indices[p] = j
            values[p] = weights[entry_of[q]]

    kept = 0
    begin = indptr[0]
    for i in range(n):
        end = indptr[i + 1]
        row_start = kept
        for p in range(begin, end):
            if kept > row_start and indices[kept - 1] == indices[p]:
                values[kept - 1] += values[p]
            else:
                indices[kept] = indices[p]
                values[kept] = values[p]
                kept += 1
        begin = end
        indptr[i + 1] = kept
    if kept < size:
        return indptr, indices[:kept].copy(), values[:kept].copy()
    return indptr, indices, values


@numba.njit(cache=True, nogil=True)
def compare_rows(
    n: int,
    a_indptr: Int64,
    a_indices: Int32,
    a_weights: Float64,
    b_indptr: Int64,
    b_indices: Int32,
    b_weights: Float64,
) -> tuple[int, int, int, int, int]:
    """Where two matrices of sorted rows differ.

    Returns:
        Row and column of the first entry with different values (an absent entry is worth 0), then the number
        of entries that only one matrix holds and row and column of the first of them; -1 for none.

    Complexity: O(n + nnz).
    """
    row, col, lone_row, lone_col = -1, -1, -1, -1
    n_lone = 0
    for i in range(n):
        p, q = a_indptr[i], b_indptr[i]
        p_end, q_end = a_indptr[i + 1], b_indptr[i + 1]
        while p < p_end or q < q_end:
            p_col = a_indices[p] if p < p_end else n
            q_col = b_indices[q] if q < q_end else n
            j = min(p_col, q_col)
            a = 0.0
            b = 0.0
            if p_col == j:
                a = a_weights[p]
                p += 1
            if q_col == j:
                b = b_weights[q]
                q += 1
            if p_col != q_col:
                if n_lone == 0:
                    lone_row, lone_col = i, j
                n_lone += 1
            if a != b and row < 0:
                row, col = i, j
    return row, col, n_lone, lone_row, lone_col


@numba.njit(cache=True, nogil=True)
def edge_sums(indptr: Int64, indices: Int32, weights: Float64) -> tuple[float, float]:
    """Sum of w and of |w| over the edges i < j, each with Neumaier's compensation (ZAMM 54, 1974).

    Weights of 1e30 beside 1e-30 leave the small ones in the compensation until the large ones cancel.
    """
    total = 0.0
    lost = 0.0
    absolute = 0.0
    absolute_lost = 0.0
    for i in range(indptr.size - 1):
        for p in range(indptr[i], indptr[i + 1]):
            if indices[p] > i:
                w = np.float64(weights[p])
                new = total + w
                lost += (total - new) + w if abs(total) >= abs(w) else (w - new) + total
                total = new
                w = abs(w)
                new = absolute + w
                absolute_lost += (absolute - new) + w if absolute >= w else (w - new) + absolute
                absolute = new
    return total + lost, absolute + absolute_lost


@numba.njit(cache=True, nogil=True)
def cut_sum(indptr: Int64, indices: Int32, weights: Float64, side: NDArray[np.bool_]) -> float:
    """Sum of w over the edges i < j whose ends lie on different sides, compensated as in `edge_sums`."""
    total = 0.0
    lost = 0.0
    for i in range(indptr.size - 1):
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            if j > i and side[i] != side[j]:
                w = np.float64(weights[p])
                new = total + w
                lost += (total - new) + w if abs(total) >= abs(w) else (w - new) + total
                total = new
    return total + lost
