"""Triton twin of `sdp_kernels.gaussian`: words, normals and signs written to memory.

A program makes a tile of (ROWS, COLUMNS) numbers, row-major tiles of the matrix one program each. Nothing is read;
4 bytes a word or normal and 1 byte a sign are written. A tile starts at a whole call of Philox, so with a column
offset that is no multiple of 4 (128 for signs) its first columns lie before the matrix and are masked.

ALIGNED says that no call is cut: the matrix begins with one, and its columns and row stride are multiples of a
16-byte store's. Then a thread stores 16 bytes at once; otherwise number by number.

Rows are counted in int64, columns in int32 within pieces of 2^30. float64 normals are made by torch from the words:
kernels hold no double precision.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._philox import interleave4, normals4, words4

LANES, SIGNS = 4, 128  # words and signs a call
TILE, TILE_UNALIGNED = 4096, 2048  # numbers a program; unaligned, 4096 words spill 24 bytes
TILE_SIGNS, TILE_SIGNS_UNALIGNED = 16384, 4096  # unaligned, 16384 spill 64 bytes on sm_80
TILE_INTERPRETED = 1 << 16  # a program of the interpreter costs 45 us whatever its size
MAX_COLUMNS = 1 << 30  # a launch
WARPS = 4

_LANES, _SIGNS = tl.constexpr(LANES), tl.constexpr(SIGNS)
_SPREAD = tl.constexpr(0x00204081)  # times a number below 16: its bits at 0, 8, 16 and 24, among others
_BYTES = tl.constexpr(0x01010101)
_POSITION = (
    "n_rows",
    "n_columns",
    "n_column_tiles",
    "seed",
    "purpose",
    "row_offset",
    "first_call",
    "lane_offset",
)


@triton.jit
def _tile(n_column_tiles, ROWS: tl.constexpr, CALLS: tl.constexpr):
    """Rows, int64 (ROWS, 1), and calls, int32 (1, CALLS), of this program's tile."""
    program = tl.program_id(0).to(tl.int64)
    rows = program // n_column_tiles * ROWS + tl.arange(0, ROWS)[:, None]
    calls = (program % n_column_tiles).to(tl.int32) * CALLS + tl.arange(0, CALLS)[None, :]
    return rows, calls


