"""Products with a matrix that is made slice by slice and never stored: numba loops of Gaussian and Rademacher maps.

A slice holds DEPTH features of the map, every component, in panels of a fixed number of components,

    panel[p, f, j] = entry (feature = first + f, component = p width + j),

each panel contiguous, so that a product streams it through the caches (256 KiB a panel, from the second level). A
tile of the product is ROWS rows times one panel, summed over the slice in registers from zero, and then added to the
output: every entry is the sum over slices, in order, of a sum over features, in order. Slices begin at multiples of
DEPTH of the feature's position. So the bits depend on the row and the map alone, never on which other rows share the
call, on threads, or on tiles.

Components past the last are made (they cost nothing more than a mask) and dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numpy.typing import NDArray

from sdp_kernels.cpu._philox import philox
from sdp_kernels.cpu._tiles import tile_of
from sdp_kernels.cpu.gaussian import CALLS, LANES, SIGNS, box_muller

DEPTH = 1024  # features a slice
ROWS = 6  # of a tile: 24 of the 32 vector registers of AVX-512 hold sums
BLOCK = 48  # rows that one thread takes at a time; 200 KiB of the input
WIDTH32, WIDTH64 = 64, 32  # components a panel: four registers of 16 floats, or of 8 doubles
_PAD = 16  # of a packed row, so that six rows do not share the sets of the first-level cache
_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)

_tile32 = tile_of(ROWS, WIDTH32 // 16, False)
_tile64 = tile_of(ROWS, WIDTH64 // 16, False, ir.DoubleType())

Panels = NDArray[Any]  # (n_panels, depth, width) of the output's dtype


@njit(cache=True, nogil=True, parallel=True)
def fill_normals(
    panels: Panels, first_panel: int, features: NDArray[np.int64], seed: int, purpose: int
) -> None:
    """Standard normals of these features, for panels first_panel onwards; float32 numbers whatever the dtype."""
    n_panels, _, width = panels.shape
    calls_each = width // LANES  # of one feature in one panel
    features_each = CALLS // calls_each
    tiles = (len(features) + features_each - 1) // features_each
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
    for task in prange(n_panels * tiles):
        p, start = task // tiles, task % tiles * features_each
        count = min(features_each, len(features) - start)
        rows, columns = np.zeros(CALLS, dtype=np.uint64), np.empty(CALLS, dtype=np.uint64)
        for i in range(features_each):
            for j in range(calls_each):
                rows[i * calls_each + j] = np.uint64(features[start + min(i, count - 1)])
                columns[i * calls_each + j] = np.uint64((first_panel + p) * calls_each + j)
        words = np.empty((LANES, CALLS), dtype=np.uint32)
        for i in range(CALLS):
            row = rows[i]
            w0, w1, w2, w3 = philox(row & _LOW, row >> _WORD, columns[i], np.uint64(purpose), k0, k1)
            words[0, i], words[1, i], words[2, i], words[3, i] = w0, w1, w2, w3
        normals = np.empty((LANES, CALLS), dtype=np.float32)
        scratch, exponents = np.empty(CALLS, dtype=np.float32), np.empty(CALLS, dtype=np.int32)
        box_muller(words[0], words[1], 32, scratch, exponents, normals[0], normals[1])
        box_muller(words[2], words[3], 32, scratch, exponents, normals[2], normals[3])
        for i in range(count):
            target = panels[p, start + i]
            for j in range(calls_each):
                call = i * calls_each + j
                target[4 * j] = normals[0, call]
                target[4 * j + 1] = normals[1, call]
                target[4 * j + 2] = normals[2, call]
                target[4 * j + 3] = normals[3, call]


@njit(cache=True, nogil=True, parallel=True)
def fill_signs(
    panels: Panels, first_panel: int, features: NDArray[np.int64], seed: int, purpose: int
) -> None:
    """Signs, +1 and -1, of these features, for panels first_panel onwards."""
    n_panels, _, width = panels.shape
    shared = SIGNS // width  # panels that one call of Philox fills
    first_call, last_call = first_panel // shared, (first_panel + n_panels - 1) // shared
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
    for f in prange(len(features)):
        row = np.uint64(features[f])
        for call in range(first_call, last_call + 1):
            words = philox(row & _LOW, row >> _WORD, np.uint64(call), np.uint64(purpose), k0, k1)
            for lane in range(LANES):
                p = call * shared + 32 * lane // width - first_panel
                if 0 <= p < n_panels:
                    word, target = np.uint32(words[lane]), panels[p, f, 32 * lane % width :]
                    for bit in range(32):
                        target[bit] = np.float32(np.int32((word >> np.uint32(bit)) & np.uint32(1)) * 2 - 1)


@njit(cache=True, nogil=True, parallel=True)
def multiply32(X: NDArray[Any], panels: Panels, out: NDArray[Any], is_first: bool, scale: float) -> None:
    """Writes out (+)= X B for one slice B, then times `scale`; float32. X (n, <= DEPTH) of any number, out (n, k)."""
    n, depth = X.shape
    k = out.shape[1]
    n_panels, _, width = panels.shape
    for block in prange((n + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        packed = np.zeros((BLOCK, DEPTH + _PAD), dtype=np.float32)
        sums = np.empty((ROWS, WIDTH32), dtype=np.float32)
        for i in range(count):
            for j in range(depth):
                packed[i, j] = np.float32(X[start + i, j])
        for p in range(n_panels):
            columns = min(width, k - p * width)
            for i in range(0, count, ROWS):
                _tile32(
                    packed[i:].ctypes.data,
                    DEPTH + _PAD,
                    panels[p].ctypes.data,
                    width,
                    sums.ctypes.data,
                    width,
                    depth,
                )
                _add(
                    sums,
                    out[start + i : start + min(i + ROWS, count), p * width : p * width + columns],
                    is_first,
                    np.float32(scale),
                )


@njit(cache=True, nogil=True, parallel=True)
def multiply64(X: NDArray[Any], panels: Panels, out: NDArray[Any], is_first: bool, scale: float) -> None:
    """As `multiply32` in float64."""
    n, depth = X.shape
    k = out.shape[1]
    n_panels, _, width = panels.shape
    for block in prange((n + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        packed = np.zeros((BLOCK, DEPTH + _PAD), dtype=np.float64)
        sums = np.empty((ROWS, WIDTH64), dtype=np.float64)
        for i in range(count):
            for j in range(depth):
                packed[i, j] = X[start + i, j]
        for p in range(n_panels):
            columns = min(width, k - p * width)
            for i in range(0, count, ROWS):
                _tile64(
                    packed[i:].ctypes.data,
                    DEPTH + _PAD,
                    panels[p].ctypes.data,
                    width,
                    sums.ctypes.data,
                    width,
                    depth,
                )
                _add(
                    sums,
                    out[start + i : start + min(i + ROWS, count), p * width : p * width + columns],
                    is_first,
                    scale,
                )


@njit(cache=True, nogil=True)
def _add(sums: NDArray[Any], out: NDArray[Any], is_first: bool, scale: Any) -> None:
    """Writes out = (0 or out, + sums) scale, on the part of the tile that exists."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            before = sums[i, j] if is_first else out[i, j] + sums[i, j]
            out[i, j] = before * scale


@njit(cache=True, nogil=True, parallel=True)
def multiply_rows(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    panel: Panels,
    out: NDArray[Any],
    scale: float,
) -> None:
    """Writes out (n, <= width) = scale (sparse rows) B for one panel (1, n_features, width) of all features."""
    width = panel.shape[2]
    n, k = out.shape
    blocks = (n + BLOCK - 1) // BLOCK
    for block in prange(blocks):
        sums = np.empty(width, dtype=out.dtype)
        for row in range(block * BLOCK, min((block + 1) * BLOCK, n)):
            sums[:] = 0
            for entry in range(indptr[row], indptr[row + 1]):
                value, normals = values[entry], panel[0, indices[entry]]
                for j in range(width):
                    sums[j] += value * normals[j]
            for j in range(k):
                out[row, j] = sums[j] * scale
