"""What reads the rows of V: second moments on vertices and edges, and the Hessian's product with a matrix.

An item of the row plan is a row of a tile ITEMS x COLUMNS; its entries are taken one after another, GROUP of them in
flight, and each gathers the row of the other vertex: 4 r bytes an entry, which bound both kernels. `_moments_kernel`
writes 8 bytes an entry beside, `_product_kernel` reads 8.

Complements 1 - r^2 come from differences and sums of *directions* u = v / |v|, never from r: with noise share
nu_i = beta^-2 / s_i^2 and sin^2, cos of the angle between v_i and v_j,

    1 - r^2 = nu_i + nu_j (1 - nu_i) + (1 - nu_i) (1 - nu_j) sin^2,
    sin^2 = |u_i - u_j|^2 |u_i + u_j|^2 / 4,    cos = (|u_i + u_j|^2 - |u_i - u_j|^2) / 4,

all terms positive: the relative error is a few units of float32 over beta^-1 or the angle, whichever is larger, where
1 - r * r would leave it over their square.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._rows import GROUP, load_items

VERTEX = 4  # numbers of a vertex that an entry gathers, padded to 16 bytes: 1 / |v|, |v|, nu

_GROUP = tl.constexpr(GROUP)
_VERTEX = tl.constexpr(VERTEX)


@triton.jit
def _lengths_kernel(
    V_ptr, stride_row,   # float32 (n, rank), unit stride in a row
    variances_ptr,       # float32 (n,): s_i^2
    vertices_ptr,        # float32 (n, 4): 1 / |v_i|, |v_i| and nu_i; the fourth is not written
    n, rank, noise,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """What the entries of `_moments_kernel` gather of a vertex; a zero row has the direction 0."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask = rows < n
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, rank, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        inside = mask[:, None] & (columns < rank)[None, :]
        v = tl.load(V_ptr + rows[:, None] * stride_row + columns[None, :], mask=inside, other=0.0)
        acc = tl.fma(v, v, acc)
    square = tl.sum(acc, axis=1)
    length = tl.sqrt_rn(square)
    variance = square + noise
    inverse = tl.where(square > 0.0, 1.0 / tl.where(square > 0.0, length, 1.0), 0.0)
    share = noise / tl.where(variance > 0.0, variance, 1.0)
    tl.store(variances_ptr + rows, variance, mask=mask)
    vertices_ptr += rows * _VERTEX
    tl.store(vertices_ptr, inverse, mask=mask)
    tl.store(vertices_ptr + 1, length, mask=mask)
    tl.store(vertices_ptr + 2, share, mask=mask)


@triton.jit
def _moments_kernel(
    starts_ptr, counts_ptr, targets_ptr, slot_rows_ptr,  # the row plan; int32 (n_slots,), the row of each slot
    indices_ptr,                          # int32 (2m,)
    V_ptr, stride_row,                    # float32 (n, rank), unit stride in a row
    vertices_ptr,                         # float32 (n, 4), from `_lengths_kernel`
    covariances_ptr, complements_ptr,     # float32 (2m,)
    n_items, rank,
    ITEMS: tl.constexpr, COLUMNS: tl.constexpr, ONE_BLOCK: tl.constexpr,
):  # fmt: skip
    """c_ij = v_i . v_j and 1 - r_ij^2 of every entry; ONE_BLOCK says that rank <= COLUMNS."""
    first = tl.program_id(0).to(tl.int64) * ITEMS
    starts, counts, targets, mask, passes = load_items(
        starts_ptr, counts_ptr, targets_ptr, first, n_items, ITEMS
    )
    slots = -1 - targets
    rows = tl.load(slot_rows_ptr + slots, mask=mask & (slots >= 0), other=0)
    rows = tl.where(targets >= 0, targets, rows).to(tl.int64)
    inverse_i = tl.load(vertices_ptr + rows * _VERTEX, mask=mask, other=0.0)
    length_i = tl.load(vertices_ptr + rows * _VERTEX + 1, mask=mask, other=0.0)
    share_i = tl.load(vertices_ptr + rows * _VERTEX + 2, mask=mask, other=0.0)
    columns = tl.arange(0, COLUMNS)
    own = V_ptr + rows[:, None] * stride_row + columns[None, :]
    inside = (columns < rank)[None, :]
    u_i = tl.load(own, mask=mask[:, None] & inside, other=0.0) * inverse_i[:, None]
    for p in range(passes):
        for g in tl.static_range(_GROUP):
            place = p * _GROUP + g
            live = place < counts
            j = tl.load(indices_ptr + starts + place, mask=live, other=0).to(tl.int64)
            vertex = vertices_ptr + j * _VERTEX
            inverse_j = tl.load(vertex, mask=live, other=0.0)
            length_j = tl.load(vertex + 1, mask=live, other=0.0)
            share_j = tl.load(vertex + 2, mask=live, other=0.0)
            other = V_ptr + j[:, None] * stride_row + columns[None, :]
            v_j = tl.load(other, mask=live[:, None] & inside, other=0.0)
            apart = tl.fma(v_j, -inverse_j[:, None], u_i)
            along = tl.fma(v_j, inverse_j[:, None], u_i)
            differences, sums = apart * apart, along * along
            if not ONE_BLOCK:
                for block in range(COLUMNS, rank, COLUMNS):
                    both = live[:, None] & (block + columns < rank)[None, :]
                    u = tl.load(own + block, mask=both, other=0.0) * inverse_i[:, None]
                    v_j = tl.load(other + block, mask=both, other=0.0)
                    apart = tl.fma(v_j, -inverse_j[:, None], u)
                    along = tl.fma(v_j, inverse_j[:, None], u)
                    differences = tl.fma(apart, apart, differences)
                    sums = tl.fma(along, along, sums)
            difference, total = tl.sum(differences, axis=1), tl.sum(sums, axis=1)
            covariance = 0.25 * (length_i * length_j) * (total - difference)
            # Rounding makes |u_i - u_j|^2 |u_i + u_j|^2 exceed 4 by an ulp.
            sine_square = tl.minimum(0.25 * difference * total, 1.0, propagate_nan=tl.PropagateNan.ALL)
            noise = tl.fma(share_j, 1.0 - share_i, share_i)
            complement = tl.fma((1.0 - share_i) * (1.0 - share_j), sine_square, noise)
            tl.store(covariances_ptr + starts + place, covariance, mask=live)
            tl.store(complements_ptr + starts + place, complement, mask=live)


