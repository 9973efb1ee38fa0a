"""Blocks of rows, dense or sparse, as sources give them and maps take them; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT_TYPES = ("float32", "float64", "float16", "uint8")  # what the operations of `sdp_kernels` read as it is


@dataclass(frozen=True)
class SparseBlock:
    """Rows of a CSR matrix.

    Attributes:
        indptr: int64 (n + 1,), from 0.
        indices: int32 or int64 (nnz,).
        values: float32 or float64 (nnz,).
        n_features: length of a row.
    """

    indptr: NDArray[Any]
    indices: NDArray[Any]
    values: NDArray[Any]
    n_features: int

    def __len__(self) -> int:
        return len(self.indptr) - 1


Block = NDArray[Any] | SparseBlock


def as_read(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which numbers of this one are read, one that the operations know.

    All numbers are read exactly, but for integers of 64 bits beyond 2^53, which are rounded to float64.

    Raises:
        TypeError: they are no real numbers.

    >>> str(as_read(np.dtype("int16"))), str(as_read(np.dtype(">f8")))
    ('float32', 'float64')
    """
    if dtype.name in EXACT_TYPES:
        return dtype.newbyteorder("=")
    if dtype.kind in "iub":
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    raise TypeError(f"numbers must be floating point of at most 64 bits or integers; got {dtype}.")
