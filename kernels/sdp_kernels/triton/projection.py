"""Triton twin of `sdp_kernels.projection`: slabs and launches of the dense maps.

Signs are made inside the product where the chip's table says so (`projection_configs.py`); otherwise, and normals
always, a slab of SLAB features and PANEL components (12.6 MB in three planes, within the second-level cache) is made,
multiplied and forgotten: a normal costs 48 instructions, which a slab spends once for all rows and a tile for its own.

float64 rows are multiplied by torch in `projection_double.py`: kernels hold no double precision.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from sdp_kernels.triton import projection_double
from sdp_kernels.triton.expectation_configs import INTERPRETER, chip
from sdp_kernels.triton.projection_configs import PANEL, SLAB, Operands, Tile, operands, tile
from sdp_kernels.triton.projection_kernels import _dense_map_kernel
from sdp_kernels.triton.projection_rows import rows_times_map
from sdp_kernels.triton.projection_slab import DTYPES, SIGNS, fill_slab
from sdp_kernels.triton.projection_sparse import (
    blocked_map,
    blocked_map_of_rows,
    listed_map,
    listed_map_of_rows,
)

__all__ = [
    "blocked_map",
    "blocked_map_of_rows",
    "dense_map",
    "dense_map_of_rows",
    "listed_map",
    "listed_map_of_rows",
]

PROGRAMS = 1 << 30  # a launch

Rows = tuple[Tensor, Tensor, Tensor]


def dense_map(X: Tensor, out: Tensor, seed: int, purpose: int, is_normal: bool, scale: float) -> None:
    """Writes out (n, k) = scale X A with A of normals or of signs, float32 or float64 by `out`."""
    if out.dtype == torch.float64:
        projection_double.dense_map(X, out, seed, purpose, is_normal, scale)
        return
    where = _chip(X)
    if where == INTERPRETER and X.dtype == torch.bfloat16:
        X = X.float()  # the same numbers; the interpreter's bfloat16 is wrong
        cut = operands(torch.bfloat16, is_normal, where)
    else:
        cut = operands(X.dtype, is_normal, where)
    shape = tile(X.dtype, is_normal, where)
    key = (seed, purpose)
    if shape.source == "planes":
        _by_slabs(X, out, key, is_normal, scale, cut, shape)
        return
    planes = torch.empty((1, 1, 1), dtype=DTYPES[cut.dtype], device=X.device)  # unread
    _multiply(X, planes, out, 0, key, scale, True, cut, shape)


def dense_map_of_rows(
    rows: Rows,
    n_features: int,
    out: Tensor,
    seed: int,
    purpose: int,
    is_normal: bool,
    scale: float,
) -> None:
    """As `dense_map` for sparse rows (indptr, indices, values)."""
    if out.dtype == torch.float64:
        projection_double.dense_map_of_rows(rows, out, seed, purpose, is_normal, scale)
    else:
        rows_times_map(rows, n_features, out, (seed, purpose), is_normal, scale)


def _by_slabs(
    X: Tensor, out: Tensor, key: tuple[int, int], is_normal: bool, scale: float, cut: Operands, shape: Tile
) -> None:
    """Panel by panel of components and slab by slab of features; `out` holds the sums between."""
    n_features, k = X.shape[1], out.shape[1]
    deep = min(SLAB, _whole(n_features, max(shape.chunk, shape.features)))
    wide = min(PANEL, _whole(k, shape.columns))
    planes = torch.empty((cut.planes, deep, wide), dtype=DTYPES[cut.dtype], device=X.device)
    for start in range(0, k, PANEL):
        target = out[:, start : start + PANEL]
        for first in range(0, n_features, SLAB):
            fill_slab(planes, first, start, key, is_normal)
            end = min(first + SLAB, n_features)
            factor = scale if end == n_features else 1.0
            _multiply(X[:, first:end], planes, target, start, key, factor, first == 0, cut, shape)


def _multiply(
    X: Tensor, planes: Tensor, out: Tensor, first_component: int, key: tuple[int, int], scale: float, is_first: bool,
    cut: Operands, shape: Tile,
) -> None:  # fmt: skip
    """One launch; rows in pieces only where a grid would pass PROGRAMS."""
    k = out.shape[1]
    column_tiles = triton.cdiv(k, shape.columns)
    piece = PROGRAMS // column_tiles * shape.rows
    reach = (shape.rows - 1) * max(X.stride(0), out.stride(0)) + (shape.features - 1) * X.stride(1)
    for start in range(0, X.shape[0], piece):
        part, target = X[start : start + piece], out[start : start + piece]
        _dense_map_kernel[(triton.cdiv(part.shape[0], shape.rows) * column_tiles,)](
            part, *part.stride(), planes, planes.stride(0), planes.stride(1), target, target.stride(0),
            *part.shape, k, 0, first_component // SIGNS, *key, scale,
            SOURCE=shape.source, PARTS=cut.parts, PLANES=cut.planes, OPERAND=cut.dtype,
            BM=shape.rows, BN=shape.columns, BK=shape.features, CHUNK=shape.chunk,
            IS_FIRST=is_first, WIDE=reach >= 2**31,
            num_warps=shape.warps, num_stages=shape.stages, **shape.options,
        )  # fmt: skip


def _whole(size: int, step: int) -> int:
    return -(-size // step) * step


def _chip(X: Tensor) -> str:
    return INTERPRETER if triton.knobs.runtime.interpret else chip(X.device)
