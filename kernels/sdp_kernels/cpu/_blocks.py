"""Blocks of vertices: how rows are dealt to threads, and how many threads a small graph deserves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numba
import numpy as np
from numpy.typing import NDArray

ENTRIES_PER_BLOCK = 1 << 15
MAX_BLOCKS = 256
SERIAL_WORK = 1 << 19  # multiply-adds below which waking a second thread costs more than it saves


def block_starts(indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Vertices at which blocks of about equally many CSR entries begin: int64 (n_blocks + 1,).

    A function of the graph alone, so that sums over blocks have the same bits for any number of threads.
    """
    n, nnz = len(indptr) - 1, int(indptr[-1])
    n_blocks = max(1, min(MAX_BLOCKS, nnz // ENTRIES_PER_BLOCK))
    marks = np.arange(1, n_blocks) * nnz // n_blocks
    return np.concatenate(([0], np.searchsorted(indptr[:-1], marks), [n])).astype(np.int64)


@contextmanager
def _at_most(threads: int) -> Iterator[None]:
    """No more threads than this.

    A thread without work still waits at the barrier; with other processes on the cores that made runs on
    small graphs up to 100 times slower.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(min(before, threads))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def threads_for(starts: NDArray[np.int64]) -> AbstractContextManager[None]:
    """No more threads than blocks."""
    return _at_most(len(starts) - 1)


def threads_worth(work: int) -> AbstractContextManager[None]:
    """One thread for fewer than SERIAL_WORK multiply-adds, else as many as there are."""
    return _at_most(1 if work < SERIAL_WORK else numba.get_num_threads())
