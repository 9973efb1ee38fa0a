"""Sparse rows times a dense random map: a program a row and tile of components, the map made entry by entry.

    out[i, c] = scale sum_e values[e] A[indices[e], c],    e from indptr[i] to indptr[i + 1]

ENTRIES sums a component side by side (entry e goes to sum e % ENTRIES), each in the order of the entries, and then
those sums together: part of the result's order, so that a row's bits depend on the row, the map and the chip alone.
Nothing is stored; rows of the map that other rows share are made again.

Model: a call of Philox (90 instructions) a 128 signs and 4 instructions a sign, or 48 instructions a normal, times
stored entries times k; entries themselves are 8 to 16 bytes, read once a tile of components from the caches. A row is
one program's, however long: 10^6 entries take about 10^5 steps of a loop.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._philox import interleave4, normals4
from sdp_kernels.triton.projection_kernels import signs_of
from sdp_kernels.triton.projection_slab import SIGNS

ENTRIES = {"signs": 16, "normals": 8}
COLUMNS = {"signs": 512, "normals": 128}  # at most; 64 or 256 calls of Philox a step
# Few, large steps: a device function of the interpreter costs 1 ms a call.
ENTRIES_INTERPRETED, COLUMNS_INTERPRETED = 1024, 512
WARPS = 4


@triton.jit(do_not_specialize=("seed", "purpose"))
def _rows_kernel(
    indptr_ptr, indices_ptr, values_ptr,  # integers (n + 1,), integers (nnz,), float32 (nnz,)
    out_ptr, stride_out_row,  # float32 (n, k), unit stride
    k, column_tiles, seed, purpose, scale,
    SIGN: tl.constexpr, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // column_tiles).to(tl.int64)
    tile = tl.program_id(0) % column_tiles
    begin, end = tl.load(indptr_ptr + row).to(tl.int64), tl.load(indptr_ptr + row + 1).to(tl.int64)
    CALLS: tl.constexpr = COLUMNS // (128 if SIGN else 4)
    calls = tile * CALLS + tl.arange(0, CALLS)[None, :]
    acc = tl.zeros((ENTRIES, COLUMNS), tl.float32)
    for start in range(begin, end, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        feature = tl.load(indices_ptr + entry, mask=entry < end, other=0)[:, None]
        value = tl.load(values_ptr + entry, mask=entry < end, other=0.0)[:, None]
        if SIGN:
            a = signs_of(feature, calls, purpose, seed, ENTRIES, COLUMNS, "fp32")
        else:
            n0, n1, n2, n3 = normals4(feature, calls, purpose, seed)
            a = interleave4(n0, n1, n2, n3, ENTRIES, COLUMNS)
        acc += value * a
    columns = tile * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(out_ptr + row * stride_out_row + columns, tl.sum(acc, 0) * scale, mask=columns < k)


def rows_times_map(
    rows: tuple[Tensor, Tensor, Tensor], out: Tensor, seed: int, purpose: int, is_normal: bool, scale: float
) -> None:
    """Writes out (n, k) = scale (sparse rows) A, float32."""
    n, k = out.shape
    kind = "normals" if is_normal else "signs"
    is_interpreted = triton.knobs.runtime.interpret
    limit = COLUMNS_INTERPRETED if is_interpreted else COLUMNS[kind]
    columns = min(limit, max(SIGNS, triton.next_power_of_2(k)))
    column_tiles = triton.cdiv(k, columns)
    _rows_kernel[(n * column_tiles,)](
        *rows, out, out.stride(0), k, column_tiles, seed, purpose, scale,
        SIGN=not is_normal, ENTRIES=ENTRIES_INTERPRETED if is_interpreted else ENTRIES[kind],
        COLUMNS=columns, num_warps=WARPS,
    )  # fmt: skip