@triton.jit
def _aligned_place(
    rows, stride_row, n_rows, n_columns, n_column_tiles, COLUMNS: tl.constexpr, VECTOR: tl.constexpr
):
    """Offsets and mask, (ROWS, COLUMNS), of this program's tile; VECTOR numbers make 16 bytes."""
    columns = (tl.program_id(0).to(tl.int64) % n_column_tiles).to(tl.int32) * COLUMNS
    columns = columns + tl.arange(0, COLUMNS)[None, :]
    # Multiples as they are; by this the compiler knows.
    place = rows * (stride_row // VECTOR * VECTOR) + columns
    return place, (rows < n_rows) & (columns < n_columns // VECTOR * VECTOR)


@triton.jit
def _store4(out_ptr, rows, stride_row, columns, stride_column, n_rows, n_columns, x0, x1, x2, x3):
    """Lane l of a call to column + l, each number by itself; columns outside [0, n_columns) are left out."""
    place = out_ptr + rows * stride_row + columns.to(tl.int64) * stride_column
    is_row = rows < n_rows
    end = n_columns.to(tl.uint32)  # as unsigned numbers, columns before the matrix lie far behind it
    tl.store(place, x0, mask=is_row & (columns.to(tl.uint32) < end))
    tl.store(place + stride_column, x1, mask=is_row & ((columns + 1).to(tl.uint32) < end))
    tl.store(place + 2 * stride_column, x2, mask=is_row & ((columns + 2).to(tl.uint32) < end))
    tl.store(place + 3 * stride_column, x3, mask=is_row & ((columns + 3).to(tl.uint32) < end))


@triton.jit(do_not_specialize=_POSITION)
def _normal_kernel(
    out_ptr, stride_row, stride_column,  # float32 (n_rows, n_columns), any strides
    n_rows, n_columns, n_column_tiles, seed, purpose, row_offset, first_call, lane_offset,
    BITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """out[r, c] = normal of (row_offset + r, 4 first_call + lane_offset + c)."""
    rows, calls = _tile(n_column_tiles, ROWS, COLUMNS // _LANES)
    n0, n1, n2, n3 = normals4(row_offset + rows, first_call + calls.to(tl.uint32), purpose, seed, BITS)
    if ALIGNED:
        place, mask = _aligned_place(rows, stride_row, n_rows, n_columns, n_column_tiles, COLUMNS, VECTOR=4)
        tl.store(out_ptr + place, interleave4(n0, n1, n2, n3, ROWS, COLUMNS), mask=mask)
    else:
        columns = calls * _LANES - lane_offset
        _store4(out_ptr, rows, stride_row, columns, stride_column, n_rows, n_columns, n0, n1, n2, n3)


@triton.jit(do_not_specialize=_POSITION)
def _words_kernel(
    out_ptr, stride_row, stride_column,  # int32 (n_rows, n_columns), any strides
    n_rows, n_columns, n_column_tiles, seed, purpose, row_offset, first_call, lane_offset,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """out[r, c] = word of (row_offset + r, 4 first_call + lane_offset + c)."""
    rows, calls = _tile(n_column_tiles, ROWS, COLUMNS // _LANES)
    w0, w1, w2, w3 = words4(row_offset + rows, first_call + calls.to(tl.uint32), purpose, seed)
    w0, w1 = w0.to(tl.int32, bitcast=True), w1.to(tl.int32, bitcast=True)
    w2, w3 = w2.to(tl.int32, bitcast=True), w3.to(tl.int32, bitcast=True)
    if ALIGNED:
        place, mask = _aligned_place(rows, stride_row, n_rows, n_columns, n_column_tiles, COLUMNS, VECTOR=4)
        tl.store(out_ptr + place, interleave4(w0, w1, w2, w3, ROWS, COLUMNS), mask=mask)
    else:
        columns = calls * _LANES - lane_offset
        _store4(out_ptr, rows, stride_row, columns, stride_column, n_rows, n_columns, w0, w1, w2, w3)


@triton.jit(do_not_specialize=_POSITION)
def _signs_kernel(
    out_ptr, stride_row, stride_column,  # int8 (n_rows, n_columns), any strides
    n_rows, n_columns, n_column_tiles, seed, purpose, row_offset, first_call, lane_offset,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """out[r, c] = 2 bit - 1, the bit of (row_offset + r, 128 first_call + lane_offset + c)."""
    rows, calls = _tile(n_column_tiles, ROWS, COLUMNS // _SIGNS)
    w0, w1, w2, w3 = words4(row_offset + rows, first_call + calls.to(tl.uint32), purpose, seed)
    words = interleave4(w0, w1, w2, w3, ROWS, COLUMNS // 32)
    if ALIGNED:  # four signs at a time, the bytes of a word of `out`
        nibbles = (words[:, :, None] >> (tl.arange(0, 8) * 4).to(tl.uint32)) & 15
        ones = (nibbles * _SPREAD) & _BYTES  # byte j is bit j
        quads = (ones | ((ones ^ _BYTES) * 255)).to(tl.int32, bitcast=True).reshape(ROWS, COLUMNS // 4)
        place, mask = _aligned_place(
            rows, stride_row // 4, n_rows, n_columns // 4, n_column_tiles, COLUMNS // 4, VECTOR=4
        )
        tl.store(out_ptr.to(tl.pointer_type(tl.int32)) + place, quads, mask=mask)
    else:
        bits = (words[:, :, None] >> tl.arange(0, 32).to(tl.uint32)) & 1
        signs = (bits.to(tl.int8) * 2 - 1).reshape(ROWS, COLUMNS)
        columns = (tl.program_id(0).to(tl.int64) % n_column_tiles).to(tl.int32) * COLUMNS - lane_offset
        columns = columns + tl.arange(0, COLUMNS)[None, :]
        mask = (rows < n_rows) & (columns.to(tl.uint32) < n_columns.to(tl.uint32))
        tl.store(out_ptr + rows * stride_row + columns.to(tl.int64) * stride_column, signs, mask=mask)


def uniform_bits(out: Tensor, seed: int, purpose: int, row_offset: int, column_offset: int) -> None:
    """As the public `uniform_bits`, into `out` int32 (n_rows, n_columns)."""
    _launch(_words_kernel, LANES, (TILE, TILE_UNALIGNED), out, seed, purpose, row_offset, column_offset)


def normal(out: Tensor, seed: int, purpose: int, row_offset: int, column_offset: int, bits: int) -> None:
    """As the public `normal`, into `out` float32 or float64 (n_rows, n_columns), strided as it likes."""
    if out.dtype == torch.float64:
        _normal64(out, seed, purpose, row_offset, column_offset, bits)
    else:
        _launch(
            _normal_kernel,
            LANES,
            (TILE, TILE_UNALIGNED),
            out,
            seed,
            purpose,
            row_offset,
            column_offset,
            BITS=bits,
        )


def rademacher(out: Tensor, seed: int, purpose: int, row_offset: int, column_offset: int) -> None:
    """As the public `rademacher`, into `out` int8 (n_rows, n_columns)."""
    _launch(
        _signs_kernel,
        SIGNS,
        (TILE_SIGNS, TILE_SIGNS_UNALIGNED),
        out,
        seed,
        purpose,
        row_offset,
        column_offset,
    )


def _launch(
    kernel: Any, per_call: int, tiles: tuple[int, int], out: Tensor,
    seed: int, purpose: int, row_offset: int, column_offset: int, **constants: int,
) -> None:  # fmt: skip
    """Covers `out` with tiles of a size that its shape and strides alone decide; no number depends on them."""
    vector = 16 // out.element_size()
    for start in range(0, out.shape[1], MAX_COLUMNS):
        piece = out[:, start : start + MAX_COLUMNS]
        n_rows, n_columns = piece.shape
        first_call, lane_offset = divmod(column_offset + start, per_call)
        is_aligned = (
            lane_offset == 0 and n_columns % vector == 0 and piece.data_ptr() % 16 == 0
            and piece.stride(0) % vector == 0 and piece.stride(1) == 1
        )  # fmt: skip
        numbers = TILE_INTERPRETED if triton.knobs.runtime.interpret else tiles[0] if is_aligned else tiles[1]
        columns = min(numbers, max(per_call, triton.next_power_of_2(lane_offset + n_columns)))
        rows = min(numbers // columns, triton.next_power_of_2(n_rows))
        n_column_tiles = triton.cdiv(lane_offset + n_columns, columns)
        kernel[(triton.cdiv(n_rows, rows) * n_column_tiles,)](
            piece, *piece.stride(), n_rows, n_columns, n_column_tiles, seed, purpose, row_offset, first_call,
            lane_offset, **constants, ROWS=rows, COLUMNS=columns, ALIGNED=is_aligned, num_warps=WARPS,
        )  # fmt: skip


def _normal64(out: Tensor, seed: int, purpose: int, row_offset: int, column_offset: int, bits: int) -> None:
    """In torch, call by call as the float32 kernel; five temporaries of the size of `out`."""
    n_columns = out.shape[1]
    lane_offset = column_offset % LANES
    n_calls = triton.cdiv(lane_offset + n_columns, LANES)
    words = torch.empty((out.shape[0], n_calls * LANES), dtype=torch.int32, device=out.device)
    uniform_bits(words, seed, purpose, row_offset, column_offset - lane_offset)
    pairs = words.to(torch.int64).bitwise_and_(0xFFFFFFFF).view(-1, 2)
    u = ((pairs[:, 0] >> (32 - bits)).double() + 0.5) * 2.0**-bits
    radius = torch.where(u < 0.5, -torch.log(u), -torch.log1p(u - 1.0)).mul_(2.0).sqrt_()
    angle_word = pairs[:, 1]
    low = (angle_word << 2) & 0xFFFFFFFF
    t = (torch.where(low >= 2**31, low - 2**32, low).double() + 2.0) * (math.pi / 4 * 2.0**-31)
    sine, cosine = radius * torch.sin(t), radius * torch.cos(t)
    cosine = torch.where(angle_word >= 2**31, -cosine, cosine)
    is_swapped = (angle_word & 2**30) != 0
    first, second = torch.where(is_swapped, sine, cosine), torch.where(is_swapped, cosine, sine)
    normals = torch.stack((first, second), dim=1).view(out.shape[0], -1)
    out.copy_(normals[:, lane_offset : lane_offset + n_columns])
