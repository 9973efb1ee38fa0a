"""Oblivious random projections of rows, the map made inside the product and never stored whole.

    gaussian      y = A x / sqrt(k),  entries of A (k, D) standard normals
    rademacher    the same, entries +1 and -1
    blocked       s signed entries a column, scaled by 1 / sqrt(s): the k components fall into s blocks
                  [b k // s, (b + 1) k // s) and each block gets one entry, so that no two collide
                  (SJLT, OSNAP); s = 1 is CountSketch
    independent   every entry is stored with probability `density`, scaled by 1 / sqrt(density k) (scikit-learn's form)

All have E |y|^2 = |x|^2. An entry is a function of (seed, feature, component) alone, by the counters of
`sdp_kernels.gaussian` with row = feature and column = component (column = block for `blocked`), each map with a purpose
of its own. So any chunk of rows, number of threads or engine gives the same map. On the CPU engine the bits of an
output row, too, depend on nothing but that row and the map.

    blocked       component = start of block + (word // 2) length of block // 2^31,  sign = -1 where the word is odd
    independent   stored where word // 2 < round(density 2^31),  sign = -1 where the word is odd

Cost of n rows, multiply-adds: n D k (dense maps), n D s, n D k density; of sparse rows the same with stored entries in
place of n D. Making a dense map costs about what 65 (normals) or 30 (signs) rows cost on a CPU, so rows should come in
hundreds. Memory beside input and output: at most 8 MiB k / 1024 (dense), 4 D s bytes (`blocked`), 4 D k density
bytes (`independent`); for sparse rows of dense maps 256 bytes a feature, 64 MiB at most.

On a GPU a row's bits depend on the row, the map and the kind of chip, float32 rows keep float32's accuracy on tensor
cores (`triton/projection_kernels.py` says how), an infinity in them becomes NaN, and dense maps take at most 18 MB
beside input and output, of sparse rows 32 MB (float64: 64 MB). Sparse maps have the CPU engine's bits there, and keep
tables of the last maps for dense rows: 2 to 10 bytes a stored entry, 256 MB at most beside the last map's own.

Source: Johnson and Lindenstrauss (1984); Achlioptas (2003); Li, Hastie and Church (2006); Charikar, Chen and
Farach-Colton (2002); Kane and Nelson, "Sparser Johnson-Lindenstrauss transforms" (2014).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sdp_kernels import gaussian as _gaussian
from sdp_kernels._engine import twin

PURPOSE_NORMALS, PURPOSE_SIGNS, PURPOSE_BLOCKED, PURPOSE_INDEPENDENT = 201, 202, 203, 204
SIGNS_STREAM = 2**31  # set in a purpose where a call's 128 bits are signs, as in `sdp_kernels.gaussian`
DENSE_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)
SPARSE_DTYPES = (torch.float32, torch.float64)
INDEX_DTYPES = (torch.int32, torch.int64)
COMPONENTS = 2**31  # `n_components` lies below


class SparseRows(NamedTuple):
    """Compressed sparse rows (n, n_features).

    Attributes:
        indptr: int32 or int64 (n + 1,), row i is entries indptr[i] to indptr[i + 1].
        indices: int32 or int64 (nnz,), feature of each entry; repeated ones add up.
        values: float32 or float64 (nnz,).
        n_features: length of a row.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    n_features: int


Rows = Tensor | SparseRows


def gaussian(X: Rows, n_components: int, *, seed: int, out: Tensor | None = None) -> Tensor:
    """Project rows by a map of independent normals.

    Args:
        X: (n, D) float32, float64, float16, bfloat16 or uint8, dense with any strides, or `SparseRows`.
        n_components: k.
        seed: key of the map, 0 <= seed < 2^63.
        out: takes the result instead of a new tensor: (n, k), with unit stride along rows.

    Returns:
        (n, k), float64 of float64 input and float32 otherwise; `out` if it was given.

    Raises:
        TypeError, ValueError: another dtype, shape, device; sparse rows that are none; a seed out of range. NaN
            and infinity are not looked for: they pass into every component of their row.

    Complexity: 2 n D k operations, each normal made once a call.

    >>> X = torch.eye(3)
    >>> whole = gaussian(X, 2, seed=0)
    >>> bool((gaussian(X[1:], 2, seed=0) == whole[1:]).all())
    True
    """
    return _dense(X, n_components, seed, out, True)


