"""Triton twin of `sdp_kernels.hadamard`: butterflies in registers and shared memory, a row or more a program.

    level of stride h:  (a, b) = (x[i], x[i + h])  ->  (a + b, a - b),   h = 1, 2, 4, ..., N / 2 in this order

A tile of rows is one vector of numbers, and a level pairs one bit of their index, which never leaves a row. The bits
fall into groups of five: a group is the leading axis of the vector, which the compiler keeps in the 32 registers that
a thread has for numbers, and between groups the row is exchanged through shared memory. Every level is one sum and one
difference of the textbook loop's numbers in its order: bits are those of that loop, and of the CPU engine.

Up to N = 2^15 a row is transformed in one pass: D numbers read and N written (`fwht`) or k written (`srht`, whose
sample is gathered through shared memory). Longer ones take the lower 15 levels in the first pass and up to ten in each
further one, in place. Model: a number costs a sum a level, and four exchanges of 8 bytes (three in `srht`): 32 bytes
at 128 a cycle are 7.6 ns a row of 2^14 on an H100, where memory takes 39 ns (fwht) or 13 (srht of 10,000 to 1024). So
`fwht` is bound by memory on all four chips, and `srht` within 1.2 of it, save on a B200 (2.4: shared memory).

What lost: levels without groups (six exchanges, 30 instructions a number at 2^14, not 22: 1.5 times the time on a
B200); dots with matrices of +-1 on tensor cores (other sums, so other bits); a partner found by xor over an axis, as
`tl.sort` does (three instructions a number and level in place of one).

Sparse rows: one of few entries sums columns of H, `_columns_kernel`, 14 instructions an entry and component;
others are laid out dense, a bounded chunk at a time, and transformed. Which one it is depends on its own length alone.

float64 is done by torch, level by level: kernels hold no double precision.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._sparse_rows import lay_out
from sdp_kernels.triton.gaussian import rademacher

LOG_ONE_PASS = 15  # a row of 2^15 numbers is 32 a thread of 1024 threads; gfx942 exchanges it through 64 KiB
LOG_TILE = 12  # numbers of a program where rows are shorter
LOG_TILE_INTERPRETED = 16  # a program of the interpreter costs 45 us whatever its size
LOG_GROUP = 5  # levels between two exchanges: 32 numbers a thread
NUMBERS_A_THREAD = 1 << LOG_GROUP
LOG_COLUMNS = (
    4  # columns that a further pass takes at least: 64 bytes; 128 make tiles of 2^15, which spill on sm_90
)
SCRATCH_NUMBERS = 1 << 24  # of rows that cannot go through registers alone: 64 MiB
COLUMN_WORK = 4  # an entry sums columns of H where entries times k are below this many times N
BLOCK_COMPONENTS = 1024

_PARITY = tl.constexpr(0x6996)  # bit w: whether w < 16 has an odd number of ones


@triton.jit
def butterfly(x, ABOVE: tl.constexpr, STRIDE: tl.constexpr):
    """One level of float32 (ABOVE * 2 * STRIDE,)."""
    pairs = tl.permute(tl.reshape(x, (ABOVE, 2, STRIDE)), (0, 2, 1))
    a, b = tl.split(pairs)
    return tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 2, 1)), (ABOVE * 2 * STRIDE,))


@triton.jit
def levels(x, SIZE: tl.constexpr, FIRST: tl.constexpr, LEVELS: tl.constexpr):
    """Levels of stride 2^FIRST to 2^(FIRST + LEVELS - 1) of float32 (SIZE,)."""
    for level in tl.static_range(FIRST, FIRST + LEVELS):
        x = butterfly(x, SIZE >> (level + 1), 1 << level)
    return x


@triton.jit
def _transformed(
    x_ptr, stride_row, stride_column, signs_ptr, n_rows, n_columns, segment,
    LOG: tl.constexpr, LOG_ROWS: tl.constexpr, GROUP: tl.constexpr, SIGNED: tl.constexpr,
):  # fmt: skip
    """H (signs x) of this program's rows, columns of one segment of N = 2^LOG: float32 (2^(LOG_ROWS + LOG),).

    The bits of a column are (g2, g1, g0), GROUP of them in g0 and in g1. Each group in turn is the leading axis, which
    the compiler keeps in registers, so that numbers change threads between groups only.
    """
    W0: tl.constexpr = min(GROUP, LOG)
    W1: tl.constexpr = min(GROUP, LOG - W0)
    W2: tl.constexpr = LOG - W0 - W1
    LOG_A: tl.constexpr = LOG_ROWS + W2  # (row, g2) make one axis
    SIZE: tl.constexpr = 1 << (LOG_ROWS + LOG)
    g0 = tl.arange(0, 1 << W0)[:, None, None]
    a = tl.arange(0, 1 << LOG_A)[None, :, None]
    g1 = tl.arange(0, 1 << W1)[None, None, :]
    row = (tl.program_id(0).to(tl.int64) << LOG_ROWS) + (a >> W2)
    column = segment + ((((a & ((1 << W2) - 1)) << W1) + g1 << W0) + g0)
    mask = column < n_columns
    # Columns times their stride in int64; a unit stride is known to the compiler, and nothing is multiplied.
    places = row * stride_row + column.to(tl.int64) * stride_column
    x = tl.load(x_ptr + places, mask=(row < n_rows) & mask, other=0).to(tl.float32)
    if SIGNED:
        x *= tl.load(signs_ptr + column, mask=mask, other=0).to(tl.float32)
    x = levels(tl.reshape(x, (SIZE,)), SIZE, LOG_A + W1, W0)
    x = tl.permute(tl.reshape(x, (1 << W0, 1 << LOG_A, 1 << W1)), (2, 1, 0))
    x = levels(tl.reshape(x, (SIZE,)), SIZE, LOG_A + W0, W1)
    x = tl.permute(tl.reshape(x, (1 << W1, 1 << LOG_A, 1 << W0)), (1, 0, 2))
    return levels(tl.reshape(x, (SIZE,)), SIZE, W0 + W1, W2)


@triton.jit(do_not_specialize=["n_rows"])
def _whole_kernel(
    x_ptr, stride_x_row, stride_x_column,  # float32, float16, bfloat16 or uint8 (n_rows, n_columns)
    signs_ptr,                             # int8 (n_columns,), read where SIGNED
    out_ptr, stride_out_row,               # float32 (n_rows, segments of N), unit stride along rows; may be x
    n_rows, n_columns,
    LOG: tl.constexpr, LOG_ROWS: tl.constexpr, GROUP: tl.constexpr, SIGNED: tl.constexpr,
):  # fmt: skip
    """out[i, g N : (g + 1) N] = H (signs x)[i, g N : (g + 1) N], N = 2^LOG."""
    segment = tl.program_id(1) * (1 << LOG)
    y = _transformed(
        x_ptr, stride_x_row, stride_x_column, signs_ptr, n_rows, n_columns, segment,
        LOG, LOG_ROWS, GROUP, SIGNED,
    )  # fmt: skip
    y = tl.reshape(y, (1 << LOG_ROWS, 1 << LOG))
    row = (tl.program_id(0).to(tl.int64) << LOG_ROWS) + tl.arange(0, 1 << LOG_ROWS)[:, None]
    target = out_ptr + row * stride_out_row + segment + tl.arange(0, 1 << LOG)[None, :]
    tl.store(target, y, mask=row < n_rows)


@triton.jit(do_not_specialize=["n_rows", "n_samples"])
def _sampled_kernel(
    x_ptr, stride_x_row, stride_x_column,  # as above
    signs_ptr,                             # int8 (n_columns,)
    samples_ptr,                           # int32 (n_samples,), below N
    out_ptr, stride_out_row,               # float32 (n_rows, n_samples), unit stride along rows
    n_rows, n_columns, n_samples, scale,
    LOG: tl.constexpr, LOG_ROWS: tl.constexpr, GROUP: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out[i, j] = scale (H (signs x)[i])[samples[j]], N = 2^LOG; taken through shared memory."""
    y = _transformed(
        x_ptr, stride_x_row, stride_x_column, signs_ptr, n_rows, n_columns, 0, LOG, LOG_ROWS, GROUP, True
    )
    r = tl.arange(0, 1 << LOG_ROWS)[:, None]
    offs_k = tl.arange(0, BLOCK_K)[None, :]
    mask_k = offs_k < n_samples
    places = tl.load(samples_ptr + offs_k, mask=mask_k, other=0) + (r << LOG)
    places = tl.reshape(places, (BLOCK_K << LOG_ROWS,))
    taken = tl.gather(y, places, 0)
    row = (tl.program_id(0).to(tl.int64) << LOG_ROWS) + r
    target = out_ptr + row * stride_out_row + offs_k
    tl.store(target, tl.reshape(taken, (1 << LOG_ROWS, BLOCK_K)) * scale, mask=(row < n_rows) & mask_k)


