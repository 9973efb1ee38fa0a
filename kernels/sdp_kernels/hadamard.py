"""The Hadamard transform of rows, and the subsampled randomised one.

    fwht    y = H x,                 H the N x N Sylvester matrix: H[a, b] = (-1)^(ones that a and b share)
    srht    y = S H D x / sqrt(k)    D random signs, S a sample of k of the N rows without replacement

A row of D numbers is filled up with zeros to N, the next power of two. E |y|^2 = |x|^2, and with k = N the map is an
isometry. Signs are those of `sdp_kernels.gaussian.rademacher` in row 0, column = feature. The sample is the k rows of H
with the smallest keys, in rising order of the row, a key being the 64 bits of words 0 and 1 of (row, 0).

Cost of a row: N log2 N sums, 4 bytes read and written a number; on a CPU 2^14 numbers pass through the second-level
cache three times, on a GPU 2^15 are transformed in one pass over memory. Every level is one sum or difference of the
same two numbers whatever the blocking, so the bits are those of the textbook loop on every engine. Maps of sparse rows
are sums of fewer numbers where a row is short, and on a GPU from another length on.

Source: Ailon and Chazelle (2009); Tropp, "Improved analysis of the subsampled randomized Hadamard transform" (2011).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from sdp_kernels._engine import host_twin
from sdp_kernels._numbers import integer
from sdp_kernels._rows import Array, Arrays, Rows, check_result, check_rows, is_sparse, is_tensor, on_engine
from sdp_kernels.projection import SIGNS_STREAM, check_seed

if TYPE_CHECKING:
    from torch import Tensor

PURPOSE_SIGNS, PURPOSE_ROWS = 205, 206
# Bytes of the samples that are remembered beside the last one: those of 2,000 maps of 1024 components.
REMEMBERED = 16 << 20

_samples: OrderedDict[tuple[int, int, int], NDArray[np.int64]] = OrderedDict()
_samples_lock = threading.Lock()


def padded(n_features: int) -> int:
    """N: the smallest power of two that is at least n_features.

    >>> padded(10_000)
    16384
    """
    return 1 << max(0, n_features - 1).bit_length()


@overload
def fwht(X: Tensor, *, out: Tensor | None = None) -> Tensor: ...
@overload
def fwht(X: Array, *, out: Array | None = None) -> Array: ...
def fwht(X: Any, *, out: Any = None) -> Any:
    """Hadamard transform of every row, not normalised.

    Args:
        X: (n, D) float32, float64, float16, bfloat16 or uint8, any strides; a tensor or a numpy array.
        out: takes the result instead of a new tensor or array: (n, N), row-major; may be X itself where D = N, and
            shares no memory with it otherwise.

    Returns:
        (n, N), float64 of float64 input and float32 otherwise; of X's kind.

    Raises:
        TypeError, ValueError: another dtype, shape or device.

    Complexity: n N log2 N sums.

    >>> import torch
    >>> fwht(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist()
    [[10.0, -2.0, -4.0, 0.0]]
    """
    if is_sparse(X):
        raise TypeError("`X` must be a dense matrix: a transformed row has no zeros to leave out.")
    n, n_features = check_rows(X)
    out = check_result(X, n, padded(n_features), out, may_be_rows=True)
    if not n or not n_features:
        out[...] = 0
        return out
    twin, rows, target = on_engine("hadamard", X, out)
    twin.fwht(rows, target)
    return out


@overload
def srht(X: Rows, n_components: int, *, seed: int, out: Tensor | None = None) -> Tensor: ...
@overload
def srht(X: Arrays, n_components: int, *, seed: int, out: Array | None = None) -> Array: ...
def srht(X: Rows | Arrays, n_components: int, *, seed: int, out: Any = None) -> Any:
    """Project rows by random signs, a Hadamard transform and a sample of its components.

    Args:
        X: (n, D) float32, float64, float16, bfloat16 or uint8, dense with any strides, or `SparseRows`; or a numpy
            array, or `SparseArrays`, for which torch is not imported.
        n_components: k, at most N.
        seed: key of the map, 0 <= seed < 2^63.
        out: takes the result instead of a new tensor or array: (n, k), row-major, none of the memory of X.

    Returns:
        (n, k), float64 of float64 input and float32 otherwise, a tensor of tensors and an array of arrays; `out` if it
        was given.

    Raises:
        TypeError, ValueError: another dtype, shape, device; sparse rows that are none; k above N.

    Complexity: n N log2 N sums; sparse rows of few entries sum columns of H instead, k operations an entry.

    >>> import torch
    >>> X = torch.tensor([[3.0, 4.0]])
    >>> float(srht(X, 2, seed=5).norm())
    5.0
    """
    n, n_features = check_rows(X)
    N, n_components = padded(n_features), integer("n_components", n_components)
    if not 1 <= n_components <= N:
        raise ValueError(
            f"`n_components` must lie in [1, {N}], {n_features} features being filled up to {N}; got {n_components}."
        )
    out = check_result(X, n, n_components, out)
    seed = check_seed(seed)
    key = (seed, PURPOSE_SIGNS | SIGNS_STREAM, 1 / math.sqrt(n_components))
    if not n or not n_features:
        out[...] = 0
        return out
    samples: Any = _remembered_rows(N, n_components, seed)
    twin, rows, target = on_engine("hadamard", X, out)
    if is_tensor(target):
        import torch

        samples = torch.from_numpy(samples)
    if is_sparse(X):
        twin.srht_of_rows(rows, n_features, N, samples, target, *key)
    else:
        twin.srht(rows, N, samples, target, *key)
    return out


def sampled_rows(N: int, n_components: int, *, seed: int) -> NDArray[np.int64]:
    """The k rows of the Hadamard matrix that `srht` keeps, rising: int64 (k,).

    Complexity: O(N) once for each map, then remembered. It runs on the CPU, whatever the engine.
    """
    return _remembered_rows(N, n_components, check_seed(seed)).copy()


def _remembered_rows(N: int, n_components: int, seed: int) -> NDArray[np.int64]:
    """As `sampled_rows`; nobody writes to it. Its flags do not say so: kernels would be compiled for these, too."""
    key = (N, n_components, seed)
    with _samples_lock:
        found = _samples.get(key)
    if found is None:
        found = _draw_rows(*key)
    with _samples_lock:
        _samples[key] = found
        _samples.move_to_end(key)
        while len(_samples) > 1 and sum(kept.nbytes for kept in _samples.values()) > REMEMBERED:
            _samples.popitem(last=False)
    return found


def _draw_rows(N: int, n_components: int, seed: int) -> NDArray[np.int64]:
    words = np.empty((N, 2), dtype=np.uint32)  # those of `sdp_kernels.gaussian.uniform_bits`
    host_twin("gaussian").uniform_bits(words, seed, PURPOSE_ROWS, 0, 0)
    keys = words[:, 0].astype(np.uint64) << np.uint64(32) | words[:, 1]
    kept = np.argpartition(keys, n_components - 1)[:n_components]  # keys are distinct but for 1 in 2^64 / N^2
    return np.sort(kept).astype(np.int64)
