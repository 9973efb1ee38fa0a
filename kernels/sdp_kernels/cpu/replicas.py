"""numba twin of `sdp_kernels.replicas`.

Everything is parallel over blocks of vertices and tiles of words. Blocks are a pure function of the
graph; integer counts are exact and float64 partial sums are added block after block, so the result's
bits do not depend on the number of threads.

Counters. A tile of words (up to 32, that is 1024 replicas) has LEVELS bit-planes; plane k holds bit k of
every replica's count. A word x enters at level k: if a word p already waits there, the full adder

    plane_k, carry = sum bit, carry bit of (plane_k, p, x)

sends the carry to level k + 1, else x waits. Half of the words stop at each level, so one edge costs about
one full adder (5 operations on vectors of words) whatever the size of the count.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels.cpu._blocks import block_starts, threads_for
from sdp_kernels.graph import CSR

WORD = 32
TILE_WORDS = 32  # 14 KiB of planes and waiting words: they stay in the L1 cache
LEVELS = 54  # counts below 2^53, all that float64 can report exactly
EXACT_FLOAT32 = 2.0**24  # integers up to here survive float32
PLANES_TILE = 64  # planes of one tile of project_signs: two words, four to eight vector registers


def pack_signs(signs: Tensor) -> Tensor:
    """As the public `pack_signs`."""
    words = -(-signs.shape[1] // WORD)
    packed = np.zeros((signs.shape[0], words), dtype=np.uint32)
    positive = signs.numpy() if signs.dtype == torch.bool else (signs.numpy() > 0)
    if packed.size:
        _pack(np.ascontiguousarray(positive), packed)
    return torch.from_numpy(packed.view(np.int32))


def unpack_signs(packed: Tensor, n_replicas: int) -> Tensor:
    """As the public `unpack_signs`."""
    signs = np.empty((packed.shape[0], n_replicas), dtype=np.int8)
    if signs.size:
        _unpack(_words(packed), signs)
    return torch.from_numpy(signs)


def cut_values(csr: CSR, packed: Tensor) -> Tensor:
    """As the public `cut_values`."""
    indptr, indices, weights = (tensor.numpy() for tensor in csr)
    words = packed.shape[1]
    if not len(indices) or not words:
        return torch.zeros(WORD * words, dtype=torch.float64)
    starts = block_starts(indptr)
    shape = (len(starts) - 1, WORD * words)
    if _are_countable(weights):
        counts = np.zeros(shape, dtype=np.int64)
        with threads_for(starts):
            _count_cuts(indptr, indices, weights, _words(packed), starts, counts)
        return torch.from_numpy(counts.sum(axis=0).astype(np.float64))
    partial = np.zeros(shape, dtype=np.float64)
    with threads_for(starts):
        _sum_cuts(indptr, indices, weights, _words(packed), starts, partial)
    return torch.from_numpy(np.add.reduce(partial, axis=0))


def project_signs(V: Tensor, planes: Tensor) -> Tensor:
    """As the public `project_signs`."""
    r, n_planes = planes.shape
    packed = np.zeros((V.shape[0], -(-n_planes // WORD)), dtype=np.uint32)
    # Whole tiles of planes and of terms; the zeros that fill them change no sum.
    padded = np.zeros((-(-r // 8) * 8, -(-n_planes // PLANES_TILE) * PLANES_TILE), dtype=np.float32)
    padded[:r, :n_planes] = planes.numpy()
    tiles = padded.reshape(len(padded), -1, PLANES_TILE).transpose(1, 0, 2)
    if packed.size:
        _project(V.numpy(), np.ascontiguousarray(tiles), n_planes, packed)
    return torch.from_numpy(packed.view(np.int32))


def _words(packed: Tensor) -> NDArray[np.uint32]:
    return np.ascontiguousarray(packed.numpy()).view(np.uint32)


def _are_countable(weights: NDArray[np.float32]) -> bool:
    """Whether all weights are integers that float32 and the counters hold exactly."""
    largest = float(np.abs(weights).max())
    whole = largest <= EXACT_FLOAT32 and bool((weights == np.rint(weights)).all())
    return whole and largest * len(weights) < 2.0**53


@njit(cache=True, nogil=True, parallel=True)
def _pack(positive, packed):  # type: ignore[no-untyped-def]
    """packed[i, w] gets bit b where positive[i, 32 w + b]."""
    n, n_replicas = positive.shape
    for i in prange(n):
        for replica in range(n_replicas):
            bit = np.uint32(positive[i, replica])
            packed[i, replica // 32] |= bit << np.uint32(replica % 32)


@njit(cache=True, nogil=True, parallel=True)
def _unpack(packed, signs):  # type: ignore[no-untyped-def]
    """signs[i, 32 w + b] = 2 (bit b of packed[i, w]) - 1."""
    n, n_replicas = signs.shape
    for i in prange(n):
        for replica in range(n_replicas):
            bit = (packed[i, replica // 32] >> np.uint32(replica % 32)) & np.uint32(1)
            signs[i, replica] = np.int8(2 * np.int8(bit) - 1)


@njit(cache=True, nogil=True)
def _insert(level, word, planes, waiting, is_waiting):  # type: ignore[no-untyped-def]
    """Add 2^level times each bit of `word` (n_words,) to the counters; `word` is overwritten."""
    n_words = word.shape[0]
    while is_waiting[level]:
        plane, other = planes[level], waiting[level]
        for w in range(n_words):
            a, b, c = plane[w], other[w], word[w]
            half = a ^ b
            plane[w] = half ^ c
            word[w] = (a & b) | (half & c)
        is_waiting[level] = False
        level += 1
    other = waiting[level]
    for w in range(n_words):
        other[w] = word[w]
    is_waiting[level] = True


@njit(cache=True, nogil=True)
def _read_counters(planes, waiting, is_waiting, counts):  # type: ignore[no-untyped-def]
    """Add the counts held by the planes, and by the words that still wait, to counts (32 width,)."""
    for level in range(planes.shape[0]):
        for replica in range(counts.shape[0]):
            w, b = replica // 32, np.uint32(replica % 32)
            bits = np.int64((planes[level, w] >> b) & np.uint32(1))
            if is_waiting[level]:
                bits += np.int64((waiting[level, w] >> b) & np.uint32(1))
            counts[replica] += bits << np.int64(level)


@njit(cache=True, nogil=True)
def _count_block(indptr, indices, weights, packed, begin, end, counts):  # type: ignore[no-untyped-def]
    """counts[r] = cut of replica r over edges {i, j}, i < j, begin <= i < end; integer weights."""
    n_words = packed.shape[1]
    tile = min(n_words, TILE_WORDS)
    planes = np.empty((LEVELS, tile), np.uint32)
    waiting = np.empty((LEVELS, tile), np.uint32)
    is_waiting = np.empty(LEVELS, np.bool_)
    crossing = np.zeros(tile, np.uint32)
    word = np.empty(tile, np.uint32)
    for first in range(0, n_words, tile):
        width = min(tile, n_words - first)  # of the last tile; what `crossing` holds beyond is never read
        planes[:] = 0
        is_waiting[:] = False
        negative = np.int64(0)
        for i in range(begin, end):
            row = packed[i, first : first + width]
            for e in range(indptr[i + 1] - 1, indptr[i] - 1, -1):
                j = indices[e]
                if j <= i:  # indices rise within a row: the rest are other rows' edges
                    break
                column = packed[j, first : first + width]
                weight = np.int64(weights[e])
                # A negative edge counts the replicas that do *not* cut it: w [cut] = |w| [not cut] + w.
                flip = np.uint32(0xFFFFFFFF) if weight < 0 else np.uint32(0)
                negative += min(weight, np.int64(0))
                for w in range(width):
                    crossing[w] = row[w] ^ column[w] ^ flip
                bits, level = abs(weight), 0
                while bits:
                    if bits & 1:
                        word[:] = crossing
                        _insert(level, word, planes, waiting, is_waiting)
                    bits >>= 1
                    level += 1
        out = counts[32 * first : 32 * (first + width)]
        _read_counters(planes, waiting, is_waiting, out)
        out += negative


@njit(cache=True, nogil=True)
def _sum_block(indptr, indices, weights, packed, begin, end, acc):  # type: ignore[no-untyped-def]
    """acc[r] = cut of replica r over edges {i, j}, i < j, begin <= i < end; any weights, in float64."""
    for i in range(begin, end):
        for e in range(indptr[i + 1] - 1, indptr[i] - 1, -1):
            j = indices[e]
            if j <= i:
                break
            weight = np.float64(weights[e])
            for w in range(packed.shape[1]):
                word = packed[i, w] ^ packed[j, w]
                lanes = acc[32 * w : 32 * w + 32]
                for b in range(32):
                    lanes[b] += weight * np.float64((word >> np.uint32(b)) & np.uint32(1))


@njit(cache=True, nogil=True)
def _dealt(task, n_blocks):  # type: ignore[no-untyped-def]
    """Block of a task: a thread's tasks are neighbours, and early blocks hold most of the edges i < j."""
    return (task % 2) * ((n_blocks + 1) // 2) + task // 2


@njit(cache=True, nogil=True, parallel=True)
def _count_cuts(indptr, indices, weights, packed, starts, counts):  # type: ignore[no-untyped-def]
    """counts[p] = `_count_block` of block p."""
    for task in prange(counts.shape[0]):
        p = _dealt(task, counts.shape[0])
        _count_block(indptr, indices, weights, packed, starts[p], starts[p + 1], counts[p])


@njit(cache=True, nogil=True, parallel=True)
def _sum_cuts(indptr, indices, weights, packed, starts, partial):  # type: ignore[no-untyped-def]
    """partial[p] = `_sum_block` of block p."""
    for task in prange(partial.shape[0]):
        p = _dealt(task, partial.shape[0])
        _sum_block(indptr, indices, weights, packed, starts[p], starts[p + 1], partial[p])


# contract: allow fused multiply-adds; the order of each sum, over r, stays as written.
@njit(cache=True, nogil=True, fastmath={"contract"})
def _project_tile(row, planes, acc):  # type: ignore[no-untyped-def]
    """Sets acc (PLANES_TILE,) = row (r,) @ planes (r, PLANES_TILE), r a multiple of 8.

    Eight terms a pass: `acc` stays in memory, and one load and store of it must feed many products.
    """
    acc[:] = 0
    for k in range(0, row.shape[0], 8):
        v0, v1, v2, v3 = row[k], row[k + 1], row[k + 2], row[k + 3]
        v4, v5, v6, v7 = row[k + 4], row[k + 5], row[k + 6], row[k + 7]
        g0, g1, g2, g3 = planes[k], planes[k + 1], planes[k + 2], planes[k + 3]
        g4, g5, g6, g7 = planes[k + 4], planes[k + 5], planes[k + 6], planes[k + 7]
        for p in range(PLANES_TILE):
            low = acc[p] + v0 * g0[p] + v1 * g1[p] + v2 * g2[p] + v3 * g3[p]
            acc[p] = low + v4 * g4[p] + v5 * g5[p] + v6 * g6[p] + v7 * g7[p]


@njit(cache=True, nogil=True)
def _pack_row(acc, packed, n_replicas):  # type: ignore[no-untyped-def]
    """Bit b of word w of packed (n_words,) is set where acc[32 w + b] >= 0, for the first n_replicas."""
    for w in range(packed.shape[0]):
        lanes = acc[32 * w : 32 * w + 32]
        word = np.uint32(0)
        for b in range(32):
            word |= np.uint32(lanes[b] >= 0) << np.uint32(b)
        packed[w] = word
    if n_replicas < 32 * packed.shape[0]:
        packed[packed.shape[0] - 1] &= (np.uint32(1) << np.uint32(n_replicas % 32)) - np.uint32(1)


@njit(cache=True, nogil=True, parallel=True)
def _project(V, tiles, n_planes, packed):  # type: ignore[no-untyped-def]
    """packed[i, w] gets bit b where (V @ planes)[i, 32 w + b] >= 0; tiles (n_tiles, r', PLANES_TILE)."""
    n, r = V.shape
    for i in prange(n):
        row = np.zeros(tiles.shape[1], np.float32)
        row[:r] = V[i]
        acc = np.empty((tiles.shape[0], PLANES_TILE), np.float32)
        for t in range(tiles.shape[0]):
            _project_tile(row, tiles[t], acc[t])
        _pack_row(acc.ravel(), packed[i], n_planes)
