"""Lines of edges as bytes: integers in numba, other numbers by Python's shortest exact `repr`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_EXACT_INTEGERS = 2.0**53
_LONGEST_LINE = 11 + 11 + 18  # two vertices below 2^31, a weight of up to 17 characters, and what splits them
_SPACE, _NEWLINE, _MINUS, _ZERO = b" \n-0"


def lines_of_edges(u: NDArray[np.int32], v: NDArray[np.int32], w: NDArray[np.float64]) -> bytes:
    """Lines "u v weight" with vertices from 1; the weight reads back as the same float64.

    Args:
        u: int32 (m,), from 0.
        v: int32 (m,), from 0.
        w: float64 (m,), finite.

    Complexity: .02 microseconds a line where all weights are integers, else 1 microsecond.
    """
    if np.array_equal(w, np.rint(w)) and (w.size == 0 or np.abs(w).max() <= _EXACT_INTEGERS):
        buffer = np.empty(w.size * _LONGEST_LINE, np.uint8)
        return buffer[: _write_lines(u, v, w.astype(np.int64), buffer)].tobytes()
    triples = zip(
        (u.astype(np.int64) + 1).tolist(), (v.astype(np.int64) + 1).tolist(), w.tolist(), strict=True
    )
    return "".join(f"{i} {j} {weight!r}\n" for i, j, weight in triples).encode()


@numba.njit(cache=True, nogil=True)
def _write_number(number: Any, buffer: NDArray[np.uint8], p: int) -> int:
    """Writes an integer in decimal; returns the position after it."""
    if number < 0:
        buffer[p] = _MINUS
        p += 1
        number = -number
    length = 1
    rest = number // 10
    while rest > 0:
        length += 1
        rest //= 10
    for k in range(p + length - 1, p - 1, -1):
        buffer[k] = _ZERO + number % 10
        number //= 10
    return p + length


@numba.njit(cache=True, nogil=True)
def _write_lines(
    u: NDArray[np.int32], v: NDArray[np.int32], w: NDArray[np.int64], buffer: NDArray[np.uint8]
) -> int:
    """Writes "u v w" a line; returns the number of bytes."""
    p = 0
    for k in range(u.size):
        p = _write_number(np.int64(u[k]) + 1, buffer, p)
        buffer[p] = _SPACE
        p = _write_number(np.int64(v[k]) + 1, buffer, p + 1)
        buffer[p] = _SPACE
        p = _write_number(w[k], buffer, p + 1)
        buffer[p] = _NEWLINE
        p += 1
    return p
