"""Device functions of products with a graph's adjacency matrix: a tile of items of the row plan, columns in lanes.

    sums[t] = sum over the entries e of item t, one after another, of weight_e X[index_e]

Lanes are items x columns; an item's entries follow one another, so no bit depends on the tile. X is row-major and
contiguous with R columns, R known at compile time: where R is a multiple of 16 bytes each lane loads 16 bytes. Indices
and weights are loaded by every lane of an item (one address, one transaction); a tile has fewer items than threads,
or else the compiler loads them once and passes them on through shared memory, behind a barrier at each entry.

An entry costs 8 bytes (12 in float64) and a gathered row of R numbers. Source: `_rows.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._rows import GROUP

_GROUP = tl.constexpr(GROUP)
_SIGN = tl.constexpr(-0x80000000)
_EXPONENT = tl.constexpr(0x7F800000)  # bits of a float32's exponent
_SMALLEST, _LARGEST, _TURNED = tl.constexpr(0x00800000), tl.constexpr(0x7E800000), tl.constexpr(0x7F000000)


@triton.jit
def load_rows(X_ptr, rows, mask, columns, R: tl.constexpr, COLUMNS: tl.constexpr):
    """X[rows, columns] in its own type, (rows, COLUMNS), 0 where the mask (rows,) is off or columns end."""
    place = X_ptr + rows.to(tl.int64)[:, None] * R + columns[None, :]
    if R % COLUMNS == 0:
        return tl.load(place, mask=mask[:, None], other=0)
    return tl.load(place, mask=mask[:, None] & (columns < R)[None, :], other=0)


@triton.jit
def store_rows(X_ptr, values, rows, mask, columns, R: tl.constexpr, COLUMNS: tl.constexpr):
    """The reverse of `load_rows`."""
    place = X_ptr + rows.to(tl.int64)[:, None] * R + columns[None, :]
    if R % COLUMNS == 0:
        tl.store(place, values, mask=mask[:, None])
    else:
        tl.store(place, values, mask=mask[:, None] & (columns < R)[None, :])


@triton.jit
def _add(sums, weights, x):
    """Sums (ITEMS, COLUMNS) plus weights (ITEMS,) times x (ITEMS, COLUMNS), rounded once."""
    weights = tl.broadcast_to(weights[:, None], sums.shape)
    if x.dtype == tl.int8:  # +-1: conversion runs at an eighth of the rate of giving its sign to the weight
        signed = weights.to(tl.int32, bitcast=True) ^ (x.to(tl.int32) & _SIGN)
        return sums + signed.to(tl.float32, bitcast=True)
    else:
        return tl.fma(weights, x.to(sums.dtype), sums)


@triton.jit
def item_sums(
    X_ptr, indices_ptr, weights_ptr,  # (n, R), int32 (nnz,), weights in the type of the sum
    starts, counts, passes, columns, R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums (ITEMS, COLUMNS), in the type of the weights, of a tile from `load_items`. An int8 X holds signs, +-1."""
    sums = tl.zeros((ITEMS, COLUMNS), weights_ptr.dtype.element_ty)
    indices_ptr += starts
    weights_ptr += starts
    for _ in range(passes):
        # All gathers of a pass stand before the first sum: written one by one, ptxas waits for each in turn.
        gathered = ()
        for member in tl.static_range(_GROUP):
            is_entry = member < counts
            index = tl.load(indices_ptr + member, mask=is_entry, other=0)
            weight = tl.load(weights_ptr + member, mask=is_entry, other=0)
            gathered += ((weight, load_rows(X_ptr, index, is_entry, columns, R, COLUMNS)),)  # type: ignore[assignment]
        for member in tl.static_range(_GROUP):
            sums = _add(sums, gathered[member][0], gathered[member][1])
        counts -= _GROUP
        indices_ptr += _GROUP
        weights_ptr += _GROUP
    return sums


@triton.jit
def slot_sums(
    scratch_ptr, heavy_rows_ptr, heavy_slots_ptr, heavy, columns, R: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Sums (1, COLUMNS) of one heavy row from its parts, its number int32 (1,), and a mask that is on.

    One row a program: how often its loop runs is a scalar, so that no warp diverges.
    """
    begin = tl.load(heavy_slots_ptr + heavy)
    count = (tl.load(heavy_slots_ptr + heavy + 1) - begin).to(tl.int32)
    sums = tl.zeros((1, COLUMNS), scratch_ptr.dtype.element_ty)
    slots = begin + tl.arange(0, 1)
    for _ in range(tl.cdiv(count, _GROUP)):
        gathered = ()
        for member in tl.static_range(_GROUP):
            is_part = tl.arange(0, 1) + member < count
            gathered += (load_rows(scratch_ptr, slots + member, is_part, columns, R, COLUMNS),)  # type: ignore[assignment]
        for member in tl.static_range(_GROUP):
            sums += gathered[member]
        count -= _GROUP
        slots += _GROUP
    place = heavy + tl.arange(0, 1)
    return sums, tl.load(heavy_rows_ptr + place), place >= 0


@triton.jit
def scaled(g):
    """float32 g (rows, C) times a power of two that brings its largest number to [1, 2), and that power's inverse.

    Squares of what comes out neither vanish nor overflow. Rows of zeros stay; the inverse is for rows that do not.
    """
    largest = tl.max(tl.abs(g), axis=1)
    exponent = largest.to(tl.int32, bitcast=True) & _EXPONENT
    exponent = tl.minimum(tl.maximum(exponent, _SMALLEST), _LARGEST)
    up = (-exponent + _TURNED).to(tl.float32, bitcast=True)
    return g * up[:, None], exponent.to(tl.float32, bitcast=True), largest > 0
