"""CPU twin of `sdp_kernels.anneal.anneal_packed`: words in parallel, vertices in order.

Bits of 32 replicas are added at once: plane b of a vertex's counter holds bit b of every replica's count. Into one
counter go the words of agreeing neighbours, and then a word for every level of acceptance that the replica's random
number passes (u below the chance of a loss of that many agreements; chances fall, so levels are passed in order).
The counter starts where it reaches its highest plane exactly when the neighbours and levels suffice:

    start = 2^top - floor(degree / 2) - 1 + [degree even, T > 0],   2^top > degree

so that plane is the decision. T > 0 counts as a level passed by all where a gain of 0 is possible.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels.anneal import OWN_BITS
from sdp_kernels.cpu._blocks import threads_worth
from sdp_kernels.cpu._philox import philox
from sdp_kernels.graph import CSR

TILE = 16  # words a task, most: with a number known in advance, of 8, LLVM leaves the loops scalar (2.5 times slower)
MAX_PLANES = 33  # of a counter above 2^31 neighbours
_ONE, _SHIFT = np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ALL = np.uint32(0xFFFFFFFF)
_OWN_UNIT, _WORD_UNIT = np.float32(2**OWN_BITS), np.float32(2.0**32)


def anneal_packed(
    csr: CSR,
    class_ptr: Tensor,
    columns: Tensor,
    packed: Tensor,
    chances: Tensor,
    seed: int,
    stream: int,
    first_sweep: int,
    random: str,
) -> None:
    """See the public operation; `columns` and `chances` are as `sdp_kernels.anneal` makes them."""
    del class_ptr  # vertex order is an order of classes
    arrays = (csr.indptr.numpy(), columns.numpy(), packed.numpy().view(np.uint32), chances.numpy())
    with threads_worth(packed.numel() * chances.shape[1] * 32):
        _anneal(*arrays, np.uint64(seed), stream, first_sweep, random == "shared")


@njit(cache=True, nogil=True, parallel=True)
def _anneal(
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    packed: NDArray[np.uint32],
    chances: NDArray[np.float32],
    seed: np.uint64,
    stream: int,
    first_sweep: int,
    is_shared: bool,
) -> None:
    n_words = packed.shape[1]
    for tile in prange((n_words + TILE - 1) // TILE):
        first, last = tile * TILE, min(tile * TILE + TILE, n_words)
        words = np.empty((packed.shape[0], last - first), np.uint32)
        words[:] = packed[:, first:last]
        now = np.empty((3, last - first), np.float32)
        for sweep in range(chances.shape[1]):
            now[:] = chances[:, sweep, first:last]
            _sweep(indptr, columns, words, now, seed, stream + first, first_sweep + sweep, is_shared)
        packed[:, first:last] = words


@njit(cache=True, nogil=True)
def _sweep(
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    words: NDArray[np.uint32],
    chances: NDArray[np.float32],
    seed: np.uint64,
    stream: int,
    sweep: int,
    is_shared: bool,
) -> None:
    """One sweep of words (n, width); chances (3, width) of this sweep."""
    width = words.shape[1]
    planes = np.empty((MAX_PLANES, width), np.uint32)
    own = np.empty((OWN_BITS, width), np.uint32)
    common = np.empty(width, np.uint32)
    chance = np.empty(width, np.float32)
    added = np.empty(width, np.uint32)
    for i in range(words.shape[0]):
        degree = indptr[i + 1] - indptr[i]
        top = 1
        while (1 << top) <= degree:
            top += 1
        start = (1 << top) - degree // 2 - 1
        for w in range(width):
            counted = start + (degree % 2 == 0 and chances[0, w] > 0)
            for plane in range(top + 1):
                planes[plane, w] = _ALL if (counted >> plane) & 1 else np.uint32(0)
        for entry in range(indptr[i], indptr[i + 1]):
            j = columns[entry]
            flipped = np.uint32(0) if j < 0 else _ALL
            j = ~j if j < 0 else j
            for w in range(width):
                added[w] = words[i, w] ^ words[j, w] ^ flipped
            _add(planes, top, added)
        _draw(own, common, i, seed, stream, sweep, is_shared)
        for w in range(width):
            chance[w] = chances[1 if degree % 2 else 2, w]
        for _ in range((degree + 1) // 2):
            if not _passes(added, own, common, chance, is_shared):
                break
            _add(planes, top, added)
            for w in range(width):
                chance[w] *= chances[2, w]
        for w in range(width):
            words[i, w] ^= planes[top, w]


@njit(cache=True, nogil=True, inline="always")
def _add(planes: NDArray[np.uint32], top: int, added: NDArray[np.uint32]) -> None:
    """Adds a bit to every counter; `added` is overwritten."""
    for plane in range(top + 1):
        for w in range(len(added)):
            kept = planes[plane, w]
            planes[plane, w] = kept ^ added[w]
            added[w] &= kept


@njit(cache=True, nogil=True)
def _draw(
    own: NDArray[np.uint32],
    common: NDArray[np.uint32],
    i: int,
    seed: np.uint64,
    stream: int,
    sweep: int,
    is_shared: bool,
) -> None:
    """The words' random bits at vertex i: words 0 to 6 of two calls are their replicas' own, word 7 is common."""
    for w in range(len(common)):
        key, number = (seed & _LOW, seed >> _SHIFT), np.uint64(stream + w)
        if is_shared:
            # A call serves four words.
            call = philox(
                np.uint64(i), np.uint64(3), np.uint64(sweep), number >> np.uint64(2), key[0], key[1]
            )
            common[w] = np.uint32(call[number & np.uint64(3)])
            continue
        a = philox(np.uint64(i), np.uint64(1), np.uint64(sweep), number, key[0], key[1])
        b = philox(np.uint64(i), np.uint64(2), np.uint64(sweep), number, key[0], key[1])
        own[0, w], own[1, w], own[2, w], own[3, w] = a
        own[4, w], own[5, w], own[6, w], common[w] = b


@njit(cache=True, nogil=True)
def _passes(
    passed: NDArray[np.uint32],
    own: NDArray[np.uint32],
    common: NDArray[np.uint32],
    chance: NDArray[np.float32],
    is_shared: bool,
) -> bool:
    """Sets the bits of `passed` whose u lies below `chance`; False when the chance of every word is below a bit.

    From the last bit to the first, u < t is the majority of (u < t so far, not bit of u, bit of t).
    """
    possible = np.uint32(0)
    for w in range(len(passed)):
        scaled = chance[w] if is_shared else chance[w] * _OWN_UNIT
        whole = np.uint32(scaled)
        below = np.uint32((scaled - np.float32(whole)) * _WORD_UNIT)
        possible |= whole | below
        less = _ALL if common[w] < below else np.uint32(0)
        if not is_shared:
            for b in range(OWN_BITS):
                bit = _ALL if (whole >> np.uint32(b)) & np.uint32(1) else np.uint32(0)
                random = own[b, w]  # as good as its complement
                less = (less & (random | bit)) | (random & bit)
        passed[w] = less
    return bool(possible)
