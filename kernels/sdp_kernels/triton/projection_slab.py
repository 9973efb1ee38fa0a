"""Slabs of the dense random maps in memory, cut into parts for the tensor cores (`projection_kernels.py`).

Nothing is read but, of listed features, their numbers. A normal costs 45 instructions and a sign about 10, beside 2
bytes written a plane (4 in one plane of float32).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._philox import interleave4, normals4
from sdp_kernels.triton.projection_kernels import signs_of, three_parts

SIGNS = 128  # of a call of Philox
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ROWS, COLUMNS, WARPS = 32, 128, 4  # of a program
ROWS_INTERPRETED = 512
_SIGNS = tl.constexpr(SIGNS)


@triton.jit(do_not_specialize=("first_feature", "first_call", "seed", "purpose"))
def _slab_kernel(
    planes_ptr, stride_plane, stride_row,  # (PLANES, features, width), unit stride, width in whole tiles
    features_ptr,  # int32 or int64 (n_features,) where LISTED
    n_features, first_feature, first_call, column_tiles, seed, purpose,
    SIGN: tl.constexpr, PLANES: tl.constexpr, OPERAND: tl.constexpr, LISTED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A slab of the map, cut into PLANES: the features from first_feature on, or those listed."""
    row = (tl.program_id(0) // column_tiles).to(tl.int64) * ROWS
    tile = tl.program_id(0) % column_tiles
    offs = row + tl.arange(0, ROWS)
    if LISTED:
        features = tl.load(features_ptr + offs, mask=offs < n_features, other=0)[:, None]
    else:
        features = first_feature + offs[:, None]
    if SIGN:
        calls = first_call + tile * (COLUMNS // _SIGNS) + tl.arange(0, COLUMNS // _SIGNS)[None, :]
        a = signs_of(features, calls, purpose, seed, ROWS, COLUMNS, OPERAND)
    else:
        calls = first_call + tile * (COLUMNS // 4) + tl.arange(0, COLUMNS // 4)[None, :]
        n0, n1, n2, n3 = normals4(features, calls, purpose, seed)
        a = interleave4(n0, n1, n2, n3, ROWS, COLUMNS)
    place = planes_ptr + offs[:, None] * stride_row + tile * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    mask = (offs < n_features)[:, None]
    if PLANES == 1:
        tl.store(place, a, mask=mask)
    elif PLANES == 2:
        a1 = a.to(tl.float16)
        tl.store(place, a1, mask=mask)
        tl.store(place + stride_plane, (a - a1.to(tl.float32)).to(tl.float16), mask=mask)
    else:
        a1, a2, a3 = three_parts(a, OPERAND)
        tl.store(place, a1, mask=mask)
        tl.store(place + stride_plane, a2, mask=mask)
        tl.store(place + 2 * stride_plane, a3, mask=mask)


def fill_slab(
    planes: Tensor, first: int | Tensor, first_component: int, key: tuple[int, int], is_normal: bool
) -> None:
    """Entries of the map, cut into planes (PLANES, n_features, width).

    Args:
        planes: float16 (2 planes or 1), bfloat16 (3 or 1) or float32 (3 or 1); width a multiple of 128.
        first: first feature, or the features (n_features,) themselves, int32 or int64.
        first_component: a multiple of 128.
        key: seed and purpose.
        is_normal: normals, or signs.
    """
    n_planes, n_features, width = planes.shape
    rows = ROWS_INTERPRETED if triton.knobs.runtime.interpret else ROWS
    column_tiles = width // COLUMNS
    is_listed = isinstance(first, Tensor)
    _slab_kernel[(triton.cdiv(n_features, rows) * column_tiles,)](
        planes, planes.stride(0), planes.stride(1), first if is_listed else planes,
        n_features, 0 if is_listed else first, first_component // (4 if is_normal else SIGNS), column_tiles, *key,
        SIGN=not is_normal, PLANES=n_planes, OPERAND=NAMES[planes.dtype], LISTED=is_listed,
        ROWS=rows, COLUMNS=COLUMNS, num_warps=WARPS,
    )  # fmt: skip
