"""What reads the rows of V: second moments on vertices and edges, and the Hessian's product with a matrix.

An item of the row plan is a row of a tile ITEMS x COLUMNS; its entries are taken one after another, GROUP of them in
flight, and each gathers the row of the other vertex: 4 r bytes an entry, which bound both kernels. `_moments_kernel`
writes 8 bytes an entry beside, `_product_kernel` reads 8. r is a constant of the kernels, so that whole rows of a
multiple of 4 are loaded 16 bytes at a time.

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

from sdp_kernels.triton._math import inverse_root, reciprocal
from sdp_kernels.triton._rows import GROUP, load_items
from sdp_kernels.triton._sparse import item_sums, load_rows, slot_sums, store_rows

VERTEX = 4  # numbers of a vertex that an entry gathers, padded to 16 bytes: 1 / |v|, |v|, nu

_GROUP = tl.constexpr(GROUP)
_VERTEX = tl.constexpr(VERTEX)


@triton.jit
def _lengths_kernel(
    V_ptr,               # float32 (n, R), contiguous
    variances_ptr,       # float32 (n,): s_i^2
    vertices_ptr,        # float32 (n, 4): 1 / |v_i|, |v_i| and nu_i; the fourth is not written
    n, noise,
    R: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """What the entries of `_moments_kernel` gather of a vertex; a zero row has the direction 0."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask = rows < n
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    for block in tl.static_range(0, R, COLUMNS):
        v = load_rows(V_ptr, rows, mask, block + tl.arange(0, COLUMNS), R, COLUMNS)
        acc = tl.fma(v, v, acc)
    square = tl.sum(acc, axis=1)
    variance = square + noise
    inverse = tl.where(square > 0.0, inverse_root(tl.where(square > 0.0, square, 1.0)), 0.0)
    length = square * inverse
    share = noise * reciprocal(tl.where(variance > 0.0, variance, 1.0))
    tl.store(variances_ptr + rows, variance, mask=mask)
    vertices_ptr += rows * _VERTEX
    tl.store(vertices_ptr, inverse, mask=mask)
    tl.store(vertices_ptr + 1, length, mask=mask)
    tl.store(vertices_ptr + 2, share, mask=mask)


@triton.jit
def _moments_kernel(
    starts_ptr, counts_ptr, targets_ptr, slot_rows_ptr,  # the row plan; int32 (n_slots,), the row of each slot
    indices_ptr,                          # int32 (2m,)
    V_ptr,                                # float32 (n, R), contiguous
    vertices_ptr,                         # float32 (n, 4), from `_lengths_kernel`
    covariances_ptr, complements_ptr,     # float32 (2m,)
    n_items,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """c_ij = v_i . v_j and 1 - r_ij^2 of every entry."""
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
    u_i = load_rows(V_ptr, rows, mask, columns, R, COLUMNS) * inverse_i[:, None]
    indices_ptr += starts
    covariances_ptr += starts
    complements_ptr += starts
    for _ in range(passes):
        # All gathers of a pass stand before the first sum, as in `item_sums`.
        gathered = ()
        for member in tl.static_range(_GROUP):
            is_entry = member < counts
            j = tl.load(indices_ptr + member, mask=is_entry, other=0).to(tl.int64)
            vertex = vertices_ptr + j * _VERTEX
            inverse_j = tl.load(vertex, mask=is_entry, other=0.0)
            length_j = tl.load(vertex + 1, mask=is_entry, other=0.0)
            share_j = tl.load(vertex + 2, mask=is_entry, other=0.0)
            v_j = load_rows(V_ptr, j, is_entry, columns, R, COLUMNS)
            gathered += ((j, inverse_j, length_j, share_j, v_j),)  # type: ignore[assignment]
        for member in tl.static_range(_GROUP):
            is_entry = member < counts
            j, inverse_j, length_j, share_j, v_j = gathered[member]
            apart = tl.fma(v_j, -inverse_j[:, None], u_i)
            along = tl.fma(v_j, inverse_j[:, None], u_i)
            differences, totals = apart * apart, along * along
            for block in range(COLUMNS, R, COLUMNS):
                u = load_rows(V_ptr, rows, mask, block + columns, R, COLUMNS) * inverse_i[:, None]
                v_j = load_rows(V_ptr, j, is_entry, block + columns, R, COLUMNS)
                apart = tl.fma(v_j, -inverse_j[:, None], u)
                along = tl.fma(v_j, inverse_j[:, None], u)
                differences = tl.fma(apart, apart, differences)
                totals = tl.fma(along, along, totals)
            difference, total = tl.sum(differences, axis=1), tl.sum(totals, axis=1)
            covariance = 0.25 * (length_i * length_j) * (total - difference)
            # Rounding makes |u_i - u_j|^2 |u_i + u_j|^2 exceed 4 by an ulp.
            sine_square = tl.minimum(0.25 * difference * total, 1.0, propagate_nan=tl.PropagateNan.ALL)
            noise = tl.fma(share_j, 1.0 - share_i, share_i)
            complement = tl.fma((1.0 - share_i) * (1.0 - share_j), sine_square, noise)
            tl.store(covariances_ptr + member, covariance, mask=is_entry)
            tl.store(complements_ptr + member, complement, mask=is_entry)
        counts -= _GROUP
        indices_ptr += _GROUP
        covariances_ptr += _GROUP
        complements_ptr += _GROUP


@triton.jit
def _product_kernel(
    starts_ptr, counts_ptr, targets_ptr,  # the row plan; with HEAVY its heavy slots, -, and heavy rows
    indices_ptr, entries_ptr, diagonal_ptr,  # int32, float32 (2m,), float32 (n,)
    X_ptr, product_ptr,                   # float32 (n, R), contiguous
    sums_ptr,                             # float32 (n_slots, R), contiguous
    n_items,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, HEAVY: tl.constexpr,
):  # fmt: skip
    """product_i = diagonal_i x_i + sum_j entry_ij x_j, the entries one after another.

    Parts of heavy rows go to `sums`; a launch with HEAVY adds them up and finishes those rows.
    """
    first = tl.program_id(0).to(tl.int64) * ITEMS
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    if HEAVY:  # an item is a row, and a program's only one
        sums, rows, mask = slot_sums(sums_ptr, targets_ptr, starts_ptr, first, columns, R, COLUMNS)
    else:
        starts, counts, rows, mask, passes = load_items(
            starts_ptr, counts_ptr, targets_ptr, first, n_items, ITEMS
        )
        sums = item_sums(X_ptr, indices_ptr, entries_ptr, starts, counts, passes, columns, R, ITEMS, COLUMNS)
        store_rows(sums_ptr, sums, -1 - rows, mask & (rows < 0), columns, R, COLUMNS)
        mask = mask & (rows >= 0)
    diagonal = tl.load(diagonal_ptr + rows, mask=mask, other=0.0)
    x = load_rows(X_ptr, rows, mask, columns, R, COLUMNS)
    sums = tl.fma(tl.broadcast_to(diagonal[:, None], (ITEMS, COLUMNS)), x, sums)
    store_rows(product_ptr, sums, rows, mask, columns, R, COLUMNS)