def rademacher(X: Rows, n_components: int, *, seed: int, out: Tensor | None = None) -> Tensor:
    """Project rows by a map of independent signs; arguments, result and errors as `gaussian`.

    >>> rademacher(torch.eye(2), 4, seed=0).tolist()
    [[0.5, -0.5, 0.5, -0.5], [0.5, 0.5, 0.5, -0.5]]
    """
    return _dense(X, n_components, seed, out, False)


def blocked(X: Rows, n_components: int, n_nonzeros: int, *, seed: int, out: Tensor | None = None) -> Tensor:
    """Project rows by a sparse map with `n_nonzeros` entries a feature, one in each block of components.

    Arguments, result and errors as `gaussian`, and 1 <= n_nonzeros <= n_components.

    Complexity: n D s signed sums.

    >>> blocked(torch.eye(1), 4, 2, seed=0).abs().sort().values.tolist()
    [[0.0, 0.0, 0.7071067690849304, 0.7071067690849304]]
    """
    n, n_features = check_rows(X)
    k = _check_components(n_components)
    if not 1 <= n_nonzeros <= k:
        raise ValueError(f"`n_nonzeros` must lie in [1, n_components = {k}]; got {n_nonzeros}.")
    out = check_result(X, n, k, out)
    scale = 1 / math.sqrt(n_nonzeros)
    key = (check_seed(seed), PURPOSE_BLOCKED, scale)
    if not n or not n_features:
        return out.zero_()
    if isinstance(X, SparseRows):
        twin("projection", X.values, out).blocked_map_of_rows(X[:3], n_features, n_nonzeros, out, *key)
    else:
        twin("projection", X, out).blocked_map(X.detach(), n_nonzeros, out, *key)
    return out


def independent(
    X: Rows, n_components: int, density: float, *, seed: int, out: Tensor | None = None
) -> Tensor:
    """Project rows by a map whose entries are stored independently, each with probability `density`.

    Arguments, result and errors as `gaussian`, and 2^-31 <= density <= 1. Features without any stored entry, of
    which there are D (1 - density)^k, are lost; `blocked` loses none.

    Complexity: n D k density signed sums, and D k / 4 calls of Philox to make the map.

    >>> independent(torch.eye(1), 4, 1.0, seed=0).abs().tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """
    n, n_features = check_rows(X)
    k = _check_components(n_components)
    limit = check_density(density)
    out = check_result(X, n, k, out)
    key = (check_seed(seed), PURPOSE_INDEPENDENT, 1 / math.sqrt(limit * 2.0**-31 * k))
    if not n or not n_features:
        return out.zero_()
    if isinstance(X, SparseRows):
        twin("projection", X.values, out).listed_map_of_rows(X[:3], n_features, limit, out, *key)
    else:
        twin("projection", X, out).listed_map(X.detach(), limit, out, *key)
    return out


def check_density(density: float) -> int:
    """The number of 31-bit words for which an entry is stored.

    Raises:
        ValueError: the density is not in [2^-31, 1].
    """
    if not 2.0**-31 <= density <= 1:
        raise ValueError(f"`density` must lie in [2^-31, 1]; got {density}.")
    return round(density * 2**31)


def check_rows(X: Rows) -> tuple[int, int]:
    """Shape (n, D) of rows that the operations can read.

    Raises:
        TypeError: another type or dtype.
        ValueError: no matrix, or sparse rows whose pointers fall, or whose features lie outside [0, D).
    """
    if isinstance(X, Tensor):
        if X.ndim != 2 or X.layout != torch.strided:
            raise ValueError(f"`X` must be a dense matrix (n, D); got shape {tuple(X.shape)}, {X.layout}.")
        if X.dtype not in DENSE_DTYPES:
            names = ", ".join(str(dtype) for dtype in DENSE_DTYPES)
            raise TypeError(f"`X` must be one of {names}; got {X.dtype}.")
        return X.shape[0], X.shape[1]
    if not isinstance(X, SparseRows):
        raise TypeError(f"`X` must be a torch tensor or SparseRows; got {type(X).__name__}.")
    return _check_sparse(X), X.n_features


