"""CPU twin of `sdp_kernels.anneal`: one replica a task; inside it vertices go in order.

A block of a colour class is first scanned for any vertex that would move, in vector lanes; only a block
that has one is walked. At low temperatures most blocks have none, and a sweep costs little more than
reading the gains.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from sdp_kernels.anneal import BLOCK_VERTICES
from sdp_kernels.cpu._blocks import threads_worth
from sdp_kernels.cpu._philox import philox
from sdp_kernels.cpu.multispin import anneal_packed as anneal_packed
from sdp_kernels.graph import CSR

MAX_PASSES = 1000  # of one_opt; an anneal leaves work for about ten
_PLACE_SHIFT = np.uint64(16)  # a 32-bit word to one of 2^16 places in the table
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_NEW, _SEEN, _TAKEN = np.int8(0), np.int8(1), np.int8(2)


def anneal(
    csr: CSR,
    class_ptr: Tensor,
    signs: Tensor,
    gains: Tensor,
    temperatures: Tensor,
    thresholds: Tensor,
    seed: int,
    stream: int,
    first_sweep: int,
) -> Tensor:
    """See the public operation."""
    changes = torch.zeros(signs.shape[0], dtype=torch.int64)
    with threads_worth(signs.numel() * temperatures.shape[1]):
        _anneal(
            csr.indptr.numpy(),
            csr.indices.numpy(),
            csr.weights.numpy(),
            class_ptr.numpy(),
            signs.numpy(),
            gains.numpy(),
            temperatures.numpy(),
            thresholds.numpy(),
            np.uint64(seed),
            stream,
            first_sweep,
            changes.numpy(),
        )
    return changes


def one_opt(csr: CSR, class_ptr: Tensor, signs: Tensor, gains: Tensor, tolerance: float) -> None:
    """See the public operation; vertex order is an order of classes, whatever they are."""
    del class_ptr
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy())
    with threads_worth(signs.numel()):
        _one_opt(*arrays, signs.numpy(), gains.numpy(), np.float32(tolerance))


def partition_crossover(csr: CSR, signs: Tensor, others: Tensor) -> Tensor:
    """See the public operation."""
    added = torch.zeros(others.shape[0], dtype=torch.float64)
    arrays = (csr.indptr.numpy(), csr.indices.numpy(), csr.weights.numpy())
    _partition_crossover(*arrays, signs.numpy()[0], others.numpy(), added.numpy())
    return added


@njit(cache=True, nogil=True, inline="always")
def _flip(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    signs: NDArray[np.int8],
    gains: NDArray[np.float32],
    i: int,
) -> None:
    signs[i] = -signs[i]
    gains[i] = -gains[i]
    twice = np.float32(2 * signs[i])
    for entry in range(indptr[i], indptr[i + 1]):
        j = indices[entry]
        gains[j] += twice * signs[j] * weights[entry]


@njit(cache=True, nogil=True, parallel=True)
def _anneal(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    class_ptr: NDArray[np.int64],
    all_signs: NDArray[np.int8],
    all_gains: NDArray[np.float32],
    temperatures: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    seed: np.uint64,
    stream: int,
    first_sweep: int,
    changes: NDArray[np.int64],
) -> None:
    for replica in prange(all_signs.shape[0]):
        changes[replica] = _anneal_one(
            indptr,
            indices,
            weights,
            class_ptr,
            all_signs[replica],
            all_gains[replica],
            temperatures[replica],
            thresholds,
            seed,
            np.uint64(stream + replica),
            first_sweep,
        )


@njit(cache=True, nogil=True)
def _anneal_one(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    class_ptr: NDArray[np.int64],
    signs: NDArray[np.int8],
    gains: NDArray[np.float32],
    temperatures: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    seed: np.uint64,
    stream: np.uint64,
    first_sweep: int,
) -> int:
    changed = 0
    for sweep in range(len(temperatures)):
        temperature = temperatures[sweep]
        for c in range(len(class_ptr) - 1):
            for first in range(class_ptr[c], class_ptr[c + 1], BLOCK_VERTICES):
                last = min(class_ptr[c + 1], first + BLOCK_VERTICES)
                # `first` tells blocks apart whatever the number of classes before them.
                word = philox(
                    np.uint64(first) & _LOW,
                    np.uint64(first) >> _WORD,
                    np.uint64(first_sweep + sweep),
                    stream,
                    seed & _LOW,
                    seed >> _WORD,
                )[0]
                place = np.int64(word >> _PLACE_SHIFT) - first
                movers = 0
                for i in range(first, last):
                    movers += gains[i] + temperature * thresholds[place + i] > 0
                if movers == 0:
                    continue
                for i in range(first, last):
                    if gains[i] + temperature * thresholds[place + i] > 0:
                        _flip(indptr, indices, weights, signs, gains, i)
                        changed += 1
    return changed


@njit(cache=True, nogil=True, parallel=True)
def _one_opt(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    all_signs: NDArray[np.int8],
    all_gains: NDArray[np.float32],
    tolerance: np.float32,
) -> None:
    for replica in prange(all_signs.shape[0]):
        signs, gains = all_signs[replica], all_gains[replica]
        # Exact gains end by themselves; the cap is for gains so rounded that two vertices could chase each other.
        for _ in range(MAX_PASSES):
            moved = False
            for i in range(len(signs)):
                if gains[i] > tolerance:
                    _flip(indptr, indices, weights, signs, gains, i)
                    moved = True
            if not moved:
                break


@njit(cache=True, nogil=True)
def _partition_crossover(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    signs: NDArray[np.int8],
    others: NDArray[np.int8],
    added: NDArray[np.float64],
) -> None:
    n = len(signs)
    state = np.empty(n, np.int8)
    queue = np.empty(n, np.int32)
    for replica in range(others.shape[0]):
        other = others[replica]
        agree = 0
        for i in range(n):
            agree += signs[i] == other[i]
        # A partition and its mirror image are the same cut: compare with the nearer of the two.
        same = np.int8(1) if 2 * agree >= n else np.int8(-1)
        state[:] = _NEW
        for start in range(n):
            if state[start] != _NEW or signs[start] * other[start] == same:
                continue
            gain = 0.0
            queue[0] = start
            state[start] = _SEEN
            size, head = 1, 0
            while head < size:
                i = queue[head]
                head += 1
                for entry in range(indptr[i], indptr[i + 1]):
                    j = indices[entry]
                    if signs[j] * other[j] == same:
                        gain += np.float64(weights[entry]) * signs[i] * signs[j]
                    elif state[j] == _NEW:
                        state[j] = _SEEN
                        queue[size] = j
                        size += 1
            if gain >= 0:
                added[replica] += gain
                for k in range(size):
                    state[queue[k]] = _TAKEN
        for i in range(n):
            if state[i] == _TAKEN:
                signs[i] = -signs[i]
