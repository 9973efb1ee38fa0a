"""numba twin of `sdp_kernels.projection`: which slices, tables and chunks.

The loops are `_generated` (dense maps), `_steps` (sparse maps of dense rows) and `_scatter` (of sparse rows).
Rows and results are tensors or arrays; nothing here imports torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdp_kernels._rows import array_of, is_tensor
from sdp_kernels.cpu import _generated, _scatter, _steps
from sdp_kernels.cpu._blocks import threads_worth

if TYPE_CHECKING:
    from torch import Tensor

READ_AS_THEY_ARE = (np.float32, np.float64, np.uint8)
CHUNK_BYTES = 1 << 22  # of rows that must be converted first
FEATURES_AT_ONCE = 1 << 18  # sparse rows keep one panel of a dense map: 64 MiB for that many features
TABLE_ENTRIES = 1 << 25  # 128 MiB; above, sparse rows go in chunks with a table of their own features
ENTRIES_AT_ONCE = 1 << 18  # of such a chunk
KEPT_ENTRIES = (
    1 << 20
)  # of a map whose steps are kept: 8 MiB at most, a tenth of the time of 300 rows at s = 8
WORK_A_MAP_ENTRY = 16

Dense: TypeAlias = "Tensor | NDArray[Any]"
Csr = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
Sparse: TypeAlias = "tuple[Tensor, Tensor, Tensor] | Csr"


def dense_map(X: Dense, out: Dense, seed: int, purpose: int, is_normal: bool, scale: float) -> None:
    """Writes out (n, k) = scale X A^T with A of normals or of signs, float32 or float64 by `out`."""
    n_features, k = X.shape[1], out.shape[1]
    target = array_of(out)
    is_double = target.dtype == np.float64
    width = _generated.WIDTH64 if is_double else _generated.WIDTH32
    depth = min(_generated.DEPTH, n_features)
    panels = np.empty(((k + width - 1) // width, depth, width), dtype=target.dtype)
    fill = _generated.fill_normals if is_normal else _generated.fill_signs
    multiply = _generated.multiply64 if is_double else _generated.multiply32
    with threads_worth((X.shape[0] + WORK_A_MAP_ENTRY) * n_features * k):
        for first in range(0, n_features, _generated.DEPTH):
            end = min(first + _generated.DEPTH, n_features)
            fill(panels, 0, np.arange(first, end), seed, purpose)
            factor = scale if end == n_features else 1.0
            for start, rows in row_chunks(X[:, first:end], out):
                multiply(rows, panels, target[start : start + len(rows)], first == 0, factor)


def dense_map_of_rows(
    rows: Sparse,
    n_features: int,
    out: Dense,
    seed: int,
    purpose: int,
    is_normal: bool,
    scale: float,
) -> None:
    """As `dense_map` for sparse rows (indptr, indices, values); memory: one panel of at most FEATURES_AT_ONCE."""
    target = array_of(out)
    csr = csr_of(rows, target.dtype)
    width = _generated.WIDTH64 if target.dtype == np.float64 else _generated.WIDTH32
    fill = _generated.fill_normals if is_normal else _generated.fill_signs
    is_whole = n_features <= FEATURES_AT_ONCE and n_features <= 4 * len(csr[1])
    with threads_worth(len(csr[1]) * out.shape[1] + WORK_A_MAP_ENTRY * n_features):
        if is_whole:
            panel = np.empty((1, n_features, width), dtype=target.dtype)
            for start in range(0, out.shape[1], width):
                fill(panel, start // width, np.arange(n_features), seed, purpose)
                _generated.multiply_rows(*csr, panel, target[:, start : start + width], scale)
            return
        for first, last, features, chunk in _chunks(csr):
            panel = np.empty((1, len(features), width), dtype=target.dtype)
            for start in range(0, out.shape[1], width):
                fill(panel, start // width, features, seed, purpose)
                _generated.multiply_rows(*chunk, panel, target[first:last, start : start + width], scale)


def blocked_map(X: Dense, s: int, out: Dense, seed: int, purpose: int, scale: float) -> None:
    """Writes out (n, k) = scale X A^T, s signed entries a feature, one in each of s blocks of components."""
    target = array_of(out)
    with threads_worth(X.shape[0] * X.shape[1] * s):
        make = blocked_steps if X.shape[1] * s <= KEPT_ENTRIES else blocked_steps.__wrapped__
        steps = make(X.shape[1], s, out.shape[1], seed, purpose, target.itemsize)
        for start, rows in row_chunks(X, out):
            _steps.multiply(rows, *steps, target[start : start + len(rows)], target.dtype.type(scale))


def blocked_map_of_rows(
    rows: Sparse,
    n_features: int,
    s: int,
    out: Dense,
    seed: int,
    purpose: int,
    scale: float,
) -> None:
    """As `blocked_map` for sparse rows."""
    target = array_of(out)
    csr = csr_of(rows, target.dtype)
    factor = target.dtype.type(scale)
    with threads_worth(len(csr[1]) * s + target.size):
        if n_features * s <= TABLE_ENTRIES and n_features <= 4 * len(csr[1]):
            table = blocked_table(np.arange(n_features), s, out.shape[1], seed, purpose)
            _scatter.scatter_rows(*csr, np.ascontiguousarray(table.T), target, factor)
            return
        for first, last, features, chunk in _chunks(csr):
            table = blocked_table(features, s, out.shape[1], seed, purpose)
            _scatter.scatter_rows(*chunk, np.ascontiguousarray(table.T), target[first:last], factor)


def listed_map(X: Dense, limit: int, out: Dense, seed: int, purpose: int, scale: float) -> None:
    """Writes out (n, k) = scale X A^T, each entry of A stored if half its word lies below `limit` (of 2^31)."""
    target = array_of(out)
    with threads_worth(X.shape[1] * out.shape[1] * WORK_A_MAP_ENTRY):
        is_small = X.shape[1] * out.shape[1] * limit <= KEPT_ENTRIES << 31
        make = listed_steps if is_small else listed_steps.__wrapped__
        steps = make(X.shape[1], limit, out.shape[1], seed, purpose, target.itemsize)
        for start, rows in row_chunks(X, out):
            _steps.multiply(rows, *steps, target[start : start + len(rows)], target.dtype.type(scale))


def listed_map_of_rows(
    rows: Sparse,
    n_features: int,
    limit: int,
    out: Dense,
    seed: int,
    purpose: int,
    scale: float,
) -> None:
    """As `listed_map` for sparse rows."""
    target = array_of(out)
    csr, k = csr_of(rows, target.dtype), out.shape[1]
    factor = target.dtype.type(scale)
    with threads_worth(n_features * k * WORK_A_MAP_ENTRY):
        if n_features * k * limit <= TABLE_ENTRIES << 31 and n_features <= 4 * len(csr[1]):
            pointers, table = listed_table(np.arange(n_features), limit, k, seed, purpose)
            _scatter.scatter_listed_rows(*csr, pointers, table, target, factor)
            return
        for first, last, features, chunk in _chunks(csr):
            pointers, table = listed_table(features, limit, k, seed, purpose)
            _scatter.scatter_listed_rows(*chunk, pointers, table, target[first:last], factor)


@functools.lru_cache(maxsize=2)
def blocked_steps(n_features: int, s: int, k: int, seed: int, purpose: int, itemsize: int) -> _steps.Steps:
    """The map of `blocked_map` as steps; the last ones are kept for the next chunk of rows."""
    table = blocked_table(np.arange(n_features), s, k, seed, purpose)
    return _steps.steps_of(s * np.arange(n_features + 1), table.T.ravel(), k, itemsize)


@functools.lru_cache(maxsize=2)
def listed_steps(n_features: int, limit: int, k: int, seed: int, purpose: int, itemsize: int) -> _steps.Steps:
    """As `blocked_steps` of the map of `listed_map`."""
    pointers, table = listed_table(np.arange(n_features), limit, k, seed, purpose)
    return _steps.steps_of(pointers, table, k, itemsize)


def blocked_table(features: NDArray[np.int64], s: int, k: int, seed: int, purpose: int) -> NDArray[np.uint32]:
    """uint32 (s, n): component times 2, plus 1 where the sign is -1."""
    table = np.empty((s, len(features)), dtype=np.uint32)
    _scatter.fill_table(table, features, k, seed, purpose)
    return table


def listed_table(
    features: NDArray[np.int64], limit: int, k: int, seed: int, purpose: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """int64 (n + 1,) pointers and uint32 words as in `blocked_table`."""
    counts = np.empty(len(features), dtype=np.int64)
    _scatter.count_listed(counts, features, k, limit, seed, purpose)
    pointers = np.concatenate(([0], np.cumsum(counts)))
    table = np.empty(pointers[-1], dtype=np.uint32)
    _scatter.fill_listed(pointers, table, features, k, limit, seed, purpose)
    return pointers, table


def row_chunks(X: Dense, like: Dense) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, rows) of a dense matrix, with unit stride along rows and a dtype that the kernels read.

    Rows that are so already come whole; others are converted to the dtype of `like`, CHUNK_BYTES at a time.
    """
    if not is_tensor(X) or str(X.dtype) != "torch.bfloat16":  # which numpy has not
        whole = array_of(X)
        if whole.dtype in READ_AS_THEY_ARE and _is_plain(whole):
            yield 0, whole
            return
    size = max(1, CHUNK_BYTES // max(1, X.shape[1] * like.itemsize))
    dtype: Any = like.dtype
    for start in range(0, X.shape[0], size):
        piece: Any = X[start : start + size]
        if is_tensor(piece):
            yield start, piece.to(dtype).contiguous().numpy()
        else:
            yield start, np.ascontiguousarray(piece, dtype)


def csr_of(rows: Sparse, dtype: np.dtype[Any]) -> Csr:
    """Pointers, indices and values as the kernels take them, values of this dtype."""
    indptr, indices, values = map(array_of, rows)
    # int64 pointers: kernels are compiled for one type of them, and there are few.
    return indptr.astype(np.int64, copy=False), indices, values.astype(dtype, copy=False)


def _is_plain(X: NDArray[Any]) -> bool:
    """Whether kernels can step through these rows: numbers that lie together, rows that follow each other."""
    is_row = X.shape[1] < 2 or X.strides[1] == X.itemsize
    return bool(is_row and X.strides[0] >= 0 and X.flags.aligned)


def _chunks(csr: Csr) -> Iterator[tuple[int, int, NDArray[np.int64], Csr]]:
    """(first row, last row, the features that occur, the rows over those), ENTRIES_AT_ONCE stored entries at a time.

    A row is never cut, so that its sum keeps its order.
    """
    indptr, indices, values = csr
    first, n = 0, len(indptr) - 1
    while first < n:
        begin = indptr[first]
        last = int(np.searchsorted(indptr, begin + ENTRIES_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), n)
        end = indptr[last]
        features, places = np.unique(indices[begin:end], return_inverse=True)
        chunk = (indptr[first : last + 1] - begin, places.astype(np.int64), values[begin:end])
        yield first, last, features.astype(np.int64), chunk
        first = last
