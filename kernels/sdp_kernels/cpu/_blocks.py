"""Blocks of vertices: how rows are dealt to threads, and how many threads a small graph deserves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
from numpy.typing import NDArray

ENTRIES_PER_BLOCK = 1 << 15
MAX_BLOCKS = 256


def block_starts(indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Vertices at which blocks of about equally many CSR entries begin: int64 (n_blocks + 1,).

    A function of the graph alone, so that sums over blocks have the same bits for any number of threads.
    """
    n, nnz = len(indptr) - 1, int(indptr[-1])
    n_blocks = max(1, min(MAX_BLOCKS, nnz // ENTRIES_PER_BLOCK))
    marks = np.arange(1, n_blocks) * nnz // n_blocks
    return np.concatenate(([0], np.searchsorted(indptr[:-1], marks), [n])).astype(np.int64)


@contextmanager
def threads_for(starts: NDArray[np.int64]) -> Iterator[None]:
    """No more threads than blocks.

    A thread without a block still spins at the barrier; with other processes on the cores that made runs
    on small graphs up to 100 times slower.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(min(before, len(starts) - 1))
    try:
        yield
    finally:
        numba.set_num_threads(before)