@triton.jit
def _product_kernel(
    starts_ptr, counts_ptr, targets_ptr,  # the row plan
    indices_ptr, entries_ptr, diagonal_ptr,  # int32, float32 (2m,), float32 (n,)
    X_ptr, stride_X,              # float32 (n, n_columns), unit stride in a row
    product_ptr, stride_product,  # float32 (n, n_columns), unit stride in a row
    sums_ptr,                     # float32 (n_slots, n_columns), contiguous
    n_items, n_columns,
    ITEMS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """product_i = diagonal_i x_i + sum_j entry_ij x_j, the entries one after another; parts of heavy rows to `sums`."""
    first = tl.program_id(0).to(tl.int64) * ITEMS
    starts, counts, targets, mask, passes = load_items(
        starts_ptr, counts_ptr, targets_ptr, first, n_items, ITEMS
    )
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (columns < n_columns)[None, :]
    acc = tl.zeros((ITEMS, COLUMNS), tl.float32)
    for p in range(passes):
        for g in tl.static_range(_GROUP):
            place = p * _GROUP + g
            live = place < counts
            j = tl.load(indices_ptr + starts + place, mask=live, other=0).to(tl.int64)
            entry = tl.load(entries_ptr + starts + place, mask=live, other=0.0)
            other = X_ptr + j[:, None] * stride_X + columns[None, :]
            x = tl.load(other, mask=live[:, None] & inside, other=0.0)
            acc = tl.fma(entry[:, None], x, acc)
    is_row = mask & (targets >= 0)
    rows = tl.where(is_row, targets, 0).to(tl.int64)
    diagonal = tl.load(diagonal_ptr + rows, mask=is_row, other=0.0)
    own = is_row[:, None] & inside
    x = tl.load(X_ptr + rows[:, None] * stride_X + columns[None, :], mask=own, other=0.0)
    out = product_ptr + rows[:, None] * stride_product + columns[None, :]
    tl.store(out, tl.fma(diagonal[:, None], x, acc), mask=own)
    slots = (-1 - targets).to(tl.int64)
    part = (mask & (targets < 0))[:, None] & inside
    tl.store(sums_ptr + slots[:, None] * n_columns + columns[None, :], acc, mask=part)


@triton.jit
def _product_heavy_kernel(
    heavy_rows_ptr, heavy_slots_ptr,  # int32 (n_heavy,), int64 (n_heavy + 1,)
    diagonal_ptr, X_ptr, stride_X, product_ptr, stride_product, sums_ptr,  # as in `_product_kernel`
    n_heavy, n_columns,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds the parts of heavy rows, each row's in order, and their diagonal's share."""
    heavy = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = heavy < n_heavy
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (columns < n_columns)[None, :]
    rows = tl.load(heavy_rows_ptr + heavy, mask=mask, other=0).to(tl.int64)
    begin = tl.load(heavy_slots_ptr + heavy, mask=mask, other=0)
    counts = tl.load(heavy_slots_ptr + heavy + 1, mask=mask, other=0) - begin
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    for s in range(tl.max(counts, axis=0)):
        place = sums_ptr + (begin + s)[:, None] * n_columns + columns[None, :]
        acc += tl.load(place, mask=(s < counts)[:, None] & inside, other=0.0)
    diagonal = tl.load(diagonal_ptr + rows, mask=mask, other=0.0)
    own = mask[:, None] & inside
    x = tl.load(X_ptr + rows[:, None] * stride_X + columns[None, :], mask=own, other=0.0)
    out = product_ptr + rows[:, None] * stride_product + columns[None, :]
    tl.store(out, tl.fma(diagonal[:, None], x, acc), mask=own)
