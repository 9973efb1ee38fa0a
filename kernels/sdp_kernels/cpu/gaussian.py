"""numba twin of `sdp_kernels.gaussian`.

Work goes by tiles of CALLS calls of Philox, taken in row-major order of (row, column block): counters, words and
normals of a tile stay in the first-level cache, and every loop over a tile compiles to vector instructions. Tiles are
a function of the position alone and share nothing, so the bits do not depend on the number of threads.

float32 normals are computed as on the GPU (`triton/_philox.py` has the formulas and their errors), except that a
product and a sum are rounded one by one; float64 normals go through the C library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sdp_kernels._rows import Array, array_of
from sdp_kernels.cpu._blocks import threads_worth
from sdp_kernels.cpu._philox import philox

if TYPE_CHECKING:
    from torch import Tensor

LANES = 4  # words a call
SIGNS = 128  # signs a call
CALLS = 512  # a tile: 26 KiB of counters, words and normals
WORK_PER_CALL = 64  # vector operations, to decide whether a second thread pays

_WORD, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_QUARTER_PI = math.pi / 4

Words = NDArray[np.uint32]


def uniform_bits(out: Tensor | Array, seed: int, purpose: int, row_offset: int, column_offset: int) -> None:
    """As the public `uniform_bits`, into `out` int32 or uint32 (n_rows, n_columns)."""
    words = array_of(out).view(np.uint32)
    with threads_worth(WORK_PER_CALL * words.size // LANES):
        _fill_words(words, seed, purpose, row_offset, column_offset)


def normal(out: Tensor, seed: int, purpose: int, row_offset: int, column_offset: int, bits: int) -> None:
    """As the public `normal`, into `out` float32 or float64 (n_rows, n_columns), strided as it likes."""
    numbers = array_of(out)
    fill = _fill_normals if numbers.dtype == np.float32 else _fill_normals64
    with threads_worth(WORK_PER_CALL * numbers.size // LANES):
        fill(numbers, seed, purpose, row_offset, column_offset, bits)


def rademacher(out: Tensor | Array, seed: int, purpose: int, row_offset: int, column_offset: int) -> None:
    """As the public `rademacher`, into `out` int8 (n_rows, n_columns)."""
    signs = array_of(out)
    with threads_worth(WORK_PER_CALL * signs.size // LANES):
        _fill_signs(signs, seed, purpose, row_offset, column_offset)


@njit(cache=True, nogil=True)
def _make_words(
    tile: int,
    row_offset: int,
    first_block: int,
    n_blocks: int,
    n_calls: int,
    seed: int,
    purpose: int,
    counters: NDArray[np.uint64],
    words: Words,
) -> int:
    """Words of calls [tile CALLS, ...) into words (LANES, CALLS); returns how many calls there are."""
    start = tile * CALLS
    count = min(CALLS, n_calls - start)
    row, block = start // n_blocks, start % n_blocks
    for i in range(count):
        counters[0, i] = np.uint64(row_offset + row)
        counters[1, i] = np.uint64(first_block + block)
        block += 1
        if block == n_blocks:
            row, block = row + 1, 0
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
    c3 = np.uint64(purpose)
    for i in range(CALLS):  # whole tiles: a loop of known length, and what is left over is never read
        row64 = counters[0, i]
        w0, w1, w2, w3 = philox(row64 & _LOW, row64 >> _WORD, counters[1, i], c3, k0, k1)
        words[0, i], words[1, i], words[2, i], words[3, i] = w0, w1, w2, w3
    return count


@njit(cache=True, nogil=True, parallel=True)
def _fill_words(out: Words, seed: int, purpose: int, row_offset: int, column_offset: int) -> None:
    n_rows, n_columns = out.shape
    first = column_offset // LANES
    n_blocks = (column_offset + n_columns + LANES - 1) // LANES - first
    n_calls = n_rows * n_blocks
    for tile in prange((n_calls + CALLS - 1) // CALLS):
        counters = np.zeros((2, CALLS), dtype=np.uint64)
        words = np.empty((LANES, CALLS), dtype=np.uint32)
        count = _make_words(tile, row_offset, first, n_blocks, n_calls, seed, purpose, counters, words)
        _spread(words, tile, count, first, n_blocks, column_offset, out)


@njit(cache=True, nogil=True)
def _spread(
    values: NDArray[np.generic],
    tile: int,
    count: int,
    first: int,
    n_blocks: int,
    column_offset: int,
    out: NDArray[np.generic],
) -> None:
    """Bring values (LANES, CALLS) of a tile to their rows and columns."""
    n_columns = out.shape[1]
    row, block = tile * CALLS // n_blocks, tile * CALLS % n_blocks
    for i in range(count):
        column = (first + block) * LANES - column_offset
        if column >= 0 and column + LANES <= n_columns:
            out[row, column] = values[0, i]
            out[row, column + 1] = values[1, i]
            out[row, column + 2] = values[2, i]
            out[row, column + 3] = values[3, i]
        else:
            for lane in range(LANES):
                if 0 <= column + lane < n_columns:
                    out[row, column + lane] = values[lane, i]
        block += 1
        if block == n_blocks:
            row, block = row + 1, 0


@njit(cache=True, nogil=True)
def box_muller(
    radius_words: Words,
    angle_words: Words,
    bits: int,
    u: NDArray[np.float32],
    exponents: NDArray[np.int32],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
) -> None:
    """Normals of CALLS pairs of words; u and exponents are scratch of that length."""
    shift = np.uint32(32 - bits)
    unit = np.float32(2.0**-bits)
    half = np.float32(2.0 ** (-bits - 1))
    ubits = u.view(np.int32)
    for i in range(CALLS):
        u[i] = np.float32(radius_words[i] >> shift) * unit + half
    for i in range(CALLS):
        exponents[i] = (ubits[i] - np.int32(0x3F2AAAAB)) & np.int32(-0x800000)
        ubits[i] -= exponents[i]
    signed = radius_words.view(np.int32)
    signed_shift = np.int32(32 - bits)
    for i in range(CALLS):
        near_1 = np.float32(signed[i] >> signed_shift) * unit + half
        x = near_1 if exponents[i] == 0 else u[i] - np.float32(1)
        p = np.float32(-0.2811223862) * x + np.float32(0.3080639582)
        p = p * x + np.float32(-0.2797529856)
        p = p * x + np.float32(0.3282558226)
        p = p * x + np.float32(-0.4002388899)
        p = p * x + np.float32(0.5001605452)
        p = p * x + np.float32(-0.6666633740)
        p = p * x + np.float32(0.9999986424)
        p = p * x + np.float32(-2.000000007)
        minus_2ln = p * x + np.float32(exponents[i]) * np.float32(-1.3862943611198906 * 2.0**-23)
        u[i] = np.sqrt(minus_2ln)
    for i in range(CALLS):
        word = angle_words[i]
        t = np.float32(np.int32(word << np.uint32(2))) * np.float32(_QUARTER_PI * 2.0**-31) + np.float32(
            _QUARTER_PI * 2.0**-30
        )
        z = t * t
        s = (np.float32(-0.0001951729896) * z + np.float32(0.008332178146)) * z + np.float32(-0.1666665494)
        sine = (t * z * s + t) * u[i]
        c = (np.float32(-0.001359782309) * z + np.float32(0.04165629458)) * z + np.float32(-0.4999989478)
        cosine = (z * c + np.float32(1)) * u[i]
        cosine = -cosine if word & np.uint32(0x80000000) else cosine
        is_swapped = word & np.uint32(0x40000000) != 0
        first[i] = sine if is_swapped else cosine
        second[i] = cosine if is_swapped else sine


@njit(cache=True, nogil=True, parallel=True)
def _fill_normals(
    out: NDArray[np.float32], seed: int, purpose: int, row_offset: int, column_offset: int, bits: int
) -> None:
    n_rows, n_columns = out.shape
    first = column_offset // LANES
    n_blocks = (column_offset + n_columns + LANES - 1) // LANES - first
    n_calls = n_rows * n_blocks
    for tile in prange((n_calls + CALLS - 1) // CALLS):
        counters = np.zeros((2, CALLS), dtype=np.uint64)
        words = np.empty((LANES, CALLS), dtype=np.uint32)
        count = _make_words(tile, row_offset, first, n_blocks, n_calls, seed, purpose, counters, words)
        normals = np.empty((LANES, CALLS), dtype=np.float32)
        scratch, exponents = np.empty(CALLS, dtype=np.float32), np.empty(CALLS, dtype=np.int32)
        box_muller(words[0], words[1], bits, scratch, exponents, normals[0], normals[1])
        box_muller(words[2], words[3], bits, scratch, exponents, normals[2], normals[3])
        _spread(normals, tile, count, first, n_blocks, column_offset, out)


@njit(cache=True, nogil=True)
def _normal_pair64(word: int, angle_word: int, bits: int) -> tuple[float, float]:
    """The two normals of two words, in float64 throughout."""
    value = np.float64(np.uint32(word) >> np.uint32(32 - bits)) + 0.5
    unit = 2.0**-bits
    # Above 1/2, log1p of the exact distance to 1.
    minus_ln = -math.log(value * unit) if value * unit < 0.5 else -math.log1p(value * unit - 1.0)
    radius = math.sqrt(2.0 * minus_ln)
    t = (np.float64(np.int32(np.uint32(angle_word) << np.uint32(2))) + 2.0) * (_QUARTER_PI * 2.0**-31)
    sine, cosine = radius * math.sin(t), radius * math.cos(t)
    if angle_word & 0x80000000:
        cosine = -cosine
    if angle_word & 0x40000000:
        return sine, cosine
    return cosine, sine


@njit(cache=True, nogil=True, parallel=True)
def _fill_normals64(
    out: NDArray[np.float64], seed: int, purpose: int, row_offset: int, column_offset: int, bits: int
) -> None:
    n_rows, n_columns = out.shape
    first = column_offset // LANES
    n_blocks = (column_offset + n_columns + LANES - 1) // LANES - first
    n_calls = n_rows * n_blocks
    for tile in prange((n_calls + CALLS - 1) // CALLS):
        counters = np.zeros((2, CALLS), dtype=np.uint64)
        words = np.empty((LANES, CALLS), dtype=np.uint32)
        count = _make_words(tile, row_offset, first, n_blocks, n_calls, seed, purpose, counters, words)
        normals = np.empty((LANES, CALLS), dtype=np.float64)
        for i in range(count):
            normals[0, i], normals[1, i] = _normal_pair64(words[0, i], words[1, i], bits)
            normals[2, i], normals[3, i] = _normal_pair64(words[2, i], words[3, i], bits)
        _spread(normals, tile, count, first, n_blocks, column_offset, out)


@njit(cache=True, nogil=True, parallel=True)
def _fill_signs(out: NDArray[np.int8], seed: int, purpose: int, row_offset: int, column_offset: int) -> None:
    n_rows, n_columns = out.shape
    first = column_offset // SIGNS
    n_blocks = (column_offset + n_columns + SIGNS - 1) // SIGNS - first
    n_calls = n_rows * n_blocks
    for tile in prange((n_calls + CALLS - 1) // CALLS):
        counters = np.zeros((2, CALLS), dtype=np.uint64)
        words = np.empty((LANES, CALLS), dtype=np.uint32)
        count = _make_words(tile, row_offset, first, n_blocks, n_calls, seed, purpose, counters, words)
        row, block = tile * CALLS // n_blocks, tile * CALLS % n_blocks
        for i in range(count):
            column = (first + block) * SIGNS - column_offset
            for lane in range(LANES):
                word, start = words[lane, i], column + 32 * lane
                for bit in range(max(0, -start), min(32, n_columns - start)):
                    out[row, start + bit] = np.int8(2 * ((word >> np.uint32(bit)) & np.uint32(1))) - np.int8(
                        1
                    )
            block += 1
            if block == n_blocks:
                row, block = row + 1, 0