@triton.jit(do_not_specialize=["n_groups", "n_tiles"])
def _further_kernel(
    out_ptr, stride_out_row,   # float32 (n_rows, N), unit stride along rows; read and written
    inner, n_groups, n_tiles,  # inner = 2^(levels done before) = 2^LOG_COLUMNS n_tiles; n_groups 2^(W0 + W1) inner = N
    W0: tl.constexpr, W1: tl.constexpr, LOG_COLUMNS: tl.constexpr,
):  # fmt: skip
    """The next W0 + W1 levels of every row: numbers of one residue modulo `inner`, 2^LOG_COLUMNS residues a program."""
    SIZE: tl.constexpr = 1 << (W0 + W1 + LOG_COLUMNS)
    program = tl.program_id(0).to(tl.int64)
    group, tile = program // n_tiles, program % n_tiles
    first = group // n_groups * stride_out_row + (group % n_groups * inner << (W0 + W1))
    target = out_ptr + first + (tile << LOG_COLUMNS)
    columns = tl.arange(0, 1 << LOG_COLUMNS)[None, None, :]
    place = (tl.arange(0, 1 << W1)[None, :, None] << W0) + tl.arange(0, 1 << W0)[:, None, None]
    x = tl.reshape(tl.load(target + (place.to(tl.int64) * inner + columns)), (SIZE,))
    x = levels(x, SIZE, LOG_COLUMNS + W1, W0)
    x = tl.permute(tl.reshape(x, (1 << W0, 1 << W1, 1 << LOG_COLUMNS)), (1, 0, 2))
    x = tl.reshape(
        levels(tl.reshape(x, (SIZE,)), SIZE, LOG_COLUMNS + W0, W1), (1 << W1, 1 << W0, 1 << LOG_COLUMNS)
    )
    place = (tl.arange(0, 1 << W1)[:, None, None] << W0) + tl.arange(0, 1 << W0)[None, :, None]
    tl.store(target + (place.to(tl.int64) * inner + columns), x)


