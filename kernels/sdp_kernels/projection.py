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
hundreds. Memory beside input and output: at most 8 MiB k / 1024 (dense), 16 bytes a stored entry of the map, of which
there are D s (`blocked`) or D k density (`independent`), and for sparse rows 4 or 8; for sparse rows of dense maps 256
bytes a feature, 64 MiB at most. Of sparse maps for dense rows a CPU keeps the last two of each kind, 8 MiB each.

On a GPU a row's bits depend on the row, the map and the kind of chip, float32 rows keep float32's accuracy on tensor
cores (`triton/projection_kernels.py` says how), an infinity in them becomes NaN, and dense maps take at most 18 MB
beside input and output, of sparse rows 32 MB (float64: 64 MB). Sparse maps have the CPU engine's bits there, and keep
tables of the last maps for dense rows: 2 to 10 bytes a stored entry, 256 MB at most beside the last map's own.

Source: Johnson and Lindenstrauss (1984); Achlioptas (2003); Li, Hastie and Church (2006); Charikar, Chen and
Farach-Colton (2002); Kane and Nelson, "Sparser Johnson-Lindenstrauss transforms" (2014).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

from sdp_kernels import gaussian as _gaussian
from sdp_kernels._numbers import integer
from sdp_kernels._rows import DENSE_DTYPES as DENSE_DTYPES
from sdp_kernels._rows import SPARSE_DTYPES as SPARSE_DTYPES
from sdp_kernels._rows import Array, check_result, is_sparse, on_engine
from sdp_kernels._rows import Arrays as Arrays
from sdp_kernels._rows import Rows as Rows
from sdp_kernels._rows import SparseArrays as SparseArrays
from sdp_kernels._rows import SparseRows as SparseRows
from sdp_kernels._rows import check_rows as check_rows

if TYPE_CHECKING:
    from torch import Tensor

PURPOSE_NORMALS, PURPOSE_SIGNS, PURPOSE_BLOCKED, PURPOSE_INDEPENDENT = 201, 202, 203, 204
SIGNS_STREAM = 2**31  # set in a purpose where a call's 128 bits are signs, as in `sdp_kernels.gaussian`
COMPONENTS = 2**31  # `n_components` lies below


@overload
def gaussian(X: Rows, n_components: int, *, seed: int, out: Tensor | None = None) -> Tensor: ...
@overload
def gaussian(X: Arrays, n_components: int, *, seed: int, out: Array | None = None) -> Array: ...
def gaussian(X: Rows | Arrays, n_components: int, *, seed: int, out: Any = None) -> Any:
    """Project rows by a map of independent normals.

    Args:
        X: (n, D) float32, float64, float16, bfloat16 or uint8, dense with any strides, or `SparseRows`; or a numpy
            array, or `SparseArrays`, for which torch is not imported.
        n_components: k.
        seed: key of the map, 0 <= seed < 2^63.
        out: takes the result instead of a new tensor or array: (n, k), with unit stride along rows, none of the memory
            of X.

    Returns:
        (n, k), float64 of float64 input and float32 otherwise, a tensor of tensors and an array of arrays; `out` if it
        was given.

    Raises:
        TypeError, ValueError: another dtype, shape, device; sparse rows that are none; a seed out of range. NaN
            and infinity are not looked for: they pass into every component of their row.

    Complexity: 2 n D k operations, each normal made once a call.

    >>> import torch
    >>> X = torch.eye(3)
    >>> whole = gaussian(X, 2, seed=0)
    >>> bool((gaussian(X[1:], 2, seed=0) == whole[1:]).all())
    True
    """
    return _dense(X, n_components, seed, out, True)


@overload
def rademacher(X: Rows, n_components: int, *, seed: int, out: Tensor | None = None) -> Tensor: ...
@overload
def rademacher(X: Arrays, n_components: int, *, seed: int, out: Array | None = None) -> Array: ...
def rademacher(X: Rows | Arrays, n_components: int, *, seed: int, out: Any = None) -> Any:
    """Project rows by a map of independent signs; arguments, result and errors as `gaussian`.

    >>> import torch
    >>> rademacher(torch.eye(2), 4, seed=0).tolist()
    [[0.5, -0.5, 0.5, -0.5], [0.5, 0.5, 0.5, -0.5]]
    """
    return _dense(X, n_components, seed, out, False)


