"""Sparse rows times a dense random map: a program a row and tile of components, entry by entry.

    out[i, c] = scale sum_e values[e] A[indices[e], c],    e from indptr[i] to indptr[i + 1]

Rows of the map are made for each entry, or, of normals with at most FEATURES features, read from a panel of components
that is made before and small enough for the second-level cache. Which of both, and ENTRIES, are part of the order of
summation: ENTRIES sums a component side by side (entry e goes to sum e % ENTRIES), each in the order of the entries,
and then those sums together. So a row's bits depend on the row, the map and the chip alone.

Model, times stored entries times k: a call of Philox (90 instructions) a 128 signs and 5 instructions a sign; 45
instructions a normal made; 4 bytes of the second-level cache a normal read, and 45 instructions a normal of the map
once. Entries themselves are 8 to 16 bytes, read once a tile of components. A row is one program's, however long: 10^6
entries take about 10^5 steps of a loop.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._philox import interleave4, normals4
from sdp_kernels.triton.projection_kernels import signs_of
from sdp_kernels.triton.projection_slab import COLUMNS as SLAB_COLUMNS
from sdp_kernels.triton.projection_slab import fill_slab

ENTRIES = {"signs": 16, "normals": 8, "panel": 8}
COLUMNS = {"signs": 512, "normals": 128, "panel": 256}  # at most; 64 or 256 calls of Philox a step
FEATURES = 1 << 16  # at most, for a panel
PANEL_BYTES = 1 << 25  # SLAB_COLUMNS components of FEATURES
# Few, large steps: a device function of the interpreter costs 1 ms a call.
ENTRIES_INTERPRETED, COLUMNS_INTERPRETED = 1024, 512
WARPS = 4

Rows = tuple[Tensor, Tensor, Tensor]


@triton.jit(do_not_specialize=("seed", "purpose"))
def _rows_kernel(
    indptr_ptr, indices_ptr, values_ptr,  # integers (n + 1,), integers (nnz,), float32 (nnz,)
    panel_ptr, stride_panel_row,  # float32 (n_features, k up to COLUMNS), unit stride, where SOURCE is "panel"
    out_ptr, stride_out_row,  # float32 (n, k), unit stride
    k, column_tiles, seed, purpose, scale,
    SOURCE: tl.constexpr, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A row's sums over one tile of components. SOURCE: "signs" or "normals" makes the map, "panel" reads it."""
    row = (tl.program_id(0) // column_tiles).to(tl.int64)
    tile = tl.program_id(0) % column_tiles
    begin, end = tl.load(indptr_ptr + row).to(tl.int64), tl.load(indptr_ptr + row + 1).to(tl.int64)
    CALLS: tl.constexpr = COLUMNS // (128 if SOURCE == "signs" else 4)
    calls = tile * CALLS + tl.arange(0, CALLS)[None, :]
    columns = tile * COLUMNS + tl.arange(0, COLUMNS)
    acc = tl.zeros((ENTRIES, COLUMNS), tl.float32)
    for start in range(begin, end, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        feature = tl.load(indices_ptr + entry, mask=entry < end, other=0)[:, None]
        value = tl.load(values_ptr + entry, mask=entry < end, other=0.0)[:, None]
        if SOURCE == "signs":
            a = signs_of(feature, calls, purpose, seed, ENTRIES, COLUMNS, "fp32")
        elif SOURCE == "normals":
            n0, n1, n2, n3 = normals4(feature, calls, purpose, seed)
            a = interleave4(n0, n1, n2, n3, ENTRIES, COLUMNS)
        else:
            a = tl.load(panel_ptr + feature.to(tl.int64) * stride_panel_row + columns[None, :])
        acc += value * a
    tl.store(out_ptr + row * stride_out_row + columns, tl.sum(acc, 0) * scale, mask=columns < k)


def rows_times_map(
    rows: Rows, n_features: int, out: Tensor, key: tuple[int, int], is_normal: bool, scale: float
) -> None:
    """Writes out (n, k) = scale (sparse rows) A, float32; key: seed and purpose."""
    if not is_normal or n_features > FEATURES:
        _multiply("normals" if is_normal else "signs", rows, out.new_empty((1, 1)), out, key, scale)
        return
    k = out.shape[1]
    step = max(SLAB_COLUMNS, PANEL_BYTES // (4 * n_features) // COLUMNS["panel"] * COLUMNS["panel"])
    wide = min(step, -(-k // COLUMNS["panel"]) * COLUMNS["panel"])
    panel = torch.empty((1, n_features, wide), dtype=torch.float32, device=out.device)
    for start in range(0, k, wide):
        fill_slab(panel, 0, start, key, is_normal)
        _multiply("panel", rows, panel[0], out[:, start : start + wide], key, scale)


def _multiply(
    source: str, rows: Rows, panel: Tensor, out: Tensor, key: tuple[int, int], scale: float
) -> None:
    n, k = out.shape
    is_interpreted = triton.knobs.runtime.interpret
    limit = COLUMNS_INTERPRETED if is_interpreted else COLUMNS[source]
    if source == "panel":  # whole tiles of it are read
        limit = min(limit, COLUMNS[source] if panel.shape[1] % COLUMNS[source] == 0 else SLAB_COLUMNS)
    columns = min(limit, max(SLAB_COLUMNS, triton.next_power_of_2(k)))
    column_tiles = triton.cdiv(k, columns)
    _rows_kernel[(n * column_tiles,)](
        *rows, panel, panel.stride(0), out, out.stride(0), k, column_tiles, *key, scale,
        SOURCE=source, ENTRIES=ENTRIES_INTERPRETED if is_interpreted else ENTRIES[source],
        COLUMNS=columns, num_warps=WARPS,
    )  # fmt: skip