def _check_sparse(X: SparseRows) -> int:
    for name, tensor, dtypes in (
        ("indptr", X.indptr, INDEX_DTYPES),
        ("indices", X.indices, INDEX_DTYPES),
        ("values", X.values, SPARSE_DTYPES),
    ):
        if tensor.dtype not in dtypes:
            raise TypeError(f"`X.{name}` must be {' or '.join(map(str, dtypes))}; got {tensor.dtype}.")
        if tensor.ndim != 1 or not tensor.is_contiguous():
            raise ValueError(f"`X.{name}` must be a contiguous vector; got shape {tuple(tensor.shape)}.")
    if not X.indptr.numel():
        raise ValueError("`X.indptr` must have n + 1 entries; got none.")
    stored = X.indices.numel()
    if stored != X.values.numel():
        raise ValueError(
            f"`X.indices` and `X.values` must be of equal length; got {stored} and {X.values.numel()}."
        )
    if int(X.indptr[0]) != 0 or int(X.indptr[-1]) != stored or bool((X.indptr.diff() < 0).any()):
        raise ValueError(f"`X.indptr` must rise from 0 to the {stored} stored entries.")
    if stored:
        least, most = (int(bound) for bound in torch.aminmax(X.indices))
        if least < 0 or most >= X.n_features:
            bad = least if least < 0 else most
            raise ValueError(f"`X.indices` must lie in [0, {X.n_features}); got {bad}.")
    return X.indptr.numel() - 1


def check_result(X: Rows, n: int, k: int, out: Tensor | None) -> Tensor:
    """`out` after checks, or a new tensor for n rows of k components of these rows' precision.

    Raises:
        TypeError, ValueError: `out` has another dtype, shape or device, no unit stride, or requires a gradient.
    """
    source = X.values if isinstance(X, SparseRows) else X
    dtype = torch.float64 if source.dtype == torch.float64 else torch.float32
    if out is None:
        return torch.empty((n, k), dtype=dtype, device=source.device)
    if out.dtype != dtype:
        raise TypeError(f"`out` must be {dtype} for rows of {source.dtype}; got {out.dtype}.")
    if tuple(out.shape) != (n, k):
        raise ValueError(f"`out` must have shape {(n, k)}; got {tuple(out.shape)}.")
    if out.device != source.device:
        raise ValueError(f"`out` lies on {out.device} but `X` on {source.device}.")
    if (k > 1 and out.stride(1) != 1) or (n > 1 and out.stride(0) < k):
        raise ValueError(f"`out` must be row-major without overlap; got strides {out.stride()}.")
    if out.requires_grad:
        raise ValueError("`out` must not require a gradient.")
    return out


def check_seed(seed: int) -> int:
    """A seed in [0, 2^63).

    Raises:
        ValueError: it is not.
    """
    if not 0 <= seed < _gaussian.SEEDS:
        raise ValueError(f"`seed` must lie in [0, 2^63); got {seed}.")
    return seed


def _check_components(k: int) -> int:
    if not 1 <= k < COMPONENTS:
        raise ValueError(f"`n_components` must lie in [1, 2^31); got {k}.")
    return k


def _dense(X: Rows, k: int, seed: int, out: Tensor | None, is_normal: bool) -> Tensor:
    n, n_features = check_rows(X)
    out = check_result(X, n, _check_components(k), out)
    purpose = PURPOSE_NORMALS if is_normal else PURPOSE_SIGNS | SIGNS_STREAM
    key = (check_seed(seed), purpose, is_normal, 1 / math.sqrt(k))
    if not n or not n_features:
        return out.zero_()
    if isinstance(X, SparseRows):
        twin("projection", X.values, out).dense_map_of_rows(X[:3], n_features, out, *key)
    else:
        twin("projection", X, out).dense_map(X.detach(), out, *key)
    return out
