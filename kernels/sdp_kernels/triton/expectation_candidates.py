"""Structures of the gradient that lost to `expectation_kernels.py`: compiled for the report, tested, never shipped.

For two hidden layers, heads without loss and draws of whole tiles; layout and letters as there. The other two:

- carried: every sum is an accumulator of the loop over tiles, and so are u and the difference of delta: nothing of a
  tile goes to memory. The textbook way.
- split: one kernel leaves what the sums are products of (delta and h of a chunk of draws) in memory, and a second one
  forms the sums as GEMMs over the draws, xi drawn anew. No accumulator and no product in one program's way, for 5 H
  numbers of a pair written once and read once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sdp_kernels.triton._math import activate1
from sdp_kernels.triton._philox import normal_tile
from sdp_kernels.triton.expectation_kernels import SIZES, block

DEPTH = 2
# Numbers that "split" keeps of a pair, in units of H: delta_0 (+ less -), delta_1 and h_0 of either sign.
KEPT = 5


@triton.jit
def _product(
    head_ptr, row, n_q, purpose, seed, BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, DOT: tl.constexpr
):
    """M xi (BS, H) of rows row + [0, BS)."""
    offs_h, offs_q = tl.arange(0, H), tl.arange(0, BQ)
    u = tl.zeros((BS, H), tl.float32)
    for jq in range(n_q):
        xi = normal_tile(row, jq * (BQ // 4), purpose, seed, BS, BQ)
        m = tl.load(block(head_ptr + jq * BQ, n_q * BQ, offs_h, offs_q))
        u = tl.dot(xi, tl.trans(m), u, input_precision=DOT)
    return u


@triton.jit
def _passes(vectors_ptr, layers_ptr, u, sign, H: tl.constexpr, ACTIVATION: tl.constexpr, DOT: tl.constexpr):
    """h_0, h_1, delta_1, delta_0 of one sign, (BS, H) each, and g (BS,)."""
    offs_h = tl.arange(0, H)
    h0, f0 = activate1(tl.load(vectors_ptr + offs_h)[None, :] + sign * u, ACTIVATION, 1.0)
    A = tl.load(block(layers_ptr, H, offs_h, offs_h))
    p1 = tl.dot(h0, tl.trans(A), input_precision=DOT) + tl.load(vectors_ptr + H + offs_h)[None, :]
    h1, f1 = activate1(p1, ACTIVATION, 1.0)
    a = tl.load(vectors_ptr + 2 * H + offs_h)
    g = tl.sum(h1 * a[None, :], 1) + tl.load(vectors_ptr + 3 * H)
    delta1 = a[None, :] * f1
    transpose = tl.load(block(layers_ptr + H * H, H, offs_h, offs_h))
    delta0 = tl.dot(delta1, tl.trans(transpose), input_precision=DOT) * f0
    return h0, h1, delta1, delta0, g


@triton.jit(do_not_specialize=SIZES)
def _carried_kernel(
    head_ptr,  # float32, the packed head
    values_ptr,  # float32 (programs,), written: the sum of g over signs and draws
    sums_ptr,  # float32 (programs, H qp + 4 H + H H), written: the sums of the gradient
    seed, purpose, tiles, n_q, n_signs,  # a program has rows [pid, pid + 1) tiles BS
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, ACTIVATION: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """BQ = qp: a block of xi is whole, since an accumulator cannot be chosen at run time."""
    pid = tl.program_id(0).to(tl.int64)
    offs_h, offs_q = tl.arange(0, H), tl.arange(0, BQ)
    vectors_ptr = head_ptr + H * BQ
    layers_ptr = vectors_ptr + 4 * H
    total = tl.zeros((BS,), tl.float32)
    d_first, d_layer = tl.zeros((H, BQ), tl.float32), tl.zeros((H, H), tl.float32)
    d_c0, d_c1, d_a = tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32)
    for t in range(tiles):
        row = (pid * tiles + t) * BS
        u = tl.zeros((BS, H), tl.float32)
        difference = tl.zeros((BS, H), tl.float32)
        for jq in range(n_q):  # once; some compilers refuse a drawn operand outside a loop
            xi = normal_tile(row, jq * (BQ // 4), purpose, seed, BS, BQ)
            m = tl.load(block(head_ptr, BQ, offs_h, offs_q))
            u = tl.dot(xi, tl.trans(m), u, input_precision=DOT)
        for i_sign in range(n_signs):
            sign = 1.0 - 2.0 * i_sign
            h0, h1, delta1, delta0, g = _passes(vectors_ptr, layers_ptr, u, sign, H, ACTIVATION, DOT)
            total += g
            d_a += tl.sum(h1, 0)
            d_c1 += tl.sum(delta1, 0)
            d_c0 += tl.sum(delta0, 0)
            d_layer = tl.dot(tl.trans(delta1), h0, d_layer, input_precision=DOT)
            difference += sign * delta0
        for jq in range(n_q):
            xi = normal_tile(row, jq * (BQ // 4), purpose, seed, BS, BQ)
            d_first = tl.dot(tl.trans(difference), xi, d_first, input_precision=DOT)
    tl.store(values_ptr + pid, tl.sum(total, 0))
    d_first_ptr = sums_ptr + pid * (H * BQ + 4 * H + H * H)
    d_vectors_ptr = d_first_ptr + H * BQ
    tl.store(block(d_first_ptr, BQ, offs_h, offs_q), d_first)
    tl.store(d_vectors_ptr + offs_h, d_c0)
    tl.store(d_vectors_ptr + H + offs_h, d_c1)
    tl.store(d_vectors_ptr + 2 * H + offs_h, d_a)
    tl.store(d_vectors_ptr + 3 * H, tiles * n_signs * BS * 1.0)
    tl.store(block(d_vectors_ptr + 4 * H, H, offs_h, offs_h), d_layer)


@triton.jit(do_not_specialize=SIZES)
def _split_backward_kernel(
    head_ptr,  # float32, the packed head
    values_ptr,  # float32 (programs,), written
    kept_ptr,  # float32 (KEPT, rows, H), written: delta_0 (+ less -), then delta_1 and h_0 of +, of -
    vectors_out_ptr,  # float32 (programs, 4 H), written: sums of dc_0, dc_1, da, dc
    seed, purpose, tiles, n_q, n_signs, n_rows,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, ACTIVATION: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The first of two passes."""
    pid = tl.program_id(0).to(tl.int64)
    offs_h, offs_s = tl.arange(0, H), tl.arange(0, BS)
    vectors_ptr = head_ptr + H * n_q * BQ
    layers_ptr = vectors_ptr + 4 * H
    plane = n_rows.to(tl.int64) * H
    total = tl.zeros((BS,), tl.float32)
    d_c0, d_c1, d_a = tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32), tl.zeros((H,), tl.float32)
    for t in range(tiles):
        row = (pid * tiles + t) * BS
        u = _product(head_ptr, row, n_q, purpose, seed, BS, H, BQ, DOT)
        difference = tl.zeros((BS, H), tl.float32)
        here = kept_ptr + row * H
        for i_sign in range(n_signs):
            sign = 1.0 - 2.0 * i_sign
            h0, h1, delta1, delta0, g = _passes(vectors_ptr, layers_ptr, u, sign, H, ACTIVATION, DOT)
            total += g
            d_a += tl.sum(h1, 0)
            d_c1 += tl.sum(delta1, 0)
            d_c0 += tl.sum(delta0, 0)
            difference += sign * delta0
            tl.store(block(here + (1 + 2 * i_sign) * plane, H, offs_s, offs_h), delta1)
            tl.store(block(here + (2 + 2 * i_sign) * plane, H, offs_s, offs_h), h0)
        tl.store(block(here, H, offs_s, offs_h), difference)
    tl.store(values_ptr + pid, tl.sum(total, 0))
    d_ptr = vectors_out_ptr + pid * 4 * H
    tl.store(d_ptr + offs_h, d_c0)
    tl.store(d_ptr + H + offs_h, d_c1)
    tl.store(d_ptr + 2 * H + offs_h, d_a)
    tl.store(d_ptr + 3 * H, tiles * n_signs * BS * 1.0)


