"""Hadamard transforms of rows: numba loops over vector code.

A row of n = 2^p numbers lies in a buffer of rows of 128, PAD numbers apart: place(i) = i + PAD (i // 128). Powers of
two as strides would fall into a few sets of the first-level cache. The first seven levels take 128 numbers at a time
in eight registers; further ones take 16, 8, 4 or 2 vectors at a stride, 16 columns at a time, so that 2^14 numbers
are read and written three times.

Every level is the sum and the difference of two numbers, in the same order whatever the grouping of levels: the bits
are those of the textbook loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sdp_kernels.cpu._vectors import LANES, RUN, by_2, by_4, by_8, by_16, transform_run

PAD = 16
TASK = 4  # rows that one thread takes at a time


def padded_length(n: int) -> int:
    """Numbers of a buffer for a row of n, a power of two."""
    return n + PAD * (n // RUN) if n >= RUN else n


@njit(cache=True, nogil=True)
def transform(row: NDArray[Any], n: int) -> None:
    """Hadamard transform of one padded row, in place."""
    if n < RUN:
        h = 1
        while h < n:
            for i in range(n):
                if not i & h:
                    a, b = row[i], row[i + h]
                    row[i], row[i + h] = a + b, a - b
            h *= 2
        return
    base = row.ctypes.data
    size = row.itemsize
    line = (RUN + PAD) * size
    n_runs = n // RUN
    for i in range(n_runs):
        transform_run(base + i * line, row)
    h = 1  # in runs
    while h < n_runs:
        left = n_runs // h
        radix = 16 if left >= 256 or left == 16 else 8 if left >= 8 else left
        for group in range(0, n_runs, h * radix):
            for member in range(h):
                at = base + (group + member) * line
                for column in range(0, RUN, LANES):
                    if radix == 16:
                        by_16(at + column * size, h * line, row)
                    elif radix == 8:
                        by_8(at + column * size, h * line, row)
                    elif radix == 4:
                        by_4(at + column * size, h * line, row)
                    else:
                        by_2(at + column * size, h * line, row)
        h *= radix


@njit(cache=True, nogil=True)
def _load(values: NDArray[Any], row: NDArray[Any]) -> None:
    """Numbers into a padded row, zeros after them."""
    row[:] = 0
    n = len(values)
    for start in range(0, n, RUN):
        end, at = min(start + RUN, n), start + PAD * (start // RUN)
        row[at : at + end - start] = values[start:end]


@njit(cache=True, nogil=True)
def _load_signed(values: NDArray[Any], signs: NDArray[Any], row: NDArray[Any]) -> None:
    """As `_load`, each number times its sign."""
    row[:] = 0
    n = len(values)
    for start in range(0, n, RUN):
        # Views, since numba asks of each sum of indices whether it is negative, and then forms no vectors.
        end, at = min(start + RUN, n), start + PAD * (start // RUN)
        read, sign, write = values[start:end], signs[start:end], row[at : at + end - start]
        for j in range(end - start):
            write[j] = read[j] * sign[j]


@njit(cache=True, nogil=True, parallel=True)
def whole(X: NDArray[Any], n: int, length: int, out: NDArray[Any]) -> None:
    for task in prange((len(X) + TASK - 1) // TASK):
        row = np.empty(length, dtype=out.dtype)
        for i in range(task * TASK, min(len(X), (task + 1) * TASK)):
            _load(X[i], row)
            transform(row, n)
            for start in range(0, n, RUN):
                end, at = min(start + RUN, n), start + PAD * (start // RUN)
                out[i, start:end] = row[at : at + end - start]


@njit(cache=True, nogil=True, parallel=True)
def sampled(
    X: NDArray[Any],
    n: int,
    length: int,
    signs: NDArray[Any],
    places: NDArray[Any],
    out: NDArray[Any],
    scale: float,
) -> None:
    for task in prange((len(X) + TASK - 1) // TASK):
        row = np.empty(length, dtype=out.dtype)
        for i in range(task * TASK, min(len(X), (task + 1) * TASK)):
            _load_signed(X[i], signs, row)
            transform(row, n)
            for j in range(len(places)):
                out[i, j] = row[places[j]] * scale


@njit(cache=True, nogil=True, parallel=True)
def sampled_sparse(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    n: int,
    length: int,
    signs: NDArray[Any],
    samples: NDArray[np.int64],
    work_whole: int,
    out: NDArray[Any],
    scale: float,
) -> None:
    n_rows, k = out.shape
    for task in prange((n_rows + TASK - 1) // TASK):
        row = np.empty(length, dtype=out.dtype)
        short = samples.astype(np.uint32)
        sums = np.empty(k, dtype=out.dtype)
        for i in range(task * TASK, min(n_rows, (task + 1) * TASK)):
            begin, end = indptr[i], indptr[i + 1]
            if (end - begin) * k < work_whole:
                # Entry (a, b) of the Hadamard matrix is -1 to the number of ones that a and b share.
                sums[:] = 0
                for entry in range(begin, end):
                    column = np.uint32(indices[entry])
                    value = values[entry] * signs[indices[entry]]
                    for j in range(k):
                        odd = _parity(short[j] & column)
                        sums[j] += -value if odd else value
                for j in range(k):
                    out[i, j] = sums[j] * scale
            else:
                row[:] = 0
                for entry in range(begin, end):
                    f = indices[entry]
                    row[f + PAD * (f // RUN) if n >= RUN else f] += values[entry] * signs[f]
                transform(row, n)
                for j in range(k):
                    place = samples[j] + PAD * (samples[j] // RUN) if n >= RUN else samples[j]
                    out[i, j] = row[place] * scale


@njit(cache=True, nogil=True, inline="always")
def _parity(word: Any) -> Any:
    """Whether a 32-bit word has an odd number of ones; vectorises, where a population count needs a newer chip."""
    word ^= word >> np.uint32(16)
    word ^= word >> np.uint32(8)
    word ^= word >> np.uint32(4)
    return (np.uint32(0x6996) >> (word & np.uint32(15))) & np.uint32(1)