@overload
def blocked(
    X: Rows, n_components: int, n_nonzeros: int, *, seed: int, out: Tensor | None = None
) -> Tensor: ...
@overload
def blocked(
    X: Arrays, n_components: int, n_nonzeros: int, *, seed: int, out: Array | None = None
) -> Array: ...
def blocked(X: Rows | Arrays, n_components: int, n_nonzeros: int, *, seed: int, out: Any = None) -> Any:
    """Project rows by a sparse map with `n_nonzeros` entries a feature, one in each block of components.

    Arguments, result and errors as `gaussian`, and 1 <= n_nonzeros <= n_components.

    Complexity: n D s signed sums.

    >>> import torch
    >>> blocked(torch.eye(1), 4, 2, seed=0).abs().sort().values.tolist()
    [[0.0, 0.0, 0.7071067690849304, 0.7071067690849304]]
    """
    n, n_features = check_rows(X)
    k, n_nonzeros = _check_components(n_components), integer("n_nonzeros", n_nonzeros)
    if not 1 <= n_nonzeros <= k:
        raise ValueError(f"`n_nonzeros` must lie in [1, n_components = {k}]; got {n_nonzeros}.")
    out = check_result(X, n, k, out)
    scale = 1 / math.sqrt(n_nonzeros)
    key = (check_seed(seed), PURPOSE_BLOCKED, scale)
    if not n or not n_features:
        out[...] = 0
        return out
    twin, rows, target = on_engine("projection", X, out)
    if is_sparse(X):
        twin.blocked_map_of_rows(rows, n_features, n_nonzeros, target, *key)
    else:
        twin.blocked_map(rows, n_nonzeros, target, *key)
    return out


@overload
def independent(
    X: Rows, n_components: int, density: float, *, seed: int, out: Tensor | None = None
) -> Tensor: ...
@overload
def independent(
    X: Arrays, n_components: int, density: float, *, seed: int, out: Array | None = None
) -> Array: ...
def independent(X: Rows | Arrays, n_components: int, density: float, *, seed: int, out: Any = None) -> Any:
    """Project rows by a map whose entries are stored independently, each with probability `density`.

    Arguments, result and errors as `gaussian`, and 2^-31 <= density <= 1. Features without any stored entry, of
    which there are D (1 - density)^k, are lost; `blocked` loses none.

    Complexity: n D k density signed sums, and D k / 4 calls of Philox to make the map.

    >>> import torch
    >>> independent(torch.eye(1), 4, 1.0, seed=0).abs().tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """
    n, n_features = check_rows(X)
    k = _check_components(n_components)
    limit = check_density(density)
    out = check_result(X, n, k, out)
    key = (check_seed(seed), PURPOSE_INDEPENDENT, 1 / math.sqrt(limit * 2.0**-31 * k))
    if not n or not n_features:
        out[...] = 0
        return out
    twin, rows, target = on_engine("projection", X, out)
    if is_sparse(X):
        twin.listed_map_of_rows(rows, n_features, limit, target, *key)
    else:
        twin.listed_map(rows, limit, target, *key)
    return out


def check_density(density: float) -> int:
    """The number of 31-bit words for which an entry is stored.

    Raises:
        ValueError: the density is not in [2^-31, 1].
    """
    if not 2.0**-31 <= density <= 1:
        raise ValueError(f"`density` must lie in [2^-31, 1]; got {density}.")
    return round(density * 2**31)


def check_seed(seed: int) -> int:
    """A seed in [0, 2^63).

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.
    """
    seed = integer("seed", seed)
    if not 0 <= seed < _gaussian.SEEDS:
        raise ValueError(f"`seed` must lie in [0, 2^63); got {seed}.")
    return seed


def _check_components(k: int) -> int:
    k = integer("n_components", k)
    if not 1 <= k < COMPONENTS:
        raise ValueError(f"`n_components` must lie in [1, 2^31); got {k}.")
    return k


def _dense(X: Rows | Arrays, k: int, seed: int, out: Any, is_normal: bool) -> Any:
    n, n_features = check_rows(X)
    k = _check_components(k)
    out = check_result(X, n, k, out)
    purpose = PURPOSE_NORMALS if is_normal else PURPOSE_SIGNS | SIGNS_STREAM
    key = (check_seed(seed), purpose, is_normal, 1 / math.sqrt(k))
    if not n or not n_features:
        out[...] = 0
        return out
    twin, rows, target = on_engine("projection", X, out)
    if is_sparse(X):
        twin.dense_map_of_rows(rows, n_features, target, *key)
    else:
        twin.dense_map(rows, target, *key)
    return out