@triton.jit(do_not_specialize=SIZES)
def _split_sums_kernel(
    kept_ptr,  # float32 (KEPT, rows, H), as the first pass left it
    first_ptr,  # float32 (programs, H, qp), zeros: the sums of dM
    layer_ptr,  # float32 (programs, H, H), written: the sums of dA
    seed, purpose, tiles, n_q, n_signs, n_rows,
    BS: tl.constexpr, H: tl.constexpr, BQ: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The second: dA = sum delta_1^T h_0 and dM = sum delta_0^T xi over the program's rows."""
    pid = tl.program_id(0).to(tl.int64)
    offs_h, offs_s, offs_q = tl.arange(0, H), tl.arange(0, BS), tl.arange(0, BQ)
    plane = n_rows.to(tl.int64) * H
    d_layer = tl.zeros((H, H), tl.float32)
    for t in range(tiles):
        row = (pid * tiles + t) * BS
        here = kept_ptr + row * H
        for i_sign in range(n_signs):
            delta1 = tl.load(block(here + (1 + 2 * i_sign) * plane, H, offs_s, offs_h))
            h0 = tl.load(block(here + (2 + 2 * i_sign) * plane, H, offs_s, offs_h))
            d_layer = tl.dot(tl.trans(delta1), h0, d_layer, input_precision=DOT)
        difference = tl.load(block(here, H, offs_s, offs_h))
        for jq in range(n_q):
            xi = normal_tile(row, jq * (BQ // 4), purpose, seed, BS, BQ)
            d_ptr = block(first_ptr + pid * H * n_q * BQ + jq * BQ, n_q * BQ, offs_h, offs_q)
            tl.store(d_ptr, tl.dot(tl.trans(difference), xi, tl.load(d_ptr), input_precision=DOT))
    tl.store(block(layer_ptr + pid * H * H, H, offs_h, offs_h), d_layer)