@triton.jit
def _parity(word):
    """Whether a uint32 has an odd number of ones, as 0 or 1."""
    word ^= word >> 16
    word ^= word >> 8
    word ^= word >> 4
    return (_PARITY >> (word & 15)) & 1


@triton.jit(do_not_specialize=["n_samples", "most"])
def _columns_kernel(
    indptr_ptr, indices_ptr, values_ptr,  # int64 (n + 1,), int32 or int64 (nnz,), float32 (nnz,)
    signs_ptr,                            # int8 (n_features,)
    samples_ptr,                          # int64 (n_samples,), below 2^32
    out_ptr, stride_out_row,              # float32 (n, n_samples), unit stride along rows
    n_samples, most, scale,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Rows of fewer than `most` entries: out[i, j] = scale sum_e signs[f_e] v_e H[samples[j], f_e], in order of e."""
    row = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(indptr_ptr + row), tl.load(indptr_ptr + row + 1)
    if end - begin < most:
        offs_k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
        mask_k = offs_k < n_samples
        samples = tl.load(samples_ptr + offs_k, mask=mask_k, other=0).to(tl.uint32)
        acc = tl.zeros((BLOCK_K,), tl.float32)
        for entry in range(begin, end):
            feature = tl.load(indices_ptr + entry).to(tl.int64)
            value = tl.load(values_ptr + entry) * tl.load(signs_ptr + feature).to(tl.float32)
            odd = _parity(samples & feature.to(tl.uint32))
            acc += tl.where(odd != 0, -value, value)
        tl.store(out_ptr + row * stride_out_row + offs_k, acc * scale, mask=mask_k)


def fwht(X: Tensor, out: Tensor) -> None:
    """Writes out (n, N) = X H, rows filled up with zeros to N; X may be `out`."""
    if out.dtype == torch.float64:
        _in_chunks64(X, None, out.shape[1], lambda rows, y: out[rows].copy_(y))
    else:
        _transform_rows(X, None, out)


def srht(X: Tensor, n: int, samples: Tensor, out: Tensor, seed: int, purpose: int, scale: float) -> None:
    """Writes out (rows, k) = scale times entries `samples` of H D x, x filled up with zeros to n."""
    signs = _signs(X.shape[1], X.device, seed, purpose)
    places = samples.to(X.device)
    _srht(X, n, places, out, signs, scale)


def srht_of_rows(
    rows: tuple[Tensor, Tensor, Tensor],
    n_features: int,
    n: int,
    samples: Tensor,
    out: Tensor,
    seed: int,
    purpose: int,
    scale: float,
) -> None:
    """As `srht` for sparse rows: a row of few entries sums columns of H, others are laid out and transformed.

    The long rows' number is read back from the device once.
    """
    indptr, indices, values = rows
    k = out.shape[1]
    signs = _signs(n_features, out.device, seed, purpose)
    places = samples.to(out.device)
    # A row of `most` entries or more is transformed; positions of columns of H are 32-bit words.
    most = triton.cdiv(COLUMN_WORK * n, k) if n <= 1 << 32 and out.dtype == torch.float32 else 0
    lengths = indptr.diff()
    if most:
        block = min(BLOCK_COMPONENTS, triton.next_power_of_2(k))
        _columns_kernel[(len(lengths), triton.cdiv(k, block))](
            indptr.to(torch.int64), indices, values.to(torch.float32), signs, places, out, out.stride(0),
            k, most, scale, BLOCK_K=block, num_warps=max(1, min(4, block // 64)),
        )  # fmt: skip
    long = torch.nonzero(lengths >= most).flatten()
    for chunk in long.split(max(1, SCRATCH_NUMBERS // n_features)):
        dense = lay_out(indptr, indices, values, chunk, n_features, out.dtype)
        part = torch.empty((len(chunk), k), dtype=out.dtype, device=out.device)
        _srht(dense, n, places, part, signs, scale)
        out[chunk] = part


def _srht(X: Tensor, n: int, places: Tensor, out: Tensor, signs: Tensor, scale: float) -> None:
    if out.dtype == torch.float64:
        _in_chunks64(X, signs, n, lambda rows, y: out[rows].copy_(y[:, places] * scale))
        return
    log = n.bit_length() - 1
    if log > longest_sampled(_lanes()):
        step = max(1, SCRATCH_NUMBERS // n)
        scratch = torch.empty((min(step, len(X)), n), dtype=torch.float32, device=X.device)
        for start in range(0, len(X), step):
            part = X[start : start + step]
            _transform_rows(part, signs, scratch[: len(part)])
            out[start : start + step] = scratch[: len(part), places] * scale
        return
    log_rows = _log_rows(log)
    _sampled_kernel[(triton.cdiv(len(X), 1 << log_rows),)](
        X, *X.stride(), signs, places.to(torch.int32), out, out.stride(0), *X.shape, out.shape[1], scale,
        LOG=log, LOG_ROWS=log_rows, GROUP=group_of(log, _lanes()), BLOCK_K=triton.next_power_of_2(out.shape[1]),
        num_warps=warps_for(log_rows + log, _lanes()),
    )  # fmt: skip


def _transform_rows(X: Tensor, signs: Tensor | None, out: Tensor) -> None:
    """Writes out (n, N) float32 = H (signs x) for every row, in as many passes as N takes."""
    log = out.shape[1].bit_length() - 1
    done = min(log, LOG_ONE_PASS)
    log_rows = _log_rows(done)
    _whole_kernel[(triton.cdiv(len(X), 1 << log_rows), 1 << (log - done))](
        X, *X.stride(), X if signs is None else signs, out, out.stride(0), *X.shape,
        LOG=done, LOG_ROWS=log_rows, GROUP=group_of(done, _lanes()), SIGNED=signs is not None,
        num_warps=warps_for(log_rows + done, _lanes()),
    )  # fmt: skip
    while done < log:
        w0, w1, log_columns = further_tile(log - done)
        groups, tiles = 1 << (log - done - w0 - w1), 1 << (done - log_columns)
        _further_kernel[(len(X) * groups * tiles,)](
            out, out.stride(0), 1 << done, groups, tiles, W0=w0, W1=w1, LOG_COLUMNS=log_columns,
            num_warps=warps_for(w0 + w1 + log_columns, _lanes()),
        )  # fmt: skip
        done += w0 + w1


def group_of(log: int, lanes: int) -> int:
    """Bits of an index that are kept in registers at a time.

    An exchange of the whole row at once takes 4 N bytes of shared memory: more than gfx942 (64 lanes) has at 2^15.
    There the compiler exchanges level by level, through 64 KiB.
    """
    return log if lanes == 64 and log == LOG_ONE_PASS else LOG_GROUP


def longest_sampled(lanes: int) -> int:
    """Logarithm of the longest row that shared memory holds for sampling; longer ones go through memory."""
    return LOG_ONE_PASS - 1 if lanes == 64 else LOG_ONE_PASS


def further_tile(levels_left: int) -> tuple[int, int, int]:
    """Levels of a further pass in its two groups, and the logarithm of its columns."""
    w0 = min(LOG_GROUP, levels_left)
    w1 = min(LOG_GROUP, levels_left - w0)
    return w0, w1, max(LOG_COLUMNS, LOG_TILE - w0 - w1)


def warps_for(log_numbers: int, lanes: int) -> int:
    """Warps of a program for a tile of 2^log_numbers: 32 numbers a thread, in 1024 threads at most."""
    return max(1, min(1024 // lanes, (1 << log_numbers) // (NUMBERS_A_THREAD * lanes)))


def _log_rows(log: int) -> int:
    """Rows that a program takes, as a logarithm; no bit depends on it."""
    tile = LOG_TILE_INTERPRETED if triton.knobs.runtime.interpret else LOG_TILE
    return max(0, tile - log)


def _lanes() -> int:
    return 64 if torch.version.hip else 32


def _signs(n: int, device: torch.device, seed: int, purpose: int) -> Tensor:
    signs = torch.empty((1, n), dtype=torch.int8, device=device)
    rademacher(signs, seed, purpose, 0, 0)
    return signs[0]


def _in_chunks64(X: Tensor, signs: Tensor | None, n: int, take: Any) -> None:
    """Transforms rows in float64, SCRATCH_NUMBERS at a time, and hands (slice of rows, y) to `take`."""
    step = max(1, SCRATCH_NUMBERS // n)
    for start in range(0, len(X), step):
        rows = X[start : start + step]
        y = torch.zeros((len(rows), n), dtype=torch.float64, device=X.device)
        y[:, : X.shape[1]] = rows if signs is None else rows * signs
        h = 1
        while h < n:
            pairs = y.view(len(rows), n // (2 * h), 2, h)
            a, b = pairs[:, :, 0], pairs[:, :, 1]
            y = torch.stack((a + b, a - b), 2).view(len(rows), n)
            h *= 2
        take(slice(start, start + step), y)
